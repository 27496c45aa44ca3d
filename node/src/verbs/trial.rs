//! `test`: provisions every role in a throwaway place and runs the tests; or backs it up and brings it back elsewhere; or
//! does the whole matrix of what an owner may do with it. Invariant: it is told how each test ended, also when one failed.

use super::{
    closure, drill,
    failure::Failure,
    fetch,
    freshness::{self, Wish},
    grounds::Grounds,
    instances, matrix, provision, reference,
    throwaway::{self, Throwaway},
};
use crate::{Context, api::talk::Talk, device::PlanRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{io::Depth, release::ReleaseRef};
use std::{path::PathBuf, time::Instant};

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
pub(super) async fn subject(
    context: &Context,
    trial: &Context,
    args: &Test,
    talk: &Talk,
) -> Result<ReleaseRef, Failure> {
    match (&args.dir, &args.reference) {
        (Some(dir), _) => throwaway::from_folder(context, trial, dir.clone(), talk).await,
        (None, Some(text)) => {
            let found = reference::find(context, text).await?;
            // A test runs what it tests, in a throwaway place, but on this machine.
            let release = found.listing.release;
            let wish = Wish::Owner { accept_expired: args.accept_expired };
            let grounds = Grounds::listed(&found, wish, instances::runs(context, release).await?);
            grounds.ask(context, NAME, release).await?;
            freshness::warn(context, found.publisher, talk).await?;
            fetch::bring_listed(context, &found, Depth::Content, talk).await?;
            grounds.ask(context, NAME, release).await?;
            throwaway::hand_over(context, trial, &[found.release()], talk).await?;
            Ok(found.release())
        }
        (None, None) => Err(Failure::usage("say what to test: `dir` or `reference`")),
    }
}

async fn play(context: &Context, trial: &Context, args: &Test, talk: &Talk) -> Result<Value, Failure> {
    let release = subject(context, trial, args, talk).await?;
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
