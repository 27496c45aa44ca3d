//! What must hold, asked from outside the nodes while they run and at the end. Invariant: nothing here trusts a core's
//! own account: signatures are checked again, announcements are held against the disk, completeness against the corpus.

use crate::{actors::Nature, corpus::Corpus, world::World};
use softservice_protocol::{
    codec,
    feed::{Entry, Fresh, Head, Position},
    id::{Digest, Peer, PublisherId},
    io::{FetchFigures, Record, Verdict},
    message::Message,
    root::TrustedRoot,
    sign::{Envelope, Kind},
};
use std::collections::{BTreeMap, BTreeSet};

/// So many violations are told in words; the rest is counted.
const TOLD: usize = 20;

/// What is watched.
#[derive(Debug)]
pub struct Checks {
    trusted: BTreeMap<PublisherId, TrustedRoot>,
    roots: BTreeSet<Vec<u8>>,
    signed: BTreeSet<Digest>,
    positions: BTreeMap<Position, Digest>,
    known: BTreeMap<[u8; 32], bool>,
    /// Victim and culprit of an offence that calls for a ban which has not come.
    offences: BTreeSet<(usize, usize)>,
    /// What did not hold, in words.
    pub violations: Vec<String>,
    /// How often something did not hold.
    pub count: u64,
}

impl Checks {
    /// Nothing has happened yet.
    pub fn new(corpus: &Corpus) -> Self {
        Self {
            trusted: corpus.authors.iter().map(|a| (a.publisher, a.trusted.clone())).collect(),
            roots: corpus.authors.iter().flat_map(|a| a.roots.clone()).collect(),
            signed: BTreeSet::new(),
            positions: BTreeMap::new(),
            known: BTreeMap::new(),
            offences: BTreeSet::new(),
            violations: Vec::new(),
            count: 0,
        }
    }
    /// An honest publisher signed this.
    pub fn signed(&mut self, kind: Kind, payload: &[u8]) {
        let digest = Digest::of(payload);
        self.signed.insert(digest);
        if kind != Kind::Entry {
            return;
        }
        let Ok(entry) = codec::decode::<Entry>(payload) else {
            return;
        };
        let first = *self.positions.entry(entry.at).or_insert(digest);
        if first != digest {
            self.say(format!("the publisher signed two different entries {}", entry.at.seq));
        }
    }
    /// Somebody did to a victim what calls for a ban.
    pub fn offended(&mut self, victim: usize, culprit: usize) {
        self.offences.insert((victim, culprit));
    }
    /// A node's life ended: it can ban nobody any more.
    pub fn forget(&mut self, node: usize) {
        self.offences.retain(|(victim, _)| *victim != node);
    }
    fn say(&mut self, what: String) {
        self.count += 1;
        if self.violations.len() < TOLD {
            self.violations.push(what);
        }
    }
    /// Whether an envelope is what an honest publisher made, judged by signatures and not by any core.
    fn is_genuine(&mut self, bytes: &[u8]) -> bool {
        let hash = *blake3::hash(bytes).as_bytes();
        if let Some(known) = self.known.get(&hash) {
            return *known;
        }
        let genuine = self.verify(bytes);
        self.known.insert(hash, genuine);
        genuine
    }
    fn verify(&self, bytes: &[u8]) -> bool {
        let Ok(envelope) = codec::decode::<Envelope>(bytes) else {
            return false;
        };
        if envelope.kind == Kind::Root {
            return self.roots.contains(bytes);
        }
        let Some(root) = self.trusted.get(&envelope.publisher) else {
            return false;
        };
        let role = root.role(envelope.kind);
        let threshold = role.threshold.into();
        self.signed.contains(&envelope.digest())
            && envelope.verify(envelope.kind, envelope.publisher, "any", &role.keys, threshold).is_ok()
    }
}

impl World {
    /// Something did not hold.
    pub fn violation(&mut self, node: usize, what: String) {
        let line = format!("at {:.3} s, node {node}: {what}", self.now as f64 / 1e6);
        self.trace.tell(self.now, node, || format!("VIOLATION: {what}"));
        self.checks.say(line);
    }

    /// Nothing unverified is kept.
    pub fn check_record(&mut self, node: usize, record: &Record) {
        let (Record::Root { envelope, .. }
        | Record::Entry { envelope, .. }
        | Record::Fresh { envelope, .. }
        | Record::Onboarded { envelope, .. }) = record
        else {
            return;
        };
        if !self.checks.is_genuine(envelope) {
            self.violation(node, "its core keeps a document that no honest publisher signed".into());
        }
    }

    /// A number is reserved on the disk before anything is signed for it.
    pub fn check_reserved(&mut self, node: usize, publisher: PublisherId, payload: &[u8]) {
        let Ok(entry) = codec::decode::<Entry>(payload) else {
            self.violation(node, "its core wants something signed that is no entry".into());
            return;
        };
        let wanted = Head { at: entry.at, hash: Digest::of(payload) };
        let reserved = self.nodes[node].disk.records().iter().any(
            |record| matches!(record, Record::Reserved { publisher: p, head } if *p == publisher && *head == wanted),
        );
        if !reserved {
            self.violation(node, format!("entry {} was signed before its number was reserved durably", entry.at.seq));
        }
    }

    /// Nothing is announced before it is durable, and nothing is claimed that is not held.
    pub fn check_message(&mut self, node: usize, bytes: &[u8]) {
        let message = match codec::decode::<Message>(bytes) {
            Ok(message) => message,
            Err(why) => {
                self.violation(node, format!("its core sent a message that does not decode: {why}"));
                return;
            }
        };
        match message {
            Message::Heads(heads) => {
                for (publisher, head) in heads {
                    if head.at.seq > 0 && !self.nodes[node].past_heads.contains(&(publisher, head)) {
                        self.violation(node, format!("announced entry {} before it was durable", head.at.seq));
                    }
                }
            }
            Message::Feed { entries, fresh, roots, .. } => {
                for envelope in entries.iter().chain(&fresh).chain(&roots) {
                    if let Some(what) = self.undurable(node, &envelope.0) {
                        self.violation(node, format!("answered a pull with {what}"));
                    }
                }
            }
            Message::Has { release, chunks: Some(chunks) } => {
                let Some(closure) = self.corpus.closure(release) else {
                    return;
                };
                let disk = &self.nodes[node].disk;
                let numbers = &closure.numbers[2];
                let false_claim = chunks.ones().any(|i| numbers.get(i).is_none_or(|n| !disk.holds(*n)));
                if false_claim || chunks.len() != numbers.len() {
                    self.violation(node, format!("claims chunks of {release} that it does not hold"));
                }
            }
            _ => {}
        }
    }

    /// Own gossip speaks of what is durable.
    pub fn check_gossip(&mut self, node: usize, bytes: &[u8]) {
        if let Some(what) = self.undurable(node, bytes) {
            self.violation(node, format!("its gossip is {what}"));
        }
    }

    /// What is wrong with telling others of an envelope, if anything. Roots and entries must be durable here. Of a
    /// statement, only the head that it vouches for must: losing a statement loses nothing, it is made again.
    fn undurable(&self, node: usize, bytes: &[u8]) -> Option<&'static str> {
        let Ok(envelope) = codec::decode::<Envelope>(bytes) else {
            return Some("no envelope");
        };
        let it = &self.nodes[node];
        if envelope.kind != Kind::Fresh {
            return (!it.durable.contains(&envelope.digest())).then_some("an envelope that is not durable here");
        }
        let Ok(fresh) = envelope.open::<Fresh>() else {
            return Some("no statement");
        };
        let durable = fresh.head.at.seq == 0 || it.past_heads.contains(&(envelope.publisher, fresh.head));
        (!durable).then_some("a statement about a head that is not durable here")
    }

    /// Validity decides what is passed on.
    pub fn check_verdict(&mut self, node: usize, from: usize, number: u32, verdict: Verdict) {
        let Some(rumour) = self.grapevine.get(number) else {
            return;
        };
        let (bytes, honest) = (rumour.bytes.clone(), rumour.genuine);
        match verdict {
            Verdict::Accept if !self.checks.is_genuine(&bytes) => {
                self.violation(node, format!("passed on forged gossip from node {from}"));
            }
            Verdict::Reject if honest => {
                self.violation(node, format!("blamed node {from} for genuine gossip"));
            }
            Verdict::Reject => self.tally.rejected += 1,
            _ => {}
        }
    }

    /// Only culprits are banned.
    pub fn check_ban(&mut self, node: usize, other: usize, why: &str) {
        self.tally.bans += 1;
        self.checks.offences.remove(&(node, other));
        if self.nodes[other].nature.is_honest() && self.nodes[node].nature.is_honest() {
            self.violation(node, format!("banned honest node {other}: {why}"));
        }
    }

    /// Only liars are called so.
    pub fn check_liar(&mut self, node: usize, peer: Peer, why: &str) {
        let Some(&other) = self.by_peer.get(&peer) else {
            return;
        };
        if self.nodes[other].nature.is_honest() {
            self.violation(node, format!("called honest node {other} a liar: {why}"));
        }
    }

    /// What the owner is told of a feed is durable.
    pub fn check_head(&mut self, node: usize, publisher: PublisherId, head: Head) {
        if !self.nodes[node].past_heads.contains(&(publisher, head)) {
            self.violation(node, format!("told its owner of entry {} before it was durable", head.at.seq));
        }
    }

    /// Fetched means complete and durable, and the figures add up.
    pub fn check_fetched(&mut self, node: usize, edition: usize, figures: &FetchFigures) {
        let Some(closure) = self.corpus.closure(self.corpus.editions[edition].release.id) else {
            return;
        };
        let disk = &self.nodes[node].disk;
        let missing = closure.all().filter(|n| !disk.keeps(*n)).count();
        let bytes = closure.bytes();
        let content: u64 = closure.content.iter().map(|c| u64::from(c.len)).sum();
        if missing > 0 {
            self.violation(node, format!("told that a fetch is complete while {missing} chunks are not durable"));
        }
        // A fetch taken up again counts no document or manifest that an earlier one completed.
        if figures.bytes > bytes || figures.bytes < content {
            self.violation(node, format!("says that the closure has {} bytes, but it has {bytes}", figures.bytes));
        }
    }

    /// Whether everybody who can has finished.
    pub fn is_over(&self) -> bool {
        !self.network.is_split() && self.stayers().all(|node| self.has_finished(node))
    }

    /// Honest nodes that are there and whose disks have room.
    pub fn stayers(&self) -> impl Iterator<Item = usize> + '_ {
        (1..self.nodes.len()).filter(|n| {
            let node = &self.nodes[*n];
            node.nature == Nature::Follower && !node.gone && !node.doomed
        })
    }

    fn has_finished(&self, node: usize) -> bool {
        let owner = &self.nodes[node].owner;
        let last = self.corpus.editions.len() - 1;
        let whole = owner.whole_at.get(last).is_some_and(Option::is_some);
        whole && owner.provisioned.contains(&last) && owner.provisioning.is_none()
    }

    /// What can only be asked at the end.
    pub fn final_checks(&mut self, finished: bool) {
        if !finished {
            let late: Vec<usize> = self.stayers().filter(|n| !self.has_finished(*n)).collect();
            let some = late.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let told = late.first().map(|n| self.where_it_stands(*n)).unwrap_or_default();
            let count = late.len();
            self.checks.say(format!("{count} nodes had not finished at the limit (nodes {some}); the first {told}"));
        }
        let publisher = self.publisher();
        let newest = self.nodes[0].heads.get(&publisher).copied();
        let apart: Vec<usize> =
            self.stayers().filter(|n| self.nodes[*n].heads.get(&publisher).copied() != newest).collect();
        if let (Some(first), Some(newest)) = (apart.first(), newest) {
            let count = apart.len();
            self.checks.say(format!("{count} nodes are not at entry {}, the first is node {first}", newest.at.seq));
        }
        for (victim, culprit) in self.checks.offences.clone() {
            let nature = self.nodes[culprit].nature;
            if self.nodes[victim].nature.is_honest() {
                self.checks.say(format!("node {victim} never banned node {culprit}, a {nature:?} that it caught"));
            }
        }
        for node in 1..self.nodes.len() {
            let device = &self.nodes[node].device;
            // In the middle of a life it is a mix, and must be; but no step of it may have hurt.
            let wrong = if device.journal.is_none() { device.mixed() } else { device.broken() };
            if let Some(mixed) = wrong {
                self.checks.say(format!("the device of node {node} is neither old nor new: {mixed}"));
            }
        }
    }

    fn where_it_stands(&self, node: usize) -> String {
        let it = &self.nodes[node];
        let edition = it.owner.wanted.unwrap_or(0);
        let held = self
            .corpus
            .closure(self.corpus.editions[edition].release.id)
            .map_or((0, 0), |c| (c.all().filter(|n| it.disk.holds(*n)).count(), c.all().count()));
        format!(
            "is {}, has {} connections and {} open spans, wants edition {:?}, holds {} of {} chunks, tried {} times \
             again, provisioning {:?}",
            if it.up { "up" } else { "down" },
            self.network.neighbours(node).len(),
            it.open.len(),
            it.owner.wanted.map(|e| e + 1),
            held.0,
            held.1,
            it.owner.retries,
            it.device.journal.as_ref().map(|s| s.effect),
        )
    }
}
