//! Requests that wait to come back signed. Invariant: the folder `publisher/requests` is the authority for what waits: a file is
//! there before anybody else can have a copy, and while one cannot be read nothing is signed beside it.

use super::{
    super::{
        closure::blocking,
        failure::{Failure, Kind},
    },
    Own,
};
use crate::{
    context::Context,
    publisher::{
        request::{Opened, Request, RequestError, Wanted},
        words,
    },
};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// All of them, by name of their file, also those that are over.
pub(super) fn waiting(context: &Context) -> Result<Vec<Opened>, Failure> {
    let folder = context.keys.requests();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&folder, &error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| unreadable(&folder, &e))?.path();
        if path.extension().is_some_and(|e| e == "request") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Request::read(path).map_err(|e| unheard(path, e))).collect()
}

/// Of another format, it is as good as unread: what it asks for may still be signed.
fn unheard(path: &Path, error: RequestError) -> Failure {
    match error {
        RequestError::Format { .. } => Failure::refused(format!("a request waits that cannot be read: {error}")).hint(
            "finish it with the program that made it; or, when every copy of it is destroyed, remove the file and ask anew: a second \
             word would be proof against you",
        ),
        error => unreadable(path, &error),
    }
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> Failure {
    let message = format!("what waits for signatures cannot be read: {}: {error}", path.display());
    Failure::new(Kind::Damaged, message).hint(
        "restore it from a backup; when every copy of what it asks for is destroyed, remove it: a second word would be proof against you",
    )
}

/// Those that may still come back.
pub(super) fn open(context: &Context, own: &Own) -> Result<Vec<Opened>, Failure> {
    Ok(waiting(context)?.into_iter().filter(|request| !is_over(own, request)).collect())
}

/// The same, after the files of the others were removed.
pub(super) fn tidied(context: &Context, own: &Own) -> Result<Vec<Opened>, Failure> {
    let (over, open): (Vec<_>, Vec<_>) = waiting(context)?.into_iter().partition(|request| is_over(own, request));
    over.iter().for_each(|request| forget(context, request));
    Ok(open)
}

/// Whether a request has no use any more: what it asked for is there, or can never be.
fn is_over(own: &Own, request: &Opened) -> bool {
    match &request.wanted {
        Wanted::Root(next) => next.version <= own.root.root.version,
        Wanted::Entry(_) if request.is_again() => own.known.signed,
        Wanted::Entry(entry) => entry.at <= own.known.feed.head.at || entry.at.epoch < own.root.root.feed.epoch,
    }
}

/// A request that is over waits no more. A file that stays is passed over, so failing does no harm.
pub(super) fn forget(context: &Context, request: &Opened) {
    let file = context.keys.requests().join(request.file_name());
    if let Err(error) = std::fs::remove_file(&file)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "a request that is over could not be removed");
    }
}

/// Whether this home made that very request: what its own keys sign unseen.
pub(super) fn is_ours(context: &Context, request: &Opened) -> Result<bool, Failure> {
    let same = |one: &Opened| one.digest() == request.digest() && one.is_again() == request.is_again();
    Ok(waiting(context)?.iter().any(same))
}

/// Writes a request: into the home first, so that it is known to wait before anybody can sign it. Nothing else that waits
/// there, or stands at `out`, is replaced.
pub(super) async fn hand_out(context: &Context, opened: &Opened, out: PathBuf) -> Result<(), Failure> {
    let (folder, opened) = (context.keys.requests(), opened.clone());
    blocking(move || {
        let io = |action: &'static str| {
            let folder = folder.clone();
            move |e: std::io::Error| Failure::failed(format!("{action} {}: {e}", folder.display()))
        };
        std::fs::create_dir_all(&folder).map_err(io("create"))?;
        if let Some(above) = folder.parent() {
            std::fs::File::open(above).and_then(|f| f.sync_all()).map_err(io("sync what holds"))?;
        }
        let ours = folder.join(opened.file_name());
        let had = holds(&ours, &opened)?;
        holds(&out, &opened)?;
        opened.write(&ours)?;
        opened.write(&out).map_err(|error| {
            // Nobody has a copy, so nothing was handed out.
            if !had && let Err(error) = std::fs::remove_file(&ours) {
                tracing::warn!(file = %ours.display(), %error, "a request that was not handed out could not be removed");
            }
            Failure::from(error)
        })
    })
    .await
}

/// Whether that very request is in this file; refused when anything else is.
fn holds(path: &Path, wanted: &Opened) -> Result<bool, Failure> {
    if let Err(error) = path.symlink_metadata()
        && error.kind() == ErrorKind::NotFound
    {
        return Ok(false);
    }
    match Request::read(path) {
        Ok(there) if there.digest() == wanted.digest() => Ok(true),
        _ => Err(Failure::refused(format!("{} exists already, and is not this request", path.display()))),
    }
}

/// Releases that wait to be signed: their content is nowhere else yet.
pub(in super::super) fn requested(context: &Context) -> Result<Vec<softservice_protocol::id::ReleaseId>, Failure> {
    use softservice_protocol::feed::Action;
    let release = |request: Opened| match request.wanted {
        Wanted::Entry(entry) => match entry.action {
            Action::Release(listing) => Some(listing.release),
            Action::Revoke { .. } => None,
        },
        Wanted::Root(_) => None,
    };
    Ok(waiting(context)?.into_iter().filter_map(release).collect())
}

/// Refused for want of signatures.
pub(super) fn unsigned(opened: &Opened, flag: &str) -> Failure {
    let lacking = words::lacks(&opened.lacking());
    Failure::refused(format!("{} lacks signatures: {lacking}", opened.title()))
        .hint(format!(
            "--keys FILE,... names key files that are elsewhere; {flag} FILE writes a request for `softservice publisher sign`"
        ))
        .with(opened.document())
}
