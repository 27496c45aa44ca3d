//! `fetch`, `pin`, `unpin`, `gc`, `fsck`: the care of content.

use super::{count, list, short, text};
use crate::{
    client::Client,
    error::CliError,
    ui::{self, Ui},
};
use serde_json::{Value, json};

/// Brings a release here.
pub(super) async fn fetch(client: &Client, ui: &mut Ui, reference: &str) -> Result<(), CliError> {
    let done = client.call(ui, "fetch", json!({ "reference": reference })).await?;
    ui.document(&done);
    ui.data(format!("{}  {}", short(text(&done, "release")), fetched(&done)));
    ui.data(phases(&done));
    for line in by_peer(&done) {
        ui.data(line);
    }
    Ok(())
}

/// One line about what a fetch moved.
pub(super) fn fetched(figures: &Value) -> String {
    let seconds = figures["seconds"].as_f64().unwrap_or(0.0);
    format!(
        "{}, of which {} were new, {} twice, {} on the wire, in {seconds:.2} s",
        ui::size(count(figures, "bytes")),
        ui::size(count(figures, "new_bytes")),
        ui::size(count(figures, "duplicates")),
        ui::size(count(figures, "wire_bytes")),
    )
}

/// What the seconds went into.
pub(super) fn phases(figures: &Value) -> String {
    let seconds = |phase: &str| figures["phases"][phase].as_f64().unwrap_or(0.0);
    let (look, transfer, assemble) = (seconds("look"), seconds("transfer"), seconds("assemble"));
    format!("  looking what is here {look:.2} s, transfer {transfer:.2} s, whole objects made durable {assemble:.2} s")
}

/// Who gave how much.
pub(super) fn by_peer(figures: &Value) -> Vec<String> {
    let peers = figures["by_peer"].as_object();
    let line =
        |(peer, bytes): (&String, &Value)| format!("  from {}  {}", short(peer), ui::size(bytes.as_u64().unwrap_or(0)));
    peers.map(|p| p.iter().map(line).collect()).unwrap_or_default()
}

/// Keeps a release through every `gc`, or no more.
pub(super) async fn pin(client: &Client, ui: &mut Ui, verb: &str, reference: &str) -> Result<(), CliError> {
    let done = client.call(ui, verb, json!({ "reference": reference })).await?;
    ui.document(&done);
    ui.data(format!("{}  {verb}ned", short(text(&done, "release"))));
    Ok(())
}

/// Frees what nothing needs.
pub(super) async fn gc(client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let swept = client.call(ui, "gc", json!({})).await?;
    ui.document(&swept);
    ui.data(format!(
        "{} objects removed, {} freed, {} objects kept",
        count(&swept, "removed"),
        ui::size(count(&swept, "freed")),
        count(&swept, "kept")
    ));
    Ok(())
}

/// Reads everything.
pub(super) async fn fsck(client: &Client, ui: &mut Ui, repair: bool) -> Result<(), CliError> {
    let result = client.call(ui, "fsck", json!({ "repair": repair })).await;
    let found = match &result {
        Ok(found) => found.clone(),
        Err(error) => Value::Object((*error.details).clone()),
    };
    for damage in list(&found, "damaged") {
        ui.data(format!("damaged  {}  {}", text(damage, "file"), text(damage, "what")));
    }
    for object in list(&found, "repaired").iter().filter_map(Value::as_str) {
        ui.data(format!("repaired {object}"));
    }
    for file in list(&found, "mended").iter().filter_map(Value::as_str) {
        ui.data(format!("mended   {file}"));
    }
    let found = result?;
    ui.document(&found);
    let read = format!("{} objects, {} read", count(&found, "objects"), ui::size(count(&found, "bytes")));
    let healed = list(&found, "repaired").len();
    ui.data(if healed == 0 { format!("{read}, all are what they say") } else { format!("{read}, {healed} healed") });
    Ok(())
}
