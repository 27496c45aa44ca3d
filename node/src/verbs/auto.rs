//! The policy `auto`: followed publishers' newer releases are taken by themselves. Invariant: never one that asks for
//! more permissions or brings a part that was taken back, never on a word that is not fresh or whose age a wrong clock hides,
//! never a held or stopped softservice, never a release that this softservice had before - it failed then, or its owner went
//! back from it. And never one that is not above what runs, on the same channel: what a revocation names in place of a release is
//! for the owner's own `update`, or whoever may only stop things could move devices back to what is known to be bad. What waits for its owner, or cannot even be planned, is a task of the softservice, in `ps` and `status`,
//! until it is settled; nothing is done about it unasked.

use super::{
    consent::{self, Agreed, Consent},
    failure::{Failure, Kind},
    fetch,
    freshness::{self, Wish},
    grounds::Grounds,
    instances::{self, Candidate},
    provision::{self, Prepared},
    reference::{self, Found},
    subscriptions::{self, Policy},
};
use crate::{Context, api::talk::Talk, device::PlanRequest};
use serde_json::{Value, json};
use softservice_protocol::{
    id::{PublisherId, ReleaseId},
    io::Depth,
    plan::Plan,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// What the log said last of each softservice, and of which release: news come often, and the same line each time would
/// hide the others.
type Told = BTreeMap<String, (ReleaseId, String)>;

/// Follows the policies until the node stops.
pub async fn follow(context: Context) {
    let mut handle = context.handle.clone();
    let mut told = Told::new();
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

async fn look(context: &Context, told: &mut Told) -> Result<(), Failure> {
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
        let update = update(context, &name, &alone);
        match crate::holds::for_verb(update).await {
            Ok(Unasked::Done(done)) => {
                tracing::info!(softservice = name, version = %done["version"], "updated by policy");
            }
            Ok(Unasked::Nothing) => {}
            Ok(Unasked::Waits(why)) => {
                let why = why.join("; ");
                if is_new(told, &name, release, &why) {
                    tracing::warn!(softservice = name, %release, why, "a newer release waits for its owner's yes");
                }
            }
            Err(failure) => {
                if let Some(step) = failure.step {
                    context.refused.count(step);
                }
                if is_new(told, &name, release, &failure.message) {
                    tracing::warn!(softservice = name, %release, %failure, "the update by policy did not hold");
                }
            }
        }
    }
    Ok(())
}

/// What came of an update that nobody asked for.
enum Unasked {
    /// It holds.
    Done(Value),
    /// There is nothing that this policy would take.
    Nothing,
    /// It waits for its owner: what would be allowed, or held less, than now.
    Waits(Vec<String>),
}

/// An update that allows no more than what runs and is held no less, to the very release that this policy judges.
async fn update(context: &Context, name: &str, talk: &Talk) -> Result<Unasked, Failure> {
    let began = Instant::now();
    reference::refresh(context).await?;
    let automatic = automatic(context)?;
    let candidates = instances::updatable(context).await?.into_iter();
    let Some(Candidate { found, .. }) = candidates.filter(|c| is_due(c, &automatic)).find(|c| c.name == name) else {
        return Ok(Unasked::Nothing);
    };
    let grounds = Grounds::listed(&found, Wish::Policy, false);
    grounds.ask(context, name, found.listing.release).await?;
    let looked = fetch::bring_listed(context, &found, Depth::Manifests, talk).await?;
    let request = PlanRequest::new(name.to_owned(), found.listing.release);
    let planned = provision::finish_plan(context, request, found.release(), grounds).await?;
    let prepared = Prepared { looked, ..planned };
    let waits_for = provision::waits_for(context, &prepared).await?;
    if !waits_for.is_empty() {
        return Ok(Unasked::Waits(waits_for));
    }
    let consent = Consent { plan: Agreed::Unasked, accept_reduced: false };
    Box::pin(provision::live(context, prepared, consent, began, talk)).await.map(Unasked::Done)
}

/// Whether a release still is what this policy may take: asked when it is chosen, and again when its content is here, for its
/// owner may have gone elsewhere meanwhile.
///
/// # Errors
/// When it is not.
pub(super) async fn refuse_other(context: &Context, name: &str, found: Found) -> Result<(), Failure> {
    let called = found.called();
    let candidate = instances::candidate(context, name, found).await?;
    if candidate.is_some_and(|c| automatic(context).is_ok_and(|automatic| is_due(&c, &automatic))) {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{called} is not taken for {name} by itself: what runs, or its owner's will, is another now"
    )))
}

/// Whether the log did not say just this of it; from now on it has.
fn is_new(told: &mut Told, name: &str, release: ReleaseId, why: &str) -> bool {
    let now = (release, why.to_owned());
    told.insert(name.to_owned(), now.clone()) != Some(now)
}

/// What an owner who follows by `auto` has to decide: the newer release that is not taken unasked, and why. Found out
/// anew each time, so that it is gone once it is settled and there after a restart.
pub(super) async fn task(context: &Context, candidate: &Candidate) -> Option<Value> {
    match automatic(context) {
        Ok(automatic) if !is_due(candidate, &automatic) => return None,
        Ok(_) => {}
        Err(failure) => return Some(blocked(candidate, &failure)),
    }
    match planned(context, candidate).await {
        Ok((_, _, why)) if why.is_empty() => None,
        Ok((plan, kind, why)) => Some(wider(candidate, kind, &plan, &why)),
        // Documents that have not come yet are no reason to fail: the policy fetches them. What the owner's own changes
        // stand in the way of is a task already.
        Err(failure) if failure.kind == Kind::NotFound || failure.details.contains_key("tasks") => None,
        Err(failure) => Some(blocked(candidate, &failure)),
    }
}

/// What would be done, and why it is not done unasked.
async fn planned(context: &Context, candidate: &Candidate) -> Result<(Plan, &'static str, Vec<String>), Failure> {
    let request = PlanRequest::new(candidate.name.clone(), candidate.found.listing.release);
    let prepared = provision::finish_plan(context, request, candidate.found.release(), Grounds::Free).await?;
    consent::refuse_lacking(&prepared.plan)?;
    let narrow = consent::unasked(context, &prepared.plan)?.is_empty();
    let why = provision::waits_for(context, &prepared).await?;
    Ok((prepared.plan, if narrow { "revoked_parts" } else { "wider_permissions" }, why))
}

fn wider(candidate: &Candidate, kind: &str, plan: &Plan, why: &[String]) -> Value {
    let mut task = waits(candidate, kind, &why.join("; "), "");
    task["permissions"] = json!(plan.permissions);
    task["reduced"] = json!(plan.isolation.reduced);
    task
}

/// It cannot be planned, and the policy does nothing about that.
fn blocked(candidate: &Candidate, failure: &Failure) -> Value {
    // What is asked without a default is answered with the update.
    let answers = failure.hint.as_deref().filter(|_| failure.details.contains_key("questions"));
    waits(candidate, "update_blocked", &failure.message, answers.unwrap_or_default())
}

fn waits(candidate: &Candidate, kind: &str, why: &str, answers: &str) -> Value {
    let (name, listing) = (&candidate.name, &candidate.found.listing);
    let update = format!("softservice update {name} {answers}");
    json!({
        "softservice": name,
        "kind": kind,
        "what": format!("{} {}", listing.distro, listing.version),
        "why": format!("it is not taken unasked: {why}"),
        "release": listing.release.to_string(),
        "resolve": [update.trim_end(), &format!("softservice hold {name}")],
    })
}
