//! `plan`, `up`, `update`, `rollback`: from a wish to a confirmed generation, or back. Invariant: nothing changes without
//! a plan that was agreed to, by its hash or by `yes`; what is agreed to is done whole or taken back whole.

use super::{
    catalogue,
    closure::{self, blocking},
    consent::{self, Agreed, Consent},
    failure::{Failure, Kind},
    fetch,
    freshness::{self, Wish},
    grounds::Grounds,
    instances, lookalike,
    reference::{self, Found, Names},
    revocation,
};
use crate::{
    api::talk::Talk,
    context::Context,
    device::{DeviceError, PlanRequest},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use softservice_protocol::{
    id::ReleaseId,
    io::{Depth, FetchFigures, ProvisionEvent},
    plan::Plan,
    release::ReleaseRef,
    words,
};
use softservice_store::manifests;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Lines of log that a failed generation's answer carries.
const LAST_WORDS: usize = 20;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Up {
    reference: String,
    name: Option<String>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    roles: Vec<String>,
    plan: Option<String>,
    #[serde(default)]
    yes: bool,
    #[serde(default)]
    accept_reduced: bool,
    /// Also on a word of its publisher that expired.
    #[serde(default)]
    accept_expired: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Update {
    name: String,
    #[serde(default)]
    set: BTreeMap<String, String>,
    plan: Option<String>,
    #[serde(default)]
    yes: bool,
    #[serde(default)]
    accept_reduced: bool,
    /// Also on a word of its publisher that expired.
    #[serde(default)]
    accept_expired: bool,
}

impl Update {
    fn wish(&self) -> Wish {
        Wish::Owner { accept_expired: self.accept_expired }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    name: String,
    to: Option<u32>,
    plan: Option<String>,
    #[serde(default)]
    yes: bool,
    #[serde(default)]
    accept_reduced: bool,
    /// Back to what its publisher called unsafe.
    #[serde(default)]
    accept_revoked: bool,
}

/// What was planned, and what carrying it out needs.
pub(super) struct Prepared {
    pub(super) request: PlanRequest,
    pub(super) release: ReleaseRef,
    pub(super) plan: Plan,
    /// What bringing the documents for the plan cost.
    pub(super) looked: Box<FetchFigures>,
    /// What it is asked once more when its content is here.
    pub(super) grounds: Grounds,
}

pub(super) async fn plan(context: &Context, args: Up, talk: &Talk) -> Result<Value, Failure> {
    let prepared = prepare_up(context, &args, talk).await?;
    with_warnings(context, &prepared).await
}

/// A plan with what its reader must know beside it and its hash does not cover: what became of the releases in it, how old the
/// word for them is, and whether it is a way back.
async fn with_warnings(context: &Context, prepared: &Prepared) -> Result<Value, Failure> {
    let closure = closure::load(context, prepared.release).await?;
    let (catalogue, names) = (context.handle.catalogue(), Names::read(context)?);
    let mut answer = json!(prepared.plan);
    let revoked = revocation::of(&catalogue, closure.root()?.publisher, prepared.release.id);
    answer["revoked"] = json!(revoked.map(|r| revocation::describe(&catalogue, &names, r)));
    answer["warnings"] = revocation::warnings(&catalogue, &names, &closure)?;
    let above = instances::above(context, &prepared.request.name, prepared.release.id).await;
    answer["older_than"] = json!(above.map(|runs| json!({ "version": runs.version, "revision": runs.revision })));
    freshness::add(&mut answer, context, &catalogue, closure.root()?.publisher);
    reference::add_asked(&mut answer, context, closure.root()?.publisher);
    answer["petname"] = names.of(closure.root()?.publisher).into();
    answer["words"] = words::of(closure.root()?.publisher).into();
    Ok(answer)
}

/// What may be asked of the owner before a plan is made.
pub(super) async fn questions(context: &Context, args: Up, talk: &Talk) -> Result<Value, Failure> {
    let (request, ..) = wish(context, &args, talk).await?;
    let open = context.device.questions(&request).await?;
    let known = matches!(context.device.current(&request.name).await, Ok(Some(_)));
    Ok(json!({ "softservice": request.name, "new": !known, "questions": catalogue::questions(&open) }))
}

pub(super) async fn up(context: &Context, args: Up, talk: &Talk) -> Result<Value, Failure> {
    let began = Instant::now();
    let prepared = prepare_up(context, &args, talk).await?;
    if args.plan.is_none() && args.set.is_empty() && runs_already(context, &prepared).await? {
        context.device.at_rest(&prepared.request.name)?;
        talk.note(format!("{} runs this release already", prepared.request.name)).await;
        let mut answer = present(context, &prepared.request.name).await?;
        answer["seconds"] = json!(began.elapsed().as_secs_f64());
        return Ok(answer);
    }
    let agreed = consent::plan(&prepared.plan, args.plan.as_deref(), args.yes)?;
    let consent = Consent { plan: agreed, accept_reduced: args.accept_reduced };
    Box::pin(live(context, prepared, consent, began, talk)).await
}

pub(super) async fn plan_update(context: &Context, args: Update, talk: &Talk) -> Result<Value, Failure> {
    match prepare_update(context, &args.name, &args.set, args.wish(), talk).await? {
        Some(prepared) => {
            let mut answer = with_warnings(context, &prepared).await?;
            answer["newer"] = json!(true);
            Ok(answer)
        }
        None => Ok(json!({ "newer": false, "softservice": args.name })),
    }
}

pub(super) async fn update(context: &Context, args: Update, talk: &Talk) -> Result<Value, Failure> {
    let began = Instant::now();
    // "Nothing newer" would be no answer while another is on its way.
    context.device.at_rest(&args.name)?;
    let Some(prepared) = prepare_update(context, &args.name, &args.set, args.wish(), talk).await? else {
        let mut answer = present(context, &args.name).await?;
        answer["newer"] = json!(false);
        answer["seconds"] = json!(began.elapsed().as_secs_f64());
        return Ok(answer);
    };
    let agreed = consent::plan(&prepared.plan, args.plan.as_deref(), args.yes)?;
    let consent = Consent { plan: agreed, accept_reduced: args.accept_reduced };
    Box::pin(live(context, prepared, consent, began, talk)).await
}

/// What must not be done unasked: what would be allowed, or held less, than now, and parts that were taken back.
pub(super) async fn waits_for(context: &Context, prepared: &Prepared) -> Result<Vec<String>, Failure> {
    let mut why = consent::unasked(context, &prepared.plan)?;
    why.extend(revocation::unasked(context, &prepared.request.name, prepared.release).await?);
    Ok(why)
}

pub(super) async fn plan_rollback(context: &Context, args: Rollback) -> Result<Value, Failure> {
    let prepared = prepare_rollback(context, &args).await?;
    let mut answer = with_warnings(context, &prepared).await?;
    // Code alone comes back at a word; what was written since the data changed its layout leaves with a yes only, and so
    // comes back what may do more than what runs now.
    answer["loses_data"] = json!(prepared.request.restore.is_some());
    Ok(answer)
}

pub(super) async fn rollback(context: &Context, args: Rollback, talk: &Talk) -> Result<Value, Failure> {
    let began = Instant::now();
    let prepared = prepare_rollback(context, &args).await?;
    let agreed = match (&args.plan, args.yes, prepared.request.restore) {
        (None, false, None) => Agreed::Unasked,
        _ => consent::plan(&prepared.plan, args.plan.as_deref(), args.yes)?,
    };
    let consent = Consent { plan: agreed, accept_reduced: args.accept_reduced };
    Box::pin(live(context, prepared, consent, began, talk)).await
}

async fn prepare_rollback(context: &Context, args: &Rollback) -> Result<Prepared, Failure> {
    context.device.at_rest(&args.name)?;
    let request = context.device.rollback_request(&args.name, args.to).await?;
    reference::refresh(context).await?;
    revocation::refuse_start(context, &args.name, request.release, args.accept_revoked).await?;
    let release = ReleaseRef { id: request.release, size: size_of(context, request.release).await? };
    let plan = context.device.plan(&request).await?;
    let grounds = Grounds::Had { accept_revoked: args.accept_revoked };
    Ok(Prepared { request, release, plan, looked: Box::default(), grounds })
}

/// A softservice of a throwaway device. Whatever the outcome, it is an answer.
pub(super) async fn try_out(
    context: &Context,
    request: PlanRequest,
    release: ReleaseRef,
    talk: &Talk,
) -> Result<Value, Failure> {
    let plan = context.device.plan(&request).await?;
    let prepared = Prepared { request, release, plan, looked: Box::default(), grounds: Grounds::Free };
    Box::pin(try_prepared(context, prepared, talk)).await
}

/// The same of one that was prepared.
pub(super) async fn try_prepared(context: &Context, mut prepared: Prepared, talk: &Talk) -> Result<Value, Failure> {
    let began = Instant::now();
    // What it needs to live with is not what it needs to be tried with.
    for lack in std::mem::take(&mut prepared.plan.lacks) {
        talk.note(format!("not refused for the test: {}", lack.describe())).await;
    }
    if !prepared.plan.isolation.reduced.is_empty() {
        let measures = consent::measures(&prepared.plan.isolation.reduced);
        talk.note(format!("not enforced on this machine, accepted for the test: {measures}")).await;
    }
    let consent = Consent { plan: Agreed::ToAny, accept_reduced: true };
    let outcome = Box::pin(live(context, prepared, consent, began, talk)).await;
    match outcome {
        Err(failure) if failure.details.contains_key("state") => {
            let mut answer = Value::Object(*failure.details);
            answer["why"] = failure.message.into();
            Ok(answer)
        }
        other => other,
    }
}

pub(super) async fn size_of(context: &Context, release: ReleaseId) -> Result<u32, Failure> {
    let store = closure::store(context);
    blocking(move || {
        let bytes = store.object(release.object(), softservice_protocol::limits::RELEASE_BYTES)?;
        u32::try_from(bytes.len()).map_err(|_| Failure::new(Kind::Bug, "a release longer than releases can be"))
    })
    .await
}

async fn prepare_up(context: &Context, args: &Up, talk: &Talk) -> Result<Prepared, Failure> {
    let (request, found, looked, grounds) = wish(context, args, talk).await?;
    // Whoever names a plan has read this above it.
    if args.plan.is_none() {
        lookalike::warn(context, found.publisher, &found.listing.distro, talk).await?;
        freshness::warn(context, found.publisher, talk).await?;
        if let Some(told) = reference::few(context, found.publisher, &Names::read(context)?.of(found.publisher)) {
            talk.note(told).await;
        }
    }
    Ok(Prepared { looked, ..finish_plan(context, request, found.release(), grounds).await? })
}

/// What is wished for, its documents fetched.
async fn wish(
    context: &Context,
    args: &Up,
    talk: &Talk,
) -> Result<(PlanRequest, Found, Box<FetchFigures>, Grounds), Failure> {
    let found = reference::find(context, &args.reference).await?;
    let name = args.name.clone().unwrap_or_else(|| found.listing.distro.clone());
    refuse_another(context, &name, &found).await?;
    let runs_here = matches!(context.device.current(&name).await, Ok(Some((_, id))) if id == found.listing.release);
    let grounds = Grounds::listed(&found, Wish::Owner { accept_expired: args.accept_expired }, runs_here);
    grounds.ask(context, &name, found.listing.release).await?;
    let mut request = PlanRequest::new(name, found.listing.release);
    request.answers = args.set.clone();
    let release = found.release();
    let looked = fetch::bring_listed(context, &found, Depth::Manifests, talk).await?;
    refuse_parts(context, release, &args.roles).await?;
    Ok((request, found, looked, grounds))
}

/// None when there is nothing newer and `set` answers nothing otherwise than before.
async fn prepare_update(
    context: &Context,
    name: &str,
    set: &BTreeMap<String, String>,
    wish: Wish,
    talk: &Talk,
) -> Result<Option<Prepared>, Failure> {
    let (release, looked, grounds) = match newer_release(context, name).await? {
        Some(found) => {
            let grounds = Grounds::listed(&found, wish, false);
            grounds.ask(context, name, found.listing.release).await?;
            (found.release(), fetch::bring_listed(context, &found, Depth::Manifests, talk).await?, grounds)
        }
        None => match answered_anew(context, name, set).await? {
            Some(release) => {
                let grounds = Grounds::Had { accept_revoked: false };
                grounds.ask(context, name, release.id).await?;
                (release, fetch::bring(context, release, Depth::Manifests, talk).await?, grounds)
            }
            None => return Ok(None),
        },
    };
    let request = PlanRequest { answers: set.clone(), ..PlanRequest::new(name, release.id) };
    Ok(Some(Prepared { looked, ..finish_plan(context, request, release, grounds).await? }))
}

/// The release that runs, when it was answered otherwise.
async fn answered_anew(
    context: &Context,
    name: &str,
    set: &BTreeMap<String, String>,
) -> Result<Option<ReleaseRef>, Failure> {
    let Some((_, current)) = context.device.current(name).await? else { return Ok(None) };
    let answers = context.device.answers(name).await?;
    if set.iter().all(|(key, answer)| answers.get(key) == Some(answer)) {
        return Ok(None);
    }
    Ok(Some(ReleaseRef { id: current, size: size_of(context, current).await? }))
}

/// What a softservice would be updated to by its owner's own word, and by no policy: the way out that a publisher names may lead
/// back to an older version, or to another channel.
pub(super) async fn newer_release(context: &Context, name: &str) -> Result<Option<Found>, Failure> {
    let Some((_, current)) = context.device.current(name).await? else {
        return Err(Failure::refused(format!("{name} never was confirmed")).hint("`softservice up` provisions it"));
    };
    if context.device.info(name).await?.held {
        return Err(DeviceError::Held { name: name.into() }.into());
    }
    let origin = instances::origin(context, current).await?;
    reference::refresh(context).await?;
    let catalogue = context.handle.catalogue();
    Ok(instances::replacement(&catalogue, &origin).or_else(|| instances::newer(&catalogue, &origin)))
}

pub(super) async fn finish_plan(
    context: &Context,
    mut request: PlanRequest,
    release: ReleaseRef,
    grounds: Grounds,
) -> Result<Prepared, Failure> {
    request.fetch_bytes = closure::missing_bytes(context, release).await?;
    refuse_unanswered(context, &request).await?;
    let plan = context.device.plan(&request).await?;
    Ok(Prepared { request, release, plan, looked: Box::default(), grounds })
}

/// A failure that carries the questions, so that whoever speaks with the owner can ask them.
async fn refuse_unanswered(context: &Context, request: &PlanRequest) -> Result<(), Failure> {
    let mut questions = context.device.questions(request).await?;
    questions.retain(|q| q.default.is_none());
    if questions.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = questions.iter().map(|q| q.name.as_str()).collect();
    let sets: Vec<String> = names.iter().map(|name| format!("--set {name}=…")).collect();
    Err(Failure::usage(format!("{} asks for {}, which has no default", request.name, names.join(", ")))
        .hint(sets.join(" "))
        .with(json!({ "questions": catalogue::questions(&questions) })))
}

/// A name stands for one distro of one publisher: the data behind it must not end up with another's code unasked.
async fn refuse_another(context: &Context, name: &str, found: &Found) -> Result<(), Failure> {
    let current = context.device.current(name).await.ok().flatten();
    let there = match current {
        Some((_, release)) => {
            let origin = instances::origin(context, release).await?;
            Some((origin.publisher, origin.distro))
        }
        // Of a damaged line nobody knows whose data it is; the device says what is damaged when it plans.
        None => context.device.left(name).await?.and_then(|l| Some((l.publisher.parse().ok()?, l.distro))),
    };
    let Some((publisher, distro)) = there else { return Ok(()) };
    if (publisher, distro.as_str()) == (found.publisher, found.listing.distro.as_str()) {
        return Ok(());
    }
    let names = Names::read(context)?;
    let there = format!("{}/{distro}", names.of(publisher));
    let wanted = format!("{}/{}", names.of(found.publisher), found.listing.distro);
    Err(match current {
        Some(_) => {
            Failure::refused(format!("{name} is {there} here, not {wanted}")).hint("--as NAME provisions it beside")
        }
        None => Failure::refused(format!("{name} was {there} here, and what it left is not for {wanted}"))
            .hint(format!("--as NAME provisions it beside; `softservice remove {name} --data` removes what was left")),
    })
}

/// One device plays all roles in this version; a part would silently be a whole.
async fn refuse_parts(context: &Context, release: ReleaseRef, roles: &[String]) -> Result<(), Failure> {
    if roles.is_empty() {
        return Ok(());
    }
    let closure = closure::load(context, release).await?;
    let all: BTreeSet<&str> = closure.root()?.roles.iter().map(|r| r.name.as_str()).collect();
    if let Some(unknown) = roles.iter().find(|r| !all.contains(r.as_str())) {
        let known: Vec<&str> = all.into_iter().collect();
        return Err(
            Failure::usage(format!("there is no role {unknown:?}")).hint(format!("roles: {}", known.join(", ")))
        );
    }
    let wanted: BTreeSet<&str> = roles.iter().map(String::as_str).collect();
    if wanted == all {
        return Ok(());
    }
    Err(Failure::refused("roles on several devices are not supported yet")
        .hint("without --role all roles run on this device"))
}

async fn runs_already(context: &Context, prepared: &Prepared) -> Result<bool, Failure> {
    let name = &prepared.request.name;
    let Ok(Some((_, current))) = context.device.current(name).await else { return Ok(false) };
    Ok(current == prepared.release.id && context.device.info(name).await?.state == "running")
}

/// Fetches, prepares and lives a generation to its end.
pub(super) async fn live(
    context: &Context,
    prepared: Prepared,
    consent: Consent,
    began: Instant,
    talk: &Talk,
) -> Result<Value, Failure> {
    consent::refuse_lacking(&prepared.plan)?;
    consent::refuse_reduced(context, &prepared.plan, &consent)?;
    consent::refuse_wider(&prepared.plan, &consent.plan)?;
    if prepared.plan.previous.is_some() {
        for line in &prepared.plan.permissions.added {
            talk.note(format!("allowed from now on: {line}")).await;
        }
    }
    let name = prepared.request.name.clone();
    let fetching = Instant::now();
    let reading = manifests::reading();
    let figures = {
        let _ahead = closure::Ahead::begin(context, prepared.release.id);
        fetch::bring(context, prepared.release, Depth::Content, talk).await?
    };
    let figures = Box::new(figures.after(&prepared.looked));
    let fetched_in = fetching.elapsed().as_secs_f64();
    // The plan's hash does not cover what a fetch changes, so it still stands.
    let turn = context.device.turn(&name)?;
    prepared.grounds.ask(context, &name, prepared.release.id).await?;
    // Asked before it is prepared, while what runs is what ran.
    let way_back = instances::above(context, &name, prepared.release.id).await;
    let (generation, previous) = match &consent.plan {
        Agreed::To(hash) => context.device.prepare(&prepared.request, Some(hash)).await?,
        Agreed::ToAny => context.device.prepare(&prepared.request, None).await?,
        Agreed::Unasked => context.device.prepare_unasked(&prepared.request).await?,
    };
    if let Some(runs) = way_back {
        remember_way_back(&prepared, runs, talk).await;
    }
    let number = generation.number;
    talk.note(format!("provisioning {name} generation {number}: {} {}", prepared.plan.distro, prepared.plan.version))
        .await;
    let event = context.handle.provision(generation, previous).await?;
    drop(reading);
    drop(turn);
    let mut answer = Box::pin(described(context, &name, number, &figures)).await?;
    answer["seconds"] = json!(began.elapsed().as_secs_f64());
    if let Some(phases) = answer["phases"].as_object_mut() {
        phases.insert("fetch".into(), json!(fetched_in));
    }
    let (state, why) = match event {
        ProvisionEvent::Committed { .. } => {
            answer["state"] = context.device.info(&name).await?.state.into();
            answer["secrets"] = shown_once(context, &name, number).await?;
            return Ok(answer);
        }
        ProvisionEvent::Reverted { why, .. } => ("reverted", why),
        ProvisionEvent::Stuck { why, .. } => ("stuck", why),
    };
    answer["state"] = state.into();
    answer["current"] = json!(previous);
    answer["logs"] = json!(context.device.last_words(&name, number, LAST_WORDS).await.unwrap_or_default());
    let hint = match (state, previous) {
        ("stuck", _) => {
            format!("neither it nor the way back worked; `softservice logs {name}` and `softservice start {name}`")
        }
        (_, Some(previous)) => {
            format!("generation {previous} runs as before; `softservice generations {name}` tells of both")
        }
        (_, None) => format!("nothing of it runs; its logs are kept: `softservice logs {name}`"),
    };
    Err(Failure::failed(format!("{name} generation {number} did not hold: {why}")).hint(hint).with(answer))
}

/// A way back is its owner's to take, and is called what it is: older software has the holes that newer software closed.
async fn remember_way_back(prepared: &Prepared, runs: instances::Origin, talk: &Talk) {
    let (name, release, to) = (&prepared.request.name, prepared.release.id, &prepared.plan.version);
    let from = runs.version;
    tracing::warn!(softservice = name, %release, from, to, "goes back to an older release: its owner said so");
    talk.note(format!("{name} goes back: {} {to} is older than {from}, which runs now", prepared.plan.distro)).await;
}

async fn described(context: &Context, name: &str, number: u32, figures: &FetchFigures) -> Result<Value, Failure> {
    let generations = context.device.generations(name).await?;
    let Some(generation) = generations.into_iter().find(|g| g.record.generation == number) else {
        return Err(Failure::new(Kind::Bug, format!("{name} has lost generation {number}")));
    };
    let record = generation.record;
    let info = context.device.info(name).await?;
    let mut answer = json!({
        "softservice": name,
        "distro": record.distro,
        "version": record.version,
        "release": record.release,
        "generation": number,
        "state": info.state,
        "endpoints": if generation.current { info.endpoints } else { Vec::new() },
        "fetched": fetch::describe(context, figures).await?,
        "tests": record.tests,
        "phases": record.phases,
        "reduced": record.reduced,
        "warnings": [],
    });
    if let Ok(id) = record.release.parse()
        && let Ok(closure) = closure::load(context, ReleaseRef { id, size: 0 }).await
    {
        let (catalogue, names) = (context.handle.catalogue(), Names::read(context)?);
        answer["warnings"] = revocation::warnings(&catalogue, &names, &closure)?;
        freshness::add(&mut answer, context, &catalogue, closure.root()?.publisher);
        reference::add_asked(&mut answer, context, closure.root()?.publisher);
    }
    Ok(answer)
}

/// As `up` answers when there was nothing to do.
async fn present(context: &Context, name: &str) -> Result<Value, Failure> {
    let info = context.device.info(name).await?;
    let mut answer = described(context, name, info.generation, &FetchFigures::default()).await?;
    // Of another day.
    answer["phases"] = json!({});
    Ok(answer)
}

/// Secrets that the owner is to see once: by name.
async fn shown_once(context: &Context, name: &str, number: u32) -> Result<Value, Failure> {
    let secrets = context.device.take_shown_once(name, number).await?;
    Ok(Value::Object(secrets.into_iter().map(|(key, text)| (key, text.into())).collect::<Map<_, _>>()))
}
