//! Pins the includes of a definition. Invariant: a pin that fits its range is kept, so that publishing twice from one
//! folder includes the same releases; ranges are looked at here and never on a device.

use super::{
    failure::Failure,
    fetch,
    freshness::{self, Wish},
    reference::{Names, SELF},
    source::Project,
};
use crate::{api::talk::Talk, context::Context};
use semver::Version;
use softservice_protocol::{
    definition::{IncludeSource, LOCK_FILE, Lock, Locked, closure::Releases, lock::choose},
    id::PublisherId,
    io::Depth,
};
use std::{io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

/// Pins what is not pinned, writes `distro.lock` when that changed it, and brings the closure of all includes here, as
/// deep as asked.
///
/// # Errors
/// When an include is nowhere to be found, or its documents cannot be fetched.
pub(super) async fn resolve(
    context: &Context,
    project: &Project,
    depth: Depth,
    talk: &Talk,
) -> Result<(Lock, Releases), Failure> {
    let old = project.lock.clone().unwrap_or_default();
    let names = Names::read(context)?;
    super::reference::refresh(context).await?;
    let mut lock = Lock::default();
    for include in &project.definition.includes {
        let locked = match old.get(&include.name).filter(|l| fits(l, include, &names)) {
            Some(kept) => kept.clone(),
            None => {
                let chosen = pin(context, &names, project, include)?;
                freshness::warn(context, chosen.publisher, talk).await?;
                talk.note(format!("{} = {} {}", include.name, chosen.distro, chosen.version)).await;
                chosen
            }
        };
        lock.includes.push(locked);
    }
    let text = lock.write();
    let path = project.dir.join(LOCK_FILE);
    // A distro without includes gets no lock, an unchanged lock is not touched.
    let empty = lock.includes.is_empty() && project.lock.is_none();
    if !empty && Lock::read(&text).ok() != project.lock {
        replace(&path, &text).map_err(|e| Failure::failed(format!("write {}: {e}", path.display())))?;
    }
    let mut releases = Releases::new();
    for locked in &lock.includes {
        fetch::bring(context, locked.release, depth, talk).await.map_err(|mut failure| {
            failure.message = format!("include {}: {}", locked.name, failure.message);
            failure
        })?;
        releases.extend(super::closure::load(context, locked.release).await?.releases().clone());
    }
    Ok((lock, releases))
}

/// Writes a file whole or not at all: another process may read it at this moment.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let readable = std::fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().prefix(".distro-lock-").permissions(readable).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// A pin of a publisher that goes by another name here, or by none, is kept: petnames are local, and a working copy of
/// somebody else's distro brings its pins along. A name that means another publisher here is a change of mind.
fn fits(locked: &Locked, include: &IncludeSource, names: &Names) -> bool {
    let meant = include.publisher.as_deref().and_then(|name| names.publisher(name).ok());
    meant.is_none_or(|id| id == locked.publisher)
        && locked.distro == include.distro
        && Version::parse(&locked.version).is_ok_and(|v| include.range.matches(&v))
}

fn pin(context: &Context, names: &Names, project: &Project, include: &IncludeSource) -> Result<Locked, Failure> {
    let publisher: PublisherId = match include.publisher.as_deref() {
        Some(name) => names.publisher(name)?,
        None => names.publisher(SELF).map_err(|_| nowhere(project, include, "this home has published nothing yet"))?,
    };
    let catalogue = context.handle.catalogue();
    let Some(known) = catalogue.get(&publisher) else {
        return Err(nowhere(project, include, "its publisher is not followed here"));
    };
    // What is pinned already stays pinned. The author signs what is pinned now, and who installs it asks nobody else: nothing
    // of a frozen feed. How old the newest word is is told, as for whoever installs by hand.
    if known.frozen {
        let what = format!("{} {}", include.distro, include.range);
        freshness::refuse_new(context, publisher, &what, Wish::Owner { accept_expired: true })?;
    }
    let snapshot = &known.feed.snapshot;
    let Some(listing) = choose(&include.range, &include.distro, &snapshot.listings) else {
        let have: Vec<&str> = snapshot.offered(&include.distro, None).map(|l| l.version.as_str()).collect();
        let why = if have.is_empty() {
            format!("{} has no distro of that name", names.of(publisher))
        } else {
            format!("published are {}", have.join(", "))
        };
        return Err(nowhere(project, include, &why));
    };
    Ok(Locked {
        name: include.name.clone(),
        publisher,
        distro: include.distro.clone(),
        version: listing.version.clone(),
        revision: listing.revision,
        release: softservice_protocol::release::ReleaseRef { id: listing.release, size: listing.size },
    })
}

fn nowhere(project: &Project, include: &IncludeSource, why: &str) -> Failure {
    let publisher = include.publisher.as_ref().map_or_else(String::new, |p| format!("{p}/"));
    Failure::not_found(format!(
        "{} includes {publisher}{} {}, which is not known here: {why}",
        project.definition.name(),
        include.distro,
        include.range
    ))
    .hint("publish it first, or subscribe to its publisher")
}
