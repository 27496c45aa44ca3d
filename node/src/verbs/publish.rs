//! `publish`: a folder becomes a signed release. Invariant: the release and its trees are durable before the feed names
//! them; the same folder published twice is refused rather than signed twice, and one that holds a secret neither comes
//! into the store nor under a signature.

use super::{
    closure::{self, blocking},
    failure::{Failure, Kind},
    fetch, improve, lock,
    publisher::{self, Entered},
    quota,
    reference::Found,
    revocation,
    secrets::{self, Findings},
    source::{self, Folder, Project},
    status,
};
use crate::{api::talk::Talk, context::Context};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    codec,
    definition::{self, Lock, Materials, closure::Releases},
    feed::{Action, Listing},
    id::{PublisherId, ReleaseId},
    io::Depth,
    release::{Release, ReleaseRef},
    secrets::ALLOW_FILE,
    tree::TreeRef,
};
use softservice_store::{Store, StoreError};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Mutex;

/// One publication at a time is compared with the feed and appended to it: of two for one version, the one that comes later
/// is refused by its name. Reading the folders, which takes long, goes on side by side.
pub(super) static APPENDING: Mutex<()> = Mutex::const_new(());

/// Folders that are never part of the source: the author's history and this tool's notes.
pub(super) const NOT_SOURCE: [&str; 2] = [".git", improve::NOTES];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    dir: PathBuf,
    channel: Option<String>,
    /// Files are read again also where they look as they did.
    #[serde(default)]
    reread: bool,
    /// Likely secrets that are published on purpose, each by its file and line.
    #[serde(default)]
    allow_secrets: Vec<String>,
    /// Goes on although nobody could be asked who would know what another home published.
    #[serde(default)]
    alone: bool,
    #[serde(default)]
    signing: publisher::Signing,
}

/// How a project's folders are read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Also files that look as they did.
    pub(super) anew: bool,
    /// What is looked for in them, when they are to be published: what this refuses comes into no store.
    pub(super) findings: Option<Findings>,
}

/// A release that is in a store, ready to be listed.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    /// The document.
    pub(super) release: Release,
    /// Its id and size.
    pub(super) reference: ReleaseRef,
    /// Bytes of trees and document.
    pub(super) bytes: u64,
    /// Of these, what the store had not.
    pub(super) new_bytes: u64,
}

/// This home's publisher, made when there is none yet.
pub(super) async fn own(context: &Context) -> Result<PublisherId, Failure> {
    let keys = context.keys.clone();
    let now = context.config.clock.moment().time();
    let publisher = blocking(move || keys.create(now).map_err(|e| Failure::failed(e.to_string()))).await?;
    if context.handle.catalogue().get(&publisher).is_none_or(|known| !known.own) {
        context.handle.own(publisher, context.keys.roots()).await?;
    }
    Ok(publisher)
}

pub(super) async fn publish(context: &Context, args: Publish, talk: &Talk) -> Result<Value, Failure> {
    let channel = args.channel.unwrap_or_else(|| "stable".into());
    let (dir, places) = (args.dir.clone(), args.allow_secrets);
    let (project, findings, allowed) = blocking(move || {
        let project = source::read(&dir)?;
        let allowed = secrets::allow(&dir, &project.definition, &places)?;
        let findings = Findings::of(&dir, &project.definition)?;
        Ok((project, findings, allowed))
    })
    .await?;
    for warning in &project.warnings {
        talk.note(warning.to_string()).await;
    }
    for finding in allowed {
        talk.note(format!("allowed, and written down in {ALLOW_FILE}: {finding}")).await;
    }
    // Content too: whoever gets the ticket may know nobody but us, so we must be able to serve the whole closure.
    let (lock, releases) = lock::resolve(context, &project, Depth::Content, talk).await?;
    let reading = Reading { anew: args.reread, findings: Some(findings) };
    let taken = take_in(context, &project, reading, talk).await?;
    // What is refused leaves no publisher behind where there was none.
    let publisher = own(context).await?;
    let compiled = put_together(context, publisher, &project, (lock, releases), taken).await?;
    let warnings = revocation::warn(context, compiled.reference, talk).await?;
    // It is let in before anything is signed, and counts as such until the feed has it.
    let _coming = quota::admit_own(context, compiled.reference.id, talk).await?;
    let release = &compiled.release;
    let _appending = APPENDING.lock().await;
    refuse_twice(context, publisher, &compiled)?;
    let listing = Listing {
        distro: release.distro.clone(),
        version: release.version.clone(),
        revision: release.revision,
        channel,
        release: compiled.reference.id,
        size: compiled.reference.size,
        summary: release.summary.clone(),
        parents: release.parents.iter().map(|p| p.release).collect(),
        revoked: None,
    };
    // Read back from the store: nobody signs what its document does not bear out.
    let listed = Found { publisher, listing };
    fetch::agree(context, &listed).await?;
    let action = Action::Release(listed.listing);
    let entered = publisher::enter(context, publisher, action, &args.signing, args.alone).await?;
    let ticket = match (&entered, context.handle.catalogue().remove(&publisher)) {
        (Entered::Requested(_), _) => None,
        (Entered::Published(head), Some(mut known)) => {
            // The catalogue may be told a moment after the answer: the ticket's floor is what was just signed.
            if known.feed.head < *head {
                Arc::make_mut(&mut known.feed).head = *head;
            }
            Some(status::ticket_for(context, publisher, &known, Some(&release.distro), None).await?)
        }
        (_, None) => return Err(Failure::new(Kind::Bug, "published, yet the node does not know its own feed")),
    };
    let mut answer = json!({
        "release": compiled.reference.id.to_string(),
        "publisher": publisher.to_string(),
        "distro": release.distro,
        "version": release.version,
        "revision": release.revision,
        "epoch": null,
        "sequence": null,
        "bytes": compiled.bytes,
        "new_bytes": compiled.new_bytes,
        "warnings": warnings,
        "parents": release.parents.iter().map(|p| p.release.to_string()).collect::<Vec<_>>(),
        "ticket": ticket,
    });
    entered.tell(&mut answer);
    Ok(answer)
}

fn refuse_twice(context: &Context, publisher: PublisherId, compiled: &Compiled) -> Result<(), Failure> {
    let catalogue = context.handle.catalogue();
    let listings = catalogue.get(&publisher).map(|k| k.feed.snapshot.listings.as_slice()).unwrap_or_default();
    let release = &compiled.release;
    if listings.iter().any(|l| l.release == compiled.reference.id) {
        return Err(Failure::refused(format!(
            "{} {} is published already, exactly as it is",
            release.distro, release.version
        ))
        .hint("nothing has changed since; `softservice ticket` prints a ticket")
        .with(json!({ "release": compiled.reference.id.to_string() })));
    }
    let same =
        |l: &&Listing| (&l.distro, &l.version, l.revision) == (&release.distro, &release.version, release.revision);
    if listings.iter().any(|l| same(&l)) {
        return Err(Failure::refused(format!(
            "{} {} revision {} is published already, with other content",
            release.distro, release.version, release.revision
        ))
        .hint("a published version never changes: raise version or revision in distro.toml"));
    }
    Ok(())
}

/// Ingests the trees of a project and compiles its release into the store of `context`.
pub(super) async fn compile(
    context: &Context,
    publisher: PublisherId,
    project: &Project,
    locked: (Lock, Releases),
    reading: Reading,
    talk: &Talk,
) -> Result<Compiled, Failure> {
    let taken = take_in(context, project, reading, talk).await?;
    put_together(context, publisher, project, locked, taken).await
}

/// A project's folders in the store, and looked at; nothing says yet whose they are.
struct Taken {
    trees: BTreeMap<(String, String, String), TreeRef>,
    source: TreeRef,
    bytes: u64,
    new_bytes: u64,
}

/// Ingests the folders of a project; or refuses them all for what was found in one.
async fn take_in(context: &Context, project: &Project, reading: Reading, talk: &Talk) -> Result<Taken, Failure> {
    let (store, within, project) = (closure::store(context), talk.clone(), project.clone());
    let (taken, notes) = blocking(move || {
        let taken = take_in_blocking(store, &project, &reading, &within)?;
        Ok((taken, reading.findings.map(|f| f.notes()).unwrap_or_default()))
    })
    .await?;
    for note in notes {
        talk.note(note).await;
    }
    Ok(taken)
}

fn take_in_blocking(
    store: Arc<dyn Store>,
    project: &Project,
    reading: &Reading,
    talk: &Talk,
) -> Result<Taken, Failure> {
    let (mut bytes, mut new_bytes) = (0_u64, 0_u64);
    if let Some(findings) = &reading.findings {
        findings.look_at(&project.definition, &Folder(project.dir.clone()));
    }
    // None: it was looked at, and does not come in; the others are looked at as well, so that one refusal tells of all.
    let mut ingest = |dir: &str, exclude: &[String]| -> Result<Option<TreeRef>, Failure> {
        let progress = |done: u64| {
            talk.progress("read", done, 0, 0);
            true
        };
        let path = if dir.is_empty() { project.dir.clone() } else { project.dir.join(dir) };
        let made = match &reading.findings {
            Some(findings) => store.ingest_looked(&path, exclude, &progress, reading.anew, &findings.watch(dir)),
            None if reading.anew => store.ingest_anew(&path, exclude, &progress),
            None => store.ingest(&path, exclude, &progress),
        };
        if matches!(made, Err(StoreError::NotLetIn)) {
            return Ok(None);
        }
        let made = made.map_err(|e| within(&path, e))?;
        bytes = bytes.saturating_add(made.bytes);
        new_bytes = new_bytes.saturating_add(made.new_bytes);
        Ok(Some(made.tree))
    };
    let mut trees = BTreeMap::new();
    for source in definition::trees(&project.definition) {
        if let Some(tree) = ingest(&source.dir, &source.exclude)? {
            trees.insert((source.role, source.artifact, source.platform), tree);
        }
    }
    let source = ingest("", &NOT_SOURCE.map(str::to_owned))?;
    reading.findings.as_ref().map_or(Ok(()), Findings::settle)?;
    let Some(source) = source else {
        return Err(Failure::new(Kind::Bug, "the source was not let in, and nothing was found in it"));
    };
    Ok(Taken { trees, source, bytes, new_bytes })
}

/// Compiles the release of what was taken in, and adds it.
async fn put_together(
    context: &Context,
    publisher: PublisherId,
    project: &Project,
    locked: (Lock, Releases),
    taken: Taken,
) -> Result<Compiled, Failure> {
    let (store, project) = (closure::store(context), project.clone());
    blocking(move || {
        let materials = Materials {
            publisher,
            lock: &locked.0,
            releases: &locked.1,
            trees: &taken.trees,
            source: taken.source,
            templates: &Folder(project.dir.clone()),
            parents: improve::parents(&project.dir)?,
        };
        let release =
            definition::compile(&project.definition, &materials).map_err(|problems| source::unsound(&problems))?;
        let document = codec::encode(&release).map_err(|e| Failure::failed(e.to_string()))?;
        let size = u32::try_from(document.len()).map_err(|_| Failure::failed("the release is too long"))?;
        let id = ReleaseId::of(&document);
        let fresh = if store.has_object(id.object()) { 0 } else { u64::from(size) };
        store.add(&document)?;
        let (bytes, new_bytes) = (taken.bytes.saturating_add(u64::from(size)), taken.new_bytes.saturating_add(fresh));
        Ok(Compiled { release, reference: ReleaseRef { id, size }, bytes, new_bytes })
    })
    .await
}

fn within(dir: &Path, error: StoreError) -> Failure {
    let mut failure = Failure::from(error);
    if !failure.message.contains(&dir.display().to_string()) {
        failure.message = format!("{}: {}", dir.display(), failure.message);
    }
    failure
}
