//! `status`, `peers`, `stop`, `ticket`: the node itself. Invariant: nothing here changes anything but
//! `stop`.

use super::{
    failure::{Failure, Kind},
    fetch, freshness, instances, quota,
    reference::Names,
    subscriptions,
};
use crate::{context::Context, handle::Known};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    id::{Digest, PublisherId},
    ticket::{Ticket, proof_digest},
    words,
};

pub(super) async fn status(context: &Context) -> Result<Value, Failure> {
    let status = context.handle.status().await?;
    let store = super::closure::store(context);
    let upkeep = store.upkeep().map(|u| json!({ "what": u.what, "done": u.done, "of": u.of }));
    let (objects, bytes) = super::closure::blocking(move || Ok(store.totals()?)).await?;
    let total = quota::total(context).await?;
    let transfers: Vec<Value> = status.transfers.iter().map(|t| fetch::going(t, &status.peers)).collect();
    Ok(json!({
        "device": status.me.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "home": context.home,
        "pid": std::process::id(),
        "uptime": context.started.elapsed().as_secs_f64(),
        "addresses": status.addresses,
        "web": context.config.web,
        "peers": status.peers.len(),
        "publisher": context.keys.publisher().map(|p| p.to_string()),
        "own": own(context),
        "subscriptions": subscriptions::list(context).await?,
        "softservices": instances::summary(context).await?,
        "transfers": transfers,
        "traffic": status.traffic,
        "refused": context.refused.describe(&status.refusals),
        "store": { "objects": objects, "bytes": bytes, "used": total["used"], "quota": total["quota"], "refused": total["refused"], "upkeep": upkeep },
    }))
}

/// How current this home's own publisher looks to others, and whether it can keep that up.
fn own(context: &Context) -> Option<Value> {
    let known = context.handle.catalogue().remove(&context.keys.publisher()?)?;
    let mut own = freshness::describe(Some(&known), context.config.clock.moment());
    own["unstated"] = json!(known.unstated);
    Some(own)
}

pub(super) async fn peers(context: &Context) -> Result<Value, Failure> {
    let status = context.handle.status().await?;
    serde_json::to_value(status.peers).map_err(|e| Failure::new(Kind::Bug, e.to_string()))
}

/// Asks; whoever asked waits for the process to end.
pub(super) fn stop(context: &Context) -> Value {
    context.stop.ask();
    json!({ "pid": std::process::id() })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TicketOf {
    publisher: Option<String>,
    /// Seconds from now on in which others may begin with it.
    expires_in: Option<u64>,
}

pub(super) async fn ticket(context: &Context, args: TicketOf) -> Result<Value, Failure> {
    let names = Names::read(context)?;
    let publisher = match args.publisher {
        Some(name) => names.publisher(&name)?,
        None => super::publish::own(context).await?,
    };
    let Some(known) = context.handle.catalogue().remove(&publisher) else {
        return Err(Failure::not_found(format!("{} is not followed here", names.of(publisher)))
            .hint("`softservice subscriptions` lists who is"));
    };
    let expires = match args.expires_in {
        Some(0) => return Err(Failure::usage("a ticket that expires at once helps nobody")),
        wish => wish.map(|seconds| (context.config.clock.moment().time().0 / 1000).saturating_add(seconds)),
    };
    let ticket = ticket_for(context, publisher, &known, None, expires).await?;
    // Who follows by it gets no further than we are, and would not know why.
    let warnings = freshness::doubts(context, &known, publisher)?;
    Ok(json!({
        "ticket": ticket, "publisher": publisher.to_string(), "words": words::of(publisher), "expires": expires, "warnings": warnings,
    }))
}

/// The line that others subscribe with: this node's addresses first, then those that served us.
pub(super) async fn ticket_for(
    context: &Context,
    publisher: PublisherId,
    known: &Known,
    distro: Option<&str>,
    expires: Option<u64>,
) -> Result<String, Failure> {
    if known.root_version == 0 {
        return Err(Failure::new(Kind::NoPeer, "nothing of this publisher has come yet, so there is nothing to pin"));
    }
    let mut addresses = context.handle.status().await?.addresses;
    // Loopback only helps on this machine: last, and only when there is nothing else.
    let far: Vec<String> = addresses.iter().filter(|a| !is_loopback(a)).cloned().collect();
    if !far.is_empty() {
        addresses = far;
    }
    addresses.extend(known.addresses.iter().cloned());
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|a| seen.insert(a.clone()));
    let ticket = Ticket {
        publisher,
        distro: distro.map(str::to_owned),
        root: (known.root_version, known.root_digest),
        floor: known.feed.head,
        addresses,
        conflict: conflict(context, publisher, known)?,
        expires,
    };
    // Printing keeps as many peers as the line may carry; without any it still works on a shared network.
    Ok(ticket.to_string())
}

/// The proof of two histories that is known here or was told of, for those who have met nobody who holds it.
fn conflict(context: &Context, publisher: PublisherId, known: &Known) -> Result<Option<Digest>, Failure> {
    if let Some(difference) = known.difference.as_ref().filter(|_| known.frozen) {
        return Ok(Some(proof_digest(difference)));
    }
    let told = subscriptions::told(&context.home, publisher, known)?;
    Ok(told.and_then(|told| told.proof.parse().ok()))
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/")
}
