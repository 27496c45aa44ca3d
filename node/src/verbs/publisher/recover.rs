//! `recover`: a new epoch behind the last entry that counts. Invariant: what is given up is told before anything is signed; what an
//! earlier recovery gave up is never gone back to.

use super::{
    super::{closure::blocking, failure::Failure, publish::APPENDING},
    Signing, newest,
    others::{Made, undisputed},
    rotate::{Beside, succeed},
    secrets,
};
use crate::{context::Context, publisher::change::Change};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    codec,
    feed::{Entry, Head, Position},
    id::{Digest, PublisherId},
    io::Record,
    root::{FeedStart, Root},
    sign::{Envelope, Kind},
};
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recover {
    /// The last entry that still counts; 0 for none.
    from: u64,
    /// Its digest, where it is not kept here.
    hash: Option<String>,
    /// Only says what would be given up.
    #[serde(default)]
    look: bool,
    /// Goes on although nobody could be asked who would know of a newer root document.
    #[serde(default)]
    alone: bool,
    #[serde(default)]
    signing: Signing,
}

pub(crate) async fn recover(context: &Context, args: Recover) -> Result<Value, Failure> {
    let _changing = APPENDING.lock().await;
    let own = match args.look {
        true => newest(context).await?,
        false => undisputed(context, args.alone, Made::Root).await?,
    };
    let mut kept = entries(context, own.publisher).await?;
    let gone = given_up(context);
    kept.retain(|(head, _)| !gone(head.at));
    let given: Option<Digest> = match &args.hash {
        Some(text) => Some(text.parse().map_err(|e| Failure::usage(format!("--hash: {e}")))?),
        None => None,
    };
    let begun = own.root.root.feed;
    if args.from < begun.from_seq {
        return Err(Failure::refused(format!(
            "epoch {} began behind entry {}: nothing before it can be gone back to",
            begun.epoch, begun.from_seq
        )));
    }
    // One entry, or both of a publisher with two tongues.
    let there = kept.iter().filter(|(head, _)| head.at.seq == args.from);
    let candidates: Vec<Value> =
        there.map(|(head, entry)| json!({ "hash": head.hash.to_string(), "says": line(entry) })).collect();
    let newest = kept.iter().map(|(head, _)| head.at.seq).max().unwrap_or_default().max(own.known.feed.head.at.seq);
    if args.from > newest && given.is_some() {
        return Err(Failure::refused(format!(
            "entry {} is beyond the newest one that is known here, {newest}",
            args.from
        ))
        .hint("an epoch opens behind an entry that exists"));
    }
    let here = context.handle.reopens_at(own.publisher, args.from).await?.filter(|head| !gone(head.at));
    let hash = match (here, given) {
        (Some(head), None) => head.hash,
        (Some(head), Some(given)) if given == head.hash => given,
        (Some(_), Some(given)) => {
            return Err(Failure::refused(format!("entry {} of this feed is another here than {given}", args.from))
                .hint("leave --hash out to take the one that is here")
                .with(json!({ "candidates": candidates })));
        }
        // Its catalogue comes from peers, then.
        (None, Some(given)) => given,
        (None, None) => {
            return Err(Failure::not_found(format!("entry {} of this feed is not here", args.from)).hint(
                "an earlier one may be; or --hash HASH names it, and a peer that has its catalogue must be connected before anything is published",
            ).with(json!({ "candidates": candidates })));
        }
    };
    let given_up: Vec<Value> = kept
        .iter()
        .filter(|(head, _)| head.at.seq > args.from)
        .map(|(head, entry)| json!({ "sequence": head.at.seq, "hash": head.hash.to_string(), "says": line(entry) }))
        .collect();
    let seen = json!({ "from_sequence": args.from, "from_hash": hash.to_string(), "given_up": given_up });
    if args.look {
        return Ok(seen);
    }
    let change = Change { reopen: Some((args.from, hash)), ..Change::default() };
    let beside = Beside { lent: secrets(args.signing.keys.clone()).await?, ..Beside::default() };
    let publisher = own.publisher;
    let mut answer = succeed(context, own, &change, beside, &args.signing).await?;
    let unsaid = context.handle.unsaid(publisher).await?;
    if !unsaid.is_empty() {
        answer["unsaid"] = unsaid.iter().map(|(release, _)| release.to_string()).collect::<Vec<_>>().into();
    }
    if let (Value::Object(answer), Value::Object(seen)) = (&mut answer, seen) {
        answer.extend(seen);
    }
    Ok(answer)
}

/// Whether an earlier recovery gave up what stands there: a later epoch began before it.
fn given_up(context: &Context) -> impl Fn(Position) -> bool {
    let opened = |bytes: &Vec<u8>| codec::decode::<Envelope>(bytes).ok()?.open::<Root>().ok();
    let starts: Vec<FeedStart> = context.keys.roots().iter().filter_map(opened).map(|root| root.feed).collect();
    move |at| starts.iter().any(|start| start.epoch > at.epoch && at.seq > start.from_seq)
}

/// What an entry did, in a few words.
fn line(entry: &Entry) -> String {
    use softservice_protocol::{feed::Action, text::Foreign};
    match &entry.action {
        Action::Release(l) => format!("release {} {}", Foreign(&l.distro), Foreign(&l.version)),
        Action::Revoke { release, .. } => format!("revocation of {}", release.short()),
    }
}

/// The entries of an own feed that the log still has, and those of a proof against it, by number.
async fn entries(context: &Context, publisher: PublisherId) -> Result<Vec<(Head, Entry)>, Failure> {
    let store = context.store.clone();
    let records = blocking(move || Ok(store.records()?)).await?;
    let mut found = BTreeMap::new();
    let mut take = |envelope: Envelope| {
        if envelope.publisher == publisher
            && envelope.kind == Kind::Entry
            && let Ok(entry) = envelope.open::<Entry>()
        {
            found.insert(Head { at: entry.at, hash: envelope.digest() }, entry);
        }
    };
    for record in records {
        match record {
            Record::Entry { publisher: whose, envelope } | Record::Onboarded { publisher: whose, envelope, .. }
                if whose == publisher =>
            {
                codec::decode(&envelope).map(&mut take).unwrap_or_default();
            }
            Record::Proof { proof } => {
                if let Ok(proof) = codec::decode::<softservice_protocol::feed::Equivocation>(&proof) {
                    take(proof.one);
                    take(proof.other);
                }
            }
            _ => {}
        }
    }
    Ok(found.into_iter().collect())
}
