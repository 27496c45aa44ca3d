//! Bytes, kept. Truth lives in immutable object files, checksummed append-only logs and an A/B file of marks; sled is
//! an index over them that can be thrown away and rebuilt at any time. `DESIGN.md` has the disk format byte by byte.
//!
//! Invariant: nothing unverified becomes visible, nothing acknowledged is lost, and whatever is read is checked again.

pub mod alike;
mod chunks;
pub mod closure;
mod condense;
mod contract;
mod copies;
mod cutter;
mod digest;
mod disk;
mod expected;
#[cfg(fuzzing)]
pub mod fuzzing;
mod glob;
mod index;
mod intake;
mod journal;
mod layouts;
mod look;
mod losses;
pub mod manifests;
mod marks;
mod memory;
mod names;
mod objects;
mod partial;
mod proofs;
mod rebuild;
mod record;
mod scrub;
mod seen;
mod sizes;
mod sweep;
mod syncs;
mod table;
mod tally;
mod told;
mod tree;
mod walk;

pub use contract::{
    Compared, Damage, Findings, Ingested, Keeper, Layout, Materialised, Progress, Store, StoreError, Swept, Upkeep,
};
pub use disk::{DiskStore, open, wait_closed};
pub use look::{Look, Looking, look_through};
pub use memory::{MemoryStore, Pool};
