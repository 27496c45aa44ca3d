//! What the log of records lost, and whether peers have brought it back. Invariant: a loss is settled only when every
//! publisher that this home follows or publishes as stands where it stood once; until then every check tells of it.
//!
//! What a root gave up, behind the place where it reopened the feed, is not lost. A number that the log only reserves counts as
//! never signed while the log is whole. Where it lost something, that may have been the entry: then a peer has to be asked first.

use super::{closure, failure::Failure, subscriptions};
use crate::context::Context;
use softservice_protocol::{
    codec,
    feed::{Head, Position},
    id::{FeedId, PublisherId},
    io::Record,
    root::{FeedStart, Root},
    sign::Envelope,
};
use softservice_store::{Damage, Store};
use std::collections::BTreeMap;

/// Publishers that are not where they were once, each as damage of the log that held what is missing. `lossy` is a log that lost
/// something, and nobody was asked since.
pub(super) async fn behind(context: &Context, lossy: bool) -> Result<Vec<Damage>, Failure> {
    let catalogue = context.handle.catalogue();
    let subscribed = subscriptions::read(&context.home)?;
    let name = |publisher: PublisherId| match subscribed.iter().find(|s| s.publisher == publisher) {
        Some(subscription) => subscription.petname.clone(),
        None => format!("publisher {}", publisher.short()),
    };
    let gone = subscribed.iter().filter(|s| !catalogue.contains_key(&s.publisher));
    let file = context.home.join("store/logs/records");
    let damage = |what: String| Damage { file: file.clone(), object: None, what };
    let mut behind: Vec<Damage> = gone
        .map(|s| damage(format!("that {} is followed is lost; `subscribe` with its ticket says so again", s.petname)))
        .collect();
    let mut heads = BTreeMap::new();
    for (publisher, known) in &catalogue {
        let newest = context.handle.roots(*publisher).await?.pop();
        let newest = newest.and_then(|bytes| codec::decode::<Envelope>(&bytes).ok()?.open::<Root>().ok());
        heads.insert(*publisher, (known.feed.head, newest.map(|root| root.feed)));
    }
    let store = closure::store(context);
    let missing = closure::blocking(move || missing(store.as_ref(), &heads, lossy)).await?;
    behind.extend(missing.into_iter().map(|(publisher, seq)| {
        damage(format!(
            "entries of {} up to {seq} were here and are lost; a peer that has them heals it",
            name(publisher)
        ))
    }));
    Ok(behind)
}

/// Publishers whose mark, which only goes up, is above everything that is known of them, with the number at the mark. Of each the
/// head, and where its open epoch began.
fn missing(
    store: &dyn Store,
    heads: &BTreeMap<PublisherId, (Head, Option<FeedStart>)>,
    lossy: bool,
) -> Result<Vec<(PublisherId, u64)>, Failure> {
    // A ticket's floor and a number that was reserved and not used raise the mark too, and neither was an entry here.
    let mut known: BTreeMap<PublisherId, Position> = heads.iter().map(|(p, (head, _))| (*p, head.at)).collect();
    for record in store.records()? {
        let (publisher, head) = match record {
            Record::Followed { publisher, floor, .. } => (publisher, floor),
            Record::Reserved { publisher, head } if !lossy => (publisher, head),
            _ => continue,
        };
        if let Some(at) = known.get_mut(&publisher) {
            *at = head.at.max(*at);
        }
    }
    let given_up = |publisher: &PublisherId, mark: Head| {
        let (head, open) = heads.get(publisher).copied().unwrap_or_default();
        open.is_some_and(|open| open.stands(head) && mark.at.epoch < open.epoch)
    };
    let mut missing = Vec::new();
    for (publisher, at) in known {
        let mark = store.mark(FeedId::main(publisher))?;
        if let Some(mark) = mark.filter(|mark| mark.at > at && !given_up(&publisher, *mark)) {
            missing.push((publisher, mark.at.seq));
        }
    }
    Ok(missing)
}

/// Asks connected peers for what is newest of every publisher, and forgets the losses if nothing is missing then.
/// Answers what is missing all the same.
pub(super) async fn settle(context: &Context, lossy: bool) -> Result<Vec<Damage>, Failure> {
    let own = context.keys.publisher();
    let mut asked = own.is_none();
    for publisher in context.handle.catalogue().into_keys() {
        let peers = context.handle.refresh(publisher).await?;
        asked |= own == Some(publisher) && peers.answered > 0;
    }
    let behind = behind(context, lossy && !asked).await?;
    if behind.is_empty() {
        let store = closure::store(context);
        closure::blocking(move || Ok(store.acknowledge()?)).await?;
        context.handle.dealt_with().await?;
    }
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::id::Digest;
    use softservice_store::MemoryStore;

    fn head(epoch: u32, seq: u64) -> Head {
        Head { at: Position { epoch, seq }, hash: Digest::of(&seq.to_le_bytes()) }
    }

    #[test]
    fn what_a_recovery_gave_up_is_not_lost_and_what_is_gone_is() {
        let publisher = PublisherId([1; 32]);
        let store = MemoryStore::default();
        store.raise_mark(FeedId::main(publisher), head(1, 5)).unwrap();
        let missing = |at: Head, open: FeedStart| {
            super::missing(&store, &BTreeMap::from([(publisher, (at, Some(open)))]), false).unwrap()
        };
        let first = FeedStart { epoch: 1, from_seq: 0, from_hash: Digest::ZERO };
        let second = FeedStart { epoch: 2, from_seq: 3, from_hash: head(1, 3).hash };
        assert_eq!(missing(head(1, 5), first), []);
        assert_eq!(missing(head(1, 3), first), [(publisher, 5)], "the end of the log is gone");
        // The root went back to entry 3, and nothing came since; then something did.
        assert_eq!(missing(head(1, 3), second), []);
        assert_eq!(missing(head(2, 4), second), []);
        // The log lost what leads to the entry that the root names.
        assert_eq!(missing(head(1, 2), second), [(publisher, 5)]);
        store.raise_mark(FeedId::main(publisher), head(2, 6)).unwrap();
        assert_eq!(missing(head(2, 4), second), [(publisher, 6)]);
    }
}
