//! What records say about feeds. Invariant: a record that carries a head names exactly the place it was signed or
//! reserved for, so that the mark it raises is never higher than what was really seen. A ticket's floor was seen by nobody here,
//! and anybody may have written it: it raises nothing.

use softservice_protocol::{
    codec,
    feed::{Entry, Head},
    id::FeedId,
    io::Record,
    sign::Envelope,
};
use std::collections::BTreeMap;

/// The feed and head that a record raises the mark to.
pub(crate) fn head_of(record: &Record) -> Option<(FeedId, Head)> {
    match record {
        Record::Reserved { publisher, head } => Some((FeedId::main(*publisher), *head)),
        Record::Onboarded { publisher, envelope, .. } | Record::Entry { publisher, envelope } => {
            // Whoever keeps a record verified it before; one that does not decode raises nothing.
            let envelope: Envelope = codec::decode(envelope).ok()?;
            let entry: Entry = envelope.open().ok()?;
            Some((FeedId::main(*publisher), Head { at: entry.at, hash: envelope.digest() }))
        }
        _ => None,
    }
}

/// Puts a head in where it is higher than what stands there; says whether it was.
pub(crate) fn raise(marks: &mut BTreeMap<FeedId, Head>, feed: FeedId, head: Head) -> bool {
    if marks.get(&feed).is_some_and(|old| old.at >= head.at) {
        return false;
    }
    marks.insert(feed, head);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::{
        feed::Position,
        id::{Digest, PublisherId},
    };

    /// Or one line that somebody wrote would tell of an entry that nobody ever had, for good.
    #[test]
    fn what_a_ticket_says_raises_no_mark() {
        let publisher = PublisherId([1; 32]);
        let head = Head { at: Position { epoch: u32::MAX, seq: 1 }, hash: Digest([2; 32]) };
        let root = (u64::MAX, Digest([3; 32]));
        assert_eq!(head_of(&Record::Followed { publisher, root, floor: head, addresses: Vec::new() }), None);
        let reserved = head_of(&Record::Reserved { publisher, head });
        assert_eq!(reserved, Some((FeedId::main(publisher), head)));
    }
}
