//! `status` and `peers`.

use super::{count, list, number, short, text};
use crate::{
    client::Client,
    error::CliError,
    ui::{self, Ui},
};
use serde_json::{Value, json};

/// The node at a glance.
pub(super) async fn status(client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let status = client.call(ui, "status", json!({})).await?;
    ui.document(&status);
    ui.data(format!("device     {}", text(&status, "device")));
    for address in list(&status, "addresses").iter().filter_map(Value::as_str) {
        ui.data(format!("listens    {address}"));
    }
    ui.data(format!("peers      {}", count(&status, "peers")));
    let store = &status["store"];
    ui.data(format!("store      {} objects, {}", count(store, "objects"), ui::size(count(store, "bytes"))));
    if store["quota"].is_u64() {
        ui.data(format!("quota      {}", super::content::quota_words(store)));
        super::content::refused(ui, store);
    }
    if let Some(what) = store["upkeep"]["what"].as_str() {
        let upkeep = &store["upkeep"];
        ui.data(format!("           {what}: {} of {}", count(upkeep, "done"), count(upkeep, "of")));
    }
    if let Some(publisher) = status["publisher"].as_str() {
        ui.data(format!("publisher  {publisher}"));
        super::freshness::own(ui, &status["own"]);
    }
    section(ui, &status, "subscriptions", &["PUBLISHER", "ID", "HEAD", "FRESHNESS", "POLICY", "QUOTA"], |s| {
        vec![
            text(s, "petname").into(),
            short(text(s, "publisher")),
            number(s, "sequence"),
            super::freshness::words(s),
            text(s, "policy").into(),
            super::content::quota_words(s),
        ]
    });
    super::freshness::conflicts(ui, list(&status, "subscriptions"));
    for one in list(&status, "subscriptions") {
        super::content::refused(ui, one);
    }
    section(ui, &status, "softservices", &["NAME", "DISTRO", "VERSION", "STATE", "AVAILABLE"], |s| {
        let available = text(&s["available"], "version");
        vec![
            text(s, "name").into(),
            text(s, "distro").into(),
            text(s, "version").into(),
            text(s, "state").into(),
            available.into(),
        ]
    });
    for one in list(&status, "softservices") {
        super::instances::trouble(ui, one);
        super::revoked::running(ui, one);
        super::freshness::running(ui, one);
        super::overlay::tasks(ui, one);
    }
    let headings = ["RELEASE", "STAGE", "DONE", "OF", "RATE", "LEFT", "PEERS", "ON THE WIRE", "LIMITED BY"];
    section(ui, &status, "transfers", &headings, |t| {
        let limit = super::content::limit_words(text(t, "limited_by")).unwrap_or("-");
        vec![
            short(text(t, "release")),
            t["stage"].as_str().unwrap_or("looking").into(),
            ui::size(count(t, "bytes")),
            ui::size(count(t, "of")),
            t["rate"].as_u64().map_or("-".into(), |rate| format!("{}/s", ui::size(rate))),
            t["eta"].as_f64().map_or("-".into(), |left| format!("{left:.0} s")),
            number(t, "peers"),
            ui::size(count(&t["fetched"], "wire_bytes")),
            limit.into(),
        ]
    });
    Ok(())
}

fn section(ui: &mut Ui, of: &Value, key: &str, headings: &[&str], row: impl Fn(&Value) -> Vec<String>) {
    let rows: Vec<_> = list(of, key).iter().map(row).collect();
    if !rows.is_empty() {
        ui.data(format!("\n{key}\n{}", ui::table(headings, &rows)));
    }
}

/// Who is connected.
pub(super) async fn peers(client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let peers = client.call(ui, "peers", json!({})).await?;
    ui.document(&peers);
    let rows: Vec<_> = peers
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|p| {
            let rtt = p["rtt"].as_f64().map_or("-".into(), |s| format!("{:.1} ms", s * 1000.0));
            vec![
                short(text(p, "device")),
                text(p, "direction").into(),
                rtt,
                ui::size(count(p, "sent")),
                ui::size(count(p, "received")),
                text(p, "address").into(),
            ]
        })
        .collect();
    if rows.is_empty() {
        ui.note("no peer is connected");
    } else {
        ui.data(ui::table(&["DEVICE", "DIR", "RTT", "SENT", "RECEIVED", "ADDRESS"], &rows));
    }
    Ok(())
}
