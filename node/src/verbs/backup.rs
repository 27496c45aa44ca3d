//! `backup` and `restore`. Invariant: a backup that is named in an answer was verified; a restore changes nothing before the
//! whole file was verified and its plan was agreed to.

use super::{
    closure,
    consent::{self, Consent},
    failure::{Failure, Kind},
    fetch,
    freshness::Wish,
    grounds::Grounds,
    instances,
    provision::{self, Prepared},
    reference::{self, Found, Names},
};
use crate::{
    api::talk::Talk,
    context::Context,
    device::{BackupRequest, Keys, Lock, PlanRequest, Restore, Tell, VolumeSum},
};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{archive::Header, io::Depth};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    name: String,
    file: PathBuf,
    #[serde(default)]
    recipients: Vec<String>,
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    name: String,
    file: PathBuf,
    identity_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    #[serde(default)]
    replace: bool,
    plan: Option<String>,
    #[serde(default)]
    yes: bool,
    #[serde(default)]
    accept_reduced: bool,
    /// Also on a word of its publisher that expired.
    #[serde(default)]
    accept_expired: bool,
    /// Also of a publisher that signed two histories.
    #[serde(default)]
    accept_frozen: bool,
    /// For drills; nobody else knows how volumes were.
    #[serde(skip)]
    expect: BTreeMap<String, VolumeSum>,
    /// Its own release, in a throwaway home that follows nobody.
    #[serde(skip)]
    drill: bool,
}

impl Wanted {
    /// A drill's: into a home where nothing is, opened by a key file, its volumes known.
    pub(super) fn drilled(name: &str, file: &Path, key: &Path, expect: BTreeMap<String, VolumeSum>) -> Self {
        Self {
            name: name.into(),
            file: file.into(),
            identity_file: Some(key.into()),
            passphrase_file: None,
            replace: false,
            plan: None,
            yes: true,
            accept_reduced: true,
            accept_expired: false,
            accept_frozen: false,
            expect,
            drill: true,
        }
    }
}

fn tell(talk: &Talk) -> Tell {
    let talk = talk.clone();
    Arc::new(move |what, bytes, of| talk.progress(what, bytes, of, 0))
}

pub(super) async fn backup(context: &Context, args: Backup, talk: &Talk) -> Result<Value, Failure> {
    let began = Instant::now();
    absolute(&args.file)?;
    let lock = Lock { recipients: args.recipients, passphrase_file: args.passphrase_file };
    let request = BackupRequest { name: args.name, file: args.file, lock, witness: false };
    let record = context.device.backup(request, tell(talk)).await?;
    if let Some(key) = &record.key_file {
        let key = key.display();
        talk.note(format!("only the key in {key} opens it: keep a copy of that file elsewhere")).await;
    }
    let mut answer = json!(record);
    answer["seconds"] = json!(began.elapsed().as_secs_f64());
    Ok(answer)
}

/// Backups that were made of a softservice.
pub(super) async fn list(context: &Context, args: instances::Named) -> Result<Value, Failure> {
    Ok(json!(context.device.backups(&args.name).await?))
}

pub(super) async fn plan(context: &Context, args: Wanted, talk: &Talk) -> Result<Value, Failure> {
    let prepared = prepare(context, &args, talk).await?;
    let mut answer = json!(prepared.plan);
    answer["backup"] = prepared.request.backup.as_ref().map_or(Value::Null, |b| described(&b.header));
    Ok(answer)
}

pub(super) async fn restore(context: &Context, args: Wanted, talk: &Talk) -> Result<Value, Failure> {
    let began = Instant::now();
    let prepared = prepare(context, &args, talk).await?;
    let backup = prepared.request.backup.as_ref().map_or(Value::Null, |b| described(&b.header));
    let agreed = consent::plan(&prepared.plan, args.plan.as_deref(), args.yes)?;
    let consent = Consent { plan: agreed, accept_reduced: args.accept_reduced };
    let mut answer = Box::pin(provision::live(context, prepared, consent, began, talk)).await?;
    answer["backup"] = backup;
    Ok(answer)
}

fn described(header: &Header) -> Value {
    json!({
        "softservice": header.softservice,
        "distro": header.distro,
        "version": header.version,
        "release": header.release.id.to_string(),
        "made_at": header.made_at,
        "bytes": header.bytes,
        "entries": header.entries,
        "parts": header.parts.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn absolute(file: &Path) -> Result<(), Failure> {
    if file.is_absolute() {
        return Ok(());
    }
    Err(Failure::usage(format!("{} is not an absolute path: a node stands in a folder of its own", file.display())))
}

/// Verifies and unpacks, brings the documents of its release, and plans.
pub(super) async fn prepare(context: &Context, args: &Wanted, talk: &Talk) -> Result<Prepared, Failure> {
    absolute(&args.file)?;
    let keys = Keys { identity_file: args.identity_file.clone(), passphrase_file: args.passphrase_file.clone() };
    let restore = Restore {
        name: args.name.clone(),
        file: args.file.clone(),
        keys,
        replace: args.replace,
        expect: args.expect.clone(),
    };
    let here = match context.device.current(&args.name).await {
        Ok(Some((_, release))) => Some(instances::origin(context, release).await?),
        _ => None,
    };
    let names = Names::read(context)?;
    let (name, called) = (args.name.clone(), names.clone());
    let admit = move |header: &Header| match here {
        Some(here) if (here.publisher, &here.distro) != (header.publisher, &header.distro) => Err(format!(
            "it is of {}/{}, and {name} is {}/{} here",
            called.of(header.publisher),
            header.distro,
            called.of(here.publisher),
            here.distro
        )),
        _ => Ok(()),
    };
    let unpacked = context.device.unpack(restore, tell(talk), admit).await?;
    let header = unpacked.header.clone();
    let grounds = if args.drill { Grounds::Free } else { vouched(context, args, &header).await? };
    let looked = fetch::bring(context, header.release, Depth::Manifests, talk).await?;
    let closure = closure::load(context, header.release).await?;
    let root = closure.root()?;
    let says = (root.publisher, &root.distro, &root.version, root.epoch);
    if says != (header.publisher, &header.distro, &header.version, header.epoch) {
        return Err(Failure::new(Kind::Damaged, format!("{} is not a backup of its own release", args.file.display()))
            .hint(
                "it says another distro, version or data layout than the release that it names; nothing was changed",
            ));
    }
    let request = PlanRequest {
        answers: header.answers.iter().cloned().collect(),
        exact: true,
        overlay: Some(unpacked.overlay.clone()),
        backup: Some(Arc::new(unpacked)),
        ..PlanRequest::new(args.name.clone(), header.release.id)
    };
    Ok(Prepared { looked, ..provision::finish_plan(context, request, header.release, grounds).await? })
}

/// Whoever has a key writes a backup, and names in it what he likes: what is run is what a followed publisher has signed
/// and not taken back. What this softservice had is nothing new; of the rest a word that is old, or one of two, is asked about like
/// anything else that comes here, and its owner may insist: a device that broke must not be lost with its publisher.
async fn vouched(context: &Context, args: &Wanted, header: &Header) -> Result<Grounds, Failure> {
    // What is known may be of yesterday, and a backup of last year.
    reference::refresh(context).await?;
    let catalogue = context.handle.catalogue();
    let Header { distro, version, .. } = header;
    let Some(known) = catalogue.get(&header.publisher) else {
        let who = header.publisher.short();
        return Err(Failure::refused(format!("{distro} {version} is of a publisher that is not followed here, {who}"))
            .hint("`softservice subscribe TICKET` with a ticket of that publisher; then restore again"));
    };
    let listing = known.feed.snapshot.listings.iter().find(|l| l.release == header.release.id);
    match listing {
        None => Err(Failure::refused(format!("its publisher has published no such {distro} {version}"))
            .hint("if it is new, its entry has yet to come from a peer; else the backup does not tell the truth")),
        Some(listing) => {
            let found = Found { publisher: header.publisher, listing: listing.clone() };
            let wish = Wish::Back { accept_expired: args.accept_expired, accept_frozen: args.accept_frozen };
            let grounds = Grounds::listed(&found, wish, instances::had(context, &args.name, header.release.id).await);
            grounds.ask(context, &args.name, header.release.id).await.map_err(by_hand)?;
            Ok(grounds)
        }
    }
}

/// Where a release will not come back, its data may.
fn by_hand(refused: Failure) -> Failure {
    if refused.details.contains_key("revoked") {
        return refused.hint("provision a version that stands, and restore its data by hand: `age -d` opens the file");
    }
    refused
}
