//! Inputs that other people thought of: vectors of the algorithms that we rest on, and collections of hostile strings
//! and archives. Numbers are public test data, their sources named where they stand.

#[path = "../cast/mod.rs"]
mod cast;

mod archives;
mod blake3;
mod ed25519;
mod naughty;
