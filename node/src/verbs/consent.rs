//! What the owner agreed to: a plan, and what this machine cannot keep of its promises. Invariant: neither is taken for
//! granted: `yes` agrees to a plan, not to less protection than it promises.

use super::failure::Failure;
use crate::context::Context;
use serde_json::json;
use softservice_protocol::{
    instance::sandbox::Reduced,
    plan::{Lack, Plan},
};

/// What the owner agreed to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consent<'a> {
    /// The plan of this hash; none = whatever plan there is.
    pub(super) plan: Option<&'a str>,
    /// Promises that this machine cannot keep are given up.
    pub(super) accept_reduced: bool,
}

/// The hash that was agreed to, if one was named.
pub(super) fn plan(shown: &Plan, hash: Option<&str>, yes: bool) -> Result<Option<String>, Failure> {
    match hash {
        Some(hash) if hash == shown.hash => Ok(Some(hash.to_owned())),
        Some(_) => Err(Failure::refused(format!(
            "the plan for {} is not, or no longer, the one that was agreed to",
            shown.softservice
        ))
        .hint(format!("it is {} now; `softservice plan` shows it", shown.hash))),
        None if yes => Ok(None),
        None => Err(Failure::refused("the plan was not agreed to")
            .hint(format!("agree with `plan`: {:?}, or with `yes`", shown.hash))),
    }
}

/// What the plan cannot keep and the owner has not given up: a measure once accepted stays so while its reason does.
pub(super) fn unaccepted(context: &Context, plan: &Plan) -> Result<Vec<Reduced>, Failure> {
    let accepted = context.device.accepted(&plan.softservice)?;
    Ok(plan.isolation.reduced.iter().filter(|r| !accepted.contains(r)).cloned().collect())
}

/// Fail closed: a promise that cannot be kept here is given up by the owner, not by us.
pub(super) fn refuse_reduced(context: &Context, plan: &Plan, consent: Consent<'_>) -> Result<(), Failure> {
    if consent.accept_reduced {
        return Ok(());
    }
    let reduced = unaccepted(context, plan)?;
    if reduced.is_empty() {
        return Ok(());
    }
    let each: Vec<String> = reduced.iter().map(|r| format!("{} ({})", r.measure, r.why)).collect();
    let message = format!("this machine cannot enforce all that {} promises: {}", plan.softservice, each.join("; "));
    Err(Failure::refused(message)
        .hint("--accept-reduced (`accept_reduced` in the API) accepts that")
        .with(json!({ "reduced": reduced })))
}

/// What a device does not have nobody can agree to do without: it would fail later, and not so clearly.
pub(super) fn refuse_lacking(plan: &Plan) -> Result<(), Failure> {
    if plan.lacks.is_empty() {
        return Ok(());
    }
    let each: Vec<String> = plan.lacks.iter().map(Lack::describe).collect();
    let message = format!("this device has too little for {}: {}", plan.softservice, each.join("; "));
    Err(Failure::refused(message)
        .hint("`softservice plan` shows what each role needs; free some, or choose another device")
        .with(json!({ "lacks": plan.lacks })))
}

/// Their names, for one line.
pub(super) fn measures(reduced: &[Reduced]) -> String {
    reduced.iter().map(|r| r.measure.as_str()).collect::<Vec<_>>().join(", ")
}
