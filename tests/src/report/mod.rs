//! What switching costs, measured on real nodes with real services: how many visitors notice an update, how long nothing runs
//! when data forbids that two run, how long the way back takes, what a sandbox costs. Invariant: figures are reported, never
//! asserted: a slow machine makes them worse, not wrong.

pub mod figures;
pub mod load;
mod sandbox;
mod site;
mod switch;

use crate::World;
use figures::Figure;

/// How often each thing is measured.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    /// Updates of the static site under load.
    pub updates: usize,
    /// Requests a second meanwhile.
    pub rate: u32,
    /// Switches of a service with data.
    pub switches: usize,
    /// Returns from a release that is never healthy.
    pub returns: usize,
    /// Starts of a program in a sandbox, and of the same without.
    pub starts: usize,
}

/// Measures everything in homes below `world`.
pub fn measure(world: &World, rounds: Rounds, mut tell: impl FnMut(&str)) -> Vec<Figure> {
    tell("a static site under load");
    let mut figures = site::measure(world, rounds.updates, rounds.rate);
    tell("switches of a service with data");
    figures.extend(switch::measure(world, rounds.switches, rounds.returns));
    tell("starts in a sandbox");
    figures.extend(sandbox::measure(rounds.starts));
    figures
}
