//! Who has what: questions to peers, their answers, and telling them what came here.
//! Invariant: a bitmap is believed only as long as it fits our own list, and only until a request shows otherwise.

use super::{ASK_BUSY, ASK_IDLE, Exchange, TELL, TICK, fetch::Run};
use crate::{
    bitmap::Bitmap,
    id::{Peer, ReleaseId},
    io::Stage,
    machine::{desk::Desk, peers},
    message::Message,
    time::Span,
};

impl Exchange {
    pub(crate) fn asked(&mut self, desk: &mut Desk, peer: Peer, release: ReleaseId) {
        if !self.lanes.contains_key(&peer) {
            return;
        }
        self.answers.watch(peer, release);
        // A fetch under way knows best, and needs no disk.
        for fetch in self.fetches.values_mut().filter(|f| f.release.id == release && !f.superseded) {
            let Some(run) = fetch.run().filter(|r| r.stage == Stage::Content) else { continue };
            run.holders.asks(desk.now, peer);
            return desk.send(peer, &Message::Has { release, chunks: Some(run.wants.here().clone()) });
        }
        self.answers.asked(desk, peer, release);
        if self.answers.seeding.is_busy() && self.due.is_none() {
            self.due = Some(desk.now + TICK);
        }
    }

    pub(crate) fn surveyed(&mut self, desk: &mut Desk, _peer: Peer, release: ReleaseId, held: Option<Bitmap>) {
        self.answers.surveyed(desk, release, held);
    }

    pub(crate) fn has(&mut self, desk: &mut Desk, peer: Peer, release: ReleaseId, chunks: Option<Bitmap>) {
        let mut waited = false;
        self.answers.seeding.heard(desk, peer, release, chunks.as_ref());
        for fetch in self.fetches.values_mut().filter(|f| f.release.id == release) {
            let Some(run) = fetch.run().filter(|r| r.stage == Stage::Content) else { continue };
            waited |= run.holders.is_waiting();
            if !run.holders.told(desk.now, peer, chunks.clone()) {
                return desk.punish(peer, peers::NOISE, "it says what it has of another list than ours".into());
            }
            // Who tells by itself need not be asked.
            if let Some(holder) = run.holders.map.get_mut(&peer) {
                holder.asked_at = desk.now;
            }
        }
        if waited { self.pump(desk) } else { self.pump_with(desk, vec![peer]) }
    }

    /// Asks peers again what they have, while a stage of content goes on.
    pub(super) fn ask_again(&mut self, desk: &mut Desk) {
        for fetch in self.fetches.values_mut().filter(|f| !f.superseded) {
            let release = fetch.release.id;
            let Some(run) = fetch.run() else { continue };
            if run.stage != Stage::Content {
                run.holders.assume_all_again(desk.now);
                continue;
            }
            for (&peer, holder) in run.holders.map.iter_mut().filter(|(_, h)| !h.complete) {
                let pause = if holder.open == 0 { ASK_IDLE } else { ASK_BUSY };
                if desk.now.since(holder.asked_at) >= pause {
                    holder.asked_at = desk.now;
                    desk.send(peer, &Message::Have { release });
                }
            }
        }
    }

    /// Tells those who asked what came since. Asking alone was refused: with a second between two questions, a chunk
    /// needs seconds for each hop, and everybody turns to the one who has all.
    pub(super) fn tell_watchers(&mut self, desk: &mut Desk) {
        for fetch in self.fetches.values_mut() {
            let release = fetch.release.id;
            let Some(run) = fetch.run().filter(|r| r.stage == Stage::Content) else { continue };
            let pause = Span(TELL.0 + run.wants.len() as u64 / 64);
            if run.told_bytes == Some(run.wants.bytes) || desk.now.since(run.told_at) < pause {
                continue;
            }
            (run.told_bytes, run.told_at) = (Some(run.wants.bytes), desk.now);
            for peer in self.answers.watchers(release) {
                if run.holders.map.get(&peer).is_none_or(|h| !h.complete) {
                    desk.send(peer, &Message::Has { release, chunks: Some(run.wants.here().clone()) });
                }
            }
        }
    }
}

/// Makes a peer a holder of a stage, and asks it what it has where that matters.
pub(super) fn introduce(desk: &mut Desk, run: &mut Run, release: ReleaseId, peer: Peer) {
    let content = run.stage == Stage::Content;
    if run.holders.add(peer, desk.now, !content) && content {
        desk.send(peer, &Message::Have { release });
    }
}
