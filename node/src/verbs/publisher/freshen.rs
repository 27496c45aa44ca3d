//! `freshen`: states now that the newest entry is the newest. Invariant: it needs the fresh role alone; what it says is durable and
//! told to peers when it is answered.

use super::{current, frozen, secrets};
use crate::{context::Context, publisher::public, verbs::failure::Failure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Freshen {
    /// Key files from elsewhere.
    #[serde(default)]
    keys: Vec<PathBuf>,
}

pub(crate) async fn freshen(context: &Context, args: Freshen) -> Result<Value, Failure> {
    let own = current(context).await?;
    let head = own.known.feed.head.at;
    if head.seq == 0 {
        return Err(Failure::refused("nothing is published yet, so there is nothing to call the newest"));
    }
    if own.known.frozen {
        return Err(frozen::refusal(&own.known));
    }
    let now = context.config.clock.moment().time();
    if own.root.root.expires_at <= now {
        return Err(Failure::refused("the root document has expired, and nothing that it gives a role is believed")
            .hint("`softservice publisher rotate` makes the next one"));
    }
    let _lent = context.keys.lend(secrets(args.keys).await?);
    let role = &own.root.root.roles.fresh;
    let mut here: Vec<_> = context.keys.at_hand().iter().map(public).filter(|k| role.keys.contains(k)).collect();
    here.sort();
    here.dedup();
    if here.len() < usize::from(role.threshold) {
        return Err(Failure::refused(format!(
            "{} of the keys of the fresh role are needed, and {} are at hand",
            role.threshold,
            here.len()
        ))
        .hint("--keys FILE,... names key files that are elsewhere; the root role can give the role other keys"));
    }
    context.handle.freshen(own.publisher).await?;
    // Over when what there is of this feed is durable.
    context.handle.refresh(own.publisher).await?;
    let said = context.handle.catalogue().remove(&own.publisher).and_then(|known| known.term);
    let Some(said) = said.filter(|term| term.said >= now) else {
        return Err(Failure::refused(
            "nothing was stated: no newer statement about this feed was signed and written down",
        )
        .hint("`softservice fsck` tells what its log lost; a full disk, too, keeps it from being written"));
    };
    Ok(json!({
        "publisher": own.publisher.to_string(),
        "epoch": head.epoch,
        "sequence": head.seq,
        "fresh_until": said.fresh_until.0 / 1000,
    }))
}
