//! `check`, `test`, `publish`, `ticket`: what an author does.

use super::{count, freshness, instances::test_line, list, number, plan, short, text};
use crate::{
    client::Client,
    error::CliError,
    home,
    ui::{self, Ui},
};
use serde_json::{Value, json};
use std::path::Path;

/// Checks a definition; needs no node.
pub(super) fn check(ui: &mut Ui, dir: &Path) -> Result<(), CliError> {
    let result = softservice_node::verbs::check::check(&home::absolute(dir)?).map_err(CliError::from);
    let found = match &result {
        Ok(found) => found.clone(),
        Err(error) => Value::Object((*error.details).clone()),
    };
    for problem in list(&found, "problems") {
        ui.data(format!(
            "{}:{}:{}: {}: {}",
            text(problem, "file"),
            number(problem, "line"),
            number(problem, "column"),
            text(problem, "severity"),
            text(problem, "message")
        ));
        if let Some(hint) = problem["hint"].as_str() {
            ui.data(format!("  {hint}"));
        }
    }
    let found = result?;
    more(ui, &found);
    ui.document(&found);
    let advice = match list(&found, "problems").len() {
        0 => String::new(),
        1 => ", with 1 piece of advice".into(),
        n => format!(", with {n} pieces of advice"),
    };
    ui.data(format!("{} {} is a sound definition{advice}", text(&found, "distro"), text(&found, "version")));
    Ok(())
}

/// Likely secrets that are not listed must not be taken for none.
fn more(ui: &mut Ui, of: &Value) {
    let more = count(of, "secrets_not_listed");
    if more > 0 {
        ui.data(format!("and {more} more likely secrets"));
    }
}

/// Provisions it in a throwaway place.
pub(super) async fn test(client: &Client, ui: &mut Ui, what: &str, mut wanted: Value) -> Result<(), CliError> {
    let path = Path::new(what);
    if path.is_dir() {
        wanted["dir"] = json!(home::absolute(path)?);
    } else {
        wanted["reference"] = what.into();
    }
    let is = |key: &str| wanted[key].as_bool() == Some(true);
    let (restore, matrix) = (is("restore"), is("matrix"));
    let result = match freshness::call(client, ui, "test", &mut wanted).await {
        Err(error) => match agreed(ui, &error, wanted).await {
            Some(wanted) => client.call(ui, "test", wanted).await,
            None => Err(error),
        },
        done => done,
    };
    let found = match &result {
        Ok(found) => found.clone(),
        Err(error) => Value::Object((*error.details).clone()),
    };
    let line = if restore { drill_line } else { test_line };
    list(&found, "tests").iter().for_each(|test| ui.data(line(test)));
    for volume in list(&found["restore"], "volumes") {
        let (entries, bytes) = (count(volume, "entries"), ui::size(count(volume, "bytes")));
        ui.data(format!("same  volume {}: {entries} entries, {bytes}, bit by bit", text(volume, "volume")));
    }
    for role in list(&found["restore"], "hooks").iter().filter_map(Value::as_str) {
        ui.data(format!("back  data of role {role}, by its own program"));
    }
    list(&found, "matrix").iter().for_each(|row| ui.data(row_line(row)));
    let found = result?;
    ui.document(&found);
    ui.data(format!("{} passed, {} failed", count(&found, "passed"), count(&found, "failed")));
    if !matrix && list(&found, "tests").is_empty() {
        ui.note("the definition declares no tests: it came up healthy, nothing more is known");
    }
    Ok(())
}

/// Shows what somebody else's release would be allowed, or held to less, and asks; a yes is to the release that was shown.
async fn agreed(ui: &mut Ui, error: &CliError, mut wanted: Value) -> Option<Value> {
    let release = error.details.get("release")?.clone();
    let asked = error.details.get("permissions")?;
    for permission in list(asked, "added").iter().filter_map(Value::as_str) {
        ui.note(format!("  + {permission}"));
    }
    for line in plan::reduced(error.details.get("reduced").and_then(Value::as_array)?) {
        ui.note(line);
    }
    if ui.ask("run it here, in a throwaway place?").await != Some(true) {
        return None;
    }
    (wanted["reference"], wanted["yes"], wanted["accept_reduced"]) = (release, true.into(), true.into());
    Some(wanted)
}

/// A test before or after a restore, or a step between them.
fn drill_line(test: &Value) -> String {
    let verdict = if test["ok"].as_bool() == Some(true) { "pass" } else { "FAIL" };
    let seconds = test["seconds"].as_f64().unwrap_or_default();
    let line = format!(
        "{verdict}  {:8} {:20} {seconds:.2} s  {}",
        text(test, "when"),
        text(test, "name"),
        text(test, "output")
    );
    line.trim_end().to_owned()
}

/// A row of the matrix.
fn row_line(row: &Value) -> String {
    let verdict = if row["ok"].as_bool() == Some(true) { "pass" } else { "FAIL" };
    let seconds = row["seconds"].as_f64().unwrap_or_default();
    format!("{verdict}  {:20} {seconds:.1} s  {}", text(row, "name"), text(row, "output"))
}

/// Signs and announces; or tells of each likely secret that keeps it from being published.
pub(super) async fn publish(client: &Client, ui: &mut Ui, wanted: Value) -> Result<(), CliError> {
    let asked = wanted["signing"]["out"].clone();
    let done = match super::publisher::speak(client, ui, "publish", wanted).await {
        Ok(done) => done,
        Err(error) => {
            let details = Value::Object((*error.details).clone());
            for one in list(&details, "secrets") {
                let (file, line) = (text(one, "file"), number(one, "line"));
                ui.data(format!("{file}:{line}: {}, {}", text(one, "kind"), text(one, "shown")));
            }
            more(ui, &details);
            return Err(error);
        }
    };
    ui.document(&done);
    ui.data(format!(
        "{} {}  {}  entry {}",
        text(&done, "distro"),
        text(&done, "version"),
        short(text(&done, "release")),
        number(&done, "sequence")
    ));
    ui.data(format!(
        "  {}, of which {} are new here",
        ui::size(count(&done, "bytes")),
        ui::size(count(&done, "new_bytes"))
    ));
    match done["ticket"].as_str() {
        Some(ticket) => ui.data(format!("  {ticket}")),
        None => super::publisher::asked(ui, &done, &asked),
    }
    Ok(())
}

/// A line to hand out.
pub(super) async fn ticket(
    client: &Client,
    ui: &mut Ui,
    publisher: Option<String>,
    expires_in: Option<u64>,
) -> Result<(), CliError> {
    let done = client.call(ui, "ticket", json!({ "publisher": publisher, "expires_in": expires_in })).await?;
    ui.document(&done);
    for told in list(&done, "warnings").iter().filter_map(Value::as_str) {
        ui.note(format!("warning: {told}"));
    }
    ui.note(format!("key words, to be compared by voice: {}", text(&done, "words")));
    ui.data(text(&done, "ticket"));
    ui.qr(text(&done, "ticket"));
    Ok(())
}
