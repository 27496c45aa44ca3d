//! `revoke`, and revocations wherever a release is shown. Invariant: what its publisher called unsafe is said in capitals,
//! with what to do about it.

use super::{list, number, short, text};
use crate::{client::Client, error::CliError, ui::Ui};
use serde_json::Value;

/// Takes a release back.
pub(super) async fn revoke(client: &Client, ui: &mut Ui, wanted: Value) -> Result<(), CliError> {
    let asked = wanted["signing"]["out"].clone();
    let done = super::publisher::speak(client, ui, "revoke", wanted).await?;
    ui.document(&done);
    ui.data(format!(
        "{} {}  {}  {} ({}), entry {}",
        text(&done, "distro"),
        text(&done, "version"),
        short(text(&done, "release")),
        if done["published"].as_bool() == Some(false) { "to be revoked" } else { "revoked" },
        text(&done, "level"),
        number(&done, "sequence")
    ));
    if let Some(other) = instead(&done) {
        ui.data(format!("  users are offered {other}"));
    }
    if done["published"].as_bool() == Some(false) {
        super::publisher::asked(ui, &done, &asked);
    }
    Ok(())
}

/// What a revocation names in its place.
fn instead(revoked: &Value) -> Option<String> {
    let other = &revoked["replaced_by"];
    match other["distro"].as_str() {
        Some(distro) => {
            let channel = Some(text(other, "channel")).filter(|c| !["", "stable"].contains(c));
            let place = channel.map(|c| format!(":{c}")).unwrap_or_default();
            Some(format!("{}/{distro}{place}@{}", text(other, "petname"), text(other, "version")))
        }
        None => other["release"].as_str().map(short),
    }
}

/// What became of a release, and of those that it is made of or comes from: a line each.
pub(super) fn lines(of: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let revoked = &of["revoked"];
    if let Some(level) = revoked["level"].as_str() {
        let other = instead(revoked).map(|other| format!("; take {other}")).unwrap_or_default();
        lines.push(format!("by its publisher ({level}): {}{other}", text(revoked, "reason")));
    }
    lines.extend(list(of, "warnings").iter().map(|w| text(w, "message").to_owned()));
    lines
}

/// The same of a softservice that is here, with the ways out.
pub(super) fn running(ui: &mut Ui, one: &Value) {
    let name = text(one, "name");
    let revoked = &one["revoked"];
    if let Some(level) = revoked["level"].as_str() {
        let loud = if level == "unsafe" { "UNSAFE" } else { "withdrawn" };
        ui.data(format!("{name}: {loud}, revoked by its publisher: {}", text(revoked, "reason")));
        match instead(revoked) {
            Some(other) => ui.data(format!("  {other} takes its place: softservice update {name}")),
            None => ui.data(format!("  softservice update {name}, rollback {name} or down {name}")),
        }
    }
    for warning in list(one, "warnings") {
        ui.data(format!("{name}: {}", text(warning, "message")));
    }
}
