//! What a request asks for, in plain words and as a document. Invariant: everything that the signatures will change is said, and
//! text that others wrote is one line of visible characters. What changes is told against a root document that came with the
//! request, so that one is named: whoever signs holds its digest against the one that `publisher show` prints.

use super::{
    request::{Demand, Opened, Wanted},
    role::RoleName,
};
use serde_json::{Value, json};
use softservice_protocol::{
    feed::{Action, Entry, RevokeLevel},
    id::PublicKey,
    root::{Delegation, Root},
    text::Foreign,
    time::{Time, calendar},
    words,
};

/// A moment, to the second.
fn date(time: Time) -> String {
    format!("{} UTC", calendar(time.0 / 1000))
}

impl Opened {
    /// What it is, in one line.
    pub fn title(&self) -> String {
        match &self.wanted {
            Wanted::Root(next) => format!("root document {} of publisher {}", next.version, self.publisher()),
            Wanted::Entry(entry) => format!("entry {} of publisher {}", entry.at.seq, self.publisher()),
        }
    }
    /// All that signatures would say, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.title(), format!("  known as    {}", words::of(self.publisher()))];
        lines.push(format!("  digest      {}", self.digest()));
        let relation = if matches!(self.wanted, Wanted::Root(_)) { "follows" } else { "under" };
        lines.push(format!("  {relation:11} root document {} ({})", self.root.root.version, self.root.digest));
        match &self.wanted {
            Wanted::Root(next) => lines.extend(changes(&self.root.root, next).into_iter().map(|c| format!("  {c}"))),
            Wanted::Entry(entry) => lines.extend(said(entry).into_iter().map(|c| format!("  {c}"))),
        }
        if self.is_again() {
            lines.push(format!("  {:11} it is in the feed already; the keys that signed it are gone", "again"));
        }
        for (number, way) in self.ways().iter().enumerate() {
            for demand in way {
                let or = if number == 0 { "needs" } else { "or" };
                lines.push(format!("  {or:11} {}", owed(demand)));
            }
        }
        lines
    }
    /// The same for programs.
    pub fn document(&self) -> Value {
        let (kind, version, seq) = match &self.wanted {
            Wanted::Root(next) => ("root", Some(next.version), None),
            Wanted::Entry(entry) => ("entry", None, Some(entry.at.seq)),
        };
        let demand = |d: &Demand| {
            let keys = |keys: &[PublicKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
            json!({ "role": d.role, "threshold": d.threshold, "signed": keys(&d.have), "keys": keys(&d.keys) })
        };
        let lacking: Vec<Value> = self.lacking().iter().map(demand).collect();
        json!({
            "request": self.digest().to_string(),
            "kind": kind,
            "publisher": self.publisher().to_string(),
            "words": words::of(self.publisher()),
            "root_version": version,
            "sequence": seq,
            "says": match &self.wanted {
                Wanted::Root(next) => changes(&self.root.root, next),
                Wanted::Entry(entry) => said(entry),
            },
            "follows": { "root_version": self.root.root.version, "root": self.root.digest.to_string() },
            "again": self.is_again(),
            "complete": self.is_complete(),
            "lacking": lacking,
        })
    }
}

/// `2 of 3 signatures of the release role: 1 is here`.
fn owed(demand: &Demand) -> String {
    let (threshold, keys, have) = (demand.threshold, demand.keys.len(), demand.have.len());
    let are = if have == 1 { "is" } else { "are" };
    format!("{threshold} of the {keys} keys of the {}: {have} {are} here", demand.role)
}

/// What is still lacking, in one line.
pub fn lacks(demands: &[Demand]) -> String {
    let one = |d: &Demand| {
        let more = d.threshold.saturating_sub(d.have.len());
        format!("{more} of the {}", d.role)
    };
    demands.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// What differs between two root documents, a line each.
pub fn changes(before: &Root, after: &Root) -> Vec<String> {
    let mut lines = Vec::new();
    for role in RoleName::ALL {
        let (old, new) = (role.of(&before.roles), role.of(&after.roles));
        let name = role.name();
        lines.extend(old.keys.iter().filter(|k| !new.keys.contains(k)).map(|k| format!("{name:11} loses key {k}")));
        lines.extend(new.keys.iter().filter(|k| !old.keys.contains(k)).map(|k| format!("{name:11} gets key {k}")));
        if (old.threshold, old.keys.len()) != (new.threshold, new.keys.len()) {
            let of = |r: &softservice_protocol::root::Role| format!("{} of {}", r.threshold, r.keys.len());
            lines.push(format!("{name:11} needs {} signatures, was {}", of(new), of(old)));
        }
    }
    let gone = before.delegations.iter().filter(|d| !after.delegations.contains(d));
    lines.extend(gone.map(|d| format!("{:11} no more: {}", "delegation", delegation(d))));
    let come = after.delegations.iter().filter(|d| !before.delegations.contains(d));
    lines.extend(come.map(|d| format!("{:11} {}", "delegation", delegation(d))));
    if before.feed != after.feed {
        let feed = after.feed;
        lines.push(format!(
            "{:11} {} opens behind entry {} ({}): every entry after it is given up",
            "epoch", feed.epoch, feed.from_seq, feed.from_hash
        ));
    }
    if before.min_protocol != after.min_protocol {
        lines.push(format!("{:11} at least {}, was {}", "protocol", after.min_protocol, before.min_protocol));
    }
    if let Some(promised) = after.next_keys {
        lines.push(format!("{:11} the next root role is promised: {promised}", "commitment"));
    } else if before.next_keys.is_some() {
        lines.push(format!("{:11} kept; none for the next root role", "commitment"));
    }
    lines.push(format!("{:11} {}, made {}", "expires", date(after.expires_at), date(after.issued_at)));
    lines
}

/// A build machine's right in one line.
pub fn delegation(of: &Delegation) -> String {
    format!(
        "key {} may release {} on channels {}*, {} entries until {}",
        of.key,
        of.distros.iter().map(|d| Foreign(d).to_string()).collect::<Vec<_>>().join(", "),
        Foreign(&of.channel_prefix),
        of.max_entries,
        date(of.not_after)
    )
}

/// What an entry does, a line each.
fn said(entry: &Entry) -> Vec<String> {
    let mut lines = vec![format!("{:11} epoch {}, behind {}", "place", entry.at.epoch, entry.prev)];
    match &entry.action {
        Action::Release(listing) => {
            let (distro, version) = (Foreign(&listing.distro), Foreign(&listing.version));
            lines.push(format!("{:11} {distro} {version} revision {}", "releases", listing.revision));
            lines.push(format!("{:11} {}", "channel", Foreign(&listing.channel)));
            lines.push(format!("{:11} {} ({} bytes)", "release", listing.release, listing.size));
            lines.push(format!("{:11} {}", "summary", Foreign(&listing.summary)));
            lines.extend(listing.parents.iter().map(|p| format!("{:11} {p}", "improves on")));
        }
        Action::Revoke { release, revocation } => {
            let level = match revocation.level {
                RevokeLevel::Withdraw => "withdraw",
                RevokeLevel::Unsafe => "unsafe",
            };
            lines.push(format!("{:11} {release}", "revokes"));
            lines.push(format!("{:11} {level}: {}", "because", Foreign(&revocation.reason)));
            lines.extend(revocation.replaced_by.map(|r| format!("{:11} {r}", "replaced by")));
        }
    }
    lines.extend(entry.by.map(|key| format!("{:11} by the delegated key {key}", "appended")));
    lines.push(format!("{:11} {}", "made", date(entry.issued_at)));
    lines
}
