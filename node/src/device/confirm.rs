//! Confirmation: health, tests, and the time to settle. Invariant: every test's result is written down, whether it passed
//! or not, before anybody is told.

use super::{
    error::{DeviceError, Result},
    probes,
    record::TestResult,
    services::{Services, span},
};
use softservice_protocol::instance::{Instance, TestSpec};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first wait between two tries of a test; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The longest that one try may take, within what its test has left.
const TRY: Duration = Duration::from_secs(30);

/// Health of all, then the tests, then `settle`.
pub(super) async fn confirm(services: &Services<'_>, instance: &Instance, occasion: &str) -> Result<()> {
    for service in &instance.services {
        services.healthy(service).await?;
    }
    let mut results = Vec::new();
    for test in instance.tests.iter().filter(|t| due(t, occasion)) {
        results.push(run(services, test).await);
    }
    let failed: Vec<&TestResult> = results.iter().filter(|r| !r.ok).collect();
    let verdict = failed.first().map(|first| DeviceError::Tests {
        name: services.place.name.clone(),
        number: services.number,
        failed: failed.len(),
        of: results.len(),
        why: format!("{}: {}", first.name, first.output),
    });
    services.place.change_record(services.number, |r| r.tests = results)?;
    if let Some(error) = verdict {
        return Err(error);
    }
    let watched = instance.services.iter().map(|s| services.settles(s, span(instance.settle)));
    futures::future::try_join_all(watched).await.map(drop)
}

fn due(test: &TestSpec, occasion: &str) -> bool {
    test.when.is_empty() || test.when.iter().any(|w| w == occasion || w == "always")
}

async fn run(services: &Services<'_>, test: &TestSpec) -> TestResult {
    let began = Instant::now();
    let end = began + span(test.within);
    let what = format!("{}.test.{}", services.number, test.name);
    let run = |argv: &[String]| services.once(&what, &test.sandbox, argv, &test.environment);
    let mut wait = FIRST_WAIT;
    let outcome = loop {
        let left = end.saturating_duration_since(Instant::now()).max(FIRST_WAIT);
        match probes::ask(&test.probe, left.min(TRY), &test.sandbox.connect, &run).await {
            Ok(()) => break Ok(()),
            Err(why) if Instant::now() + wait >= end => break Err(why),
            Err(_) => sleep(wait).await,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    };
    let ok = outcome.is_ok();
    TestResult {
        name: test.name.clone(),
        role: test.role.clone(),
        ok,
        seconds: began.elapsed().as_secs_f64(),
        output: outcome.err().unwrap_or_default(),
    }
}
