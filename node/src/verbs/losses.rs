//! What the log of records lost, and whether peers have brought it back. Invariant: a loss is settled only when every
//! publisher that this home follows or publishes as stands where it stood once; until then every check tells of it.

use super::{closure, failure::Failure, subscriptions};
use crate::context::Context;
use softservice_protocol::{
    feed::Position,
    id::{FeedId, PublisherId},
    io::Record,
};
use softservice_store::{Damage, Store};
use std::collections::BTreeMap;

/// Publishers that are not where they were once, each as damage of the log that held what is missing.
pub(super) async fn behind(context: &Context) -> Result<Vec<Damage>, Failure> {
    let catalogue = context.handle.catalogue();
    let subscribed = subscriptions::read(&context.home)?;
    let name = |publisher: PublisherId| match subscribed.iter().find(|s| s.publisher == publisher) {
        Some(subscription) => subscription.petname.clone(),
        None => format!("publisher {}", publisher.short()),
    };
    let heads: BTreeMap<PublisherId, Position> = catalogue.iter().map(|(p, k)| (*p, k.feed.head.at)).collect();
    let gone = subscribed.iter().filter(|s| !heads.contains_key(&s.publisher));
    let file = context.home.join("store/logs/records");
    let damage = |what: String| Damage { file: file.clone(), object: None, what };
    let mut behind: Vec<Damage> = gone
        .map(|s| damage(format!("that {} is followed is lost; `subscribe` with its ticket says so again", s.petname)))
        .collect();
    let store = closure::store(context);
    let missing = closure::blocking(move || missing(store.as_ref(), heads)).await?;
    behind.extend(missing.into_iter().map(|(publisher, seq)| {
        damage(format!(
            "entries of {} up to {seq} were here and are lost; a peer that has them heals it",
            name(publisher)
        ))
    }));
    Ok(behind)
}

/// Publishers whose mark, which only goes up, is above everything that is known of them, with the number at the mark.
fn missing(store: &dyn Store, heads: BTreeMap<PublisherId, Position>) -> Result<Vec<(PublisherId, u64)>, Failure> {
    // A ticket's floor and a number that was reserved and not used raise the mark too, and neither was an entry here.
    let mut known = heads.clone();
    for record in store.records()? {
        if let Record::Followed { publisher, floor: head, .. } | Record::Reserved { publisher, head } = record
            && let Some(at) = known.get_mut(&publisher)
        {
            *at = head.at.max(*at);
        }
    }
    let mut missing = Vec::new();
    for (publisher, at) in known {
        if let Some(mark) = store.mark(FeedId::main(publisher))?.filter(|mark| mark.at > at) {
            missing.push((publisher, mark.at.seq));
        }
    }
    Ok(missing)
}

/// Asks connected peers for what is newest of every publisher, and forgets the losses if nothing is missing then.
/// Answers what is missing all the same.
pub(super) async fn settle(context: &Context) -> Result<Vec<Damage>, Failure> {
    for publisher in context.handle.catalogue().into_keys() {
        context.handle.refresh(publisher).await?;
    }
    let behind = behind(context).await?;
    if behind.is_empty() {
        let store = closure::store(context);
        closure::blocking(move || Ok(store.acknowledge()?)).await?;
    }
    Ok(behind)
}
