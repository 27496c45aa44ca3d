//! `test`: provisions every role in a throwaway place and runs the tests; or backs it up and brings it back elsewhere; or
//! does the whole matrix of what an owner may do with it. Invariant: it is told how each test ended, also when one failed;
//! nothing of somebody else is allowed more, held less, or run although it was taken back, without the owner's word.

use super::{
    closure, consent, drill,
    failure::Failure,
    fetch,
    freshness::{self, Wish},
    grounds::Grounds,
    instances, matrix, provision, reference, revocation,
    throwaway::{self, Throwaway},
};
use crate::{Context, api::talk::Talk, device::PlanRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{io::Depth, release::ReleaseRef};
use std::{collections::BTreeSet, path::PathBuf, time::Instant};

/// How the softservice under test is called.
pub(super) const NAME: &str = "test";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    pub(super) dir: Option<PathBuf>,
    pub(super) reference: Option<String>,
    /// Everything that an owner may do with it, not only its first start.
    #[serde(default)]
    matrix: bool,
    /// The restore drill: backed up, and brought back in another home.
    #[serde(default)]
    restore: bool,
    /// From how many earlier releases an upgrade is tried.
    releases: Option<usize>,
    /// Also on a word of its publisher that expired.
    #[serde(default)]
    accept_expired: bool,
    /// Agrees to what somebody else's release may do.
    #[serde(default)]
    yes: bool,
    /// And to what this machine cannot keep of its promises.
    #[serde(default)]
    accept_reduced: bool,
    /// And to what its publisher took back.
    #[serde(default)]
    accept_revoked: bool,
}

/// The release that is to be tested.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub(super) release: ReleaseRef,
    /// The author's own software needs no word of theirs: they wrote what it may do.
    own: bool,
}

impl Subject {
    /// Refuses what its owner has not agreed to of the release, and of `older` ones that run in its trial. What is the owner's
    /// to see goes with the refusal, and the release's id, so that a yes to it is no yes to another one.
    ///
    /// # Errors
    /// What a yes is needed for.
    pub(super) async fn refuse_unasked(
        &self,
        trial: &Context,
        older: &[ReleaseRef],
        args: &Test,
    ) -> Result<(), Failure> {
        if self.own {
            return Ok(());
        }
        let (mut added, mut reduced) = (BTreeSet::new(), Vec::new());
        for release in older.iter().chain([&self.release]) {
            let answers = throwaway::placeholders(closure::load(trial, *release).await?.root()?);
            let request = PlanRequest { answers, ..PlanRequest::new(NAME, release.id) };
            let plan = trial.device.plan(&request).await?;
            added.extend(plan.permissions.added);
            let more = plan.isolation.reduced.into_iter().filter(|r| !reduced.contains(r));
            reduced.extend(more.collect::<Vec<_>>());
        }
        let (asks, less) = (!added.is_empty() && !args.yes, !reduced.is_empty() && !args.accept_reduced);
        let (message, hint) = match (asks, less) {
            (false, false) => return Ok(()),
            (true, _) => {
                let each = added.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
                (format!("its test would be allowed: {each}"), "--yes (`yes` in the API) agrees to that")
            }
            (false, true) => (
                format!("this machine cannot enforce all that it promises: {}", consent::measures(&reduced)),
                "--accept-reduced (`accept_reduced` in the API) accepts that",
            ),
        };
        let asked = if args.yes { BTreeSet::new() } else { added };
        let given_up = if args.accept_reduced { Vec::new() } else { reduced };
        Err(Failure::refused(message).hint(hint).with(json!({
            "release": self.release.id.to_string(), "permissions": { "added": asked }, "reduced": given_up,
        })))
    }
}

pub(super) async fn test(context: &Context, args: Test, talk: &Talk) -> Result<Value, Failure> {
    if args.dir.is_some() == args.reference.is_some() {
        return Err(Failure::usage("say what to test: `dir` or `reference`"));
    }
    if args.releases.is_some() && !args.matrix {
        return Err(Failure::usage("`releases` is for the matrix").hint("--matrix"));
    }
    if args.restore && args.matrix {
        return Err(Failure::usage("`restore` is a row of the matrix already"));
    }
    let began = Instant::now();
    let (here, talk) = (context.clone(), talk.clone());
    let answer = throwaway::attended(context, move |gone| async move {
        if args.matrix {
            return matrix::run(&here, &args, args.releases, &talk, &gone).await;
        }
        if args.restore {
            return Box::pin(drill::run(&here, &args, &talk, &gone)).await;
        }
        let config = here.config.clone();
        Throwaway::with(&config, &gone, async |place| play(&here, &place.context()?, &args, &talk).await).await
    })
    .await;
    let mut answer = answer?;
    answer["seconds"] = json!(began.elapsed().as_secs_f64());
    let failed = answer["failed"].as_u64().unwrap_or(1);
    if failed == 0 {
        return Ok(answer);
    }
    let rows = answer["matrix"].as_array().or(answer["tests"].as_array()).map_or(0, Vec::len);
    Err(Failure::failed(format!("{failed} of {rows} tests failed")).with(answer))
}

/// The release that is to be tested, in the place where it is tested.
pub(super) async fn subject(context: &Context, trial: &Context, args: &Test, talk: &Talk) -> Result<Subject, Failure> {
    match (&args.dir, &args.reference) {
        (Some(dir), _) => {
            let release = throwaway::from_folder(context, trial, dir.clone(), talk).await?;
            Ok(Subject { release, own: true })
        }
        (None, Some(text)) => {
            let found = reference::find(context, text).await?;
            // A test runs what it tests, in a throwaway place, but on this machine.
            let own = context.keys.publisher() == Some(found.publisher);
            revocation::refuse_trial(context, &found, own || args.accept_revoked)?;
            let (release, wish) = (found.listing.release, Wish::Owner { accept_expired: args.accept_expired });
            let here = instances::runs(context, release).await?;
            let grounds = match found.listing.revoked {
                // Of what was taken back all that could be asked has been answered; how old the word is has not.
                Some(_) if here => Grounds::Free,
                Some(_) => {
                    freshness::refuse_new(context, found.publisher, &found.called(), wish)?;
                    Grounds::Free
                }
                None => Grounds::listed(&found, wish, here),
            };
            grounds.ask(context, NAME, release).await?;
            freshness::warn(context, found.publisher, talk).await?;
            fetch::bring_listed(context, &found, Depth::Content, talk).await?;
            grounds.ask(context, NAME, release).await?;
            revocation::warn(context, found.release(), talk).await?;
            throwaway::hand_over(context, trial, &[found.release()], talk).await?;
            Ok(Subject { release: found.release(), own })
        }
        (None, None) => Err(Failure::usage("say what to test: `dir` or `reference`")),
    }
}

async fn play(context: &Context, trial: &Context, args: &Test, talk: &Talk) -> Result<Value, Failure> {
    let subject = subject(context, trial, args, talk).await?;
    subject.refuse_unasked(trial, &[], args).await?;
    let release = subject.release;
    let closure = closure::load(trial, release).await?;
    let answers = throwaway::placeholders(closure.root()?);
    let request = PlanRequest { answers, ..PlanRequest::new(NAME, release.id) };
    let outcome = provision::try_out(trial, request, release, talk).await?;
    verdict(&outcome)
}

/// What came of a softservice that was tried, as `test` answers.
///
/// # Errors
/// It did not even come up.
pub(super) fn verdict(outcome: &Value) -> Result<Value, Failure> {
    let tests = outcome["tests"].as_array().cloned().unwrap_or_default();
    let failed = tests.iter().filter(|t| t["ok"].as_bool() != Some(true)).count();
    if outcome["state"] != "running" && failed == 0 {
        // It did not even come up: no test says so, hence this does.
        let why = outcome["why"].as_str().unwrap_or("it did not become healthy").to_owned();
        return Err(Failure::failed(why).with(json!({ "passed": 0, "failed": 1, "tests": tests })));
    }
    Ok(json!({ "passed": tests.len() - failed, "failed": failed, "tests": tests, "phases": outcome["phases"] }))
}
