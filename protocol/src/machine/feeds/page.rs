//! Answers to pulls: what a peer misses of a feed, page by page.
//! Invariant: a page fits a control message; it carries exact bytes as received, roots before all that they sign.
//!
//! A new device gets the newest entry that the release role signed with the snapshot at it, and what came after it; so
//! does one that slept while keys or epochs changed. Where the snapshot does not fit, an empty one stands beside its entry: it is
//! asked for in pieces ([`crate::machine::pieces`]), and what came after it with the next pull.

use super::Feed;
use crate::{
    codec,
    feed::{Entry, Equivocation, FeedState, Head},
    id::{Digest, PublisherId},
    limits,
    message::{Bytes, Message},
    sign::Envelope,
};

/// What one message may carry beside its headers.
const ROOM: usize = limits::MESSAGE_BYTES - (4 << 10);
/// What lengths and tags cost for each item.
const ITEM: usize = 16;

/// The body of [`Message::Feed`].
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) roots: Vec<Bytes>,
    pub(crate) snapshot: Option<Bytes>,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) fresh: Option<Bytes>,
    pub(crate) more: bool,
}

/// Fills `room` with items in order; true when all went in.
fn fill<'a>(items: impl Iterator<Item = &'a [u8]>, most: usize, room: &mut usize, into: &mut Vec<Bytes>) -> bool {
    for bytes in items {
        if bytes.len() + ITEM > *room || into.len() >= most {
            return false;
        }
        *room -= bytes.len() + ITEM;
        into.push(Bytes(bytes.to_vec()));
    }
    true
}

/// The two envelopes of a proof, in the place of entries.
fn pair(proof: &Equivocation) -> Vec<Bytes> {
    [&proof.one, &proof.other].into_iter().filter_map(|e| codec::encode(e).ok().map(Bytes)).collect()
}

impl Page {
    /// The proof that it is, if it is nothing else; whether it proves anything is for [`super::Feeds::judge_proof`].
    pub(crate) fn proof(&self, publisher: PublisherId) -> Option<Equivocation> {
        let Self { roots, snapshot: None, entries, fresh: None, more: false } = self else { return None };
        let ([one, other], true) = (entries.as_slice(), roots.is_empty()) else { return None };
        let (one, other) = (codec::decode(&one.0).ok()?, codec::decode(&other.0).ok()?);
        Some(Equivocation { publisher, one, other })
    }
}

impl Feed {
    /// What a device with root version `root` and head `from` misses.
    pub(crate) fn page(&self, publisher: PublisherId, root: u64, from: Head) -> Message {
        let mut page = Page { roots: Vec::new(), snapshot: None, entries: Vec::new(), fresh: None, more: false };
        let mut room = ROOM;
        let skip = usize::try_from(root).unwrap_or(usize::MAX);
        let whole = fill(self.roots.iter().skip(skip).map(Vec::as_slice), usize::MAX, &mut room, &mut page.roots);
        if !whole {
            page.more = true;
        } else if let (true, Some(proof)) = (self.is_frozen(), &self.proof) {
            // Nothing newer of this epoch is passed on, only why: whole, or when the roots are there.
            page.entries = pair(proof);
            let size: usize = page.entries.iter().map(|b| b.0.len() + ITEM).sum();
            if size > room {
                page.entries = Vec::new();
                page.more = !page.roots.is_empty();
            }
        } else if self.is_visible() {
            self.fill_entries(publisher, from, room, &mut page);
        }
        let Page { roots, snapshot, entries, fresh, more } = page;
        Message::Feed { publisher, roots, snapshot, entries, fresh, more }
    }

    /// Where a newcomer may begin: the state, and the entry that commits to its catalogue.
    fn beginning(&self) -> Option<(&FeedState, &[u8])> {
        let anchor = self.anchor.as_ref()?;
        Some((&anchor.state, &anchor.entry))
    }
    /// The bytes of the catalogue with this digest, where newcomers may begin with it.
    pub(crate) fn catalogue(&self, wanted: Digest) -> Option<Vec<u8>> {
        let (anchor, entry) = self.beginning().filter(|_| self.is_visible() && !self.is_frozen())?;
        // The digest stands in the entry: nothing is encoded for whoever asks for something else.
        let entry: Entry = codec::decode::<Envelope>(entry).ok()?.open().ok()?;
        (entry.state_root == wanted).then(|| codec::encode(&anchor.snapshot).ok())?
    }
    /// The proof alone, for whoever has not asked.
    pub(crate) fn proof_page(&self, publisher: PublisherId) -> Option<Message> {
        let proof = self.proof.as_ref().filter(|_| self.is_frozen())?;
        let (roots, entries) = (Vec::new(), pair(proof));
        Some(Message::Feed { publisher, roots, snapshot: None, entries, fresh: None, more: false })
    }

    fn fill_entries(&self, publisher: PublisherId, from: Head, mut room: usize, page: &mut Page) {
        if let Some((_, bytes)) = self.fresh.as_ref().filter(|(_, bytes)| bytes.len() + ITEM <= room) {
            room -= bytes.len() + ITEM;
            page.fresh = Some(Bytes(bytes.clone()));
        }
        let head = self.state.head;
        if self.rank(from) >= self.rank(head) {
            return;
        }
        let mut next = from.at.seq.saturating_add(1);
        // What was signed before keys or epoch changed says nothing to whoever knows the newest root: but the head does,
        // signed anew, and so does a catalogue with it.
        let stands = self.root.as_ref().is_some_and(|r| r.root.feed.stands(from));
        let is_new = from.at.seq == 0 || !stands || (next <= self.rotated_at && next != head.at.seq);
        if is_new || !self.trail.has_all_since(next) {
            let Some((anchor, entry)) = self.beginning() else {
                return tracing::warn!(
                    %publisher, seq = head.at.seq,
                    "a new device must ask another peer: no key of now signed the head, or the entry to begin with is not in memory"
                );
            };
            let Ok(snapshot) = codec::encode(&anchor.snapshot) else { return };
            let left = room.checked_sub(entry.len() + 2 * ITEM);
            let whole = left.is_some_and(|left| snapshot.len() <= left);
            if !whole && !page.roots.is_empty() {
                // They take its room; whoever has them asks once more.
                page.more = true;
                return;
            }
            page.entries.push(Bytes(entry.to_vec()));
            page.snapshot = Some(Bytes(if whole { snapshot } else { Vec::new() }));
            if !whole {
                return;
            }
            room -= entry.len() + page.snapshot.as_ref().map_or(0, |s| s.0.len()) + 2 * ITEM;
            next = anchor.head.at.seq.saturating_add(1);
        }
        page.more = !fill(self.trail.since(next), limits::FEED_PAGE, &mut room, &mut page.entries);
    }
}
