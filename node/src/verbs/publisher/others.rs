//! Who else may speak for this publisher. Invariant: a home that may not be the only one signs neither a root document nor an
//! entry before a peer answered, unless its owner says that no other home does: two documents of one version fork the publisher
//! for good, and two entries at one number freeze its feed.
//!
//! A home that made its publisher and gave nobody a right asks nobody before it publishes, so that whoever is on a journey can.

use super::{Own, newest};
use crate::{context::Context, publisher::Place, verbs::closure::blocking, verbs::failure::Failure};
use serde_json::json;
use std::fmt;

/// What is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// A root document.
    Root,
    /// An entry of the feed.
    Entry,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "made a root document already (two of one version would fork it)",
            Self::Entry => "published already (two entries at one number would freeze its feed)",
        })
    }
}

/// Why a home may not be the only one that speaks for its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// Its keys are not where they were made.
    Copied,
    /// Another home made the publisher.
    Joined,
    /// Build machines publish as well.
    Delegates,
    /// Keys that are not here suffice to add an entry.
    Keys,
    /// Others serve its feed; one may be a home of the same people.
    Peers,
}

impl Others {
    /// As the API spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Joined => "joined",
            Self::Delegates => "delegates",
            Self::Keys => "keys",
            Self::Peers => "peers",
        }
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copied => "the keys of this home were copied or moved here",
            Self::Joined => "another home made this publisher",
            Self::Delegates => "a build machine may publish as well",
            Self::Keys => "keys that are not in this home suffice to publish",
            Self::Peers => "others are known that serve its feed",
        })
    }
}

/// Nobody could be asked, and somebody may have spoken.
#[derive(Debug, thiserror::Error)]
#[error("no peer could be asked whether another home of this publisher {made}, and {others}")]
pub(super) struct Unasked {
    made: Made,
    others: Others,
}

impl From<Unasked> for Failure {
    fn from(error: Unasked) -> Self {
        Self::refused(error.to_string())
            .hint(
                "run `softservice node` until `softservice peers` shows one, and try again; --alone goes on, when no other home speaks for \
                 this publisher",
            )
            .with(json!({ "asked": 0, "others": error.others.name() }))
    }
}

/// Who else may say such a thing.
pub(super) fn of(context: &Context, own: &Own, made: Made) -> Option<Others> {
    match context.keys.place() {
        Place::Copied => return Some(Others::Copied),
        Place::Joined => return Some(Others::Joined),
        Place::Home => {}
    }
    // One whose time is over may have published before.
    if !own.root.root.delegations.is_empty() {
        return Some(Others::Delegates);
    }
    let known = !own.known.addresses.is_empty() || !context.config.peers.is_empty();
    // Without any peer that could be met, whoever keeps a key on a stick would have to say so each time.
    if made == Made::Entry && known && may_sign_elsewhere(context, own) {
        return Some(Others::Keys);
    }
    (made == Made::Root && known).then_some(Others::Peers)
}

/// Whether the release keys that are not in this home suffice by themselves. The revoke role is left out: it adds what stops, and
/// its key is meant to lie elsewhere.
fn may_sign_elsewhere(context: &Context, own: &Own) -> bool {
    let here = context.keys.files();
    let release = &own.root.root.roles.release;
    let elsewhere = release.keys.iter().filter(|key| here.iter().all(|file| file.key != **key)).count();
    elsewhere >= usize::from(release.threshold)
}

/// What this home is, after asking peers, where nobody else said such a thing unheard; or where the owner says that nobody did.
pub(super) async fn undisputed(context: &Context, alone: bool, made: Made) -> Result<Own, Failure> {
    let own = newest(context).await?;
    let Some(others) = of(context, &own, made) else { return Ok(own) };
    if own.asked == 0 && !alone {
        return Err(Unasked { made, others }.into());
    }
    // Said once: from now on this is the home that speaks. One that joined knows of another, and is asked each time.
    if alone && others == Others::Copied {
        let keys = context.keys.clone();
        blocking(move || Ok(keys.stay()?)).await?;
    }
    Ok(own)
}
