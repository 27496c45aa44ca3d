//! Entries of the own feed, wherever their keys are. Invariant: an entry is appended with enough signatures, or nothing is; what
//! goes out to be signed is kept in the home before anybody else can have it.

use super::{
    Own, Signing, frozen, newest,
    others::{Made, undisputed},
    secrets,
    waiting::{hand_out, tidied},
};
use crate::{
    context::Context,
    handle::Appended,
    publisher::{
        public,
        request::{Opened, Request, Wanted},
    },
    verbs::{
        closure::{self, blocking},
        failure::{Failure, Kind},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    codec,
    feed::{Action, Entry, Head},
    id::{PublicKey, PublisherId},
    io::Depth,
    limits,
    release::ReleaseRef,
    root::TrustedRoot,
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
    alone: bool,
) -> Result<Entered, Failure> {
    signing.check()?;
    let own = undisputed(context, alone, Made::Entry).await?;
    if own.known.frozen {
        return Err(frozen::refusal(&own.known));
    }
    let waiting = tidied(context, &own)?;
    if let Some(other) = spoken_for(&waiting, &action) {
        return Err(Failure::refused(format!(
            "entry {} was handed out to be signed elsewhere: another at its number would freeze the feed",
            other.place().seq
        ))
        .hint("`softservice publisher assemble` appends it; when every copy is destroyed, `softservice publisher withdraw` gives it up")
        .with(json!({ "pending": other.document() })));
    }
    free(context, &own, &waiting).await?;
    let _lent = context.keys.lend(secrets(signing.keys.clone()).await?);
    if let Some(by) = delegated(context, &own.root, &action)? {
        return Ok(Entered::Published(context.handle.publish_by(publisher, action, by).await?));
    }
    let (request, have, threshold) =
        match context.handle.publish_or_request(publisher, action, signing.out.is_some()).await? {
            Appended::Published(head) => return Ok(Entered::Published(head)),
            Appended::Unsigned { request, have, threshold } => (request, have, threshold),
        };
    ask(context, request, (have, threshold), signing, false).await
}

/// Has the newest entry signed anew by the release role of now, so that newcomers can begin with it.
pub(crate) async fn sign_head(context: &Context, args: SignHead) -> Result<Value, Failure> {
    args.signing.check()?;
    let own = newest(context).await?;
    let _lent = context.keys.lend(secrets(args.signing.keys.clone()).await?);
    let entered = match context.handle.resign(own.publisher, args.signing.out.is_some()).await? {
        Appended::Published(head) => Entered::Published(head),
        Appended::Unsigned { request, have, threshold } => {
            ask(context, request, (have, threshold), &args.signing, true).await?
        }
    };
    let mut answer = json!({ "publisher": own.publisher.to_string() });
    entered.tell(&mut answer);
    Ok(answer)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignHead {
    #[serde(default)]
    signing: Signing,
}

/// Writes a request for the signatures that an entry lacks, if one is wanted.
async fn ask(
    context: &Context,
    request: Option<Vec<u8>>,
    (have, threshold): (usize, usize),
    signing: &Signing,
    again: bool,
) -> Result<Entered, Failure> {
    let (Some(bytes), Some(out)) = (request, &signing.out) else {
        let are = if have == 1 { "is" } else { "are" };
        let flag = if again { "--out" } else { "--request" };
        return Err(Failure::refused(format!(
            "{threshold} signatures are needed, and {have} of the keys that may sign this {are} at hand"
        ))
        .hint(format!(
            "--keys FILE,... names key files that are elsewhere; {flag} FILE writes a request for `softservice publisher sign`"
        )));
    };
    let bug = |e: String| Failure::new(Kind::Bug, e);
    let envelope: Envelope = codec::decode(&bytes).map_err(|e| bug(e.to_string()))?;
    let root = context.keys.newest_envelope().ok_or_else(|| bug("a publisher without a root document".into()))?;
    let document = document(context, &envelope).await?;
    let request = Request::signed(root, envelope).with(document);
    let opened = if again { request.again() } else { request }.open()?;
    hand_out(context, &opened, out.clone()).await?;
    Ok(Entered::Requested(Box::new(opened)))
}

/// The document of the release that an entry lists. What a build machine released was never here, perhaps: then it is fetched.
async fn document(context: &Context, envelope: &Envelope) -> Result<Option<Vec<u8>>, Failure> {
    let entry: Entry = envelope.open().map_err(|e| Failure::new(Kind::Bug, e.to_string()))?;
    let Action::Release(listing) = entry.action else { return Ok(None) };
    let _held = context.holds.keep(listing.release);
    let store = closure::store(context);
    if !store.has_object(listing.release.object()) {
        let release = ReleaseRef { id: listing.release, size: listing.size };
        context.handle.fetch(release, Depth::Manifests, None).await?;
    }
    blocking(move || Ok(Some(store.object(listing.release.object(), limits::RELEASE_BYTES)?))).await
}

/// What waits for the next number, if it is anything else. The core refuses it as well, in its own words.
fn spoken_for<'a>(waiting: &'a [Opened], action: &Action) -> Option<&'a Opened> {
    waiting.iter().find(|request| match &request.wanted {
        Wanted::Entry(entry) => !request.is_again() && entry.action != *action,
        Wanted::Root(_) => false,
    })
}

/// Where no entry waits, none was handed out: what the core remembers was given up, or cut off before anybody had it.
pub(super) async fn free(context: &Context, own: &Own, waiting: &[Opened]) -> Result<(), Failure> {
    let entry = |request: &Opened| matches!(request.wanted, Wanted::Entry(_)) && !request.is_again();
    if !waiting.iter().any(entry) {
        context.handle.withdraw(own.publisher).await?;
    }
    Ok(())
}

/// The delegated key that publishes here, where those of the release role are not at hand: what a build machine is.
fn delegated(context: &Context, root: &TrustedRoot, action: &Action) -> Result<Option<PublicKey>, Failure> {
    let Action::Release(_) = action else { return Ok(None) };
    let hand: Vec<PublicKey> = context.keys.at_hand().iter().map(public).collect();
    let rights: Vec<_> = hand.iter().filter_map(|key| root.delegation(*key)).collect();
    if rights.is_empty() || hand.iter().any(|key| root.root.roles.release.keys.contains(key)) {
        return Ok(None);
    }
    let now = context.config.clock.moment().time();
    let refused = rights.iter().map(|right| right.permits(action, now)).collect::<Vec<_>>();
    match rights.iter().zip(&refused).find(|(_, refused)| refused.is_ok()) {
        Some((right, _)) => Ok(Some(right.key)),
        None => {
            let why = refused.into_iter().find_map(Result::err).unwrap_or("no delegation is here");
            Err(Failure::refused(format!("this home publishes by delegation, and that does not reach so far: {why}"))
                .hint("`softservice publisher show` says what it may; the publisher's root role gives more"))
        }
    }
}
