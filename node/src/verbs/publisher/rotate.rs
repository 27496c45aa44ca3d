//! `rotate`, `delegate` and `recover`: the next root document. Invariant: it is judged in full before anything is written; then
//! new keys, then the document or the request for it, each durable before the next.

use super::{
    super::{closure::blocking, failure::Failure, publish::APPENDING},
    Own, Signing, hand_out, hand_over, newest, secrets, unsaid, unsigned, waiting,
};
use crate::{
    clock::Clock,
    context::Context,
    handle::Appended,
    identity::new_key,
    publisher::{
        change::{Change, ascending},
        public,
        request::{Request, Wanted},
        role::RoleName,
        secret_at,
    },
};
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    codec,
    feed::{Entry, Head},
    id::{Digest, PublicKey, PublisherId},
    io::Record,
    name,
    root::{Delegation, Role},
    sign::{Envelope, Kind},
    time::Span,
};
use std::{collections::BTreeMap, path::Path};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotate {
    /// Roles whose keys that are here are replaced by new ones.
    #[serde(default)]
    renew: Vec<RoleName>,
    /// Public keys or key files of a role, in place of those before.
    #[serde(default)]
    roles: BTreeMap<RoleName, Vec<String>>,
    /// By role, or `next` for the promised one.
    #[serde(default)]
    thresholds: BTreeMap<String, u8>,
    /// Public keys or key files of the promised next root role.
    #[serde(default)]
    commit: Vec<String>,
    min_protocol: Option<u16>,
    days: Option<u32>,
    #[serde(default)]
    signing: Signing,
}

/// A key that a flag names: public, or in a file.
fn named(text: &str) -> Result<(PublicKey, Option<SigningKey>), Failure> {
    if let Ok(key) = text.parse() {
        return Ok((key, None));
    }
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(Failure::usage(format!(
            "{text:?} is neither a public key (64 hexadecimal digits) nor an absolute path"
        )));
    }
    let key = secret_at(path)?;
    Ok((public(&key), Some(key)))
}

/// What is made beside the document.
#[derive(Default)]
struct Beside {
    /// New keys for this home.
    made: Vec<(RoleName, SigningKey)>,
    /// Keys from elsewhere that sign.
    lent: Vec<SigningKey>,
}

pub(crate) async fn rotate(context: &Context, args: Rotate) -> Result<Value, Failure> {
    let _changing = APPENDING.lock().await;
    let own = newest(context).await?;
    let mut change = Change { min_protocol: args.min_protocol, valid_for: days(args.days), ..Change::default() };
    let mut beside = Beside { lent: secrets(args.signing.keys.clone()).await?, ..Beside::default() };
    for (role, keys) in &args.roles {
        let mut list = Vec::new();
        for text in keys {
            let (key, secret) = named(text)?;
            list.push(key);
            beside.lent.extend(secret);
        }
        change.keys.insert(*role, list);
    }
    let mut threshold_next = None;
    for (role, threshold) in &args.thresholds {
        match role.as_str() {
            "next" => threshold_next = Some(*threshold),
            role => {
                change.thresholds.insert(role.parse().map_err(Failure::usage)?, *threshold);
            }
        }
    }
    if !args.commit.is_empty() {
        let keys = args.commit.iter().map(|text| Ok(named(text)?.0)).collect::<Result<Vec<_>, Failure>>()?;
        let keys = ascending(keys);
        let threshold = threshold_next.unwrap_or(own.root.root.roles.root.threshold);
        if threshold == 0 || usize::from(threshold) > keys.len() {
            return Err(Failure::usage(format!("the promised root role needs {threshold} of {} keys", keys.len()))
                .hint("--threshold next=N says how many of the keys of --commit must sign"));
        }
        change.promise = Some(Role { threshold, keys });
    } else if threshold_next.is_some() {
        return Err(Failure::usage("--threshold next=N is about the keys of --commit"));
    }
    renew(context, &own, &args, &mut change, &mut beside)?;
    succeed(context, own, &change, beside, &args.signing).await
}

/// New keys in place of those that are here: of the roles that were named, else, when nothing at all was asked for, of all
/// but root.
fn renew(context: &Context, own: &Own, args: &Rotate, change: &mut Change, beside: &mut Beside) -> Result<(), Failure> {
    let asked = !args.roles.is_empty()
        || !args.thresholds.is_empty()
        || !args.commit.is_empty()
        || args.min_protocol.is_some()
        || args.days.is_some();
    let plain = args.renew.is_empty() && !asked;
    let roles = if plain { vec![RoleName::Release, RoleName::Fresh, RoleName::Revoke] } else { args.renew.clone() };
    let files = context.keys.files();
    for role in roles {
        let here = |key: &PublicKey| files.iter().any(|f| f.key == *key);
        let keys = &role.of(&own.root.root.roles).keys;
        if !keys.iter().any(here) {
            if plain {
                continue;
            }
            return Err(Failure::refused(format!(
                "no key of the {role} role is in this home, so none can be renewed here"
            ))
            .hint(format!("--role {role}=KEY,... names the keys that the role is to have")));
        }
        if change.keys.contains_key(&role) {
            return Err(Failure::usage(format!("the {role} role cannot be renewed and given other keys at once")));
        }
        let mut list = Vec::new();
        for key in keys {
            if here(key) {
                let new = new_key().map_err(|e| Failure::failed(e.to_string()))?;
                list.push(public(&new));
                beside.made.push((role, new));
            } else {
                list.push(*key);
            }
        }
        change.keys.insert(role, list);
    }
    Ok(())
}

fn days(days: Option<u32>) -> Option<Span> {
    days.map(|n| Span::days(u64::from(n)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delegate {
    /// A public key or key file; with `remove`, whose right goes.
    key: String,
    #[serde(default)]
    remove: bool,
    channel: Option<String>,
    #[serde(default)]
    distros: Vec<String>,
    days: Option<u32>,
    entries: Option<u32>,
    #[serde(default)]
    signing: Signing,
}

pub(crate) async fn delegate(context: &Context, args: Delegate) -> Result<Value, Failure> {
    let _changing = APPENDING.lock().await;
    let own = newest(context).await?;
    let (key, _) = named(&args.key)?;
    let mut change = Change::default();
    if args.remove {
        change.dismiss.push(key);
    } else {
        let needed = |flag: &str| Failure::usage(format!("a delegation needs {flag}"));
        let channel_prefix = args.channel.clone().ok_or_else(|| needed("--channel PREFIX"))?;
        let mut distros = args.distros.clone();
        distros.sort();
        distros.dedup();
        if distros.is_empty() {
            return Err(needed("--distro NAME"));
        }
        for text in distros.iter().chain([&channel_prefix]) {
            name::check(text).map_err(|e| Failure::usage(e.to_string()))?;
        }
        let lasts = args.days.ok_or_else(|| needed("--days N"))?;
        let max_entries = args.entries.ok_or_else(|| needed("--entries N"))?;
        let not_after = Clock::default().now() + Span::days(u64::from(lasts));
        change.delegate.push(Delegation { key, channel_prefix, distros, not_after, max_entries });
    }
    let beside = Beside { lent: secrets(args.signing.keys.clone()).await?, ..Beside::default() };
    succeed(context, own, &change, beside, &args.signing).await
}

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
    #[serde(default)]
    signing: Signing,
}

pub(crate) async fn recover(context: &Context, args: Recover) -> Result<Value, Failure> {
    let _changing = APPENDING.lock().await;
    let own = newest(context).await?;
    let kept = entries(context, own.publisher).await?;
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
    let hash = match (context.handle.reopens_at(own.publisher, args.from).await?, given) {
        (Some(head), None) => head.hash,
        (Some(head), Some(given)) if given == head.hash => given,
        (Some(_), Some(given)) => {
            return Err(Failure::refused(format!("entry {} of this feed is another here than {given}", args.from))
                .hint("leave --hash out to take the one that is here"));
        }
        // Its catalogue comes from peers, then.
        (None, Some(given)) => given,
        (None, None) => {
            return Err(Failure::not_found(format!("entry {} of this feed is not here", args.from)).hint(
                "an earlier one may be; or --hash HASH names it, and a peer that has its catalogue must be connected before anything is published",
            ));
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

/// Makes the next root document: adopts it when it has its signatures, else writes a request for them.
async fn succeed(
    context: &Context,
    own: Own,
    change: &Change,
    beside: Beside,
    signing: &Signing,
) -> Result<Value, Failure> {
    signing.check()?;
    let version = own.root.root.version.saturating_add(1);
    let pending = waiting(context).into_iter().find(|r| matches!(&r.wanted, Wanted::Root(n) if n.version == version));
    if let Some(pending) = pending {
        return Err(Failure::refused(format!(
            "a request for root document {version} waits: a second one, once both were signed, would fork the publisher"
        ))
        .hint("`softservice publisher assemble` finishes it; when every copy of it is destroyed, `softservice publisher withdraw` gives it up")
        .with(json!({ "pending": pending.document() })));
    }
    let root = change.apply(&own.root, Clock::default().now())?;
    let payload = codec::encode(&root).map_err(|e| Failure::usage(e.to_string()))?;
    let mut opened = Request::new(own.envelope.clone(), Kind::Root, payload).open()?;
    let mut signers = context.keys.at_hand();
    signers.extend(beside.lent.iter().cloned());
    signers.extend(beside.made.iter().map(|(_, key)| key.clone()));
    opened.sign_where_due(&signers);
    let complete = opened.sealed();
    match &complete {
        // Judged as by anybody before the first byte is written.
        Some(envelope) => drop(own.root.next(envelope).map_err(|e| Failure::refused(e.to_string()))?),
        None if signing.out.is_none() => return Err(unsigned(&opened, "--out")),
        None => {}
    }
    let (keys, made) = (context.keys.clone(), beside.made);
    let made = blocking(move || {
        let stage = |(role, key): &(RoleName, SigningKey)| {
            let file = keys.stage(*role, key)?;
            Ok(json!({ "role": role.name(), "key": public(key).to_string(), "file": file }))
        };
        made.iter().map(stage).collect::<Result<Vec<Value>, Failure>>()
    })
    .await?;
    let mut answer = opened.document();
    match complete {
        Some(envelope) => {
            let _lent = context.keys.lend(beside.lent);
            answer["head_signed"] = adopt(context, &own, envelope).await?.into();
            answer["adopted"] = true.into();
        }
        None => {
            if let Some(out) = &signing.out {
                hand_out(context, &opened, out.clone()).await?;
            }
            answer["adopted"] = false.into();
            answer["out"] = json!(signing.out);
        }
    }
    answer["root_version"] = version.into();
    answer["made"] = made.into();
    Ok(answer)
}

/// Makes a complete root document the one of this home, and of its node; whether the newest entry is signed by its keys then.
pub(super) async fn adopt(context: &Context, own: &Own, envelope: Envelope) -> Result<bool, Failure> {
    let keys = context.keys.clone();
    let adopted = blocking(move || Ok(keys.adopt(&envelope)?)).await?;
    let version = adopted.root.version;
    hand_over(context, own.publisher, version).await?;
    // The core does it by itself where the keys are here. This waits for it, or says that it could not be.
    let signed = matches!(context.handle.resign(own.publisher, false).await, Ok(Appended::Published(_)));
    unsaid::say_again(context, own.publisher).await;
    Ok(signed)
}
