//! Softservice.
fn main() {}
