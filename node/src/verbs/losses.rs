//! What the log of records lost, and whether peers have brought it back. Invariant: a loss is settled only when every
//! publisher that this home follows or publishes as stands where it stood once; until then every check tells of it.
//!
//! A number that the log only reserves counts as never signed while the log is whole. Where it lost something, that may have been
//! the entry: then a peer has to be asked first.

use super::{closure, failure::Failure, subscriptions};
use crate::context::Context;
use softservice_protocol::{
    feed::Position,
    id::{FeedId, PublisherId},
    io::Record,
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
    let heads: BTreeMap<PublisherId, Position> = catalogue.iter().map(|(p, k)| (*p, k.feed.head.at)).collect();
    let gone = subscribed.iter().filter(|s| !heads.contains_key(&s.publisher));
    let file = context.home.join("store/logs/records");
    let damage = |what: String| Damage { file: file.clone(), object: None, what };
    let mut behind: Vec<Damage> = gone
        .map(|s| damage(format!("that {} is followed is lost; `subscribe` with its ticket says so again", s.petname)))
        .collect();
    let store = closure::store(context);
    let missing = closure::blocking(move || missing(store.as_ref(), heads, lossy)).await?;
    behind.extend(missing.into_iter().map(|(publisher, seq)| {
        damage(format!(
            "entries of {} up to {seq} were here and are lost; a peer that has them heals it",
            name(publisher)
        ))
    }));
    Ok(behind)
}

/// Publishers whose mark, which only goes up, is above everything that is known of them, with the number at the mark.
fn missing(
    store: &dyn Store,
    heads: BTreeMap<PublisherId, Position>,
    lossy: bool,
) -> Result<Vec<(PublisherId, u64)>, Failure> {
    // A ticket's floor and a number that was reserved and not used raise the mark too, and neither was an entry here.
    let mut known = heads.clone();
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
