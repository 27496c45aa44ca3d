//! Publishers: what is followed or own, verified up to a head, and kept before it counts.
//! Invariant: what [`Feeds::view`] shows is durable, anchored in the ticket's root and never behind its floor; a feed
//! whose publisher spoke twice takes nothing newer of that epoch from anybody. Heads never go back.

mod condense;
mod feed;
mod memory;
mod page;
mod promised;
mod purse;
mod statement;
mod stays;
mod take;
mod trail;
mod verify;

use super::{
    PublisherView,
    desk::{Desk, Note},
};
use crate::{
    codec,
    feed::{Equivocation, FeedState, Head, Moment},
    id::{Digest, PublisherId, ReleaseId},
    io::{Event, Output, Record, Source, Token},
    release::ReleaseRef,
    sign::Envelope,
    ticket::{Contradiction, Ticket},
    time::Time,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

pub use condense::{Condensed, condense};
pub(crate) use feed::Feed;
pub(crate) use page::Page;
pub(crate) use take::{Beginning, Judged, Taken, one_back};

/// Publishers that are followed or own: all their heads fit one message.
const PUBLISHERS: usize = crate::limits::HEADS;
/// Addresses remembered of one publisher's tickets.
const ADDRESSES: usize = 16;
/// Newest releases whose manifests are fetched ahead, so that this device knows what it holds of them.
const NEWEST: usize = 16;
/// Relatives of a release that are worth a look for what resembles it.
const KIN: usize = 16;

static NOTHING: LazyLock<Arc<FeedState>> = LazyLock::new(Arc::default);

/// What a token of ours waits for.
#[derive(Debug, Clone, Copy)]
enum Waiting {
    /// A part of a batch.
    Batch(PublisherId),
    /// A follow.
    Follow(PublisherId),
    /// A proof.
    Proof(PublisherId),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    feeds: BTreeMap<PublisherId, Feed>,
    waiting: BTreeMap<Token, Waiting>,
}

impl Feeds {
    pub(crate) fn get(&self, publisher: PublisherId) -> Option<&Feed> {
        self.feeds.get(&publisher).filter(|f| f.is_known())
    }
    /// Whether it is followed or own.
    pub(crate) fn knows(&self, publisher: PublisherId) -> bool {
        self.get(publisher).is_some()
    }
    /// Followed and own publishers.
    pub(crate) fn known(&self) -> impl Iterator<Item = (PublisherId, &Feed)> {
        self.feeds.iter().filter(|(_, f)| f.is_known()).map(|(p, f)| (*p, f))
    }
    pub(crate) fn views(&self, now: Moment) -> impl Iterator<Item = PublisherView<'_>> {
        self.known().map(move |(publisher, feed)| view(publisher, feed, now))
    }
    pub(crate) fn view(&self, publisher: PublisherId, now: Moment) -> Option<PublisherView<'_>> {
        self.get(publisher).map(|feed| view(publisher, feed, now))
    }
    /// The newest release of each distro of a followed publisher, at most [`NEWEST`].
    pub(crate) fn newest(&self, publisher: PublisherId) -> Vec<ReleaseRef> {
        let Some(feed) = self.get(publisher).filter(|f| f.followed && !f.own && f.is_visible()) else {
            return Vec::new();
        };
        let mut seen = std::collections::BTreeSet::new();
        let listings = feed.shown.snapshot.listings.iter().rev();
        let newest = listings.filter(|l| l.revoked.is_none() && seen.insert(&l.distro));
        newest.take(NEWEST).map(|l| ReleaseRef { id: l.release, size: l.size }).collect()
    }

    /// Other releases of the distros that this release is one of, and what those improve on: newest first, at most
    /// [`KIN`]. What is here of them resembles it.
    pub(crate) fn kin(&self, release: ReleaseId) -> Vec<ReleaseId> {
        let mut kin = Vec::new();
        for (_, feed) in self.known() {
            let listings = &feed.state.snapshot.listings;
            let Some(listing) = listings.iter().find(|l| l.release == release) else { continue };
            let same = listings.iter().rev().filter(|l| l.distro == listing.distro).map(|l| l.release);
            for id in listing.parents.iter().copied().chain(same) {
                if id != release && !kin.contains(&id) && kin.len() < KIN {
                    kin.push(id);
                }
            }
        }
        kin
    }

    /// Where a ticket names another history than the one that is known of its publisher, followed or not.
    pub(crate) fn contradiction(&self, ticket: &Ticket) -> Option<Contradiction> {
        self.feeds.get(&ticket.publisher)?.contradiction(ticket)
    }

    pub(crate) fn follow(&mut self, desk: &mut Desk, ticket: &Ticket) {
        let publisher = ticket.publisher;
        if !self.feeds.contains_key(&publisher) && self.feeds.len() >= PUBLISHERS {
            return tracing::warn!(%publisher, "not followed: {PUBLISHERS} publishers are the most");
        }
        if let Some(contradiction) = self.contradiction(ticket) {
            return tracing::error!(%publisher, %contradiction, "a ticket is not taken");
        }
        let feed = self.feeds.entry(publisher).or_default();
        feed.followed = true;
        feed.heed(ticket.root, ticket.floor);
        for address in ticket.addresses.iter().take(ADDRESSES) {
            if !feed.addresses.contains(address) && feed.addresses.len() < ADDRESSES {
                feed.addresses.push(address.clone());
            }
        }
        feed.owes_followed = true;
        let record =
            Record::Followed { publisher, root: ticket.root, floor: ticket.floor, addresses: feed.addresses.clone() };
        let token = desk.keep(record);
        self.waiting.insert(token, Waiting::Follow(publisher));
        desk.out(Output::Topic { publisher, join: true });
        for address in &ticket.addresses {
            desk.note(Note::Learned { address: address.clone(), source: Source::Ticket });
        }
    }

    pub(crate) fn unfollow(&mut self, desk: &mut Desk, publisher: PublisherId) {
        let Some(feed) = self.feeds.get_mut(&publisher).filter(|f| f.followed) else { return };
        feed.followed = false;
        feed.forget_promises();
        // What was verified stays: following again must not accept a head behind it.
        desk.keep(Record::Unfollowed { publisher });
        if !feed.own {
            desk.out(Output::Topic { publisher, join: false });
            desk.note(Note::Unfollowed { publisher });
        }
    }

    pub(crate) fn own(&mut self, desk: &mut Desk, publisher: PublisherId, roots: &[Vec<u8>]) {
        let feed = self.feeds.entry(publisher).or_default();
        feed.on_trial = None;
        let mut batch = feed.batch();
        let mut clash = None;
        let held = roots.iter().try_for_each(|bytes| feed.take_root(desk, &mut batch, publisher, bytes, &mut clash));
        match held {
            Ok(()) if batch.root.is_some() => {
                feed.own = true;
                desk.out(Output::Topic { publisher, join: true });
            }
            Ok(()) => tracing::error!(%publisher, "own root chain is empty"),
            Err(fault) => tracing::error!(%publisher, %fault, "own root chain does not hold"),
        }
        // What the batch held before, and the links that do hold, go on in any case.
        self.put(desk, publisher, batch);
        if let Some((one, other)) = clash {
            self.freeze(desk, publisher, one, other);
        }
        desk.note(Note::Tend { publisher });
    }

    pub(crate) fn restore(&mut self, desk: &mut Desk, record: Record) {
        let Some(publisher) = record.publisher() else { return };
        let feed = self.feeds.entry(publisher).or_default();
        match &record {
            Record::Followed { addresses, .. } => {
                desk.out(Output::Topic { publisher, join: true });
                for address in addresses {
                    desk.note(Note::Learned { address: address.clone(), source: Source::Ticket });
                }
            }
            Record::Unfollowed { .. } if feed.followed && !feed.own => {
                desk.out(Output::Topic { publisher, join: false });
            }
            _ => {}
        }
        if let Err(fault) = feed.restore(publisher, record) {
            tracing::warn!(%publisher, ?fault, "a kept record no longer holds and is left out");
        }
    }

    /// Adopts what a batch gathered once its records are durable; nothing to keep means nothing to wait for.
    pub(crate) fn put(&mut self, desk: &mut Desk, publisher: PublisherId, batch: feed::Batch) {
        let Some(feed) = self.feeds.get_mut(&publisher) else { return };
        for &token in &batch.waiting {
            self.waiting.insert(token, Waiting::Batch(publisher));
        }
        feed.batch = Some(batch);
        self.settle(desk, publisher);
    }

    pub(crate) fn durable(&mut self, desk: &mut Desk, token: Token) {
        match self.waiting.remove(&token) {
            Some(Waiting::Batch(publisher)) => {
                if let Some(batch) = self.feeds.get_mut(&publisher).and_then(|f| f.batch.as_mut()) {
                    batch.waiting.remove(&token);
                }
                self.settle(desk, publisher);
            }
            Some(Waiting::Follow(publisher)) => {
                if let Some(feed) = self.feeds.get_mut(&publisher) {
                    feed.follow_kept = true;
                    feed.answer_follow(desk, publisher);
                }
            }
            Some(Waiting::Proof(publisher)) => self.tell_frozen(desk, publisher),
            None => {}
        }
    }

    pub(crate) fn not_kept(&mut self, desk: &mut Desk, token: Token, why: &str) {
        match self.waiting.remove(&token) {
            Some(Waiting::Batch(publisher)) => {
                tracing::error!(%publisher, why, "what a publisher said could not be kept; it is asked for again");
                if let Some(batch) = self.feeds.get_mut(&publisher).and_then(|f| f.batch.as_mut()) {
                    batch.waiting.remove(&token);
                    batch.failed = true;
                }
                self.settle(desk, publisher);
            }
            Some(Waiting::Follow(publisher)) => tracing::error!(%publisher, why, "the follow could not be kept"),
            // Frozen in memory all the same: safety must not wait for the disk.
            Some(Waiting::Proof(publisher)) => self.tell_frozen(desk, publisher),
            None => {}
        }
    }

    /// Makes a batch visible when the last of its records is durable.
    fn settle(&mut self, desk: &mut Desk, publisher: PublisherId) {
        let Some(feed) = self.feeds.get_mut(&publisher) else { return };
        if feed.batch.as_ref().is_none_or(|b| !b.waiting.is_empty()) {
            return;
        }
        let Some(batch) = feed.batch.take() else { return };
        desk.note(Note::Settled { publisher, kept: !batch.failed });
        if batch.failed {
            return feed.give_up(&batch);
        }
        let before = feed.visible_head();
        let rooted = feed.root.as_ref().map(|r| r.root.version);
        let added = feed.adopt(batch);
        if let Some(version) = feed.root.as_ref().map(|r| r.root.version).filter(|v| Some(*v) > rooted) {
            desk.tell(Event::Rooted { publisher, version });
        }
        feed.answer_follow(desk, publisher);
        let head = feed.visible_head();
        if feed.own && feed.reserved.is_some_and(|r| r.at == head.at && r.hash != head.hash) {
            tracing::error!(%publisher, seq = head.at.seq, "another device signs with the keys of this publisher");
        }
        if head != before {
            desk.tell(Event::Head { publisher, head, added });
            desk.note(Note::Moved { publisher });
        }
        if feed.own && feed.root.as_ref().map(|r| r.root.version) != rooted {
            // Statements name the root, so this one finds its way to everybody with the next.
            desk.note(Note::Published { publisher });
            desk.note(Note::Tend { publisher });
        }
        feed.tell_freshness(desk, publisher);
    }

    /// Stops a feed whose publisher signed two things for one place, and proves it to whoever asks.
    pub(crate) fn freeze(&mut self, desk: &mut Desk, publisher: PublisherId, one: Envelope, other: Envelope) {
        let known = |f: &Feed| f.forked || (f.is_frozen() && one.kind != crate::sign::Kind::Root);
        let Some(feed) = self.feeds.get_mut(&publisher).filter(|f| !known(f)) else { return };
        let (one, other) = if one.digest() < other.digest() { (one, other) } else { (other, one) };
        let proof = Equivocation { publisher, one, other };
        let Ok(bytes) = codec::encode(&proof) else { return };
        feed.freeze(proof);
        let token = desk.keep(Record::Proof { proof: bytes });
        self.waiting.insert(token, Waiting::Proof(publisher));
    }

    fn tell_frozen(&mut self, desk: &mut Desk, publisher: PublisherId) {
        desk.tell(Event::Frozen { publisher });
        let Some(proof) = self.feeds.get(&publisher).and_then(|f| f.proof.as_ref()) else { return };
        // Gossiped first of all; larger proofs travel with answers to pulls.
        if let Ok(bytes) = codec::encode(proof)
            && bytes.len() <= crate::limits::GOSSIP_BYTES
        {
            desk.out(Output::Gossip { publisher, bytes });
        }
    }

    /// Verifies an entry of our own as anybody would, and keeps it. Gives the token of its record, and its bytes.
    pub(crate) fn append(
        &mut self,
        desk: &mut Desk,
        publisher: PublisherId,
        envelope: &Envelope,
    ) -> Result<(Token, Vec<u8>), String> {
        let feed = self.feeds.get_mut(&publisher).ok_or("the publisher is not known any more")?;
        // Whoever signed elsewhere may have added what nobody would pass on.
        let bare = feed.newest_root().and_then(|root| verify::pruned(root, envelope)).map(|(envelope, _)| envelope);
        let envelope = bare.as_ref().unwrap_or(envelope);
        let bytes = codec::encode(envelope).map_err(|e| e.to_string())?;
        if feed.is_frozen() {
            return Err("the feed was frozen meanwhile".into());
        }
        let mut batch = feed.batch();
        // Not through `take_entry`: what we signed and nobody saw is no equivocation, only too late.
        let result =
            batch.entry_bytes(feed, envelope, &bytes).map_err(|fault| format!("the entry does not hold: {fault}"));
        let token = result.map(|()| desk.keep(Record::Entry { publisher, envelope: bytes.clone() }));
        batch.waiting.extend(token.as_ref().ok());
        self.put(desk, publisher, batch);
        Ok((token?, bytes))
    }

    pub(crate) fn marked(&mut self, desk: &mut Desk, publisher: PublisherId, head: Head) {
        let feed = self.feeds.entry(publisher).or_default();
        feed.mark = Some(head);
        if feed.is_known() {
            feed.tell_freshness(desk, publisher);
        }
    }
    /// Whether the log lost something that nobody has dealt with.
    pub(crate) fn lossy(&mut self, lossy: bool) {
        self.feeds.values_mut().for_each(|feed| feed.lossy = lossy);
    }

    pub(crate) fn reserve(&mut self, publisher: PublisherId, head: Head) {
        if let Some(feed) = self.feeds.get_mut(&publisher) {
            feed.reserved = Some(head);
        }
    }

    /// An entry left this process to be signed elsewhere.
    pub(crate) fn request(&mut self, publisher: PublisherId, head: Head, payload: Vec<u8>) {
        if let Some(feed) = self.feeds.get_mut(&publisher) {
            feed.requested = Some((head, payload));
        }
    }
    /// Nobody will sign it any more. Not kept: what comes next at that number is reserved with another digest, which
    /// says the same; and if nothing comes, being asked once more is on the safe side.
    pub(crate) fn withdraw(&mut self, publisher: PublisherId) {
        if let Some(feed) = self.feeds.get_mut(&publisher) {
            feed.requested = None;
        }
    }

    pub(crate) fn wake(&self, desk: &Desk) -> Option<Time> {
        let next = self.known().filter_map(|(_, f)| f.told_until).min().filter(|at| *at < Time(u64::MAX));
        next.map(|at| desk.when(at))
    }

    pub(crate) fn tick(&mut self, desk: &mut Desk) {
        for (publisher, feed) in &mut self.feeds {
            // Every one, not only those whose end has come: a clock that was set right may change any of them.
            if feed.is_known() {
                feed.tell_freshness(desk, *publisher);
            }
        }
    }
}

fn view(publisher: PublisherId, feed: &Feed, now: Moment) -> PublisherView<'_> {
    let term = feed.term(now);
    PublisherView {
        publisher,
        own: feed.own,
        root_version: feed.root.as_ref().filter(|_| feed.is_anchored()).map_or(0, |r| r.root.version),
        root_digest: feed.root.as_ref().filter(|_| feed.is_anchored()).map_or(Digest::ZERO, |r| r.digest),
        feed: if feed.is_visible() { &feed.shown } else { &NOTHING },
        signed: !feed.wants_signature(),
        freshness: feed.freshness(now).0,
        term,
        behind: feed.behind(),
        needs: feed.needs,
        frozen: feed.is_frozen(),
        difference: feed.difference(),
        unstated: false,
        promised: feed.promised.map(|p| (p.root.0, p.floor.at)),
        requested: feed.requested.as_ref().filter(|(head, _)| head.at > feed.state.head.at).map(|(_, p)| p.as_slice()),
        addresses: &feed.addresses,
    }
}
