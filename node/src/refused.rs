//! Refusals outside the core: at the door, of frames, and of what owners ask for. Invariant: counting costs no lock and loses
//! nothing; what the core counts is added when somebody asks.

use serde_json::{Map, Value};
use softservice_protocol::io::{Refusals, Step};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counters that whoever has a clone adds to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused(Arc<[AtomicU64; Step::ALL.len()]>);

impl Refused {
    /// One more.
    pub(crate) fn count(&self, step: Step) {
        if let Some(count) = self.0.get(step as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub(crate) fn of(&self, step: Step) -> u64 {
        self.0.get(step as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
    /// By the names of the steps, with those of the core.
    pub(crate) fn describe(&self, core: &Refusals) -> Value {
        let all = Step::ALL.map(|step| (step.name().to_owned(), (self.of(step) + core.of(step)).into()));
        Value::Object(Map::from_iter(all))
    }
}
