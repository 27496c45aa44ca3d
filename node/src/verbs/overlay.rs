//! `overlay`: the owner's own changes, and what becomes of them. Invariant: a change of an overlay is a generation like
//! any other: planned, agreed to, tried, and taken back whole when it does not hold; what an update cannot keep is a task
//! for the owner, shown until it is settled.

use super::{
    auto,
    consent::{self, Consent},
    failure::{Failure, Kind},
    fetch,
    freshness::Wish,
    grounds::Grounds,
    instances,
    provision::{self, Prepared},
    reference::{self, Found},
};
use crate::{
    api::talk::Talk,
    context::Context,
    device::{DeviceError, PlanRequest},
};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    instance::overlay::{Conflict, Edit, Overlay},
    io::Depth,
    release::ReleaseRef,
};
use std::time::Instant;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    name: String,
    /// Against the newest release instead of the one that runs.
    #[serde(default)]
    next: bool,
    /// Only this file.
    file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    name: String,
    edits: Vec<Line>,
    #[serde(default)]
    next: bool,
    plan: Option<String>,
    #[serde(default)]
    yes: bool,
    #[serde(default)]
    accept_reduced: bool,
    /// Also on a word of its publisher that expired.
    #[serde(default)]
    accept_expired: bool,
    /// Also what its publisher called unsafe.
    #[serde(default)]
    accept_revoked: bool,
}

/// An edit, as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    SetFile { path: String, text: String, mode: Option<u32> },
    SetEnv { service: String, name: String, value: String },
    Drop(String),
}

impl From<Line> for Edit {
    fn from(line: Line) -> Self {
        match line {
            Line::SetFile { path, text, mode } => Self::SetFile { key: path, text, mode },
            Line::SetEnv { service, name, value } => Self::SetVariable { service, name, value },
            Line::Drop(key) => Self::Drop(key),
        }
    }
}

/// The overlay as it is, and the author's texts beside it.
pub(super) async fn show(context: &Context, args: Show, talk: &Talk) -> Result<Value, Failure> {
    let (release, _) = release(context, &args.name, args.next, talk).await?;
    let own = context.device.overlay(&args.name).await?;
    let texts = context.device.overlay_texts(&args.name, release.id, args.file).await?;
    let conflicts = context.device.conflicts(&args.name, release.id).await?;
    Ok(json!({
        "name": args.name,
        "release": release.id.to_string(),
        "environment": own.environment,
        "files": texts,
        "tasks": tasks(&args.name, &conflicts),
    }))
}

pub(super) async fn plan(context: &Context, args: Change, talk: &Talk) -> Result<Value, Failure> {
    Ok(json!(prepare(context, args, talk).await?.plan))
}

pub(super) async fn change(context: &Context, args: Change, talk: &Talk) -> Result<Value, Failure> {
    let began = Instant::now();
    let (hash, yes, accept_reduced) = (args.plan.clone(), args.yes, args.accept_reduced);
    let prepared = prepare(context, args, talk).await?;
    let agreed = consent::plan(&prepared.plan, hash.as_deref(), yes)?;
    let consent = Consent { plan: agreed, accept_reduced };
    Box::pin(provision::live(context, prepared, consent, began, talk)).await
}

async fn prepare(context: &Context, args: Change, talk: &Talk) -> Result<Prepared, Failure> {
    if args.edits.is_empty() {
        return Err(Failure::usage("there is nothing to change").hint("--set-file, --set-env or --drop"));
    }
    let (release, newer) = release(context, &args.name, args.next, talk).await?;
    let wish = Wish::Owner { accept_expired: args.accept_expired };
    // A change of what runs starts it anew.
    let had = Grounds::Had { accept_revoked: args.accept_revoked };
    let grounds = newer.map_or(had, |found| Grounds::listed(&found, wish, false));
    grounds.ask(context, &args.name, release.id).await?;
    let edits = args.edits.into_iter().map(Edit::from).collect();
    let overlay: Overlay = context.device.edited_overlay(&args.name, release.id, edits).await?;
    let request = PlanRequest { overlay: Some(overlay), ..PlanRequest::new(args.name, release.id) };
    provision::finish_plan(context, request, release, grounds).await
}

/// The release that runs, or the newest as it is listed, with the documents of its closure here.
async fn release(
    context: &Context,
    name: &str,
    next: bool,
    talk: &Talk,
) -> Result<(ReleaseRef, Option<Found>), Failure> {
    if next {
        let newer = provision::newer_release(context, name).await?;
        let Some(found) = newer else {
            return Err(Failure::not_found(format!("there is nothing newer for {name}"))
                .hint("without --next it is about the release that runs"));
        };
        fetch::bring_listed(context, &found, Depth::Manifests, talk).await?;
        return Ok((found.release(), Some(found)));
    }
    let Some((_, current)) = context.device.current(name).await? else {
        return Err(Failure::refused(format!("{name} never was confirmed")).hint("`softservice up` provisions it"));
    };
    Ok((ReleaseRef { id: current, size: provision::size_of(context, current).await? }, None))
}

/// Conflicts, as everybody is told of them.
fn tasks(name: &str, conflicts: &[Conflict]) -> Value {
    let one = |conflict: &Conflict| {
        json!({
            "softservice": name,
            "kind": "overlay_conflict",
            "what": conflict.what,
            "why": conflict.why,
            "resolve": resolve(name, conflict),
        })
    };
    conflicts.iter().map(one).collect()
}

/// What the owner can type.
fn resolve(name: &str, conflict: &Conflict) -> Vec<String> {
    let what = &conflict.what;
    let mut ways = Vec::new();
    if conflict.marked.is_some() {
        ways.push(format!("softservice overlay {name} --next --print {what} > FILE, edit it, then"));
        ways.push(format!("softservice overlay {name} --next --set-file {what}=FILE"));
    }
    ways.push(format!("softservice overlay {name} --next --drop {what}"));
    ways
}

/// A refusal that carries what the owner has to do.
pub(super) fn refusal(error: &DeviceError) -> Option<Failure> {
    let DeviceError::Conflict { name, conflicts } = error else { return None };
    let hint = conflicts.first().map_or_else(String::new, |c| resolve(name, c).join("; "));
    Some(Failure::new(Kind::Refused, error.to_string()).hint(hint).with(json!({ "tasks": tasks(name, conflicts) })))
}

/// What the owner of a softservice has to do before its next update; nothing while the next release is not known here.
pub(super) async fn open_tasks(context: &Context, name: &str, newer: Option<&reference::Found>) -> Value {
    let Some(newer) = newer else { return json!([]) };
    // Documents that have not come yet are no reason to fail: whoever plans the update fetches them.
    let conflicts = context.device.conflicts(name, newer.listing.release).await.unwrap_or_default();
    tasks(name, &conflicts)
}

/// Adds what is to be done to a softservice as `ps` and `status` show it.
pub(super) async fn with_tasks(context: &Context, mut shown: Value, candidates: &[instances::Candidate]) -> Value {
    let name = shown["name"].as_str().unwrap_or_default().to_owned();
    let newer = candidates.iter().find(|c| c.name == name);
    shown["tasks"] = open_tasks(context, &name, newer.map(|c| &c.found)).await;
    if let Some(newer) = newer
        && let Some(tasks) = shown["tasks"].as_array_mut()
    {
        tasks.extend(auto::task(context, newer).await);
    }
    shown
}
