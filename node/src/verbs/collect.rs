//! `gc`. Invariant: nothing that a generation, a pin, an own publication, a running fetch or a verb that goes on needs is
//! removed, however long the sweep takes and whatever becomes needed meanwhile; and what was removed is held against what
//! is needed when it is over.

use super::{
    care, closure,
    failure::{Failure, Kind},
};
use crate::{
    context::Context,
    holds::{Holds, Sweeping},
};
use serde_json::{Value, json};
use softservice_protocol::id::{ObjectId, ReleaseId};
use softservice_store::{Keeper, Store, StoreError, closure::objects};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Says what is kept, for every step anew.
struct Kept {
    store: Arc<dyn Store>,
    holds: Holds,
    /// Releases whose objects are all in `keep`.
    known: BTreeSet<ReleaseId>,
    keep: BTreeSet<ObjectId>,
    /// Nobody waits for it any more.
    abandoned: Arc<AtomicBool>,
}

impl Keeper for Kept {
    fn step(&mut self, take: &mut dyn FnMut(&BTreeSet<ObjectId>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        if self.abandoned.load(Ordering::Acquire) {
            return Err(StoreError::Stopped);
        }
        let holds = self.holds.clone();
        // To the end of the step: whoever begins to need something waits, and looks afterwards what is here.
        let still = holds.still();
        for release in still.releases() {
            self.add(release)?;
        }
        take(&self.keep)
    }
    fn builds(&self) -> bool {
        self.holds.are_building()
    }
}

impl Kept {
    /// Keeps what a release needs, as far as that can be told.
    fn add(&mut self, release: ReleaseId) -> Result<(), StoreError> {
        if self.known.contains(&release) {
            return Ok(());
        }
        match objects(self.store.as_ref(), release) {
            Ok(needed) => {
                // More of it shows with every document that comes.
                if needed.iter().all(|object| self.store.has_object(*object)) {
                    self.known.insert(release);
                }
                self.keep.extend(needed);
                Ok(())
            }
            // A fetch of what breaks the rules keeps nothing; it ends by itself.
            Err(StoreError::Closure { .. } | StoreError::Codec(_) | StoreError::Tree(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// Tells the sweep when nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What is needed just now: roots, and what fetches are about.
async fn needed(context: &Context) -> Result<(BTreeSet<ReleaseId>, BTreeSet<ReleaseId>), Failure> {
    let transfers = context.handle.status().await?.transfers;
    let fetched = transfers.iter().filter_map(|t| t.release.parse().ok()).collect();
    Ok((care::roots(context).await?, fetched))
}

pub(super) async fn gc(context: &Context) -> Result<Value, Failure> {
    let store = closure::store(context);
    let (holds, abandoned) = (context.holds.clone(), Arc::new(AtomicBool::new(false)));
    let waiting = Waiting(Arc::clone(&abandoned));
    let sweeping = holds.sweep();
    // In this order: a fetch that announces something after the number is spared for that; one that did so before and goes
    // on is among the transfers.
    let announced = store.announced();
    let (roots, fetched) = needed(context).await?;
    let kept = Kept { store, holds, known: BTreeSet::new(), keep: BTreeSet::new(), abandoned };
    let (swept, gone) = closure::blocking(move || sweep(kept, &roots, &fetched, announced)).await?;
    let (roots, _) = needed(context).await?;
    let (lost, reachable) = prove(context, roots, gone, sweeping).await?;
    drop(waiting);
    let answer = json!({
        "kept": swept.kept,
        "removed": swept.removed,
        "freed": swept.freed,
        "reachable": reachable,
        "reachable_lost": lost,
    });
    if lost > 0 {
        let what = format!("{lost} objects were removed that something here needs");
        return Err(Failure::new(Kind::Bug, what).hint("`softservice fsck --repair` fetches them again").with(answer));
    }
    Ok(answer)
}

fn sweep(
    mut kept: Kept,
    roots: &BTreeSet<ReleaseId>,
    fetched: &BTreeSet<ReleaseId>,
    announced: u64,
) -> Result<(softservice_store::Swept, BTreeSet<ObjectId>), Failure> {
    for root in roots {
        // What a root needs must be known, or nothing may be called superfluous.
        kept.keep.extend(objects(kept.store.as_ref(), *root)?);
    }
    for release in fetched {
        kept.add(*release)?;
    }
    let store = Arc::clone(&kept.store);
    store.let_go_of(announced, &kept.keep);
    Ok(store.gc_in_steps(&mut kept)?)
}

/// Holds what was removed against what is needed now. Answers how much of it is needed and not here, and how much is
/// needed in all.
async fn prove(
    context: &Context,
    roots: BTreeSet<ReleaseId>,
    gone: BTreeSet<ObjectId>,
    sweeping: Sweeping,
) -> Result<(usize, usize), Failure> {
    let store = closure::store(context);
    closure::blocking(move || {
        let _sweeping = sweeping;
        let mut reachable = BTreeSet::new();
        for root in roots {
            reachable.extend(objects(store.as_ref(), root)?);
        }
        let lost = gone.iter().filter(|o| reachable.contains(*o) && !store.has_object(**o)).count();
        Ok((lost, reachable.len()))
    })
    .await
}
