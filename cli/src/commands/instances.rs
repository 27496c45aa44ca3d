//! `plan`, `up`, `update`, `rollback` and the rest of a softservice's life. Invariant: nothing that the owner has not
//! seen is agreed to: consent names the hash of the plan that was shown.

use super::{
    content, count, freshness, list, number, plan,
    questions::{self, Ask},
    short, text,
};
use crate::{
    args::{Answers, Target},
    client::Client,
    error::CliError,
    ui::{self, Ui},
};
use serde_json::{Value, json};
use softservice_node::verbs::failure::Kind;

fn arguments(target: &Target) -> Result<Value, CliError> {
    let set = questions::given(&target.answers)?;
    Ok(json!({
        "reference": target.reference, "name": target.name, "set": set, "roles": target.roles,
        "accept_expired": target.accept_expired,
    }))
}

fn with(mut arguments: Value, key: &str, value: impl Into<Value>) -> Value {
    arguments[key] = value.into();
    arguments
}

/// Shows every effect.
pub(super) async fn plan(client: &Client, ui: &mut Ui, target: &Target) -> Result<(), CliError> {
    let plan = answered(client, ui, &mut arguments(target)?).await?;
    ui.document(&plan);
    for line in plan::lines(&plan) {
        ui.data(line);
    }
    Ok(())
}

/// Calls a verb that makes a generation. What this machine cannot enforce is asked for where somebody can answer.
async fn provision(client: &Client, ui: &mut Ui, verb: &str, wanted: Value) -> Result<Value, CliError> {
    let error = match client.call(ui, verb, wanted.clone()).await {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let reduced = error.details.get("reduced").and_then(Value::as_array).cloned().unwrap_or_default();
    // A generation that was made says what it was made without; one that was refused has no state.
    if reduced.is_empty() || error.details.contains_key("state") {
        return Err(error);
    }
    for line in plan::reduced(&reduced) {
        ui.note(line);
    }
    match ui.ask("this machine cannot enforce that; go ahead without?").await {
        Some(true) => client.call(ui, verb, with(wanted, "accept_reduced", true)).await,
        _ => Err(error),
    }
}

/// Provisions.
pub(super) async fn up(
    client: &Client,
    ui: &mut Ui,
    target: &Target,
    hash: Option<String>,
    yes: bool,
    accept_reduced: bool,
) -> Result<(), CliError> {
    let mut wanted = arguments(target)?;
    let consent = match hash {
        Some(hash) => hash,
        None if yes => {
            questions::ask(client, ui, &mut wanted, Ask::Needed).await?;
            String::new()
        }
        None => {
            let plan = answered(client, ui, &mut wanted).await?;
            agree(ui, &plan, "go ahead?", false).await?
        }
    };
    let call = if consent.is_empty() { with(wanted, "yes", true) } else { with(wanted, "plan", consent) };
    let result = provision(client, ui, "up", with(call, "accept_reduced", accept_reduced)).await;
    finish(ui, result)
}

/// The plan, once the owner has answered what is open. Without a terminal the failure names the questions.
async fn answered(client: &Client, ui: &mut Ui, wanted: &mut Value) -> Result<Value, CliError> {
    questions::ask(client, ui, wanted, Ask::Everything).await?;
    freshness::call(client, ui, "plan", wanted).await
}

/// Shows a plan and asks; the hash is the consent. Without anybody to ask it goes on only when `quietly` allows.
async fn agree(ui: &mut Ui, plan: &Value, question: &str, quietly: bool) -> Result<String, CliError> {
    for line in plan::lines(plan) {
        ui.note(line);
    }
    match ui.ask(question).await {
        Some(true) => Ok(text(plan, "plan").to_owned()),
        Some(false) => Err(CliError::new(Kind::Refused, "not agreed to; nothing was changed")),
        None if quietly => Ok(text(plan, "plan").to_owned()),
        None => Err(CliError::new(Kind::Refused, "nobody is there to agree to the plan; nothing was changed")
            .hint(format!("--yes agrees to any plan, `up --plan {}` to this one", text(plan, "plan")))),
    }
}

/// Prints what came of a generation, also when it failed.
fn finish(ui: &mut Ui, result: Result<Value, CliError>) -> Result<(), CliError> {
    match result {
        Ok(done) => {
            ui.document(&done);
            for one in done.as_array().map_or(std::slice::from_ref(&done), Vec::as_slice) {
                story(ui, one);
            }
            Ok(())
        }
        Err(error) => {
            let details = Value::Object((*error.details).clone());
            if details.get("state").is_some() {
                story(ui, &details);
            }
            Err(error)
        }
    }
}

fn story(ui: &mut Ui, done: &Value) {
    ui.data(format!(
        "{}  {} {}  generation {}  {}",
        text(done, "softservice"),
        text(done, "distro"),
        text(done, "version"),
        number(done, "generation"),
        text(done, "state"),
    ));
    for endpoint in list(done, "endpoints") {
        ui.data(format!("  {}  {}", text(endpoint, "name"), text(endpoint, "url")));
    }
    if done["fetched"].is_object() {
        ui.data(format!("  fetched {}", ui::size(count(&done["fetched"], "new_bytes"))));
        if count(&done["fetched"], "wire_bytes") > 0 {
            for line in content::explained(&done["fetched"]) {
                ui.data(format!("    {line}"));
            }
        }
    }
    for (name, secret) in done["secrets"].as_object().into_iter().flatten() {
        ui.data(format!("  secret {name}  {}  (shown this once)", secret.as_str().unwrap_or_default().trim_end()));
    }
    for test in list(done, "tests") {
        ui.data(format!("  {}", test_line(test)));
    }
    for line in plan::reduced(list(done, "reduced")) {
        ui.note(line);
    }
    for warning in list(done, "warnings") {
        ui.note(format!("warning: {}", text(warning, "message")));
    }
    if let Some(phases) = done["phases"].as_object().filter(|p| !p.is_empty()) {
        let each: Vec<String> = phases.iter().map(|(k, v)| format!("{k} {:.2}", v.as_f64().unwrap_or(0.0))).collect();
        ui.data(format!("  {:.2} s: {}", done["seconds"].as_f64().unwrap_or(0.0), each.join(", ")));
    }
}

/// One test's outcome.
pub(super) fn test_line(test: &Value) -> String {
    let outcome = if test["ok"].as_bool() == Some(true) { "pass" } else { "FAIL" };
    let seconds = test["seconds"].as_f64().unwrap_or(0.0);
    let output = text(test, "output");
    let tail = if outcome == "FAIL" && !output.is_empty() { format!("  {output}") } else { String::new() };
    format!("{outcome}  {:20} on {}  {seconds:.2} s{tail}", text(test, "name"), text(test, "role"))
}

/// Moves to the newest.
pub(super) async fn update(
    client: &Client,
    ui: &mut Ui,
    name: Option<String>,
    answers: &Answers,
    yes: bool,
    accept_reduced: bool,
    accept_expired: bool,
) -> Result<(), CliError> {
    let set = questions::given(answers)?;
    if name.is_none() && !set.is_empty() {
        return Err(
            CliError::new(Kind::Usage, "answers are for one softservice; name it").hint("update NAME --set K=V")
        );
    }
    if let Some(name) = name {
        let wanted = json!({ "name": name, "set": set, "accept_expired": accept_expired });
        return match update_one(client, ui, wanted, yes, accept_reduced).await {
            Ok(Some(done)) => finish(ui, Ok(done)),
            Ok(None) => {
                // The node says that there is nothing to do, with the state as it is.
                let result = client.call(ui, "update", json!({ "name": name, "yes": true })).await;
                finish(ui, result)
            }
            Err(error) => finish(ui, Err(error)),
        };
    }
    update_all(client, ui, yes, accept_reduced, accept_expired).await
}

/// Each softservice that its owner wants to run and to change. One that cannot be updated is no reason to leave the next
/// as it is: all are tried, and the first error tells the exit code.
async fn update_all(
    client: &Client,
    ui: &mut Ui,
    yes: bool,
    accept_reduced: bool,
    accept_expired: bool,
) -> Result<(), CliError> {
    let all = client.call(ui, "ps", json!({})).await?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let mut first = None;
    for one in all.as_array().map_or(&[][..], Vec::as_slice) {
        let name = text(one, "name");
        if one["held"].as_bool() == Some(true) {
            ui.note(format!("{name} is held"));
            continue;
        }
        if text(one, "state") == "stopped" {
            ui.note(format!("{name} is stopped; `softservice update {name}` updates and starts it"));
            continue;
        }
        let wanted = json!({ "name": name, "accept_expired": accept_expired });
        match update_one(client, ui, wanted, yes, accept_reduced).await {
            Ok(Some(result)) => done.push(result),
            Ok(None) => ui.note(format!("{name} is at its newest release")),
            Err(error) => {
                ui.note(format!("{name} is not updated: {}", error.message));
                failed.push(name.to_owned());
                first.get_or_insert(error);
            }
        }
    }
    let Some(first) = first else { return finish(ui, Ok(Value::Array(done))) };
    done.iter().for_each(|one| story(ui, one));
    let message = format!("not updated: {}; {}: {}", failed.join(", "), failed[0], first.message);
    let details = json!({ "updated": done, "not_updated": failed });
    let details = Box::new(details.as_object().cloned().unwrap_or_default());
    Err(CliError { message, details, ..first })
}

/// None when there is nothing newer.
async fn update_one(
    client: &Client,
    ui: &mut Ui,
    mut wanted: Value,
    yes: bool,
    accept_reduced: bool,
) -> Result<Option<Value>, CliError> {
    let plan = match freshness::call(client, ui, "plan_update", &mut wanted).await {
        Ok(plan) => plan,
        // A newer release may ask what the present one did not.
        Err(error) if ui.can_ask() && questions::ask_listed(ui, &error, &mut wanted).await? => {
            client.call(ui, "plan_update", wanted.clone()).await?
        }
        Err(error) => return Err(error),
    };
    if plan["newer"].as_bool() == Some(false) {
        return Ok(None);
    }
    wanted["accept_reduced"] = accept_reduced.into();
    if yes {
        return provision(client, ui, "update", with(wanted, "yes", true)).await.map(Some);
    }
    // The verb itself says yes to what the softservice may do already; wider permissions need an answer.
    let widens = !list(&plan["permissions"], "added").is_empty();
    let hash = agree(ui, &plan, "update?", !widens).await?;
    provision(client, ui, "update", with(wanted, "plan", hash)).await.map(Some)
}

/// Plans with one verb, asks, and does it with another.
pub(super) async fn agreed(
    client: &Client,
    ui: &mut Ui,
    plan: &str,
    verb: &str,
    mut wanted: Value,
    hash: Option<&str>,
    yes: bool,
) -> Result<(), CliError> {
    let wanted = match hash {
        Some(hash) => with(wanted, "plan", hash),
        None if yes => with(wanted, "yes", true),
        None => {
            let shown = freshness::call(client, ui, plan, &mut wanted).await?;
            let hash = agree(ui, &shown, "go ahead?", false).await?;
            with(wanted, "plan", hash)
        }
    };
    let result = provision(client, ui, verb, wanted).await;
    finish(ui, result)
}

/// Goes back. Where data stays as it is, and nothing is allowed that is not now, nobody is asked.
pub(super) async fn rollback(
    client: &Client,
    ui: &mut Ui,
    wanted: Value,
    yes: bool,
    accept_reduced: bool,
) -> Result<(), CliError> {
    let plan = client.call(ui, "plan_rollback", wanted.clone()).await?;
    let wanted = with(wanted, "accept_reduced", accept_reduced);
    let loses = plan["loses_data"].as_bool() == Some(true);
    let widens = !list(&plan["permissions"], "added").is_empty();
    let question = match (loses, widens) {
        (true, _) => "go back, and leave behind what was written since?",
        (false, true) => "go back to what may do more than what runs now?",
        (false, false) => "",
    };
    let wanted = match question {
        "" => wanted,
        _ if yes => with(wanted, "yes", true),
        question => {
            let hash = agree(ui, &plan, question, false).await?;
            with(wanted, "plan", hash)
        }
    };
    let result = provision(client, ui, "rollback", wanted).await;
    finish(ui, result)
}

/// Verbs that change one thing about one softservice.
pub(super) async fn simple(client: &Client, ui: &mut Ui, verb: &str, wanted: Value, now: &str) -> Result<(), CliError> {
    let name = text(&wanted, "name").to_owned();
    let done = client.call(ui, verb, wanted).await?;
    ui.document(&done);
    ui.data(format!("{name} {now}"));
    Ok(())
}

/// Takes it away.
pub(super) async fn remove(client: &Client, ui: &mut Ui, name: &str, data: bool) -> Result<(), CliError> {
    let done = client.call(ui, "remove", json!({ "name": name, "data": data })).await?;
    ui.document(&done);
    ui.data(if data { format!("{name} and its data are removed") } else { format!("{name} is removed") });
    for kept in list(&done, "kept").iter().filter_map(Value::as_str) {
        ui.note(format!("its data stays in {kept}; `remove --data` takes that as well"));
    }
    Ok(())
}

/// What it was and is.
pub(super) async fn generations(client: &Client, ui: &mut Ui, name: &str) -> Result<(), CliError> {
    let all = client.call(ui, "generations", json!({ "name": name })).await?;
    ui.document(&all);
    let rows: Vec<_> = all
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|g| {
            let current = if g["current"].as_bool() == Some(true) { "*" } else { "" };
            vec![
                current.into(),
                number(g, "generation"),
                text(g, "version").into(),
                short(text(g, "release")),
                text(g, "state").into(),
                text(g, "why").into(),
            ]
        })
        .collect();
    ui.data(ui::table(&["", "GENERATION", "VERSION", "RELEASE", "STATE", "WHY"], &rows));
    Ok(())
}

/// What is here.
pub(super) async fn ps(client: &Client, ui: &mut Ui, name: Option<String>) -> Result<(), CliError> {
    let all = client.call(ui, "ps", json!({ "name": name })).await?;
    ui.document(&all);
    let all = all.as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        ui.note("no softservices; `softservice up REF` provisions one");
        return Ok(());
    }
    let mut rows = Vec::new();
    for one in all {
        let held = if one["held"].as_bool() == Some(true) { " held" } else { "" };
        rows.push(vec![
            text(one, "name").into(),
            format!("{} {}", text(one, "distro"), text(one, "version")),
            number(one, "generation"),
            format!("{}{held}", text(one, "state")),
            String::new(),
            String::new(),
        ]);
        for service in list(one, "services") {
            rows.push(vec![
                format!("  {}", text(service, "name")),
                String::new(),
                String::new(),
                text(service, "state").into(),
                number(service, "pid"),
                number(service, "restarts"),
            ]);
        }
        for endpoint in list(one, "endpoints") {
            rows.push(vec![format!("  {} {}", text(endpoint, "name"), text(endpoint, "url"))]);
        }
    }
    ui.data(ui::table(&["NAME", "DISTRO", "GENERATION", "STATE", "PID", "RESTARTS"], &rows));
    for one in all {
        trouble(ui, one);
        super::revoked::running(ui, one);
        freshness::running(ui, one);
        super::overlay::tasks(ui, one);
    }
    Ok(())
}

/// What is the matter with a softservice whose owner is needed.
pub(super) fn trouble(ui: &mut Ui, of: &Value) {
    if let Some(why) = of["why"].as_str() {
        ui.data(why);
    }
}

/// What its services said.
pub(super) async fn logs(client: &Client, ui: &mut Ui, name: &str, follow: bool) -> Result<(), CliError> {
    let (name, service) = match name.split_once('/') {
        Some((name, service)) => (name, Some(service)),
        None => (name, None),
    };
    let wanted = json!({ "name": name, "service": service, "follow": follow });
    let mut print = |ui: &mut Ui, line: &Value| {
        ui.document(line);
        ui.data(format!("{} | {}", text(line, "service"), text(line, "line")));
    };
    client.stream(ui, "logs", wanted, &mut print).await?;
    Ok(())
}
