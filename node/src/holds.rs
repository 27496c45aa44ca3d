//! Which releases somebody works with just now, so that no sweep takes them before they are a root or nothing. Invariant:
//! while a step of a sweep goes on, nothing begins to be held; what was held at any time during a sweep counts to its end,
//! because it may have become a root after the roots were read.

use softservice_protocol::id::ReleaseId;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Default)]
struct State {
    /// By how many.
    held: BTreeMap<ReleaseId, usize>,
    /// Verbs that make something of several intakes.
    building: usize,
    /// Sweeps that go on.
    sweeps: usize,
    /// No longer held, since the first of these sweeps began.
    ended: BTreeSet<ReleaseId>,
}

/// All of them, of one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<State>>);

/// One release is worked with as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold(Holds, ReleaseId);

/// Something is made of several intakes as long as this lives.
#[derive(Debug)]
pub(crate) struct Building(Holds);

/// A sweep goes on as long as this lives.
#[derive(Debug)]
pub(crate) struct Sweeping(Holds);

/// No release begins to be held as long as this lives.
pub(crate) struct Still<'a>(MutexGuard<'a, State>);

tokio::task_local! {
    /// What the verb of this task holds to its end.
    static OF_VERB: RefCell<Vec<Hold>>;
}

/// Runs a verb: what it begins to hold by [`Holds::keep`] is held until it returns.
pub(crate) async fn for_verb<T>(verb: impl Future<Output = T>) -> T {
    OF_VERB.scope(RefCell::default(), verb).await
}

impl Holds {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Holds a release. Waits for the step of a sweep, which is some milliseconds.
    pub(crate) fn hold(&self, release: ReleaseId) -> Hold {
        *self.state().held.entry(release).or_insert(0) += 1;
        Hold(self.clone(), release)
    }
    /// Holds a release until the verb of this task is over; where there is none, as long as the answer lives.
    pub(crate) fn keep(&self, release: ReleaseId) -> Option<Hold> {
        let mut hold = Some(self.hold(release));
        let _ = OF_VERB.try_with(|held| held.borrow_mut().extend(hold.take()));
        hold
    }
    /// Somebody makes something of several intakes.
    pub(crate) fn build(&self) -> Building {
        self.state().building += 1;
        Building(self.clone())
    }
    /// A sweep begins.
    pub(crate) fn sweep(&self) -> Sweeping {
        self.state().sweeps += 1;
        Sweeping(self.clone())
    }
    /// For one step of a sweep.
    pub(crate) fn still(&self) -> Still<'_> {
        Still(self.state())
    }
    /// Whether somebody makes something of several intakes.
    pub(crate) fn are_building(&self) -> bool {
        self.state().building > 0
    }
}

impl Still<'_> {
    /// What is held, or was since the sweep began.
    pub(crate) fn releases(&self) -> impl Iterator<Item = ReleaseId> + '_ {
        self.0.held.keys().chain(&self.0.ended).copied()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let left = state.held.get_mut(&self.1).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            state.held.remove(&self.1);
            if state.sweeps > 0 {
                state.ended.insert(self.1);
            }
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        self.0.state().building -= 1;
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.sweeps -= 1;
        if state.sweeps == 0 {
            state.ended.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holds: &Holds) -> Vec<u8> {
        holds.still().releases().map(|r| r.0[0]).collect()
    }

    #[tokio::test]
    async fn what_a_verb_keeps_is_held_to_its_end_and_counts_to_the_end_of_a_sweep() {
        let holds = Holds::default();
        let release = |n: u8| ReleaseId([n; 32]);
        assert!(holds.keep(release(9)).is_some(), "outside of a verb it is the caller's");
        assert!(seen(&holds).is_empty());
        let sweeping = for_verb(async {
            assert!(holds.keep(release(1)).is_none());
            let _twice = holds.hold(release(1));
            assert_eq!(seen(&holds), [1]);
            holds.sweep()
        })
        .await;
        assert_eq!(seen(&holds), [1], "it may have become a root after they were read");
        drop(sweeping);
        assert!(seen(&holds).is_empty());
    }
}
