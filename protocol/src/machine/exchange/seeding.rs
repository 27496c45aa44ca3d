//! What the first to have a release shows of it while it spreads: to each who asks other chunks, until every chunk is
//! known to be with somebody else; then everything to all. Its uplink so carries each chunk about once.
//! Invariant: less is shown than is held, never more, and whoever shows no progress gives back what only it was shown,
//! so that nobody can keep a chunk from the others.
//!
//! Showing all and leaving the rest to rarest-first was refused: everybody then asks the first holder for whatever
//! looks rare from where it stands, and measured 1.4 (24 peers) to 4 copies (200 peers) leave before one is whole.

use crate::{
    bitmap::Bitmap,
    id::{Peer, ReleaseId},
    machine::desk::Desk,
    message::Message,
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

/// With fewer who ask, showing all costs at most so many copies, and nobody waits for a turn.
const CROWD: usize = 4;
/// Chunks shown and not yet reported, at first and at least: 16 MiB keep a gigabit link busy between two reports.
const BUDGET: usize = 256;
/// Fewest chunks shown to one at a time.
const GRANT: usize = 8;
/// Whoever reports nothing for so long gives back what it was shown.
const PATIENCE: Span = Span::seconds(5);
/// The rate of reports is looked at over this time.
const LOOK: Span = Span::seconds(1);
/// Releases that spread at once.
const RELEASES: usize = 16;
/// Releases remembered as spread, or brought here by a fetch: of those, others have copies as well.
const REMEMBERED: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seeding {
    spreads: BTreeMap<ReleaseId, Spread>,
    common: BTreeSet<ReleaseId>,
}

/// One release on its way to the first others.
#[derive(Debug)]
struct Spread {
    /// Chunks that somebody else says to have.
    out: Bitmap,
    /// Chunks that only one was shown and nobody reported, and to whom: at most the budget.
    given: BTreeMap<usize, Peer>,
    pupils: BTreeMap<Peer, Pupil>,
    /// Where the search for a chunk to show begins.
    next: usize,
    budget: usize,
    reported: usize,
    look_at: Time,
}

/// One who asks.
#[derive(Debug)]
struct Pupil {
    /// What it was shown.
    shown: Bitmap,
    /// How many of these it was shown alone and has not reported.
    open: usize,
    moved: Time,
    /// It gave back what it was shown: it is shown no more until it reports something.
    slow: bool,
}

impl Seeding {
    /// What to tell a peer that asks about a release of which everything is here; none = that everything is here.
    pub(super) fn show(&mut self, desk: &mut Desk, peer: Peer, release: ReleaseId, len: usize) -> Option<Bitmap> {
        if self.common.contains(&release) || len == 0 {
            return None;
        }
        if self.spreads.len() >= RELEASES && !self.spreads.contains_key(&release) {
            return None;
        }
        let spread = self.spreads.entry(release).or_insert_with(|| Spread::new(desk.now, len));
        if spread.out.len() != len {
            return None;
        }
        if let Entry::Vacant(place) = spread.pupils.entry(peer) {
            place.insert(Pupil { shown: Bitmap::empty(len), open: 0, moved: desk.now, slow: false });
            // So that it tells what comes to it.
            desk.send(peer, &Message::Have { release });
            if spread.pupils.len() == CROWD {
                // Those who came before were shown all; what they already ask for comes all the same.
                spread.deal(desk, release, None);
            }
        }
        if spread.pupils.len() < CROWD {
            return None;
        }
        spread.deal(desk, release, Some(peer));
        spread.pupils.get(&peer).map(|p| p.shown.clone())
    }

    /// A peer tells what it has.
    pub(super) fn heard(&mut self, desk: &mut Desk, peer: Peer, release: ReleaseId, chunks: Option<&Bitmap>) {
        let Some(spread) = self.spreads.get_mut(&release) else { return };
        let Some(chunks) = chunks.filter(|c| c.len() == spread.out.len() && c.is_valid()) else { return };
        spread.heard(desk.now, peer, chunks);
        if spread.out.is_full() {
            self.finish(desk, release);
        } else if spread.pupils.len() >= CROWD {
            spread.deal(desk, release, None);
        }
    }

    fn finish(&mut self, desk: &mut Desk, release: ReleaseId) {
        let Some(spread) = self.spreads.remove(&release) else { return };
        self.brought(release);
        let all = Bitmap::full(spread.out.len());
        for peer in spread.pupils.into_keys() {
            desk.send(peer, &Message::Has { release, chunks: Some(all.clone()) });
        }
    }

    /// Others have copies of this release.
    pub(super) fn brought(&mut self, release: ReleaseId) {
        if self.common.len() >= REMEMBERED {
            self.common.pop_first();
        }
        self.common.insert(release);
    }

    pub(super) fn disconnected(&mut self, desk: &mut Desk, peer: Peer) {
        let mut alone = Vec::new();
        for (&release, spread) in &mut self.spreads {
            if spread.pupils.contains_key(&peer) {
                spread.take_back(peer);
                spread.pupils.remove(&peer);
                if spread.pupils.len() + 1 == CROWD {
                    alone.push(release);
                } else if spread.pupils.len() >= CROWD {
                    spread.deal(desk, release, None);
                }
            }
        }
        for release in alone {
            self.show_all(desk, release);
        }
        self.spreads.retain(|_, spread| !spread.pupils.is_empty());
    }

    /// Too few are left for taking turns.
    fn show_all(&mut self, desk: &mut Desk, release: ReleaseId) {
        let Some(spread) = self.spreads.get_mut(&release) else { return };
        spread.given.clear();
        for (&peer, pupil) in &mut spread.pupils {
            (pupil.open, pupil.shown) = (0, Bitmap::empty(spread.out.len()));
            desk.send(peer, &Message::Has { release, chunks: Some(Bitmap::full(spread.out.len())) });
        }
    }

    /// Whether [`Seeding::tick`] has anything to look after.
    pub(super) fn is_busy(&self) -> bool {
        self.spreads.values().any(|s| s.pupils.len() >= CROWD)
    }

    pub(super) fn tick(&mut self, desk: &mut Desk) {
        for (&release, spread) in self.spreads.iter_mut().filter(|(_, s)| s.pupils.len() >= CROWD) {
            let now = desk.now;
            let idle = |p: &Pupil| p.open > 0 && now.since(p.moved) >= PATIENCE;
            let slow: Vec<Peer> = spread.pupils.iter().filter(|(_, p)| idle(p)).map(|(p, _)| *p).collect();
            for &peer in &slow {
                spread.take_back(peer);
            }
            if !slow.is_empty() {
                spread.deal(desk, release, None);
            }
        }
    }
}

impl Spread {
    fn new(now: Time, len: usize) -> Self {
        Self {
            out: Bitmap::empty(len),
            given: BTreeMap::new(),
            pupils: BTreeMap::new(),
            next: 0,
            budget: BUDGET,
            reported: 0,
            look_at: now,
        }
    }

    fn heard(&mut self, now: Time, peer: Peer, chunks: &Bitmap) {
        if let Some(pupil) = self.pupils.get_mut(&peer) {
            pupil.slow = false;
        }
        for i in chunks.ones().filter(|&i| !self.out.get(i)).collect::<Vec<_>>() {
            self.out.set(i, true);
            self.reported += 1;
            let shown_to = self.given.remove(&i);
            if let Some(pupil) = shown_to.and_then(|p| self.pupils.get_mut(&p)) {
                (pupil.open, pupil.moved) = (pupil.open.saturating_sub(1), now);
            }
        }
        let look = now.since(self.look_at);
        if look >= LOOK {
            // Twice what a second brings, so that the budget never is what slows the spread.
            let rate = self.reported.saturating_mul(1000) / usize::try_from(look.0).unwrap_or(usize::MAX).max(1);
            self.budget = rate.saturating_mul(2).max(BUDGET);
            (self.reported, self.look_at) = (0, now);
        }
    }

    /// Shows more to those who have reported what they were shown, within the budget. Tells each but `asker`, who is
    /// about to be answered.
    fn deal(&mut self, desk: &mut Desk, release: ReleaseId, asker: Option<Peer>) {
        let mut open: usize = self.pupils.values().map(|p| p.open).sum();
        let grant = (self.budget / self.pupils.len().max(1)).max(GRANT);
        let mut ready: Vec<Peer> =
            self.pupils.iter().filter(|(_, p)| !p.slow && p.open <= grant / 2).map(|(p, _)| *p).collect();
        desk.shuffle(&mut ready);
        for peer in ready {
            if open >= self.budget {
                return;
            }
            let chunks = self.ungiven(grant);
            if chunks.is_empty() {
                return;
            }
            let Some(pupil) = self.pupils.get_mut(&peer) else { continue };
            if pupil.open == 0 {
                pupil.moved = desk.now;
            }
            open += chunks.len();
            pupil.open += chunks.len();
            for &i in &chunks {
                pupil.shown.set(i, true);
                self.given.insert(i, peer);
            }
            if asker != Some(peer) {
                desk.send(peer, &Message::Has { release, chunks: Some(pupil.shown.clone()) });
            }
        }
    }

    /// The next chunks that nobody has or was shown: neighbours, so that one request can carry them.
    fn ungiven(&mut self, count: usize) -> Vec<usize> {
        let len = self.out.len();
        let mut found = Vec::new();
        for step in 0..len {
            let i = (self.next + step) % len;
            if !self.out.get(i) && !self.given.contains_key(&i) {
                found.push(i);
                if found.len() == count {
                    break;
                }
            }
        }
        if let Some(last) = found.last() {
            self.next = (last + 1) % len;
        }
        found
    }

    /// What this peer alone was shown may be shown to others.
    fn take_back(&mut self, peer: Peer) {
        self.given.retain(|_, shown_to| *shown_to != peer);
        if let Some(pupil) = self.pupils.get_mut(&peer) {
            (pupil.open, pupil.slow) = (0, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec, io::Output};

    const RELEASE: ReleaseId = ReleaseId([9; 32]);
    const LEN: usize = 1000;

    fn peer(n: u8) -> Peer {
        Peer([n; 32])
    }
    fn desk() -> Desk {
        Desk::new(peer(0), 1)
    }
    fn bits(range: std::ops::Range<usize>) -> Bitmap {
        let mut map = Bitmap::empty(LEN);
        range.for_each(|i| map.set(i, true));
        map
    }
    /// What each was told last.
    fn told(desk: &mut Desk) -> BTreeMap<Peer, Bitmap> {
        let mut last = BTreeMap::new();
        for output in desk.take() {
            let Output::Send { peer, bytes } = output else { continue };
            if let Ok(Message::Has { chunks: Some(chunks), .. }) = codec::decode(&bytes) {
                last.insert(peer, chunks);
            }
        }
        last
    }
    fn crowd(seeding: &mut Seeding, desk: &mut Desk) -> BTreeMap<Peer, Bitmap> {
        let mut shown = BTreeMap::new();
        for n in 1..=6 {
            let answer = seeding.show(desk, peer(n), RELEASE, LEN).unwrap_or_else(|| Bitmap::full(LEN));
            shown.insert(peer(n), answer);
        }
        shown.extend(told(desk));
        shown
    }

    #[test]
    fn few_are_shown_all() {
        let (mut seeding, mut desk) = (Seeding::default(), desk());
        assert!((1..4).all(|n| seeding.show(&mut desk, peer(n), RELEASE, LEN).is_none()));
        assert!(!seeding.is_busy());
    }

    #[test]
    fn each_of_a_crowd_is_shown_other_chunks_until_all_are_out() {
        let (mut seeding, mut desk) = (Seeding::default(), desk());
        let mut shown = crowd(&mut seeding, &mut desk);
        let mut rounds = 0;
        while !shown.values().all(Bitmap::is_full) {
            let mut owners = BTreeMap::new();
            for (peer, chunks) in &shown {
                for i in chunks.ones() {
                    assert_eq!(owners.insert(i, *peer), None, "chunk {i} was shown to two before it was out");
                }
            }
            for (peer, chunks) in shown.clone() {
                seeding.heard(&mut desk, peer, RELEASE, Some(&chunks));
            }
            shown.extend(told(&mut desk));
            rounds += 1;
            assert!(rounds < 50, "it does not spread");
        }
        assert_eq!(seeding.show(&mut desk, peer(7), RELEASE, LEN), None, "everything, from now on");
    }

    #[test]
    fn who_reports_nothing_gives_back_what_it_was_shown() {
        let (mut seeding, mut desk) = (Seeding::default(), desk());
        let mut shown = crowd(&mut seeding, &mut desk);
        for _ in 0..100 {
            desk.now = desk.now + Span::seconds(1);
            // Peer 1 takes and never tells.
            for (peer, chunks) in shown.clone().into_iter().filter(|(p, _)| *p != peer(1)) {
                seeding.heard(&mut desk, peer, RELEASE, Some(&chunks));
            }
            seeding.tick(&mut desk);
            shown.extend(told(&mut desk));
            if shown.values().all(Bitmap::is_full) {
                return;
            }
        }
        panic!("a silent peer keeps chunks from the others");
    }

    #[test]
    fn when_the_crowd_leaves_the_rest_is_shown_all() {
        let (mut seeding, mut desk) = (Seeding::default(), desk());
        crowd(&mut seeding, &mut desk);
        for n in 1..=3 {
            seeding.disconnected(&mut desk, peer(n));
        }
        let last = told(&mut desk);
        assert!((4..=6).all(|n| last.get(&peer(n)).is_some_and(Bitmap::is_full)), "{last:?}");
    }

    #[test]
    fn reports_about_another_list_count_for_nothing() {
        let (mut seeding, mut desk) = (Seeding::default(), desk());
        crowd(&mut seeding, &mut desk);
        seeding.heard(&mut desk, peer(1), RELEASE, Some(&Bitmap::full(LEN + 1)));
        seeding.heard(&mut desk, peer(1), RELEASE, None);
        assert!(seeding.is_busy());
        // A liar who claims everything only ends the economy.
        seeding.heard(&mut desk, peer(1), RELEASE, Some(&bits(0..LEN)));
        assert!(!seeding.is_busy() && told(&mut desk).values().all(Bitmap::is_full));
    }
}
