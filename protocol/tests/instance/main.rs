//! From a release to what runs on one device.

mod asked;
mod bindings;
mod cast;
mod overlay;
mod permissions;
mod plan;
mod sandbox;
mod transition;
