//! `test`: provisions every role in a throwaway place and runs the tests. Invariant: whatever happens - a failure, a
//! caller who went away, a node that stops - its services are stopped and its folder is removed.

use super::{
    failure::{Failure, Kind},
    fetch, lock, provision, publish, reference, source,
};
use crate::{Config, Context, Node, api::talk::Talk};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    io::Depth,
    release::{ParamKind, Release, ReleaseRef},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// How the softservice under test is called.
const NAME: &str = "test";
/// How long a stopping node waits for trials to clean up: services have their grace periods.
const PATIENCE: Duration = Duration::from_secs(60);

/// Trials that have not cleaned up yet, in this process.
static OPEN: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::channel(0).0);

/// Returns when every trial of this process has cleaned up.
pub(crate) async fn ended() {
    let mut open = OPEN.subscribe();
    // Cut off after a while: a node must stop also when a service of a trial does not.
    let _ = tokio::time::timeout(PATIENCE, open.wait_for(|n| *n == 0)).await;
}

struct Open;
impl Open {
    fn new() -> Self {
        OPEN.send_modify(|n| *n += 1);
        Self
    }
}
impl Drop for Open {
    fn drop(&mut self) {
        OPEN.send_modify(|n| *n = n.saturating_sub(1));
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    dir: Option<PathBuf>,
    reference: Option<String>,
}

pub(super) async fn test(context: &Context, args: Test, talk: &Talk) -> Result<Value, Failure> {
    if args.dir.is_some() == args.reference.is_some() {
        return Err(Failure::usage("say what to test: `dir` or `reference`"));
    }
    // In a task of its own: when the caller goes away this future is dropped, and the place must still be cleared.
    let (staying, gone) = oneshot::channel::<()>();
    let (context, talk) = (context.clone(), talk.clone());
    let work = tokio::spawn(async move {
        let _open = Open::new();
        in_throwaway_place(&context, &args, &talk, gone).await
    });
    let outcome = work.await;
    drop(staying);
    match outcome {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::new(Kind::Bug, format!("a bug in this program: {error}"))),
    }
}

async fn in_throwaway_place(
    context: &Context,
    args: &Test,
    talk: &Talk,
    gone: oneshot::Receiver<()>,
) -> Result<Value, Failure> {
    let began = Instant::now();
    let folder = tempfile::Builder::new().prefix("softservice-test-").tempdir()?;
    let config = Config {
        home: folder.path().join("home"),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        mdns: false,
        dht: false,
        keeper: context.config.keeper.clone(),
        ..Config::default()
    };
    let node =
        crate::start(config).await.map_err(|e| Failure::failed(format!("no throwaway node could be started: {e}")))?;
    let (trial, stop) = (node.context(), context.stop.clone());
    let mut outcome = tokio::select! {
        outcome = play(context, &trial, args, talk) => outcome,
        // Told or dropped: either way nobody waits for the outcome.
        _ = gone => Err(Failure::failed("the caller went away")),
        () = stop.wait() => Err(Failure::new(Kind::NoNode, "the node is stopping")),
    };
    drop(trial);
    clear(node).await;
    folder.close()?;
    if let Ok(answer) = &mut outcome {
        answer["seconds"] = json!(began.elapsed().as_secs_f64());
    }
    let answer = outcome?;
    match answer["failed"].as_u64() {
        Some(0) => Ok(answer),
        _ => Err(Failure::failed(format!(
            "{} of {} tests failed",
            answer["failed"],
            answer["tests"].as_array().map_or(0, Vec::len)
        ))
        .with(answer)),
    }
}

/// Stops whatever a trial started.
async fn clear(node: Node) {
    // The device alone: a whole context would keep the store open beyond the node.
    if let Err(error) = node.device().clear().await {
        tracing::warn!(%error, "a trial could not be cleared in order");
    }
    node.stop().await;
}

async fn play(context: &Context, trial: &Context, args: &Test, talk: &Talk) -> Result<Value, Failure> {
    let release = match (&args.dir, &args.reference) {
        (Some(dir), _) => from_folder(context, trial, dir.clone(), talk).await?,
        (None, Some(text)) => {
            let found = reference::find(context, text).await?;
            fetch::bring(context, found.release(), Depth::Content, talk).await?;
            hand_over(context, trial, &[found.release()], talk).await?;
            found.release()
        }
        (None, None) => return Err(Failure::usage("say what to test: `dir` or `reference`")),
    };
    let closure = super::closure::load(trial, release).await?;
    let answers = placeholders(closure.root()?);
    let outcome = provision::try_out(trial, NAME, release, answers, talk).await?;
    let tests = outcome["tests"].as_array().cloned().unwrap_or_default();
    let failed = tests.iter().filter(|t| t["ok"].as_bool() != Some(true)).count();
    if outcome["state"] != "running" && failed == 0 {
        // It did not even come up: no test says so, hence this does.
        let why = outcome["why"].as_str().unwrap_or("it did not become healthy").to_owned();
        return Err(Failure::failed(why).with(json!({ "passed": 0, "failed": 1, "tests": tests })));
    }
    Ok(json!({ "passed": tests.len() - failed, "failed": failed, "tests": tests, "phases": outcome["phases"] }))
}

async fn from_folder(context: &Context, trial: &Context, dir: PathBuf, talk: &Talk) -> Result<ReleaseRef, Failure> {
    let project = super::closure::blocking(move || source::read(&dir)).await?;
    let (lock, releases) = lock::resolve(context, &project, Depth::Content, talk).await?;
    let includes: Vec<ReleaseRef> = lock.includes.iter().map(|l| l.release).collect();
    hand_over(context, trial, &includes, talk).await?;
    let publisher = publish::own(trial).await?;
    Ok(publish::compile(trial, publisher, &project, lock, releases, talk).await?.reference)
}

/// Content goes from the node to the trial as it goes to any device: over a connection, verified.
async fn hand_over(context: &Context, trial: &Context, releases: &[ReleaseRef], talk: &Talk) -> Result<(), Failure> {
    if releases.is_empty() {
        return Ok(());
    }
    let addresses = context.handle.status().await?.addresses;
    let near: Vec<String> = addresses.iter().filter(|a| a.starts_with("/ip4/127.")).cloned().collect();
    for address in if near.is_empty() { addresses } else { near } {
        trial.handle.dial(address).await?;
    }
    for release in releases {
        fetch::bring(trial, *release, Depth::Content, talk).await?;
    }
    Ok(())
}

/// Something that fits, for questions that have no default: a test must run without its author being asked.
fn placeholders(release: &Release) -> BTreeMap<String, String> {
    let open = release.params.iter().filter(|p| p.default.is_none());
    open.map(|p| {
        let number = p.min.or(p.max).unwrap_or(1).to_string();
        let answer = match &p.kind {
            ParamKind::Text => "test".into(),
            ParamKind::Int | ParamKind::Size | ParamKind::Duration => number,
            ParamKind::Bool => "true".into(),
            ParamKind::Enum(of) => of.first().cloned().unwrap_or_default(),
            ParamKind::Hostname => "localhost".into(),
            ParamKind::Port => "8080".into(),
            ParamKind::Url => "http://localhost/".into(),
            ParamKind::Path => "/tmp".into(),
        };
        (p.name.clone(), answer)
    })
    .collect()
}
