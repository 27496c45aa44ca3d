//! `rotate` and `delegate`, and how a next root document comes to be. Invariant: it is judged in full before anything is written; then
//! new keys, then the document or the request for it, each durable before the next.

use super::{
    super::{closure::blocking, failure::Failure, publish::APPENDING},
    Own, Signing, hand_over,
    others::{Made, undisputed},
    secrets, unsaid,
    waiting::{hand_out, tidied, unsigned},
};
use crate::{
    context::Context,
    handle::Appended,
    identity::new_key,
    publisher::{
        change::{Change, ascending},
        public,
        request::{Request, Wanted},
        role::RoleName,
        secret_at, usable,
    },
};
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    codec,
    id::PublicKey,
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
    /// Goes on although nobody could be asked who would know of a newer root document.
    #[serde(default)]
    alone: bool,
    #[serde(default)]
    signing: Signing,
}

/// A key that a flag names: public, or in a file.
fn named(text: &str) -> Result<(PublicKey, Option<SigningKey>), Failure> {
    if let Ok(key) = text.parse() {
        return Ok((usable(key)?, None));
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
pub(super) struct Beside {
    /// New keys for this home.
    pub(super) made: Vec<(RoleName, SigningKey)>,
    /// Keys from elsewhere that sign.
    pub(super) lent: Vec<SigningKey>,
}

pub(crate) async fn rotate(context: &Context, args: Rotate) -> Result<Value, Failure> {
    let _changing = APPENDING.lock().await;
    let own = undisputed(context, args.alone, Made::Root).await?;
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
    /// Goes on although nobody could be asked who would know of a newer root document.
    #[serde(default)]
    alone: bool,
    #[serde(default)]
    signing: Signing,
}

pub(crate) async fn delegate(context: &Context, args: Delegate) -> Result<Value, Failure> {
    let _changing = APPENDING.lock().await;
    let own = undisputed(context, args.alone, Made::Root).await?;
    let mut change = Change::default();
    if args.remove {
        // Whatever was let in goes.
        let key = args.key.parse();
        change.dismiss.push(key.map_or_else(|_| named(&args.key).map(|(key, _)| key), Ok)?);
    } else {
        let (key, _) = named(&args.key)?;
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
        let not_after = context.config.clock.moment().time() + Span::days(u64::from(lasts));
        change.delegate.push(Delegation { key, channel_prefix, distros, not_after, max_entries });
    }
    let beside = Beside { lent: secrets(args.signing.keys.clone()).await?, ..Beside::default() };
    succeed(context, own, &change, beside, &args.signing).await
}

/// Makes the next root document: adopts it when it has its signatures, else writes a request for them.
pub(super) async fn succeed(
    context: &Context,
    own: Own,
    change: &Change,
    beside: Beside,
    signing: &Signing,
) -> Result<Value, Failure> {
    signing.check()?;
    let (version, asked) = (own.root.root.version.saturating_add(1), own.asked);
    let pending =
        tidied(context, &own)?.into_iter().find(|r| matches!(&r.wanted, Wanted::Root(n) if n.version == version));
    if let Some(pending) = pending {
        return Err(Failure::refused(format!(
            "a request for root document {version} waits: a second one, once both were signed, would fork the publisher"
        ))
        .hint("`softservice publisher assemble` finishes it; when every copy of it is destroyed, `softservice publisher withdraw` gives it up")
        .with(json!({ "pending": pending.document() })));
    }
    let root = change.apply(&own.root, context.config.clock.moment().time())?;
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
    answer["asked"] = asked.into();
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
