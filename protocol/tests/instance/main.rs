//! From a release to what runs on one device.

mod bindings;
mod cast;
mod overlay;
mod plan;
mod sandbox;
mod transition;
