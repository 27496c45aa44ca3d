//! Catalogues that are too long for one message: cut for whoever asks, put together from whom we ask.
//! Invariant: nothing is put together but what a verified entry commits to, piece after piece, in order and from one peer; at
//! most [`AT_ONCE`] at a time, of [`limits::SNAPSHOT_BYTES`] each. What is whole goes on only when its digest is the one that
//! was signed, and then the way of any other catalogue: nobody ever sees a part of one.
//!
//! Digests for each piece, so that several peers send some, were refused: a catalogue has a few megabytes at most, and who sent
//! bad bytes is known where all came from one.

use super::feeds::{Beginning, Feed};
use crate::{
    id::{Digest, Peer, PublisherId},
    limits,
    message::{Bytes, Message},
    time::{Span, Time},
};
use std::collections::BTreeMap;

/// Catalogues that are put together at the same time.
const AT_ONCE: usize = 4;
/// Who sends nothing for so long may be replaced by another peer: a piece a minute is slower than any link.
const PATIENCE: Span = Span::seconds(30);
/// Nor does anybody have more time than this for the whole when others offer it.
const WHOLE: Span = Span::seconds(300);
/// A question without an answer may be repeated after this.
const AGAIN: Span = Span::seconds(10);

#[derive(Debug)]
struct Coming {
    from: Peer,
    beginning: Beginning,
    bytes: Vec<u8>,
    /// What the first piece said of the whole.
    of: Option<u32>,
    since: Time,
    /// When the last piece came.
    moved: Time,
    asked: Time,
}

/// What came of a piece.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Nobody asked for it, or it came twice: networks repeat things.
    Stray,
    /// The next one begins here.
    Next(u32),
    /// All of it, as it was signed: the entry and its catalogue.
    Whole(Vec<u8>, Vec<u8>),
    /// Its bringer has it no more.
    Gone,
    /// Nobody honest sends this.
    Lie(&'static str),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    coming: BTreeMap<PublisherId, Coming>,
    /// What was cut last, and when: it is asked for piece by piece.
    cut: Option<(Time, Digest, Vec<u8>)>,
}

impl Pieces {
    /// Begins to put a catalogue together, or goes on with it: where the piece begins that is to be asked for now.
    pub(crate) fn begin(&mut self, now: Time, from: Peer, publisher: PublisherId, beginning: Beginning) -> Option<u32> {
        if let Some(coming) = self.coming.get_mut(&publisher) {
            if coming.from == from && coming.beginning.snapshot == beginning.snapshot {
                if now.since(coming.asked) < AGAIN {
                    return None;
                }
                // The question or its answer was lost.
                coming.asked = now;
                return u32::try_from(coming.bytes.len()).ok();
            }
            if coming.keeps_its_place(now) {
                return None;
            }
        } else if self.coming.len() >= AT_ONCE {
            self.coming.retain(|_, coming| coming.keeps_its_place(now));
            if self.coming.len() >= AT_ONCE {
                return None;
            }
        }
        let coming = Coming { from, beginning, bytes: Vec::new(), of: None, since: now, moved: now, asked: now };
        self.coming.insert(publisher, coming);
        Some(0)
    }
    /// Whether a catalogue of this publisher is put together from this peer.
    pub(crate) fn is_coming(&self, from: Peer, publisher: PublisherId) -> bool {
        self.coming.get(&publisher).is_some_and(|coming| coming.from == from)
    }
    pub(crate) fn disconnected(&mut self, peer: Peer) {
        self.coming.retain(|_, coming| coming.from != peer);
    }

    /// Takes a piece.
    pub(crate) fn take(
        &mut self,
        now: Time,
        from: Peer,
        publisher: PublisherId,
        snapshot: Digest,
        (at, of): (u32, u32),
        piece: &[u8],
    ) -> Piece {
        let asked =
            |c: &&mut Coming| c.from == from && c.beginning.snapshot == snapshot && c.bytes.len() == at as usize;
        let Some(coming) = self.coming.get_mut(&publisher).filter(asked) else { return Piece::Stray };
        let step = coming.take(now, of as usize, piece);
        if !matches!(step, Piece::Next(_)) {
            self.coming.remove(&publisher);
        }
        step
    }

    /// The piece of a catalogue that begins there; of nothing, where it is not ours to give.
    pub(crate) fn cut(
        &mut self,
        now: Time,
        feed: Option<&Feed>,
        publisher: PublisherId,
        snapshot: Digest,
        from: u32,
    ) -> Message {
        if self.cut.as_ref().is_none_or(|(_, of, _)| *of != snapshot)
            && let Some(bytes) = feed.and_then(|f| f.catalogue(snapshot))
        {
            self.cut = Some((now, snapshot, bytes));
        }
        let mut whole: &[u8] = &[];
        if let Some((used, _, bytes)) = self.cut.as_mut().filter(|(_, of, _)| *of == snapshot) {
            *used = now;
            whole = bytes.as_slice();
        }
        let rest = whole.get(from as usize..).unwrap_or_default();
        let piece = rest.get(..limits::SNAPSHOT_PIECE).unwrap_or(rest);
        let of = u32::try_from(whole.len()).unwrap_or_default();
        Message::Snapshot { publisher, snapshot, from, of, piece: Bytes(piece.to_vec()) }
    }
    /// Forgets what nobody has asked for lately.
    pub(crate) fn rest(&mut self, now: Time) {
        self.cut.take_if(|(used, ..)| now.since(*used) >= PATIENCE);
    }
}

impl Coming {
    fn keeps_its_place(&self, now: Time) -> bool {
        now.since(self.moved) < PATIENCE && now.since(self.since) < WHOLE
    }

    fn take(&mut self, now: Time, of: usize, piece: &[u8]) -> Piece {
        if of == 0 {
            return Piece::Gone;
        }
        let left = of.saturating_sub(self.bytes.len());
        let length = u32::try_from(of).ok();
        // One that is as long as the rest, or as pieces are: so their number is bounded with their bytes.
        if of > limits::SNAPSHOT_BYTES || left == 0 || piece.len() != left.min(limits::SNAPSHOT_PIECE) {
            return Piece::Lie("a piece of a catalogue is longer or shorter than what was asked for");
        }
        if self.of.is_some_and(|said| Some(said) != length) {
            return Piece::Lie("the pieces of a catalogue differ in how long it is");
        }
        self.of = length;
        self.bytes.extend_from_slice(piece);
        (self.moved, self.asked) = (now, now);
        if self.bytes.len() < of {
            return u32::try_from(self.bytes.len()).map_or(Piece::Gone, Piece::Next);
        }
        if Digest::of(&self.bytes) != self.beginning.snapshot {
            return Piece::Lie("the pieces of a catalogue are not what its entry commits to");
        }
        Piece::Whole(std::mem::take(&mut self.beginning.entry), std::mem::take(&mut self.bytes))
    }
}
