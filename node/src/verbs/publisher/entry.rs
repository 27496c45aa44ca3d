//! Entries of the own feed, wherever their keys are. Invariant: an entry is appended with enough signatures, or nothing is; what
//! goes out to be signed is kept in the home before anybody else can have it.

use super::{Signing, hand_out, secrets, waiting};
use crate::{
    context::Context,
    handle::Appended,
    publisher::request::{Opened, Request, Wanted},
    verbs::failure::{Failure, Kind},
};
use serde_json::Value;
use softservice_protocol::{
    codec,
    feed::{Action, Head},
    id::PublisherId,
    sign::Envelope,
};

/// What became of an entry.
pub(crate) enum Entered {
    /// It is in the feed.
    Published(Head),
    /// It waits for signatures.
    Requested(Box<Opened>),
}

impl Entered {
    /// Its place, for an answer, and what it waits for.
    pub(crate) fn tell(&self, answer: &mut Value) {
        let at = match self {
            Self::Published(head) => head.at,
            Self::Requested(opened) => {
                let document = opened.document();
                answer["request"] = document["request"].clone();
                answer["lacking"] = document["lacking"].clone();
                opened.place()
            }
        };
        answer["published"] = matches!(self, Self::Published(_)).into();
        answer["epoch"] = at.epoch.into();
        answer["sequence"] = at.seq.into();
    }
}

/// Appends an entry, or writes a request for the signatures that it lacks.
pub(crate) async fn enter(
    context: &Context,
    publisher: PublisherId,
    action: Action,
    signing: &Signing,
) -> Result<Entered, Failure> {
    if let Some(other) = spoken_for(context, publisher, &action) {
        return Err(Failure::refused(format!(
            "entry {} was handed out to be signed elsewhere: another at its number would freeze the feed",
            other.place().seq
        ))
        .hint("`softservice publisher assemble` appends it; when every copy is destroyed, `softservice publisher withdraw` gives it up")
        .with(serde_json::json!({ "pending": other.document() })));
    }
    let _lent = context.keys.lend(secrets(signing.keys.clone()).await?);
    let (request, have, threshold) =
        match context.handle.publish_or_request(publisher, action, signing.out.is_some()).await? {
            Appended::Published(head) => return Ok(Entered::Published(head)),
            Appended::Unsigned { request, have, threshold } => (request, have, threshold),
        };
    let (Some(bytes), Some(out)) = (request, &signing.out) else {
        let are = if have == 1 { "is" } else { "are" };
        return Err(Failure::refused(format!(
            "{threshold} signatures are needed, and {have} of the keys that may sign this {are} at hand"
        ))
        .hint("--keys FILE,... names key files that are elsewhere; --request FILE writes a request for `softservice publisher sign`"));
    };
    let bug = |e: String| Failure::new(Kind::Bug, e);
    let envelope: Envelope = codec::decode(&bytes).map_err(|e| bug(e.to_string()))?;
    let root = context.keys.newest_envelope().ok_or_else(|| bug("a publisher without a root document".into()))?;
    let opened = Request::signed(root, envelope).open()?;
    hand_out(context, &opened, out.clone()).await?;
    Ok(Entered::Requested(Box::new(opened)))
}

/// What waits for the next number, if it is anything else. The core refuses it as well, in its own words.
fn spoken_for(context: &Context, publisher: PublisherId, action: &Action) -> Option<Opened> {
    let head = context.handle.catalogue().remove(&publisher)?.feed.head.at;
    waiting(context).into_iter().find(|request| match &request.wanted {
        Wanted::Entry(entry) => entry.at.seq == head.seq.saturating_add(1) && entry.action != *action,
        Wanted::Root(_) => false,
    })
}
