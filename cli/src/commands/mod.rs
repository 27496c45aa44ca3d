//! One function for each verb: arguments to the node's words, its answer to the reader's. Invariant: nothing is
//! decided here; a program that speaks the API gets the same results.

mod author;
mod backup;
mod catalogue;
mod content;
mod freshness;
mod instances;
mod new;
mod node;
mod overlay;
mod plan;
mod publisher;
mod questions;
mod revoked;
mod status;

use crate::{
    args::{Cli, Verb},
    client::Client,
    demo,
    error::CliError,
    home,
    session::Session,
    ui::{Ui, seen},
};
use clap::CommandFactory as _;
use serde_json::{Value, json};
use softservice_node::verbs::failure::Kind;
use std::io::Write as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the verb.
pub(crate) async fn run(cli: Cli, ui: &mut Ui) -> Result<(), CliError> {
    match cli.verb {
        Verb::Completions { shell } => {
            // Into memory first: the generator panics on a pipe that somebody closes.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "softservice", &mut script);
            ui.raw(&script);
            Ok(())
        }
        Verb::New { dir, template } => new::run(ui, &dir, &template),
        Verb::Check { dir } => author::check(ui, &dir),
        Verb::Demo(args) => {
            // A shared closure tells the story, so the printer is told afterwards.
            let quiet = ui.is_quiet();
            let say = move |line: &str| {
                if !quiet {
                    // Whoever closed stderr, or hung up, has heard enough; what was begun is cleared up all the same.
                    let _ = writeln!(std::io::stderr(), "{}", seen(line));
                }
            };
            let report = demo::run(args.keep, &say).await.map_err(|e| CliError::new(Kind::Failed, e.to_string()))?;
            ui.document(&report);
            Ok(())
        }
        Verb::Keeper { .. } | Verb::ServeStatic { .. } => {
            Err(CliError::new(Kind::Bug, "a keeper starts before everything else"))
        }
        Verb::Node(args) => node::run(ui, home::of(&cli.global)?, args).await,
        Verb::Stop => node::stop(ui, home::of(&cli.global)?).await,
        verb => {
            let verb = match verb {
                Verb::Publisher(verb) => match publisher::offline(ui, verb).await? {
                    Some(verb) => Verb::Publisher(verb),
                    None => return Ok(()),
                },
                verb => verb,
            };
            let session = Session::new(home::of(&cli.global)?);
            let client = session.client();
            let result = tokio::select! {
                result = with_node(verb, &client, ui) => Some(result),
                () = interrupted() => None,
            };
            session.close(ui, result.is_none()).await;
            result.unwrap_or_else(|| Err(CliError::new(Kind::Failed, "interrupted")))
        }
    }
}

async fn with_node(verb: Verb, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    match verb {
        Verb::Status => status::status(client, ui).await,
        Verb::Peers => status::peers(client, ui).await,
        Verb::Test { what, matrix, restore, releases, accept_expired, yes, accept_reduced, accept_revoked } => {
            let wanted = json!({
                "matrix": matrix, "restore": restore, "releases": releases, "yes": yes, "accept_reduced": accept_reduced,
                "accept_revoked": accept_revoked, "accept_expired": accept_expired,
            });
            author::test(client, ui, &what, wanted).await
        }
        Verb::Publish { dir, channel, reread, allow_secrets, hands } => {
            let wanted = json!({
                "dir": home::absolute(&dir)?, "channel": channel, "reread": reread, "allow_secrets": allow_secrets,
                "alone": hands.alone, "signing": publisher::hands(&hands)?,
            });
            author::publish(client, ui, wanted).await
        }
        Verb::Revoke { reference, level, reason, replaced_by, hands } => {
            let wanted = json!({
                "reference": reference, "level": level.name(), "reason": reason, "replaced_by": replaced_by,
                "alone": hands.alone, "signing": publisher::hands(&hands)?,
            });
            revoked::revoke(client, ui, wanted).await
        }
        Verb::Ticket { publisher, expires } => {
            author::ticket(client, ui, publisher, expires.map(|d| d.0.div_ceil(1000))).await
        }
        Verb::Publisher(verb) => publisher::run(client, ui, verb).await,
        Verb::Subscribe { ticket, petname, policy, quota } => {
            catalogue::subscribe(client, ui, &ticket, petname, policy.name(), quota).await
        }
        Verb::Unsubscribe { publisher } => catalogue::unsubscribe(client, ui, &publisher).await,
        Verb::Subscriptions => catalogue::subscriptions(client, ui).await,
        Verb::Search { text } => catalogue::search(client, ui, text).await,
        Verb::Show { reference } => catalogue::show(client, ui, &reference).await,
        Verb::Improve { reference, dir } => catalogue::improve(client, ui, &reference, &dir).await,
        Verb::Lineage { reference } => catalogue::lineage(client, ui, &reference).await,
        Verb::Plan(target) => instances::plan(client, ui, &target).await,
        Verb::Up { target, plan, yes, accept_reduced } => {
            instances::up(client, ui, &target, plan, yes, accept_reduced).await
        }
        Verb::Update { name, answers, yes, accept_reduced, accept_expired } => {
            instances::update(client, ui, name, &answers, yes, accept_reduced, accept_expired).await
        }
        Verb::Rollback { name, to, yes, accept_reduced, accept_revoked } => {
            let wanted = json!({ "name": name, "to": to, "accept_revoked": accept_revoked });
            instances::rollback(client, ui, wanted, yes, accept_reduced).await
        }
        Verb::Hold { name } => instances::simple(client, ui, "hold", json!({ "name": name }), "is held").await,
        Verb::Unhold { name } => {
            instances::simple(client, ui, "unhold", json!({ "name": name }), "is held no more").await
        }
        Verb::Down { name } => instances::simple(client, ui, "down", json!({ "name": name }), "is down").await,
        Verb::Start { name, accept_revoked } => {
            let wanted = json!({ "name": name, "accept_revoked": accept_revoked });
            instances::simple(client, ui, "start", wanted, "is up").await
        }
        Verb::Remove { name, data } => instances::remove(client, ui, &name, data).await,
        Verb::Backup(args) => backup::backup(client, ui, &args).await,
        Verb::Restore(args) => backup::restore(client, ui, &args).await,
        Verb::Overlay(args) => overlay::run(client, ui, &args).await,
        Verb::Generations { name } => instances::generations(client, ui, &name).await,
        Verb::Ps { name } => instances::ps(client, ui, name).await,
        Verb::Logs { name, follow } => instances::logs(client, ui, &name, follow).await,
        Verb::Fetch { reference } => content::fetch(client, ui, &reference).await,
        Verb::Pin { reference } => content::pin(client, ui, "pin", &reference).await,
        Verb::Unpin { reference } => content::pin(client, ui, "unpin", &reference).await,
        Verb::Quota { publisher, size, total } => content::quota(client, ui, publisher, size, total).await,
        Verb::Gc => content::gc(client, ui).await,
        Verb::Fsck { repair } => content::fsck(client, ui, repair).await,
        other => Err(CliError::new(Kind::Bug, format!("no command for {other:?}"))),
    }
}

/// SIGINT, SIGTERM, or SIGHUP: the terminal is gone. `nohup` asks to go on then, and is obeyed. Heard from the call on, not
/// from the first look at the future.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    let hear = |kind| signal(kind).ok();
    let (interrupt, terminate) = (hear(SignalKind::interrupt()), hear(SignalKind::terminate()));
    let hangup = Some(SignalKind::hangup()).filter(|kind| !is_ignored(*kind)).and_then(hear);
    async {
        tokio::select! { () = heard(interrupt) => {}, () = heard(terminate) => {}, () = heard(hangup) => {} }
    }
}

async fn heard(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        // Without a handler the signal does what it does by default.
        None => std::future::pending().await,
    }
}

/// Whether this process was started to ignore a signal; a handler of ours would undo that.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

/// A text field, empty when it is not there.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
/// A number as text, `-` when it is not there.
fn number(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Number(n) => n.to_string(),
        _ => "-".into(),
    }
}
fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
/// The first digits of an id: what people read and may type.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}
