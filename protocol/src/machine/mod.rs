//! The core: inputs in, outputs out. It routes to its children and waits for nothing.

use crate::{
    io::{Input, Output},
    time::Time,
};

/// What a node is told at birth.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who we are.
    pub me: crate::id::Peer,
    /// Seed of every random choice of the core.
    pub seed: u64,
    /// Peers that we wish to be connected to.
    pub outbound: usize,
}

/// All state of a node that decides anything.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
}

impl Core {
    /// A core that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
    /// Takes one input at `now`; outputs are to be carried out in order.
    pub fn handle(&mut self, _now: Time, _input: Input) -> Vec<Output> {
        let _ = &self.settings;
        Vec::new()
    }
}
