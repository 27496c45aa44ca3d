//! Stories of the core with named peers. Invariant: no clock, no sleep; a story ends when what it tells has come to
//! pass, or fails with the name of what never did.

mod cast;
mod exchange;
mod feeds;
mod hostile;
mod peers;
mod provision;
mod strangers;
mod world;
