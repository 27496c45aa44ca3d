//! What we tell others that we have.
//! Invariant: the disk is asked for a peer at most once at a time for a release, and an answer is reused while it is
//! young, so that questions are cheap for us however often they come. An old answer only costs its reader a miss.

use super::seeding::Seeding;
use crate::{
    bitmap::Bitmap,
    id::{Peer, ReleaseId},
    io::Output,
    machine::{desk::Desk, peers},
    message::Message,
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

/// An answer is good for this long.
const YOUNG: Span = Span::seconds(2);
/// A full one for this long: what is complete rarely stops being so.
const YOUNG_FULL: Span = Span::seconds(60);
/// Answers remembered; a bitmap of 10 GiB is 20 KiB.
const REMEMBERED: usize = 64;
/// Releases that one peer may ask about while an answer is under way.
const PENDING: usize = 8;
/// Questions that one peer may ask within a second.
const QUESTIONS: u32 = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: BTreeMap<ReleaseId, (Time, Option<Bitmap>)>,
    pending: BTreeMap<ReleaseId, BTreeSet<Peer>>,
    asked: BTreeMap<Peer, (Time, u32)>,
    /// Who asked about a release since they are connected: told of what comes, without asking again.
    watchers: BTreeMap<ReleaseId, BTreeSet<Peer>>,
    pub(super) seeding: Seeding,
}

impl Answers {
    pub(super) fn asked(&mut self, desk: &mut Desk, peer: Peer, release: ReleaseId) {
        let (since, count) = self.asked.entry(peer).or_insert((desk.now, 0));
        if desk.now.since(*since) >= Span::seconds(1) {
            (*since, *count) = (desk.now, 0);
        }
        *count += 1;
        if *count > QUESTIONS {
            return desk.punish(peer, peers::NOISE, "it asks what we have too often".into());
        }
        if let Some((at, held)) = self.known.get(&release) {
            let lasts = if held.as_ref().is_some_and(Bitmap::is_full) { YOUNG_FULL } else { YOUNG };
            if desk.now.since(*at) < lasts {
                let held = held.clone();
                return self.answer(desk, peer, release, held);
            }
        }
        if self.pending.values().filter(|peers| peers.contains(&peer)).count() >= PENDING {
            return; // it asks again
        }
        let waiting = self.pending.entry(release).or_default();
        let first = waiting.is_empty();
        waiting.insert(peer);
        if first {
            desk.out(Output::Survey { peer, release });
        }
    }

    /// Notes that a peer wants to know what we have of a release. Bounded by the peers connected and by the releases
    /// remembered; who is forgotten asks again.
    pub(super) fn watch(&mut self, peer: Peer, release: ReleaseId) {
        if self.watchers.len() >= REMEMBERED && !self.watchers.contains_key(&release) {
            self.watchers.pop_first();
        }
        self.watchers.entry(release).or_default().insert(peer);
    }
    /// Who wants to know what we have of a release.
    pub(super) fn watchers(&self, release: ReleaseId) -> impl Iterator<Item = Peer> + '_ {
        self.watchers.get(&release).into_iter().flatten().copied()
    }

    pub(super) fn surveyed(&mut self, desk: &mut Desk, release: ReleaseId, held: Option<Bitmap>) {
        for peer in self.pending.remove(&release).unwrap_or_default() {
            self.answer(desk, peer, release, held.clone());
        }
        self.learn(desk.now, release, held);
    }

    fn answer(&mut self, desk: &mut Desk, peer: Peer, release: ReleaseId, held: Option<Bitmap>) {
        let full = held.as_ref().filter(|h| h.is_full()).map(Bitmap::len);
        let shown = full.and_then(|len| self.seeding.show(desk, peer, release, len));
        desk.send(peer, &Message::Has { release, chunks: shown.or(held) });
    }

    pub(super) fn learn(&mut self, now: Time, release: ReleaseId, held: Option<Bitmap>) {
        if self.known.len() >= REMEMBERED && held.is_none() {
            return; // questions about releases that nobody has must not push out real answers
        }
        if self.known.len() >= REMEMBERED
            && let Some(oldest) = self.known.iter().min_by_key(|(_, (at, _))| *at).map(|(r, _)| *r)
        {
            self.known.remove(&oldest);
        }
        self.known.insert(release, (now, held));
    }

    /// What was said of this release is not so any more: the disk is asked next time.
    pub(super) fn unlearn(&mut self, release: ReleaseId) {
        self.known.remove(&release);
    }

    pub(super) fn disconnected(&mut self, desk: &mut Desk, peer: Peer) {
        self.seeding.disconnected(desk, peer);
        self.asked.remove(&peer);
        // A release whose last asker left stays until the disk answers: the question is on its way.
        for peers in self.pending.values_mut() {
            peers.remove(&peer);
        }
        self.watchers.retain(|_, peers| {
            peers.remove(&peer);
            !peers.is_empty()
        });
    }
}
