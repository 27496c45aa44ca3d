//! The policy `auto`: followed publishers' newer releases are taken by themselves. Invariant: never one that asks for
//! more permissions, never on a word that is not fresh, never a held or stopped softservice, never a release that this
//! softservice had before - it failed then, or its owner went back from it.

use super::{
    failure::Failure,
    freshness, instances, provision,
    subscriptions::{self, Policy},
};
use crate::{Context, api::talk::Talk};
use softservice_protocol::id::PublisherId;

/// Follows the policies until the node stops.
pub async fn follow(context: Context) {
    let mut handle = context.handle.clone();
    loop {
        // One that was refused may fit by now.
        let allowed = context.quotas.changed();
        if let Err(failure) = look(&context).await {
            tracing::warn!(%failure, "automatic updates were not looked for");
        }
        tokio::select! {
            changed = handle.catalogue_changed() => if changed.is_err() { return },
            () = allowed => {}
        }
    }
}

async fn look(context: &Context) -> Result<(), Failure> {
    let automatic: Vec<_> = subscriptions::read(&context.home)?
        .into_iter()
        .filter(|s| s.policy == Policy::Auto)
        .map(|s| s.publisher)
        .collect();
    if automatic.is_empty() {
        return Ok(());
    }
    let catalogue = context.handle.catalogue();
    let now = context.config.clock.moment();
    let relied_on =
        |publisher: &PublisherId| catalogue.get(publisher).is_some_and(|k| freshness::may_act_alone(k, now));
    for candidate in instances::updatable(context).await? {
        if !relied_on(&candidate.found.publisher) {
            // A newer word changes the catalogue, and so wakes whoever looks here.
            tracing::debug!(softservice = candidate.name, "the newer release waits for a fresh word of its publisher");
            continue;
        }
        if candidate.held || !candidate.up || candidate.had || !automatic.contains(&candidate.found.publisher) {
            continue;
        }
        let name = candidate.name;
        let alone = Talk::alone();
        let update = provision::update_unless_wider(context, &name, &alone);
        match crate::holds::for_verb(update).await {
            Ok(Some(outcome)) => tracing::info!(softservice = name, version = %outcome["version"], "updated by policy"),
            Ok(None) => {
                tracing::info!(softservice = name, "a newer release asks for more permissions; the owner decides")
            }
            Err(failure) => tracing::warn!(softservice = name, %failure, "the update by policy did not hold"),
        }
    }
    Ok(())
}
