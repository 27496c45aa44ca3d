//! Bytes, kept. Truth lives in immutable object files, checksummed append-only logs and an A/B file of marks; sled is
//! an index over them that can be thrown away and rebuilt at any time. `DESIGN.md` has the disk format byte by byte.
//!
//! Invariant: nothing unverified becomes visible, nothing acknowledged is lost, and whatever is read is checked again.

pub mod closure;
mod contract;
mod cutter;
mod glob;
mod memory;
mod record;
mod tree;
mod walk;

pub use contract::{Damage, Findings, Ingested, Layout, Materialised, Progress, Store, StoreError, Swept};
pub use memory::{MemoryStore, Pool};
