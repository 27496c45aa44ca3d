//! `fsck`, and what this home needs. Invariant: damage that stays is an error, so that no script takes it for health.

use super::{
    closure,
    collect::Waiting,
    failure::{Failure, Kind},
    fetch, instances, losses, pins, subscriptions,
};
use crate::{api::talk::Talk, context::Context};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    id::{ObjectId, ReleaseId},
    io::Depth,
    release::ReleaseRef,
};
use softservice_store::{Damage, Findings, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Every release of which this home may hold something, with what a fetch needs.
async fn known_releases(context: &Context) -> Result<BTreeMap<ReleaseId, Option<u32>>, Failure> {
    let mut all = BTreeMap::new();
    for known in context.handle.catalogue().values() {
        all.extend(known.feed.snapshot.listings.iter().map(|l| (l.release, Some(l.size))));
    }
    for id in instances::releases(context).await?.into_iter().chain(pins::read(&context.home)?) {
        all.entry(id).or_insert(None);
    }
    Ok(all)
}

/// What `gc` keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Roots {
    /// Generations, pins, everything of the own publisher: all of these were read once, and found to be releases.
    pub(super) own: BTreeSet<ReleaseId>,
    /// The newest of each subscribed distro: what a publisher calls one.
    pub(super) listed: BTreeSet<ReleaseId>,
}

impl Roots {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = ReleaseId> + '_ {
        self.own.union(&self.listed).copied()
    }
}

/// What `gc` keeps just now.
pub(super) async fn roots(context: &Context) -> Result<Roots, Failure> {
    let (mut own, mut listed) = (pins::read(&context.home)?, BTreeSet::new());
    own.extend(instances::releases(context).await?);
    let catalogue = context.handle.catalogue();
    if let Some(published) = context.keys.publisher().and_then(|id| catalogue.get(&id)) {
        // All of it: this device may be the only one that has it.
        own.extend(published.feed.snapshot.listings.iter().map(|l| l.release));
        own.extend(super::publisher::requested(context)?);
    }
    for subscription in subscriptions::read(&context.home)? {
        let Some(known) = catalogue.get(&subscription.publisher) else { continue };
        let distros: BTreeSet<&str> = known.feed.snapshot.listings.iter().map(|l| l.distro.as_str()).collect();
        listed.extend(distros.into_iter().filter_map(|distro| {
            super::reference::newest(&catalogue, subscription.publisher, distro, None).map(|l| l.release)
        }));
    }
    Ok(Roots { own, listed })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fsck {
    #[serde(default)]
    repair: bool,
}

pub(super) async fn fsck(context: &Context, args: &Fsck, talk: &Talk) -> Result<Value, Failure> {
    let (store, tell) = (closure::store(context), talk.clone());
    let of = {
        let store = store.clone();
        closure::blocking(move || Ok(store.totals()?.1)).await?
    };
    let (waiting, waited) = Waiting::new(context);
    let check = move || {
        Ok(store.fsck(&|bytes| {
            tell.progress("check", bytes, of, 0);
            waited.still()
        })?)
    };
    let found: Findings = closure::blocking(check).await?;
    drop(waiting);
    if let Some(Damage { file, what, .. }) = &found.unheard {
        talk.note(format!("{}: {what}; nothing is lost by that", file.display())).await;
    }
    let mut damaged = found.damaged;
    damaged.extend(still_lost(context, &damaged).await?);
    let mut lost = found.losses;
    let lossy = !lost.is_empty();
    let behind = losses::behind(context, lossy).await?;
    lost.extend(behind);
    let mut repaired = BTreeSet::new();
    let mut behind = Vec::new();
    if args.repair {
        repaired = repair(context, &damaged, talk).await?;
        behind = if lost.is_empty() { Vec::new() } else { losses::settle(context, lossy).await? };
    }
    // Last, so that what was fetched again is there to be linked again.
    let trees = context.device.check_trees(args.repair).await?;
    for name in &trees.busy {
        talk.note(format!("the generations of {name} were left out: one of them is on its way")).await;
    }
    if !trees.mended.is_empty() {
        talk.note("services that have a mended file open keep the damaged one until they start anew").await;
    }
    let left = if args.repair {
        // What is no object was mended by the check itself.
        let unhealed = damaged.iter().filter(|d| d.object.is_some_and(|id| !repaired.contains(&id))).count();
        unhealed + behind.len() + (trees.damaged.len() - trees.mended.len())
    } else {
        damaged.len() + lost.len() + trees.damaged.len()
    };
    damaged.extend(lost);
    damaged.extend(trees.damaged);
    let damage = |d: &Damage| json!({ "file": d.file, "object": d.object.map(|o| o.to_string()), "what": d.what });
    let answer = json!({
        "objects": found.objects,
        "bytes": found.bytes,
        "damaged": damaged.iter().map(damage).collect::<Vec<_>>(),
        "repaired": repaired.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "mended": trees.mended,
        "reindexed": found.reindexed,
    });
    if left == 0 {
        return Ok(answer);
    }
    let hint = if args.repair {
        "what is left belongs to no release that a connected peer has"
    } else {
        "`softservice fsck --repair` fetches it again from peers"
    };
    Err(Failure::new(Kind::Damaged, format!("{left} stored thing{} damaged", if left == 1 { " is" } else { "s are" }))
        .hint(hint)
        .with(answer))
}

/// What earlier checks set aside, nobody has healed since, and something here still needs.
async fn still_lost(context: &Context, told: &[Damage]) -> Result<Vec<Damage>, Failure> {
    let (roots, store) = (roots(context).await?, closure::store(context));
    let told: BTreeSet<ObjectId> = told.iter().filter_map(|d| d.object).collect();
    closure::blocking(move || {
        let mut lost = store.lost()?;
        lost.retain(|d| d.object.is_some_and(|id| !told.contains(&id)));
        if lost.is_empty() {
            return Ok(lost);
        }
        let mut needed = BTreeSet::new();
        for root in roots.all() {
            match softservice_store::closure::objects(store.as_ref(), root) {
                Ok(objects) => needed.extend(objects),
                // Not readable, so what it needs is not known: nothing may be called superfluous.
                Err(_) => return Ok(lost),
            }
        }
        lost.retain(|d| d.object.is_some_and(|id| needed.contains(&id)));
        Ok(lost)
    })
    .await
}

/// Fetches again every known release that holds a damaged object; says which objects are whole afterwards.
async fn repair(context: &Context, damaged: &[Damage], talk: &Talk) -> Result<BTreeSet<ObjectId>, Failure> {
    let wanted: BTreeSet<ObjectId> = damaged.iter().filter_map(|d| d.object).collect();
    if wanted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let known = known_releases(context).await?;
    // A damaged document or manifest hides what it listed, so each healed one may uncover more: until nothing changes.
    let mut tried = BTreeSet::new();
    loop {
        let (store, candidates, aim) = (closure::store(context), known.clone(), wanted.clone());
        let holders = closure::blocking(move || holders(store.as_ref(), &candidates, &aim)).await?;
        let fresh: Vec<ReleaseRef> = holders.into_iter().filter(|r| tried.insert(r.id)).collect();
        if fresh.is_empty() {
            break;
        }
        for release in fresh {
            if let Err(failure) = fetch::bring(context, release, Depth::Content, talk).await {
                talk.note(format!("release {} could not be fetched again: {failure}", release.id.short())).await;
            }
        }
    }
    let store = closure::store(context);
    closure::blocking(move || Ok(wanted.into_iter().filter(|id| store.has_object(*id)).collect())).await
}

/// Known releases whose closure names a wanted object that is not here.
fn holders(
    store: &dyn Store,
    known: &BTreeMap<ReleaseId, Option<u32>>,
    wanted: &BTreeSet<ObjectId>,
) -> Result<Vec<ReleaseRef>, Failure> {
    let missing: BTreeSet<ObjectId> = wanted.iter().filter(|id| !store.has_object(**id)).copied().collect();
    let mut holders = Vec::new();
    for (id, size) in known {
        match softservice_store::closure::objects(store, *id) {
            Ok(objects) if objects.is_disjoint(&missing) => continue,
            // Not readable: what it holds is not known, so it may hold what is wanted.
            Ok(_) | Err(_) => {}
        }
        let size = match size {
            Some(size) => Some(*size),
            // Not listed any more: its document says how long it is, if it is here.
            None => store
                .object(id.object(), softservice_protocol::limits::RELEASE_BYTES)
                .ok()
                .and_then(|bytes| u32::try_from(bytes.len()).ok()),
        };
        holders.extend(size.map(|size| ReleaseRef { id: *id, size }));
    }
    Ok(holders)
}
