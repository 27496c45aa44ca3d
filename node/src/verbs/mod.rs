//! What can be asked of a node: one function for each verb, from arguments to a document. The local API and through it
//! the command line end here. Invariant: a verb answers with one document or one typed failure; dropping its future
//! abandons what only it waits for, and nothing that was acknowledged.

mod care;
mod catalogue;
pub mod check;
mod closure;
pub mod failure;
mod fetch;
mod improve;
mod instances;
mod lock;
mod permissions;
mod pins;
mod publish;
mod reference;
mod source;
mod status;
mod subscriptions;

/// x
pub async fn follow_policies(_c: Context) {}

use crate::{api::talk::Talk, context::Context};
use failure::Failure;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Runs a verb.
///
/// # Errors
/// See [`failure::Kind`]; an unknown verb or argument is a usage error.
pub async fn run(context: &Context, verb: &str, arguments: Value, talk: &Talk) -> Result<Value, Failure> {
    match verb {
        "status" => status::status(context).await,
        "peers" => status::peers(context).await,
        "stop" => Ok(status::stop(context)),
        "publisher" => status::publisher(context).await,
        "ticket" => status::ticket(context, parse(arguments)?).await,
        "check" => check::verb(parse(arguments)?).await,
        "publish" => publish::publish(context, parse(arguments)?, talk).await,
        "subscribe" => subscriptions::subscribe(context, parse(arguments)?, talk).await,
        "unsubscribe" => subscriptions::unsubscribe(context, parse(arguments)?).await,
        "subscriptions" => subscriptions::list(context),
        "search" => catalogue::search(context, &parse(arguments)?),
        "show" => catalogue::show(context, &parse(arguments)?, talk).await,
        "lineage" => catalogue::lineage(context, &parse(arguments)?, talk).await,
        "improve" => improve::improve(context, parse(arguments)?, talk).await,
        "fetch" => fetch::fetch(context, &parse(arguments)?, talk).await,
        "pin" => pins::pin(context, &parse(arguments)?).await,
        "unpin" => pins::unpin(context, &parse(arguments)?).await,
        "gc" => care::gc(context).await,
        "fsck" => care::fsck(context, &parse(arguments)?, talk).await,
        other => Err(Failure::usage(format!("no verb {other:?}")).hint("docs/api.md lists them")),
    }
}

fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, Failure> {
    serde_json::from_value(arguments).map_err(|e| Failure::usage(format!("arguments: {e}")))
}
