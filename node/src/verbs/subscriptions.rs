//! `subscribe`, `unsubscribe`, `subscriptions`: whom the owner follows, under which name, and what may happen by itself.
//! Invariant: a petname means one publisher in this home, and is never an id or `self`; the file is whole or absent.

use super::{
    closure,
    failure::{Failure, Kind},
    freshness, lookalike, quota,
    reference::{Names, SELF},
};
use crate::{
    api::talk::Talk,
    context::Context,
    handle::{CommandError, Known},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use softservice_protocol::{
    feed::{Head, Moment},
    id::{FeedId, PublisherId},
    ticket::Ticket,
    words,
};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// What happens when a followed publisher has something newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Policy {
    /// Say so.
    #[default]
    Notify,
    /// Update what is provisioned, unless that widens permissions.
    Auto,
}

/// A followed publisher, as the owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Whom.
    pub(super) publisher: PublisherId,
    /// Local name.
    pub(super) petname: String,
    /// What happens by itself.
    pub(super) policy: Policy,
    /// Two histories that its ticket told of.
    pub(super) conflict: Option<Told>,
}

/// A proof of two histories that the maker of a ticket holds: too long for the ticket, so until a peer shows it the publisher is
/// taken at the maker's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    /// The root document under which there are two; only a later one can end that, and whoever has a release key makes none.
    pub(super) root_version: u64,
    /// The proof's digest, for tickets that are made here.
    pub(super) proof: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    subscription: Vec<Row>,
}
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    publisher: String,
    petname: String,
    #[serde(default)]
    policy: Policy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conflict: Option<Told>,
}

/// One change of the file at a time in this process; other processes are kept out by the home's lock.
static CHANGING: Mutex<()> = Mutex::const_new(());

fn file(home: &Path) -> PathBuf {
    home.join("subscriptions.toml")
}

/// All of them.
///
/// # Errors
/// When the file is there and not what was written.
pub(super) fn read(home: &Path) -> Result<Vec<Subscription>, Failure> {
    let path = file(home);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::failed(format!("read {}: {error}", path.display()))),
    };
    let damaged = |why: String| {
        Failure::new(Kind::Damaged, format!("{} is damaged: {why}", path.display()))
            .hint("mend it by hand, or remove it and subscribe again; nothing that runs is touched")
    };
    let document: Document = toml::from_str(&text).map_err(|e| damaged(e.message().to_owned()))?;
    let parse = |row: Row| {
        let publisher = row.publisher.parse().map_err(|_| damaged(format!("{:?} is no publisher", row.publisher)))?;
        Ok(Subscription { publisher, petname: row.petname, policy: row.policy, conflict: row.conflict })
    };
    document.subscription.into_iter().map(parse).collect()
}

fn write(home: &Path, all: &[Subscription]) -> Result<(), Failure> {
    let row = |s: &Subscription| Row {
        publisher: s.publisher.to_string(),
        petname: s.petname.clone(),
        policy: s.policy,
        conflict: s.conflict.clone(),
    };
    let document = Document { subscription: all.iter().map(row).collect() };
    let text = toml::to_string(&document).map_err(|e| Failure::new(Kind::Bug, e.to_string()))?;
    let path = file(home);
    crate::home::write_private(&path, text.as_bytes())
        .map_err(|e| Failure::failed(format!("write {}: {e}", path.display())))
}

/// Whether `name` may be a petname.
fn check_petname(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let hint = "petnames have 1 to 63 characters of a-z, 0-9 and -, and begin with a letter or digit";
    if name.is_empty() || name.len() > 63 || name.starts_with('-') || !name.chars().all(good) {
        return Err(Failure::usage(format!("{name:?} cannot be a petname")).hint(hint));
    }
    if name == SELF {
        return Err(
            Failure::usage(format!("{SELF:?} is this home's own publisher")).hint("choose another name with --as")
        );
    }
    Ok(())
}

/// A free name: the distro that the ticket is about, else the publisher's first digits.
fn default_petname(ticket: &Ticket, all: &[Subscription]) -> String {
    let wish = ticket
        .distro
        .clone()
        .filter(|d| check_petname(d).is_ok())
        .unwrap_or_else(|| format!("p-{}", ticket.publisher.short()));
    let taken = |name: &str| all.iter().any(|s| s.petname == name);
    let numbered = (2_u32..).map(|n| format!("{wish}-{n}"));
    std::iter::once(wish.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(wish)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    ticket: String,
    petname: Option<String>,
    policy: Option<Policy>,
    quota: Option<quota::Wish>,
}

pub(super) async fn subscribe(context: &Context, args: Subscribe, talk: &Talk) -> Result<Value, Failure> {
    let ticket: Ticket = args.ticket.trim().parse().map_err(|e| {
        Failure::usage(format!("not a ticket: {e}"))
            .hint("a ticket is one line, printed by `softservice ticket` on another device")
    })?;
    refuse_expired(context, &ticket)?;
    let publisher = ticket.publisher;
    if context.keys.publisher() == Some(publisher) {
        return Err(Failure::refused("this ticket is this home's own")
            .hint(format!("own distros are reached as {SELF}/DISTRO without a subscription")));
    }
    if let Err(error) = context.handle.compare(ticket.clone()).await {
        suspend(context, publisher, &error).await?;
        return Err(error.into());
    }
    let subscription = {
        let _changing = CHANGING.lock().await;
        let mut all = read(&context.home)?;
        let old = all.iter().position(|s| s.publisher == publisher).map(|i| all.remove(i));
        let petname = match (args.petname, &old) {
            (Some(name), _) => {
                check_petname(&name)?;
                if all.iter().any(|s| s.petname == name) {
                    return Err(Failure::refused(format!("{name:?} already is another publisher"))
                        .hint("choose another name with --as"));
                }
                name
            }
            (None, Some(old)) => old.petname.clone(),
            (None, None) => default_petname(&ticket, &all),
        };
        let policy = args.policy.or(old.as_ref().map(|o| o.policy)).unwrap_or_default();
        let before = old.and_then(|o| o.conflict);
        // A ticket says nothing of root documents that are yet to come: the next one ends what it told of those that are known.
        let known = context.handle.catalogue().get(&publisher).map_or(0, |known| known.root_version);
        let root_version = if known == 0 { ticket.root.0 } else { ticket.root.0.min(known) };
        let told = ticket.conflict.map(|proof| Told { root_version, proof: proof.to_string() });
        // What was told once stays: a ticket that says nothing of it may be older.
        let conflict = told.into_iter().chain(before).max_by_key(|told| told.root_version);
        let subscription = Subscription { publisher, petname, policy, conflict };
        all.push(subscription.clone());
        write(&context.home, &all)?;
        subscription
    };
    if let Some(wish) = args.quota {
        quota::limit(context, publisher, wish).await?;
    }
    talk.note(format!("asking {} for the publisher's feed", where_from(&ticket))).await;
    let mark = mark(context, publisher).await?;
    match context.handle.follow_from(ticket, mark).await {
        Ok(known) => {
            let done = described(context, &subscription, Some(&known)).await?;
            for told in done["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                talk.note(format!("warning: {told}")).await;
            }
            Ok(done)
        }
        // It is followed all the same, and what comes later is taken: the subscription stays.
        Err(error) => Err(Failure::from(error).with(described(context, &subscription, None).await?)),
    }
}

/// A ticket that has an end begins nothing after it: whoever gave it wished so, or no longer stands by its floor.
pub(super) fn refuse_expired(context: &Context, ticket: &Ticket) -> Result<(), Failure> {
    ticket.refuse_expired(context.config.clock.moment().time()).map_err(|e| {
        Failure::refused(e.to_string())
            .hint("`softservice ticket` prints a new one on a device that follows the publisher")
    })
}

/// Two histories that a ticket told of, while no peer has shown the proof and no later root document has come.
pub(super) fn told(home: &Path, publisher: PublisherId, known: &Known) -> Result<Option<Told>, Failure> {
    let told = read(home)?.into_iter().find(|s| s.publisher == publisher).and_then(|s| s.conflict);
    Ok(told.filter(|told| !known.frozen && known.root_version <= told.root_version))
}

/// What the store remembers of a publisher's feed beside the log.
pub(super) async fn mark(context: &Context, publisher: PublisherId) -> Result<Option<Head>, Failure> {
    let store = closure::store(context);
    closure::blocking(move || Ok(store.mark(FeedId::main(publisher))?)).await
}

/// Nothing happens by itself any more on the word of a publisher of whom there are two histories, until its owner says so
/// again. Written down, as the owner may take longer than this node runs.
async fn suspend(context: &Context, publisher: PublisherId, error: &CommandError) -> Result<(), Failure> {
    if !matches!(error, CommandError::Contradicted(_)) {
        return Ok(());
    }
    let _changing = CHANGING.lock().await;
    let mut all = read(&context.home)?;
    let Some(one) = all.iter_mut().find(|s| s.publisher == publisher && s.policy == Policy::Auto) else {
        return Ok(());
    };
    one.policy = Policy::Notify;
    tracing::warn!(%publisher, petname = one.petname, %error, "its policy is notify now, until its owner sets it again");
    write(&context.home, &all)
}

async fn described(context: &Context, one: &Subscription, known: Option<&Known>) -> Result<Value, Failure> {
    let mut rows = [describe(one, known, context.config.clock.moment())];
    quota::describe(context, &mut rows).await?;
    lookalike::describe(context, &mut rows)?;
    let [row] = rows;
    Ok(row)
}

fn where_from(ticket: &Ticket) -> String {
    match ticket.addresses.len() {
        0 => "peers on this network".into(),
        1 => "the ticket's peer".into(),
        n => format!("the ticket's {n} addresses"),
    }
}

/// As `subscriptions` lists it.
fn describe(subscription: &Subscription, known: Option<&Known>, now: Moment) -> Value {
    let mut row = json!({
        "publisher": subscription.publisher.to_string(),
        "petname": subscription.petname,
        "policy": subscription.policy,
        "root_version": known.map_or(0, |k| k.root_version),
        "epoch": known.map_or(0, |k| k.feed.head.at.epoch),
        "sequence": known.map_or(0, |k| k.feed.head.at.seq),
    });
    for (key, value) in freshness::describe(known, now).as_object().into_iter().flatten() {
        row[key] = value.clone();
    }
    row["distros"] = json!(known.map_or(0, |k| {
        k.feed.snapshot.listings.iter().map(|l| &l.distro).collect::<std::collections::BTreeSet<_>>().len()
    }));
    row["words"] = json!(words::of(subscription.publisher));
    row
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsubscribe {
    publisher: String,
}

pub(super) async fn unsubscribe(context: &Context, args: Unsubscribe) -> Result<Value, Failure> {
    let publisher = Names::read(context)?.publisher(&args.publisher)?;
    let _changing = CHANGING.lock().await;
    let mut all = read(&context.home)?;
    let Some(index) = all.iter().position(|s| s.publisher == publisher) else {
        return Err(Failure::not_found(format!("{} is not subscribed to", args.publisher))
            .hint("`softservice subscriptions` lists who is"));
    };
    let old = all.remove(index);
    // Forgotten by the driver first: a crash in between leaves a subscription that can be removed again.
    context.handle.unfollow(publisher).await?;
    write(&context.home, &all)?;
    Ok(json!({ "publisher": publisher.to_string(), "petname": old.petname }))
}

pub(super) async fn list(context: &Context) -> Result<Value, Failure> {
    let catalogue = context.handle.catalogue();
    let all = read(&context.home)?;
    let now = context.config.clock.moment();
    let mut rows: Vec<Value> = all.iter().map(|s| describe(s, catalogue.get(&s.publisher), now)).collect();
    quota::describe(context, &mut rows).await?;
    lookalike::describe(context, &mut rows)?;
    Ok(Value::Array(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_survive_and_damage_is_named() {
        let home = tempfile::tempdir().expect("home");
        assert_eq!(read(home.path()).expect("none yet"), Vec::new());
        let all = vec![Subscription {
            publisher: PublisherId([7; 32]),
            petname: "ada".into(),
            policy: Policy::Auto,
            conflict: None,
        }];
        write(home.path(), &all).expect("written");
        assert_eq!(read(home.path()).expect("read"), all);
        std::fs::write(file(home.path()), "subscription = 3").expect("damage");
        assert_eq!(read(home.path()).expect_err("damaged").kind, Kind::Damaged);
    }

    #[test]
    fn petnames_cannot_deceive() {
        for bad in ["", "Ada", "a b", "-a", "self", "a/b", &"a".repeat(64), "ä"] {
            assert!(check_petname(bad).is_err(), "{bad:?}");
        }
        assert!(check_petname("ada-2").is_ok());
    }
}
