//! `overlay`: the owner's own changes of a softservice.

use super::{instances, list, text};
use crate::{
    args::OverlayArgs,
    client::Client,
    error::CliError,
    ui::{self, Ui},
};
use serde_json::{Value, json};
use softservice_node::verbs::failure::Kind;

/// Shows it, prints one text of it, or changes it.
pub(super) async fn run(client: &Client, ui: &mut Ui, args: &OverlayArgs) -> Result<(), CliError> {
    if let Some(file) = &args.print {
        return print(client, ui, args, file).await;
    }
    let mut edits = Vec::new();
    for (path, file) in args.files() {
        let text = std::fs::read_to_string(&file)
            .map_err(|e| CliError::new(Kind::Usage, format!("{}: {e}", file.display())))?;
        edits.push(json!({ "set_file": { "path": path, "text": text, "mode": args.mode } }));
    }
    let variables = args.set_env.iter();
    edits.extend(variables.map(|(s, n, v)| json!({ "set_env": { "service": s, "name": n, "value": v } })));
    edits.extend(args.drop.iter().map(|key| json!({ "drop": key })));
    if edits.is_empty() {
        return show(client, ui, args).await;
    }
    let wanted = json!({
        "name": args.name, "edits": edits, "next": args.next, "accept_reduced": args.accept_reduced,
        "accept_expired": args.accept_expired, "accept_revoked": args.accept_revoked,
    });
    instances::agreed(client, ui, "plan_overlay", "set_overlay", wanted, args.plan.as_deref(), args.yes).await
}

async fn show(client: &Client, ui: &mut Ui, args: &OverlayArgs) -> Result<(), CliError> {
    let found = client.call(ui, "overlay", json!({ "name": args.name, "next": args.next })).await?;
    ui.document(&found);
    let mut rows = Vec::new();
    for (service, variables) in found["environment"].as_object().into_iter().flatten() {
        for (name, value) in variables.as_object().into_iter().flatten() {
            rows.push(vec![format!("{service}.{name}"), format!("your own: {}", value.as_str().unwrap_or_default())]);
        }
    }
    for file in list(&found, "files") {
        let whose = match (file["own"].is_string(), file["authored"].is_string()) {
            (true, true) => "your own text over the author's",
            (true, false) => "your own file",
            _ => "the author's",
        };
        rows.push(vec![text(file, "path").into(), whose.into()]);
    }
    if rows.is_empty() {
        ui.note("it has no files, and you set no variables of your own");
    } else {
        ui.data(ui::table(&["WHAT", "WHOSE"], &rows));
    }
    tasks(ui, &found);
    Ok(())
}

/// What the owner has to decide, with the commands that do it.
pub(super) fn tasks(ui: &mut Ui, of: &Value) {
    for task in list(of, "tasks") {
        ui.data(format!("to do  {} {}: {}", text(task, "softservice"), text(task, "what"), text(task, "why")));
        for way in list(task, "resolve").iter().filter_map(Value::as_str) {
            ui.data(format!("       {way}"));
        }
    }
}

async fn print(client: &Client, ui: &mut Ui, args: &OverlayArgs, file: &str) -> Result<(), CliError> {
    let wanted = json!({ "name": args.name, "next": args.next, "file": file });
    let found = client.call(ui, "overlay", wanted).await?;
    ui.document(&found);
    if let Some(one) = list(&found, "files").first().filter(|_| !ui.is_json()) {
        let best = ["marked", "own", "authored"].into_iter().find_map(|key| one[key].as_str());
        // A program gets every byte; a person nothing that moves the cursor, for somebody else wrote it.
        match best.unwrap_or_default() {
            text if ui.is_terminal() => ui.data(text.strip_suffix('\n').unwrap_or(text)),
            text => ui.raw(text.as_bytes()),
        }
    }
    Ok(())
}
