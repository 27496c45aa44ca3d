//! What can be asked of a node: one function for each verb, from arguments to a document. The local API and through it
//! the command line end here. Invariant: a verb answers with one document or one typed failure; dropping its future
//! abandons what only it waits for, and nothing that was acknowledged.

mod auto;
mod backup;
mod care;
mod catalogue;
pub mod check;
mod closure;
mod collect;
mod consent;
mod drill;
pub mod failure;
mod fetch;
mod freshness;
mod grounds;
mod improve;
mod instances;
mod lock;
mod lookalike;
mod losses;
mod matrix;
mod overlay;
mod permissions;
mod pins;
mod provision;
mod publish;
mod publisher;
mod quota;
mod reference;
mod revocation;
mod secrets;
mod source;
mod status;
mod subscriptions;
mod throwaway;
mod trial;

pub use auto::follow as follow_policies;
pub(crate) use reference::Looks;
pub(crate) use throwaway::{ended as trials_ended, register::sweep as sweep_trials};

use crate::{api::talk::Talk, context::Context};
use failure::Failure;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Runs a verb.
///
/// # Errors
/// See [`failure::Kind`]; an unknown verb or argument is a usage error.
pub async fn run(context: &Context, verb: &str, arguments: Value, talk: &Talk) -> Result<Value, Failure> {
    // What these read in, one folder after the other, nothing names before they are done.
    let _building = matches!(verb, "publish" | "test").then(|| context.holds.build());
    let done = Box::pin(crate::holds::for_verb(dispatch(context, verb, arguments, talk))).await;
    if let Some(step) = done.as_ref().err().and_then(|failure| failure.step) {
        context.refused.count(step);
    }
    done
}

async fn dispatch(context: &Context, verb: &str, arguments: Value, talk: &Talk) -> Result<Value, Failure> {
    match verb {
        "status" => status::status(context).await,
        "peers" => status::peers(context).await,
        "stop" => Ok(status::stop(context)),
        "publisher" => publisher::show(context).await,
        "publisher_rotate" => publisher::rotate(context, parse(arguments)?).await,
        "publisher_delegate" => publisher::delegate(context, parse(arguments)?).await,
        "publisher_recover" => publisher::recover(context, parse(arguments)?).await,
        "publisher_assemble" => publisher::assemble(context, parse(arguments)?).await,
        "publisher_freshen" => publisher::freshen(context, parse(arguments)?).await,
        "publisher_sign_head" => publisher::sign_head(context, parse(arguments)?).await,
        "publisher_withdraw" => publisher::withdraw(context, parse(arguments)?).await,
        "publisher_join" => publisher::join(context, parse(arguments)?).await,
        "ticket" => status::ticket(context, parse(arguments)?).await,
        "check" => check::verb(parse(arguments)?).await,
        "publish" => publish::publish(context, parse(arguments)?, talk).await,
        "test" => trial::test(context, parse(arguments)?, talk).await,
        "revoke" => revocation::revoke(context, parse(arguments)?).await,
        "subscribe" => subscriptions::subscribe(context, parse(arguments)?, talk).await,
        "unsubscribe" => subscriptions::unsubscribe(context, parse(arguments)?).await,
        "subscriptions" => subscriptions::list(context).await,
        "search" => catalogue::search(context, &parse(arguments)?),
        "show" => catalogue::show(context, &parse(arguments)?, talk).await,
        "lineage" => catalogue::lineage(context, &parse(arguments)?, talk).await,
        "improve" => improve::improve(context, parse(arguments)?, talk).await,
        "fetch" => fetch::fetch(context, &parse(arguments)?, talk).await,
        "pin" => pins::pin(context, &parse(arguments)?).await,
        "unpin" => pins::unpin(context, &parse(arguments)?).await,
        "quota" => quota::quota(context, parse(arguments)?).await,
        "gc" => collect::gc(context, talk).await,
        "fsck" => care::fsck(context, &parse(arguments)?, talk).await,
        "plan" => provision::plan(context, parse(arguments)?, talk).await,
        "questions" => provision::questions(context, parse(arguments)?, talk).await,
        "plan_update" => provision::plan_update(context, parse(arguments)?, talk).await,
        "up" => provision::up(context, parse(arguments)?, talk).await,
        "update" => provision::update(context, parse(arguments)?, talk).await,
        "plan_rollback" => provision::plan_rollback(context, parse(arguments)?).await,
        "rollback" => provision::rollback(context, parse(arguments)?, talk).await,
        "backup" => backup::backup(context, parse(arguments)?, talk).await,
        "backups" => backup::list(context, parse(arguments)?).await,
        "plan_restore" => backup::plan(context, parse(arguments)?, talk).await,
        "restore" => backup::restore(context, parse(arguments)?, talk).await,
        "overlay" => overlay::show(context, parse(arguments)?, talk).await,
        "plan_overlay" => overlay::plan(context, parse(arguments)?, talk).await,
        "set_overlay" => overlay::change(context, parse(arguments)?, talk).await,
        "hold" => instances::hold(context, parse(arguments)?, true).await,
        "unhold" => instances::hold(context, parse(arguments)?, false).await,
        "down" => instances::down(context, parse(arguments)?).await,
        "start" => instances::start(context, parse(arguments)?).await,
        "remove" => instances::remove(context, parse(arguments)?).await,
        "generations" => instances::generations(context, parse(arguments)?).await,
        "ps" => instances::ps(context, parse(arguments)?).await,
        "logs" => instances::logs(context, parse(arguments)?, talk).await,
        other => Err(Failure::usage(format!("no verb {other:?}")).hint("docs/api.md lists them")),
    }
}

fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, Failure> {
    serde_json::from_value(arguments).map_err(|e| Failure::usage(format!("arguments: {e}")))
}
