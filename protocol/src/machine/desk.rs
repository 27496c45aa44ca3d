//! What every child works with: the time of this input, chance, numbers to hand out, outputs and notes for others.
//! Invariant: outputs leave in the order in which they were put down; no number is handed out twice in one life.

use crate::{
    codec,
    feed::Moment,
    id::{Peer, PublicKey, PublisherId},
    io::{Event, Output, Record, Refusals, Source, Step, Token},
    message::Message,
    sign::Kind,
    time::{Span, Time},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// What one child leaves for another.
#[derive(Debug)]
pub(crate) enum Note {
    /// A peer misbehaved.
    Punish { peer: Peer, points: u32, why: String },
    /// A peer sent bytes that are not what their id says.
    Liar { peer: Peer, why: String },
    /// A peer was sent away: forget what was under way with it.
    Gone { peer: Peer },
    /// A peer was of use.
    Served { peer: Peer },
    /// A peer takes part in the exchange of this publisher's releases.
    Interested { peer: Peer, publisher: PublisherId },
    /// An address was heard of.
    Learned { address: String, source: Source },
    /// All that was verified of a publisher is durable, or some of it could not be kept.
    Settled { publisher: PublisherId, kept: bool },
    /// A publisher's head moved, durably.
    Moved { publisher: PublisherId },
    /// A publisher is followed no more.
    Unfollowed { publisher: PublisherId },
    /// An own feed has a new root, or just began, or is idle again: its head may want a signature.
    Tend { publisher: PublisherId },
    /// We published: restate freshness.
    Published { publisher: PublisherId },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) me: Peer,
    /// What pauses and patience are measured by: they only need to pass, and so it never goes back.
    pub(crate) now: Time,
    /// The clock shows so much less: it was set back. Ages and dates go by it, see [`Desk::moment`].
    behind: Span,
    /// When this program was made.
    built: Time,
    /// What was refused in this life.
    pub(crate) refusals: Refusals,
    rng: ChaCha8Rng,
    last: u64,
    out: Vec<Output>,
    notes: Vec<Note>,
}

impl Desk {
    pub(crate) fn new(me: Peer, seed: u64) -> Self {
        let (rng, built) = (ChaCha8Rng::seed_from_u64(seed), Time(0));
        let refusals = Refusals::default();
        Self { me, now: Time(0), behind: Span(0), built, refusals, rng, last: 0, out: Vec::new(), notes: Vec::new() }
    }
    /// With the day when this program was made.
    pub(crate) fn built(self, built: Time) -> Self {
        Self { built, ..self }
    }
    /// The clock shows so much less than the times at which inputs come.
    pub(crate) fn set_back(&mut self, behind: Span) {
        self.behind = behind;
    }
    /// What is known of the time.
    pub(crate) fn moment(&self) -> Moment {
        Moment { clock: Time(self.now.0.saturating_sub(self.behind.0)), built: self.built }
    }
    /// When inputs will come while the clock shows this.
    pub(crate) fn when(&self, clock: Time) -> Time {
        self.now + clock.since(self.moment().clock)
    }
    pub(crate) fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }
    pub(crate) fn out(&mut self, output: Output) {
        self.out.push(output);
    }
    pub(crate) fn tell(&mut self, event: Event) {
        self.out.push(Output::Tell(event));
    }
    pub(crate) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
    pub(crate) fn punish(&mut self, peer: Peer, points: u32, why: String) {
        self.notes.push(Note::Punish { peer, points, why });
    }
    /// Counts what a step of verification did not let through.
    pub(crate) fn refused(&mut self, step: Step) {
        self.refusals.count(step);
    }
    /// A number never handed out before in this life.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
    pub(crate) fn keep(&mut self, record: Record) -> Token {
        let token = Token(self.number());
        self.out.push(Output::Keep { token, record });
        token
    }
    pub(crate) fn sign(&mut self, kind: Kind, publisher: PublisherId, payload: Vec<u8>, keys: Vec<PublicKey>) -> Token {
        let token = Token(self.number());
        let feed = crate::id::FeedId::main(publisher);
        self.out.push(Output::Sign { token, kind, publisher, feed, payload, keys });
        token
    }
    pub(crate) fn send(&mut self, peer: Peer, message: &Message) {
        match codec::encode(message) {
            Ok(bytes) => self.out.push(Output::Send { peer, bytes }),
            // Every sender bounds what it packs, so this is a mistake of ours: the peer asks again, nothing is lost.
            Err(error) => tracing::error!(%peer, %error, "a message of ours does not fit"),
        }
    }
    /// A number below `n`, all equally likely but for an error below 2^-32; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.rng.next_u64()) * u128::from(n)) >> 64) as u64
    }
    pub(crate) fn chance(&mut self) -> u32 {
        self.rng.next_u32()
    }
    /// Puts a list into random order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            list.swap(i, j);
        }
    }
}
