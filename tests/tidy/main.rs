//! Rules of the source, kept as tests: arrows between crates, who may call the core, sizes, dependency floors.

mod arrows;
mod floors;
mod security;
mod sources;
