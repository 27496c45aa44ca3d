//! Definitions as people write them: good ones read and compile to the same bytes each time, bad ones are explained.
//! `SOFTSERVICE_BLESS=1` writes the expected texts anew.
#![allow(clippy::disallowed_methods)] // the wall is around the crate; definitions live in files

mod bindings;
mod closures;
mod compiled;
mod explained;
mod foreign;
mod locks;
mod properties;
mod shelf;
