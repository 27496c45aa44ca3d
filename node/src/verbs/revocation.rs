//! `revoke`, and what a revocation means here. Invariant: only the word of a release's own publisher counts; it keeps new
//! installs and starts away and is told wherever a softservice is shown, and nothing that runs is stopped or removed by it.

use super::{
    closure::{self, Closure},
    failure::Failure,
    publish::APPENDING,
    publisher,
    reference::{self, Found, Names},
};
use crate::{api::talk::Talk, context::Context, handle::Catalogue};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    feed::{Action, Listing, Revocation, RevokeLevel},
    id::{PublisherId, ReleaseId},
    io::Step,
    release::ReleaseRef,
    text::Foreign,
};
use std::collections::BTreeSet;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    reference: String,
    level: RevokeLevel,
    reason: String,
    replaced_by: Option<String>,
    /// Goes on although nobody could be asked who would know what another home published.
    #[serde(default)]
    alone: bool,
    #[serde(default)]
    signing: publisher::Signing,
}

pub(super) async fn revoke(context: &Context, args: Revoke) -> Result<Value, Failure> {
    let found = own(context, &args.reference).await?;
    let release = found.listing.release;
    let replacement = match &args.replaced_by {
        Some(text) => Some(reference::find(context, text).await?),
        None => None,
    };
    if let Some(other) = replacement.as_ref().filter(|f| f.listing.revoked.is_some()) {
        return Err(Failure::refused(format!(
            "{} {} is no replacement: it was revoked itself",
            other.listing.distro, other.listing.version
        )));
    }
    let replaced_by = replacement.as_ref().map(|f| f.listing.release);
    let revocation = Revocation { level: args.level, replaced_by, reason: args.reason.trim().to_owned() };
    if revocation.reason.is_empty() {
        return Err(Failure::usage("a revocation needs its reason").hint("--reason TEXT is what users are told"));
    }
    revocation.check(release).map_err(Failure::usage)?;
    let _appending = APPENDING.lock().await;
    let listing = &found.listing;
    if listing.revoked.as_ref() == Some(&revocation) {
        return Err(Failure::refused(format!(
            "{} {} is revoked already, in these words",
            listing.distro, listing.version
        )));
    }
    let before = listing.revoked.as_ref().map(|r| r.level);
    let action = Action::Revoke { release, revocation: revocation.clone() };
    let entered = publisher::enter(context, found.publisher, action, &args.signing, args.alone).await?;
    let names = Names::read(context)?;
    let mut answer = describe(&context.handle.catalogue(), &names, &revocation);
    answer["level"] = json!(before.max(Some(revocation.level)));
    answer["publisher"] = found.publisher.to_string().into();
    answer["distro"] = listing.distro.clone().into();
    answer["version"] = listing.version.clone().into();
    answer["revision"] = listing.revision.into();
    answer["release"] = release.to_string().into();
    entered.tell(&mut answer);
    Ok(answer)
}

/// A release of this home's own publisher.
async fn own(context: &Context, text: &str) -> Result<Found, Failure> {
    let Some(publisher) = context.keys.publisher() else {
        return Err(Failure::refused("this home publishes nothing, so it has nothing to revoke")
            .hint("a release is revoked by its publisher; `softservice down` stops what runs here"));
    };
    reference::refresh(context).await?;
    let mut catalogue = context.handle.catalogue();
    let mine = catalogue.remove(&publisher).map(|known| Catalogue::from([(publisher, known)])).unwrap_or_default();
    let names = Names::read(context)?;
    match reference::find_in(&mine, &names, text) {
        Ok(found) => Ok(found),
        // Said of what is somebody else's: who may is the better answer than that it is not there.
        Err(failure) => match reference::find_in(&catalogue, &names, text) {
            Ok(other) => Err(Failure::refused(format!(
                "{} {} is of {}, and only its publisher can revoke it",
                other.listing.distro,
                other.listing.version,
                names.of(other.publisher)
            ))),
            Err(_) => Err(failure),
        },
    }
}

/// What its own publisher says of a release: that it stands, or what became of it.
pub(super) fn of(catalogue: &Catalogue, publisher: PublisherId, release: ReleaseId) -> Option<&Revocation> {
    listed(catalogue, publisher, release)?.revoked.as_ref()
}

/// What its own publisher lists a release as.
pub(super) fn listed(catalogue: &Catalogue, publisher: PublisherId, release: ReleaseId) -> Option<&Listing> {
    catalogue.get(&publisher)?.feed.snapshot.listings.iter().find(|l| l.release == release)
}

/// As every verb gives a revocation; `replaced_by` says more of a release that is known here.
pub(super) fn describe(catalogue: &Catalogue, names: &Names, revocation: &Revocation) -> Value {
    let replacement = revocation.replaced_by.map(|id| {
        let known = catalogue.iter().find_map(|(publisher, _)| Some((*publisher, listed(catalogue, *publisher, id)?)));
        match known {
            Some((publisher, l)) => json!({
                "release": id.to_string(), "publisher": publisher.to_string(), "petname": names.of(publisher),
                "distro": l.distro, "version": l.version, "revision": l.revision, "channel": l.channel,
            }),
            None => json!({ "release": id.to_string() }),
        }
    });
    json!({ "level": revocation.level, "reason": revocation.reason, "replaced_by": replacement })
}

/// One line for people, about a release called `what`.
fn sentence(what: &str, described: &Value) -> String {
    let text = |key: &str| described[key].as_str().unwrap_or_default();
    format!("{what} was revoked by its publisher ({}): {}", text("level"), text("reason"))
}

/// What to type in place of a revoked release, if its publisher said so and it is known here.
fn instead(described: &Value) -> Option<String> {
    let other = &described["replaced_by"];
    let (petname, distro) = (other["petname"].as_str()?, other["distro"].as_str()?);
    let channel = other["channel"].as_str().filter(|c| *c != "stable");
    let place = channel.map(|c| format!(":{c}")).unwrap_or_default();
    Some(format!("{petname}/{distro}{place}@{}", other["version"].as_str()?))
}

/// No new install of what was taken back. What runs here already may be put in order under a `withdraw`; nothing begins
/// anew under an `unsafe`.
pub(super) fn refuse_install(context: &Context, found: &Found, runs_here: bool) -> Result<(), Failure> {
    let Some(revocation) = &found.listing.revoked else { return Ok(()) };
    if runs_here && revocation.level == RevokeLevel::Withdraw {
        return Ok(());
    }
    let described = describe(&context.handle.catalogue(), &Names::read(context)?, revocation);
    let hint = match instead(&described) {
        Some(other) => format!("take {other} instead"),
        None => "`softservice show` lists the versions that stand".into(),
    };
    let what = format!("{} {}", found.listing.distro, found.listing.version);
    Err(Failure::refused(sentence(&what, &described))
        .hint(hint)
        .with(json!({ "revoked": described }))
        .by(Step::Revoked))
}

/// A stranger's release that was taken back is not tried either, unless its owner says so.
pub(super) fn refuse_trial(context: &Context, found: &Found, accepted: bool) -> Result<(), Failure> {
    let Some(revocation) = found.listing.revoked.as_ref().filter(|_| !accepted) else { return Ok(()) };
    let described = describe(&context.handle.catalogue(), &Names::read(context)?, revocation);
    let hint = "--accept-revoked (`accept_revoked` in the API) tries it all the same";
    Err(Failure::refused(sentence(&found.called(), &described))
        .hint(hint)
        .with(json!({ "revoked": described }))
        .by(Step::Revoked))
}

/// Nothing that is unsafe is started, unless its owner says so in so many words; the log remembers that it was said.
pub(super) async fn refuse_start(
    context: &Context,
    name: &str,
    release: ReleaseId,
    accepted: bool,
) -> Result<(), Failure> {
    // What cannot be read cannot be started either, and the device says so better.
    let Ok(origin) = super::instances::origin(context, release).await else { return Ok(()) };
    let catalogue = context.handle.catalogue();
    let Some(revocation) = of(&catalogue, origin.publisher, release).filter(|r| r.level == RevokeLevel::Unsafe) else {
        return Ok(());
    };
    if accepted {
        tracing::warn!(softservice = name, %release, reason = revocation.reason, "started although it was revoked as unsafe: its owner said so");
        return Ok(());
    }
    let described = describe(&catalogue, &Names::read(context)?, revocation);
    // Of what it ran before, the way out is another one.
    let runs = matches!(context.device.current(name).await, Ok(Some((_, current))) if current == release);
    let hint = match instead(&described).filter(|_| runs) {
        Some(other) => {
            format!("`softservice update {name}` moves it to {other}; --accept-revoked starts it all the same")
        }
        None => format!(
            "`softservice generations {name}` lists what `rollback --to` can go back to; --accept-revoked starts it all the same"
        ),
    };
    let what = format!("{} {}", origin.distro, origin.version);
    Err(Failure::refused(sentence(&what, &described))
        .hint(hint)
        .with(json!({ "revoked": described }))
        .by(Step::Revoked))
}

/// What became of the releases that one is made of or comes from: trust is not handed on, warnings are. `relation` is
/// `part` or `parent`.
pub(super) fn warnings(catalogue: &Catalogue, names: &Names, closure: &Closure) -> Result<Value, Failure> {
    let root = closure.root()?;
    let mut all = Vec::new();
    let mut warn = |relation: &str, publisher: PublisherId, release: ReleaseId, called: String| {
        let Some(revocation) = of(catalogue, publisher, release) else { return };
        let mut warning = describe(catalogue, names, revocation);
        warning["message"] = sentence(&called, &warning).into();
        warning["relation"] = relation.into();
        warning["release"] = release.to_string().into();
        all.push(warning);
    };
    for (id, part) in closure.releases() {
        if *id != closure.id() {
            warn("part", part.publisher, *id, format!("its part {} {}", part.distro, part.version));
        }
    }
    for parent in &root.parents {
        warn("parent", parent.publisher, parent.release, format!("what it improves on, {},", Foreign(&parent.label)));
    }
    Ok(all.into())
}

/// Tells of them, and answers with them.
pub(super) async fn warn(context: &Context, release: ReleaseRef, talk: &Talk) -> Result<Value, Failure> {
    let closure = closure::load(context, release).await?;
    let warnings = warnings(&context.handle.catalogue(), &Names::read(context)?, &closure)?;
    for message in warnings.as_array().into_iter().flatten().filter_map(|w| w["message"].as_str()) {
        talk.note(format!("warning: {message}")).await;
    }
    Ok(warnings)
}

/// Why a policy leaves a release to the owner: parts that are unsafe, and such as were withdrawn and do not run here yet. A
/// parent's revocation is no reason: an improvement may be what mends it.
pub(super) async fn unasked(context: &Context, name: &str, release: ReleaseRef) -> Result<Vec<String>, Failure> {
    let closure = closure::load(context, release).await?;
    let runs = match context.device.current(name).await? {
        Some((_, current)) => closure::load(context, ReleaseRef { id: current, size: 0 }).await.ok(),
        None => None,
    };
    let runs: BTreeSet<String> = runs.iter().flat_map(|c| c.releases().keys()).map(ToString::to_string).collect();
    let all = warnings(&context.handle.catalogue(), &Names::read(context)?, &closure)?;
    let counts = |w: &&Value| {
        let here = w["release"].as_str().is_some_and(|release| runs.contains(release));
        w["relation"] == "part" && (w["level"] == json!(RevokeLevel::Unsafe) || !here)
    };
    let told = all.as_array().into_iter().flatten().filter(counts);
    Ok(told.filter_map(|w| Some(w["message"].as_str()?.to_owned())).collect())
}
