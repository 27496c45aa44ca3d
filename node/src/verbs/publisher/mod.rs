//! `publisher`: who this home publishes as, and how its keys change hands. Invariant: a new root document is durable in the
//! home before the core hears of it; none is made while the network knows a newer one, or while one that was handed out to be
//! signed may still come back: either would fork the publisher. A home that may not be the only one to speak says nothing unasked.

mod assemble;
mod entry;
mod freshen;
mod frozen;
mod join;
mod others;
mod recover;
mod rotate;
mod unsaid;
mod waiting;

pub(super) use assemble::{assemble, withdraw};
pub(super) use entry::{Entered, enter, sign_head};
pub(super) use freshen::freshen;
pub(super) use join::join;
pub(super) use recover::recover;
pub(super) use rotate::{delegate, rotate};
pub(super) use waiting::requested;

use super::{
    closure::blocking,
    failure::{Failure, Kind},
    freshness, publish,
};
use crate::{
    context::Context,
    handle::{Known, PATIENCE},
    identity::KeyError,
    publisher::{
        KeyFile, PublisherError,
        change::ChangeError,
        request::{Opened, RequestError},
        role::RoleName,
        secret_at,
    },
};
use ed25519_dalek::SigningKey;
use others::Made;
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    id::{PublicKey, PublisherId},
    root::TrustedRoot,
    sign::Envelope,
    words,
};
use std::{path::PathBuf, time::Duration};

impl From<PublisherError> for Failure {
    fn from(error: PublisherError) -> Self {
        let message = error.to_string();
        match error {
            PublisherError::Request(error) => error.into(),
            PublisherError::Key(KeyError::Damaged { .. }) | PublisherError::Root { .. } | PublisherError::Torn(_) => {
                Self::new(Kind::Damaged, message)
            }
            PublisherError::Key(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Self::not_found(message)
            }
            PublisherError::NotAKey { .. } => {
                Self::usage(message).hint("`softservice publisher new-key FILE` makes one; a public key is 64 hexadecimal digits")
            }
            PublisherError::Another(_) | PublisherError::Exists(_) => Self::refused(message),
            PublisherError::Unusable(_) => Self::usage(message).hint("`softservice publisher new-key FILE` makes one and prints its public half"),
            PublisherError::Nobody => {
                Self::refused(message).hint("`softservice publisher show` makes a publisher, `softservice publisher join` takes part in one")
            }
            PublisherError::Forked { .. } => Self::refused(message).hint(
                "nothing of this publisher is installed any more: begin a new one, and hand out its ticket in a way that your users trust",
            ),
            PublisherError::Successor(_) => Self::refused(message),
            _ => Self::failed(message),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Self::not_found(message),
            RequestError::Io { .. } => Self::failed(message),
            RequestError::Other(_) | RequestError::TooLong { .. } | RequestError::Codec(_) => Self::usage(message)
                .hint("`softservice publisher rotate --out FILE` and `publish --request FILE` write requests; copy it again"),
            RequestError::Stranger { .. } | RequestError::Root(_) | RequestError::Signature(_) | RequestError::Unsound(_) => {
                Self::refused(message)
            }
            RequestError::Listed(_) => Self::refused(message)
                .hint("whoever made it would have you sign one release for another: sign nothing of it, and ask them"),
            RequestError::Format { .. } => Self::refused(message)
                .hint("have it made anew where it comes from: `softservice publisher rotate --out FILE`, or `publish --request FILE`"),
            RequestError::Different { .. } => {
                Self::usage(message).hint("assemble the copies of one request at a time")
            }
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::NoDelegation(_) => {
                Self::not_found(message).hint("`softservice publisher show` lists who has one")
            }
            ChangeError::Request(RequestError::Root(error)) => Self::usage(error.to_string()),
            ChangeError::Request(error) => error.into(),
            ChangeError::Promise { .. } => Self::refused(message).hint(
                "rotate first: `publisher rotate --role root=KEY,... --threshold root=N` with the promised keys; `publisher show` shows the promise",
            ),
            ChangeError::Epochs => Self::refused(message),
            ChangeError::Threshold { .. }
            | ChangeError::Protocol { .. }
            | ChangeError::Validity
            | ChangeError::Unkeepable { .. }
            | ChangeError::Root(_) => Self::usage(message),
        }
    }
}

/// Where signatures come from, and where a request for more goes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signing {
    /// Key files from elsewhere.
    #[serde(default)]
    keys: Vec<PathBuf>,
    /// Where a request is written when signatures are lacking.
    out: Option<PathBuf>,
}

impl Signing {
    /// Nothing is begun for a request that could not be written, or would take the place of something else.
    fn check(&self) -> Result<(), Failure> {
        match &self.out {
            Some(out) if !out.is_absolute() => {
                Err(Failure::usage(format!("{} must be an absolute path", out.display())))
            }
            Some(out) if out.symlink_metadata().is_ok() => {
                Err(Failure::refused(format!("{} exists already", out.display())))
            }
            _ => Ok(()),
        }
    }
}

/// What this home is, and what the network knows of it.
struct Own {
    publisher: PublisherId,
    root: TrustedRoot,
    envelope: Envelope,
    known: Known,
    /// Peers that said what they know of it.
    asked: u32,
}

/// How long a home that others are known to serve waits for one of them.
const MEETING: Duration = Duration::from_secs(5);
/// Addresses of them that are tried.
const TRIED: usize = 8;

/// The identity of this home as it is now: key files that came or went are seen, and root documents that another home of this
/// publisher made are taken over.
async fn current(context: &Context) -> Result<Own, Failure> {
    // A verb that changes a publisher makes none.
    context.keys.publisher().ok_or(PublisherError::Nobody)?;
    let keys = context.keys.clone();
    blocking(move || Ok(keys.reload()?)).await?;
    let publisher = publish::own(context).await?;
    let roots = context.handle.roots(publisher).await?;
    let keys = context.keys.clone();
    blocking(move || Ok(keys.catch_up(&roots)?)).await?;
    let bug = || Failure::new(Kind::Bug, "this home publishes, yet the node does not know as whom");
    let root = context.keys.newest_root().ok_or_else(bug)?;
    let known = || context.handle.catalogue().remove(&publisher).ok_or_else(bug);
    if known()?.root_version < root.root.version {
        // A verb was cut off between the file and the core.
        hand_over(context, publisher, root.root.version).await?;
    }
    let known = known()?;
    let envelope = context.keys.newest_envelope().ok_or_else(bug)?;
    Ok(Own { publisher, root, envelope, known, asked: 0 })
}

/// The same, after asking peers: what they know of it must not be gone against. A node that was started for this verb alone has
/// nobody yet, so one of those who are known to have it is waited for; and whoever may come, where others may have spoken.
async fn newest(context: &Context) -> Result<Own, Failure> {
    let own = current(context).await?;
    let (addresses, config) = (&own.known.addresses, &context.config);
    let known = !addresses.is_empty() || !config.peers.is_empty();
    let awaited = (config.mdns || config.dht) && others::of(context, &own, Made::Entry).is_some();
    let patience = if known || awaited { MEETING } else { Duration::ZERO };
    if context.handle.company(Duration::ZERO).await? == 0 {
        for address in addresses.iter().take(TRIED) {
            context.handle.dial(address.clone()).await?;
        }
    }
    // Who is connected may be about to leave: what counts is who answered.
    let asked = match context.handle.company(patience).await? {
        0 => 0,
        _ => context.handle.refresh(own.publisher).await?.answered,
    };
    Ok(Own { asked, ..current(context).await? })
}

/// The secrets of key files from elsewhere.
async fn secrets(files: Vec<PathBuf>) -> Result<Vec<SigningKey>, Failure> {
    if let Some(file) = files.iter().find(|f| !f.is_absolute()) {
        return Err(Failure::usage(format!("{} must be an absolute path", file.display())));
    }
    blocking(move || files.iter().map(|file| Ok(secret_at(file)?)).collect()).await
}

/// Who this home publishes as, made when there is none yet.
pub(super) async fn show(context: &Context) -> Result<Value, Failure> {
    publish::own(context).await?;
    let own = current(context).await?;
    let Own { publisher, root, known, .. } = &own;
    let files = context.keys.files();
    let root = &root.root;
    let requests: Vec<Value> = waiting::open(context, &own)?.iter().map(Opened::document).collect();
    let file = |f: &KeyFile| json!({ "key": f.key.to_string(), "file": f.path, "delegated": f.delegated });
    Ok(json!({
        "publisher": publisher.to_string(),
        "words": words::of(*publisher),
        "root_version": root.version,
        "root": own.root.digest.to_string(),
        "epoch": known.feed.head.at.epoch.max(root.feed.epoch),
        "from_sequence": root.feed.from_seq,
        "from_hash": (root.feed.from_seq > 0).then(|| root.feed.from_hash.to_string()),
        "sequence": known.feed.head.at.seq,
        "head": (known.feed.head.at.seq > 0).then(|| known.feed.head.hash.to_string()),
        "head_signed": known.signed,
        "releases": known.feed.snapshot.listings.len(),
        "issued_at": root.issued_at.0 / 1000,
        "expires_at": root.expires_at.0 / 1000,
        "min_protocol": root.min_protocol,
        "next_keys": root.next_keys.map(|d| d.to_string()),
        "roles": RoleName::ALL.map(|role| describe(role, root, &files)),
        "delegations": root.delegations.iter().map(|d| json!({
            "key": d.key.to_string(), "file": path_of(&files, d.key), "channel_prefix": d.channel_prefix, "distros": d.distros,
            "not_after": d.not_after.0 / 1000, "max_entries": d.max_entries,
        })).collect::<Vec<_>>(),
        "idle_keys": files.iter().filter(|f| f.role.is_none() && !f.delegated).map(file).collect::<Vec<_>>(),
        "unreadable": context.keys.unreadable().iter().map(|u| json!({ "file": u.path, "why": u.why })).collect::<Vec<_>>(),
        "freshness": known.freshness(context.config.clock.moment()),
        "frozen": known.frozen,
        "conflict": known.difference.as_ref().map(freshness::conflict),
        "way_out": known.frozen.then(|| frozen::way_out(known)),
        "requests": requests,
    }))
}

fn path_of(files: &[KeyFile], key: PublicKey) -> Option<&PathBuf> {
    files.iter().find(|f| f.key == key).map(|f| &f.path)
}

fn describe(role: RoleName, root: &softservice_protocol::root::Root, files: &[KeyFile]) -> Value {
    let of = role.of(&root.roles);
    let keys: Vec<Value> =
        of.keys.iter().map(|k| json!({ "key": k.to_string(), "file": path_of(files, *k) })).collect();
    json!({ "role": role.name(), "threshold": of.threshold, "keys": keys })
}

/// Tells the core of a root document that the home has adopted, and waits until it is durable there as well.
async fn hand_over(context: &Context, publisher: PublisherId, version: u64) -> Result<(), Failure> {
    let mut handle = context.handle.clone();
    handle.own(publisher, context.keys.roots()).await?;
    let taken = async {
        while handle.catalogue().get(&publisher).is_none_or(|k| k.root_version < version) {
            handle.catalogue_changed().await?;
        }
        Ok::<(), Failure>(())
    };
    match tokio::time::timeout(PATIENCE, taken).await {
        Ok(done) => done,
        Err(_) => {
            Err(Failure::failed(format!("root document {version} is in this home, and the node has not taken it"))
                .hint("it does when it starts the next time; its log says why it did not"))
        }
    }
}
