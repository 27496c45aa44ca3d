//! `join`: a home takes part in a publisher that exists, with a key that has a right in it: a build machine, or another home of
//! the same people. Invariant: a home becomes part of it only when the newest root document that could be had gives its key a right.

use super::super::{
    closure::blocking,
    failure::{Failure, Kind},
    subscriptions,
};
use crate::{
    context::Context,
    publisher::{public, role::RoleName, secret_at},
};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{codec, sign::Envelope, ticket::Ticket};
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Join {
    key: PathBuf,
    ticket: String,
}

pub(crate) async fn join(context: &Context, args: Join) -> Result<Value, Failure> {
    if !args.key.is_absolute() {
        return Err(Failure::usage(format!("{} must be an absolute path", args.key.display())));
    }
    let ticket: Ticket = args.ticket.trim().parse().map_err(|e| {
        Failure::usage(format!("not a ticket: {e}")).hint("`softservice ticket` of the publisher prints one")
    })?;
    subscriptions::refuse_expired(context, &ticket)?;
    if ticket.conflict.is_some() {
        return Err(Failure::refused("this ticket tells that the publisher signed two different histories")
            .hint("its root reopens the feed first (`softservice publisher recover` in its own home); join with a ticket made after that"));
    }
    let publisher = ticket.publisher;
    if let Some(other) = context.keys.publisher().filter(|p| *p != publisher) {
        return Err(Failure::refused(format!("this home publishes as {other} already"))
            .hint("a home is one publisher: join with another one, --home DIR"));
    }
    let key = blocking(move || Ok(secret_at(&args.key)?)).await?;
    let mark = subscriptions::mark(context, publisher).await?;
    context.handle.follow_from(ticket, mark).await?;
    let roots = context.handle.roots(publisher).await?;
    let newest = roots.last().and_then(|bytes| codec::decode::<Envelope>(bytes).ok());
    let root: softservice_protocol::root::Root = newest
        .and_then(|envelope| envelope.open().ok())
        .ok_or_else(|| Failure::new(Kind::NoPeer, "no peer has told of this publisher's root documents yet"))?;
    let public = public(&key);
    let role = RoleName::of_key(&root.roles, public);
    let delegation = root.delegations.iter().find(|d| d.key == public);
    if role.is_none() && delegation.is_none() {
        // It was followed to be asked; whoever follows it anyway goes on.
        if !subscriptions::read(&context.home)?.iter().any(|s| s.publisher == publisher) {
            context.handle.unfollow(publisher).await?;
        }
        return Err(Failure::refused(format!(
            "root document {} of this publisher gives key {public} no right",
            root.version
        ))
        .hint(format!("its publisher gives one: softservice publisher delegate --key {public} ...")));
    }
    let (keys, known) = (context.keys.clone(), roots.clone());
    blocking(move || Ok(keys.join(publisher, &known, &key)?)).await?;
    context.handle.own(publisher, roots).await?;
    Ok(json!({
        "publisher": publisher.to_string(),
        "words": softservice_protocol::words::of(publisher),
        "root_version": root.version,
        "key": public.to_string(),
        "role": role.map(RoleName::name),
        "delegation": delegation.map(crate::publisher::words::delegation),
    }))
}
