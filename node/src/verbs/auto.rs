//! The policy `auto`: followed publishers' newer releases are taken by themselves. Invariant: never one that asks for
//! more permissions, never on a word that is not fresh, never a held or stopped softservice, never a release that this softservice had before - it failed then, or its
//! owner went back from it. What waits for its owner is a task of the softservice, in `ps` and `status`, until it is settled.

use super::{
    consent,
    failure::Failure,
    freshness,
    instances::{self, Candidate},
    provision::{self, Unasked},
    subscriptions::{self, Policy},
};
use crate::{Context, api::talk::Talk, device::PlanRequest};
use serde_json::{Value, json};
use softservice_protocol::id::{PublisherId, ReleaseId};
use std::collections::BTreeSet;

/// Follows the policies until the node stops.
pub async fn follow(context: Context) {
    let mut handle = context.handle.clone();
    let mut told = BTreeSet::new();
    loop {
        // One that was refused may fit by now.
        let allowed = context.quotas.changed();
        if let Err(failure) = look(&context, &mut told).await {
            tracing::warn!(%failure, "automatic updates were not looked for");
        }
        tokio::select! {
            changed = handle.catalogue_changed() => if changed.is_err() { return },
            () = allowed => {}
        }
    }
}

/// Publishers whose releases are taken by themselves.
fn automatic(context: &Context) -> Result<BTreeSet<PublisherId>, Failure> {
    let all = subscriptions::read(&context.home)?.into_iter();
    Ok(all.filter(|s| s.policy == Policy::Auto).map(|s| s.publisher).collect())
}

/// Whether this policy would take it.
fn is_due(candidate: &Candidate, automatic: &BTreeSet<PublisherId>) -> bool {
    !candidate.held && candidate.up && !candidate.had && automatic.contains(&candidate.found.publisher)
}

/// `told` is what the log said already: news come often, and the same line each time would hide the others.
async fn look(context: &Context, told: &mut BTreeSet<(String, ReleaseId)>) -> Result<(), Failure> {
    let automatic = automatic(context)?;
    if automatic.is_empty() {
        return Ok(());
    }
    let catalogue = context.handle.catalogue();
    let now = context.config.clock.moment();
    // A newer word changes the catalogue, and so wakes whoever looks here.
    let relied_on = |c: &Candidate| {
        let known = catalogue.get(&c.found.publisher);
        known.is_some_and(|k| freshness::may_act_alone(k, now))
    };
    let candidates = instances::updatable(context).await?;
    for candidate in candidates.into_iter().filter(|c| is_due(c, &automatic) && relied_on(c)) {
        let (name, release) = (candidate.name, candidate.found.listing.release);
        let alone = Talk::alone();
        let update = provision::update_unasked(context, &name, &alone);
        match crate::holds::for_verb(update).await {
            Ok(Unasked::Done(done)) => {
                tracing::info!(softservice = name, version = %done["version"], "updated by policy");
            }
            Ok(Unasked::Nothing) => {}
            Ok(Unasked::Waits(why)) => {
                if told.insert((name.clone(), release)) {
                    let why = why.join("; ");
                    tracing::warn!(softservice = name, %release, why, "a newer release waits for its owner's yes");
                }
            }
            Err(failure) => tracing::warn!(softservice = name, %failure, "the update by policy did not hold"),
        }
    }
    Ok(())
}

/// What an owner who follows by `auto` has to decide: the newer release that is not taken unasked, and why. Found out
/// anew each time, so that it is gone once it is settled and there after a restart.
pub(super) async fn task(context: &Context, candidate: &Candidate) -> Option<Value> {
    if !is_due(candidate, &automatic(context).ok()?) {
        return None;
    }
    let (name, listing) = (&candidate.name, &candidate.found.listing);
    // Documents that have not come yet are no reason to fail: the policy fetches them.
    let request = PlanRequest::new(name.clone(), listing.release);
    let plan = provision::finish_plan(context, request, candidate.found.release()).await.ok()?.plan;
    let why = consent::unasked(context, &plan).ok().filter(|why| !why.is_empty())?;
    Some(json!({
        "softservice": name,
        "kind": "wider_permissions",
        "what": format!("{} {}", listing.distro, listing.version),
        "why": format!("it is not taken unasked: {}", why.join("; ")),
        "release": listing.release.to_string(),
        "permissions": plan.permissions,
        "reduced": plan.isolation.reduced,
        "resolve": [format!("softservice update {name}"), format!("softservice hold {name}")],
    }))
}
