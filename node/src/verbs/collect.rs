//! `gc`. Invariant: nothing that a generation, a pin, an own publication, a running fetch or a verb that goes on needs is
//! removed, however long the sweep takes and whatever becomes needed meanwhile; and what was removed is held against what
//! is needed when it is over.

use super::{
    care::{self, Roots},
    closure,
    failure::{Failure, Kind},
};
use crate::{
    api::talk::Talk,
    context::Context,
    holds::{Holds, Sweeping},
    shutdown::Stop,
};
use serde_json::{Value, json};
use softservice_protocol::id::{ObjectId, ReleaseId};
use softservice_store::{
    Keeper, Store, StoreError,
    closure::{needed, objects},
};
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
    waited: Waited,
    /// Objects looked at, of how many there were, and who hears of it.
    looked: u64,
    of: u64,
    talk: Talk,
}

impl Keeper for Kept {
    fn step(&mut self, take: &mut dyn FnMut(&BTreeSet<ObjectId>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        if !self.waited.still() {
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
    fn looked(&mut self, objects: u64) {
        self.looked += objects;
        self.talk.count("sweep", self.looked.min(self.of), self.of);
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
            Err(e) if breaks_rules(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }
    /// Keeps what a release of somebody else needs. One that is no release, whatever its publisher says, is its document.
    fn add_listed(&mut self, release: ReleaseId) -> Result<(), StoreError> {
        match needed(self.store.as_ref(), release) {
            Ok(needed) => self.keep.extend(needed),
            Err(e) if breaks_rules(&e) => drop(self.keep.insert(release.object())),
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// Whether this is said of what a publisher made, and not of this device's disk.
fn breaks_rules(error: &StoreError) -> bool {
    use StoreError::{Closure, Codec, Tree, Unsound};
    matches!(error, Closure { .. } | Codec(_) | Tree(_) | Unsound { .. })
}

/// Somebody waits for work on another thread as long as this lives.
pub(super) struct Waiting(Arc<AtomicBool>);

/// The other side of it: whether anybody still waits. A node that is asked to stop waits for nothing.
#[derive(Clone)]
pub(super) struct Waited(Arc<AtomicBool>, Stop);

impl Waiting {
    pub(super) fn new(context: &Context) -> (Self, Waited) {
        let abandoned = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&abandoned)), Waited(abandoned, context.stop.clone()))
    }
}

impl Waited {
    pub(super) fn still(&self) -> bool {
        !self.0.load(Ordering::Acquire) && !self.1.asked()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What fetches bring is spared as long as this lives.
struct Preparing(Arc<dyn Store>);

impl Preparing {
    /// And the number up to which what was announced may be let go.
    fn new(store: &Arc<dyn Store>) -> (Self, u64) {
        let announced = store.begin_sweep();
        (Self(Arc::clone(store)), announced)
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.0.end_sweep();
    }
}

/// What is needed just now: roots, and what fetches are about.
async fn asked_for(context: &Context) -> Result<(Roots, BTreeSet<ReleaseId>), Failure> {
    let transfers = context.handle.status().await?.transfers;
    let fetched = transfers.iter().filter_map(|t| t.release.parse().ok()).collect();
    Ok((care::roots(context).await?, fetched))
}

pub(super) async fn gc(context: &Context, talk: &Talk) -> Result<Value, Failure> {
    let store = closure::store(context);
    let holds = context.holds.clone();
    let (waiting, waited) = Waiting::new(context);
    let sweeping = holds.sweep();
    // In this order: a fetch that announces something after the number is spared for that, and for what it makes whole of
    // it; one that did so before and goes on is among the transfers.
    let (preparing, announced) = Preparing::new(&store);
    let (roots, fetched) = asked_for(context).await?;
    let (known, keep) = (BTreeSet::new(), BTreeSet::new());
    let kept = Kept { store, holds, known, keep, waited, looked: 0, of: 0, talk: talk.clone() };
    let (swept, gone) = closure::blocking(move || {
        let _preparing = preparing;
        sweep(kept, &roots, &fetched, announced)
    })
    .await?;
    let (roots, _) = asked_for(context).await?;
    let (lost, reachable) = prove(context, roots, gone, sweeping).await?;
    drop(waiting);
    if swept.unlogged > 0 {
        talk.note("the disk is full: the log of layouts was not written anew, and the next sweep does that").await;
    }
    let answer = json!({
        "kept": swept.kept,
        "removed": swept.removed,
        "freed": swept.freed,
        "unlogged": swept.unlogged,
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
    roots: &Roots,
    fetched: &BTreeSet<ReleaseId>,
    announced: u64,
) -> Result<(softservice_store::Swept, BTreeSet<ObjectId>), Failure> {
    for root in &roots.own {
        // What a root needs must be known, or nothing may be called superfluous.
        kept.keep.extend(needed(kept.store.as_ref(), *root)?);
    }
    for release in &roots.listed {
        kept.add_listed(*release)?;
    }
    for release in fetched {
        kept.add(*release)?;
    }
    let store = Arc::clone(&kept.store);
    kept.of = store.totals()?.0;
    store.let_go_of(announced, &kept.keep);
    Ok(store.gc_in_steps(&mut kept)?)
}

/// Holds what was removed against what is needed now. Answers how much of it is needed and not here, and how much is
/// needed in all.
async fn prove(
    context: &Context,
    roots: Roots,
    gone: BTreeSet<ObjectId>,
    sweeping: Sweeping,
) -> Result<(usize, usize), Failure> {
    let store = closure::store(context);
    closure::blocking(move || {
        let _sweeping = sweeping;
        let mut reachable = BTreeSet::new();
        for root in roots.all() {
            match objects(store.as_ref(), root) {
                Ok(needed) => reachable.extend(needed),
                Err(e) if roots.listed.contains(&root) && breaks_rules(&e) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let lost = gone.iter().filter(|o| reachable.contains(*o) && !store.has_object(**o)).count();
        Ok((lost, reachable.len()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(store: &Arc<dyn Store>) -> Kept {
        let waited = Waited(Arc::default(), Stop::default());
        let (store, holds, talk) = (store.clone(), Holds::default(), Talk::alone());
        Kept { store, holds, known: BTreeSet::new(), keep: BTreeSet::new(), waited, looked: 0, of: 0, talk }
    }

    /// A publisher lists what is no release, and everybody who follows it has looked at that document.
    #[test]
    fn what_somebody_else_calls_a_release_keeps_nobody_from_sweeping() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(softservice_store::open(dir.path()).unwrap());
        let add = |bytes: &[u8]| ReleaseId(store.add(bytes).unwrap().0);
        let (listed, superfluous) = (add(b"no release"), add(b"superfluous"));
        // What was just brought is spared once.
        store.gc(&BTreeSet::new()).unwrap();
        let roots = Roots { listed: BTreeSet::from([listed]), ..Roots::default() };
        let (swept, gone) = sweep(kept(&store), &roots, &BTreeSet::new(), 0).unwrap();
        assert_eq!((swept.kept, gone), (1, BTreeSet::from([superfluous.object()])));
        // Of what is this device's own, all must be known.
        let own = Roots { own: BTreeSet::from([listed]), ..Roots::default() };
        sweep(kept(&store), &own, &BTreeSet::new(), 0).unwrap_err();
    }

    /// Whose document is damaged needs what that listed.
    #[test]
    fn nothing_is_swept_while_a_document_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(softservice_store::open(dir.path()).unwrap());
        let (document, listed) = (store.add(b"a document").unwrap(), store.add(b"what it lists").unwrap());
        store.gc(&BTreeSet::new()).unwrap();
        let path = dir.path().join("objects").join(&document.to_string()[..2]).join(document.to_string());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"b document").unwrap();
        let set = BTreeSet::from([ReleaseId(document.0)]);
        for roots in [Roots { own: set.clone(), ..Roots::default() }, Roots { listed: set.clone(), ..Roots::default() }]
        {
            let failure = sweep(kept(&store), &roots, &BTreeSet::new(), 0).unwrap_err();
            assert_eq!(failure.kind, Kind::Damaged, "{failure:?}");
            assert!(store.has_object(listed));
        }
    }
}
