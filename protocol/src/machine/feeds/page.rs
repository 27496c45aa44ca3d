//! Answers to pulls: what a peer misses of a feed, page by page.
//! Invariant: a page fits a control message; it carries exact bytes as received, roots before all that they sign.
//!
//! A new device gets the newest entry that the release role signed with the snapshot at it, and what came after it; so
//! does one that slept while keys or epochs changed. A snapshot that does not fit a message is not cut up: such a device gets the
//! entries from the first one, as far as they are in memory, and otherwise nothing from us. Pages of snapshots were
//! refused for this version: they would need a digest of their own to be verifiable one by one.

use super::Feed;
use crate::{
    codec,
    feed::Head,
    id::PublisherId,
    limits,
    message::{Bytes, Message},
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
            // Nothing newer of this epoch is passed on, only why.
            let pair: Vec<_> = [&proof.one, &proof.other].into_iter().filter_map(|e| codec::encode(e).ok()).collect();
            fill(pair.iter().map(Vec::as_slice), 2, &mut room, &mut page.entries);
        } else if self.is_visible() {
            self.fill_entries(publisher, from, room, &mut page);
        }
        let Page { roots, snapshot, entries, fresh, more } = page;
        Message::Feed { publisher, roots, snapshot, entries, fresh, more }
    }

    fn fill_entries(&self, publisher: PublisherId, from: Head, mut room: usize, page: &mut Page) {
        if let Some((_, bytes)) = &self.fresh {
            room = room.saturating_sub(bytes.len() + ITEM);
            page.fresh = Some(Bytes(bytes.clone()));
        }
        let head = self.state.head;
        if self.rank(from) >= self.rank(head) {
            return;
        }
        let mut next = from.at.seq.saturating_add(1);
        let has_all = self.trail.has_all_since(next);
        // What was signed before keys or epoch changed says nothing to whoever knows the newest root: but the head does,
        // signed anew, and so does a catalogue with it.
        let stands = self.root.as_ref().is_some_and(|r| r.root.feed.stands(from));
        let is_new = from.at.seq == 0 || !stands || (next <= self.rotated_at && next != head.at.seq);
        if is_new || !has_all {
            let begin = self.anchor.as_ref().and_then(|a| Some((a, self.trail.get(a.head.at.seq)?)));
            if let Some((anchor, entry)) = begin
                && let Ok(snapshot) = codec::encode(&anchor.snapshot)
                && entry.len() + snapshot.len() + 2 * ITEM <= room
            {
                room -= entry.len() + snapshot.len() + 2 * ITEM;
                page.entries.push(Bytes(entry.to_vec()));
                page.snapshot = Some(Bytes(snapshot));
                next = anchor.head.at.seq.saturating_add(1);
            } else if !has_all || begin.is_none() {
                return tracing::warn!(
                    %publisher, seq = head.at.seq,
                    "a new device must ask another peer: the release role did not sign the head, or the catalogue outgrew \
                     one message and its first entries are not in memory"
                );
            }
        }
        page.more = !fill(self.trail.since(next), limits::FEED_PAGE, &mut room, &mut page.entries);
    }
}
