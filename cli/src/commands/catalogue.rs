//! `subscribe`, `unsubscribe`, `subscriptions`, `search`, `show`, `improve`, `lineage`: what others publish.

use super::{content, count, freshness, list, number, short, text};
use crate::{
    args::Quota,
    client::Client,
    error::CliError,
    home,
    ui::{self, Ui},
};
use serde_json::{Value, json};
use std::path::Path;

/// Follows a publisher.
pub(super) async fn subscribe(
    client: &Client,
    ui: &mut Ui,
    ticket: &str,
    petname: Option<String>,
    policy: &str,
    quota: Option<Quota>,
) -> Result<(), CliError> {
    let quota = quota.map(Quota::value);
    let wish = json!({ "ticket": ticket, "petname": petname, "policy": policy, "quota": quota });
    let done = client.call(ui, "subscribe", wish).await?;
    ui.document(&done);
    ui.data(format!(
        "{}  {}  at entry {}, {}",
        text(&done, "petname"),
        text(&done, "publisher"),
        number(&done, "sequence"),
        if text(&done, "freshness") == "fresh" { "fresh".into() } else { freshness::words(&done) }
    ));
    ui.note(format!("key words, to be compared with whoever gave the ticket: {}", text(&done, "words")));
    Ok(())
}

/// Follows it no more.
pub(super) async fn unsubscribe(client: &Client, ui: &mut Ui, publisher: &str) -> Result<(), CliError> {
    let done = client.call(ui, "unsubscribe", json!({ "publisher": publisher })).await?;
    ui.document(&done);
    ui.data(format!("{} is followed no more", text(&done, "petname")));
    Ok(())
}

/// Whom we follow.
pub(super) async fn subscriptions(client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let all = client.call(ui, "subscriptions", json!({})).await?;
    ui.document(&all);
    let rows = rows(&all, |s| {
        vec![
            text(s, "petname").into(),
            short(text(s, "publisher")),
            number(s, "sequence"),
            freshness::words(s),
            text(s, "policy").into(),
            content::quota_words(s),
            text(s, "words").into(),
        ]
    });
    if rows.is_empty() {
        ui.note("no subscriptions; `softservice subscribe TICKET` makes one");
    } else {
        ui.data(ui::table(&["PETNAME", "PUBLISHER", "HEAD", "FRESHNESS", "POLICY", "QUOTA", "KEY WORDS"], &rows));
    }
    freshness::conflicts(ui, all.as_array().map_or(&[][..], Vec::as_slice));
    for one in all.as_array().map_or(&[][..], Vec::as_slice) {
        content::refused(ui, one);
    }
    for told in all.as_array().into_iter().flatten().flat_map(|s| list(s, "warnings")).filter_map(Value::as_str) {
        ui.note(format!("warning: {told}"));
    }
    Ok(())
}

fn rows(of: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    of.as_array().map_or(&[][..], Vec::as_slice).iter().map(row).collect()
}

/// What there is.
pub(super) async fn search(client: &Client, ui: &mut Ui, wanted: Option<String>) -> Result<(), CliError> {
    let found = client.call(ui, "search", json!({ "text": wanted })).await?;
    ui.document(&found);
    let rows = rows(&found, |d| {
        let name = format!("{}/{}", text(d, "petname"), text(d, "distro"));
        vec![name, text(d, "version").into(), short(text(d, "release")), text(d, "summary").into()]
    });
    if rows.is_empty() {
        ui.note("nothing found among followed publishers");
    } else {
        ui.data(ui::table(&["DISTRO", "VERSION", "RELEASE", "SUMMARY"], &rows));
    }
    freshness::notes(ui, found.as_array().map_or(&[][..], Vec::as_slice));
    Ok(())
}

/// One distro, whole.
pub(super) async fn show(client: &Client, ui: &mut Ui, reference: &str) -> Result<(), CliError> {
    let d = client.call(ui, "show", json!({ "reference": reference })).await?;
    ui.document(&d);
    ui.data(format!("{}/{} {}", text(&d, "petname"), text(&d, "distro"), text(&d, "version")));
    ui.data(format!("  {}", text(&d, "summary")));
    ui.data(format!("release    {}", text(&d, "release")));
    ui.data(format!("publisher  {}", text(&d, "publisher")));
    ui.data(format!("           {}", text(&d, "words")));
    ui.data(format!("size       {} in {} files", ui::size(count(&d, "bytes")), count(&d, "files")));
    for line in super::revoked::lines(&d) {
        ui.data(format!("REVOKED    {line}"));
    }
    let shown = |v: &Value| match v["revoked"]["level"].as_str() {
        Some(level) => format!("{} (revoked: {level})", text(v, "version")),
        None => text(v, "version").to_owned(),
    };
    let versions: Vec<String> = list(&d, "versions").iter().map(shown).collect();
    ui.data(format!("versions   {}", versions.join(", ")));
    ui.data(format!("freshness  {}", freshness::words(&d)));
    if let Some(conflict) = d["conflict"]["message"].as_str() {
        ui.data(format!("           {conflict}"));
    }
    for include in list(&d, "includes") {
        ui.data(format!(
            "includes   {} = {} {}",
            text(include, "name"),
            text(include, "distro"),
            text(include, "version")
        ));
    }
    for parameter in list(&d, "params") {
        let default = parameter["default"].as_str().map_or("must be answered".into(), |d| format!("default {d}"));
        ui.data(format!(
            "asks       {} ({}, {default}) {}",
            text(parameter, "name"),
            text(parameter, "type"),
            text(parameter, "ask")
        ));
    }
    for permission in list(&d, "permissions").iter().filter_map(Value::as_str) {
        ui.data(format!("may        {permission}"));
    }
    for parent in list(&d, "parents") {
        ui.data(format!("improves   {} {}", text(parent, "label"), short(text(parent, "release"))));
    }
    for child in list(&d, "children") {
        ui.data(format!(
            "improved   {}/{} {} {}",
            text(child, "petname"),
            text(child, "distro"),
            text(child, "version"),
            short(text(child, "release"))
        ));
    }
    Ok(())
}

/// A working copy.
pub(super) async fn improve(client: &Client, ui: &mut Ui, reference: &str, dir: &Path) -> Result<(), CliError> {
    let dir = home::absolute(dir)?;
    let done = client.call(ui, "improve", json!({ "reference": reference, "dir": dir })).await?;
    ui.document(&done);
    ui.data(format!("{}  a working copy of {}", dir.display(), text(&done, "label")));
    ui.note(format!(
        "edit it, raise its version, then: softservice test {0} && softservice publish {0}",
        dir.display()
    ));
    Ok(())
}

/// Where a release comes from and what became of it.
pub(super) async fn lineage(client: &Client, ui: &mut Ui, reference: &str) -> Result<(), CliError> {
    let tree = client.call(ui, "lineage", json!({ "reference": reference })).await?;
    ui.document(&tree);
    let line = |mark: &str, r: &Value| {
        format!(
            "{mark} {}/{} {}  {}",
            text(r, "petname"),
            text(r, "distro"),
            text(r, "version"),
            short(text(r, "release"))
        )
    };
    for parent in list(&tree, "parents") {
        ui.data(line("parent ", parent));
    }
    ui.data(line("release", &tree));
    for child in list(&tree, "children") {
        ui.data(line("child  ", child));
    }
    Ok(())
}
