//! What the owner agreed to: a plan, and what this machine cannot keep of its promises. Invariant: neither is taken for
//! granted: `yes` agrees to a plan, not to less protection than it promises, and whoever was not asked has agreed to what
//! the generation that runs may do, which its owner saw, and to nothing more.

use super::failure::Failure;
use crate::{context::Context, device::DeviceError};
use serde_json::json;
use softservice_protocol::{
    instance::sandbox::Reduced,
    io::Step,
    plan::{Lack, Plan},
};

/// Whether somebody agreed to a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Agreed {
    /// To the one of this hash.
    To(String),
    /// To whatever plan there is.
    ToAny,
    /// Nobody was asked: then nothing may be allowed that is not allowed now.
    Unasked,
}

/// What the owner agreed to.
#[derive(Debug, Clone)]
pub(super) struct Consent {
    /// To which plan.
    pub(super) plan: Agreed,
    /// Promises that this machine cannot keep are given up.
    pub(super) accept_reduced: bool,
}

/// The plan that was agreed to: by its hash, whatever else was said, or by a yes.
pub(super) fn plan(shown: &Plan, hash: Option<&str>, yes: bool) -> Result<Agreed, Failure> {
    match hash {
        Some(hash) if hash == shown.hash => Ok(Agreed::To(hash.to_owned())),
        Some(_) => Err(Failure::refused(format!(
            "the plan for {} is not, or no longer, the one that was agreed to",
            shown.softservice
        ))
        .hint(format!("it is {} now; `softservice plan` shows it", shown.hash))
        .by(Step::Consent)),
        None if yes => Ok(Agreed::ToAny),
        None => Err(Failure::refused("the plan was not agreed to")
            .hint(format!("agree with `plan`: {:?}, or with `yes`", shown.hash))
            .by(Step::Consent)),
    }
}

/// What the plan cannot keep and the owner has not given up: a measure once accepted stays so while its reason does.
pub(super) fn unaccepted(context: &Context, plan: &Plan) -> Result<Vec<Reduced>, Failure> {
    let accepted = context.device.accepted(&plan.softservice)?;
    Ok(plan.isolation.reduced.iter().filter(|r| !accepted.contains(r)).cloned().collect())
}

/// What must not be done unasked, a line each: what would be allowed that is not now, and what would not be kept.
pub(super) fn unasked(context: &Context, plan: &Plan) -> Result<Vec<String>, Failure> {
    let reduced = unaccepted(context, plan)?;
    let less = reduced.into_iter().map(|r| format!("not enforced here: {} ({})", r.measure, r.why));
    Ok(plan.permissions.added.iter().cloned().chain(less).collect())
}

/// Fail closed: a promise that cannot be kept here is given up by the owner, not by us.
pub(super) fn refuse_reduced(context: &Context, plan: &Plan, consent: &Consent) -> Result<(), Failure> {
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
        .with(json!({ "reduced": reduced }))
        .by(Step::Consent))
}

/// Nothing that was done unasked allows more than what runs: each road to a generation ends here, and once more where the
/// generation is made, for the plan may have changed in between.
pub(super) fn refuse_wider(plan: &Plan, agreed: &Agreed) -> Result<(), Failure> {
    if *agreed != Agreed::Unasked || plan.permissions.added.is_empty() {
        return Ok(());
    }
    let wider = DeviceError::Wider { name: plan.softservice.clone(), added: plan.permissions.added.clone() };
    Err(Failure::from(wider)
        .hint("--yes agrees to that (`yes`, or the plan's hash as `plan`, in the API)")
        .with(json!({ "permissions": plan.permissions, "plan": plan.hash }))
        .by(Step::Consent))
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
