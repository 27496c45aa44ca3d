//! Doubts: the second driver of the real core. Virtual time, a network that delays, loses, doubles and parts, disks
//! that forget, devices that fail, peers that lie; one seed draws every fault.
//!
//! Where things are: [`scenario`] (what the world is like, from TOML), [`corpus`] (what is published), [`world`] (the
//! queue and the cores), [`effects`] (outputs carried out), [`traffic`] (connections, messages, gossip), [`transfer`]
//! (spans), [`plan`] (what the scenario planned), [`owner`] (what owners do), [`actors`] (harm), [`checks`] (what must hold), [`report`].
//! [`world::overlap`] is a small world of its own: one device with a real store and many fetches at once.
//!
//! Invariant: a run is a function of scenario, number of nodes and seed.

pub mod actors;
pub mod checks;
pub mod corpus;
pub mod device;
pub mod dice;
pub mod disk;
pub(crate) mod documents;
pub mod effects;
pub(crate) mod files;
pub mod network;
pub mod node;
pub mod owner;
pub mod plan;
pub mod report;
pub mod scenario;
pub mod trace;
pub mod traffic;
pub mod transfer;
pub mod world;

/// Plays one scenario to its end.
pub fn play(scenario: scenario::Scenario, seed: u64, told: bool) -> report::Report {
    world::World::new(scenario, seed, told).run()
}
