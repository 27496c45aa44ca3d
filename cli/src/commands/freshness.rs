//! How old a publisher's newest word is, wherever something of that publisher is shown. Invariant: what is not fresh is said
//! with its dates, and an owner who agrees to an expired word has read since when it is.

use super::text;
use crate::{client::Client, error::CliError, ui::Ui};
use serde_json::Value;
use softservice_protocol::time::calendar;

/// For people, of a field in seconds since 1970.
fn date(of: &Value, key: &str) -> String {
    of[key].as_u64().map_or("?".into(), |seconds| {
        let mut date = calendar(seconds);
        date.truncate("2026-01-01 00:00".len());
        date + " UTC"
    })
}

fn is_frozen(of: &Value) -> bool {
    of["frozen"].as_bool() == Some(true)
}

/// The clock is wrong, and so nobody knows.
fn is_of_unknown_age(of: &Value) -> bool {
    of["age_known"].as_bool() == Some(false)
}

/// What keeps its word from being relied on, whatever its date: entries of it that are lost here, or documents that this
/// program cannot read.
fn hindrance(of: &Value) -> Option<String> {
    if let Some(needed) = of["needs_protocol"].as_u64() {
        return Some(format!("needs protocol {needed}: update softservice"));
    }
    of["behind"]["sequence"].as_u64().map(|entry| format!("behind: its entry {entry} is lost here"))
}

/// In a few words, for a cell or a line.
pub(super) fn words(of: &Value) -> String {
    if is_frozen(of) {
        return "FROZEN: it signed two histories".into();
    }
    if let Some(hindrance) = hindrance(of) {
        return hindrance;
    }
    match text(of, "freshness") {
        "fresh" => format!("fresh until {}", date(of, "fresh_until")),
        "stale" if is_of_unknown_age(of) => "of unknown age: the clock of this device is wrong".into(),
        "stale" if of["fresh_until"].is_u64() => {
            format!("stale since {}, expires {}", date(of, "fresh_until"), date(of, "stale_until"))
        }
        "stale" => "nothing heard yet".into(),
        "expired" => format!("expired {}", date(of, "stale_until")),
        _ => "unknown".into(),
    }
}

/// The same as a line of a plan; none for what is fresh.
pub(super) fn lines(plan: &Value) -> Vec<String> {
    if is_frozen(plan) {
        return vec![format!("  {:9} {}", "! frozen", text(&plan["conflict"], "message"))];
    }
    if let Some(hindrance) = hindrance(plan) {
        return vec![format!("  {:9} {}: {hindrance}", "! doubt", text(plan, "petname"))];
    }
    let kind = text(plan, "freshness");
    if !matches!(kind, "stale" | "expired") {
        return Vec::new();
    }
    let words = words(plan);
    let kind = if kind == "stale" && is_of_unknown_age(plan) { "age" } else { kind };
    let dates = words.strip_prefix(kind).map_or(words.as_str(), str::trim_start);
    vec![format!(
        "  {:9} {dates}: nobody here knows whether this still is the newest word of {}",
        format!("! {kind}"),
        text(plan, "petname")
    )]
}

/// What follows from it for a softservice that is here.
pub(super) fn running(ui: &mut Ui, one: &Value) {
    let (name, who) = (text(one, "name"), text(one, "petname"));
    if is_frozen(one) {
        ui.data(format!("{name}: FROZEN, {who} signed two histories: nothing new is taken of it"));
        ui.data(format!("  {}", text(&one["conflict"], "message")));
        return;
    }
    if let Some(hindrance) = hindrance(one) {
        return ui.data(format!("{name}: {who}: {hindrance}; nothing is updated by itself"));
    }
    let words = words(one);
    match text(one, "freshness") {
        "stale" => ui.data(format!("{name}: the word of {who} is {words}; nothing is updated by itself")),
        "expired" => ui.data(format!("{name}: the word of {who} {words}; what is new needs --accept-expired")),
        _ => {}
    }
}

/// Publishers of this list whose word is not fresh, each once.
pub(super) fn notes(ui: &mut Ui, all: &[Value]) {
    let mut told: Vec<&str> = Vec::new();
    for one in all.iter().filter(|o| is_frozen(o) || hindrance(o).is_some() || text(o, "freshness") != "fresh") {
        if !told.contains(&text(one, "publisher")) {
            told.push(text(one, "publisher"));
            ui.note(format!("warning: {}: {}", text(one, "petname"), words(one)));
        }
    }
}

/// Where the histories of those who signed two part.
pub(super) fn conflicts(ui: &mut Ui, all: &[Value]) {
    for one in all.iter().filter(|o| o["conflict"]["message"].is_string()) {
        ui.data(format!("{}: {}", text(one, "petname"), text(&one["conflict"], "message")));
    }
}

/// What others think of this home's own publisher, where that is no good news.
pub(super) fn own(ui: &mut Ui, own: &Value) {
    if own["conflict"]["message"].is_string() {
        ui.data(format!("           FROZEN: {}", text(&own["conflict"], "message")));
    } else if own["unstated"].as_bool() == Some(true) {
        let until = date(own, "fresh_until");
        ui.data(format!(
            "           its fresh key is not here: followers call it stale from {until}, unless it publishes"
        ));
    } else if text(own, "freshness") == "expired" {
        ui.data("           its root document has expired: followers take nothing new of it");
    }
}

/// Calls a verb. When it is refused because the word for what it would bring expired, somebody who can answer is asked.
pub(super) async fn call(client: &Client, ui: &mut Ui, verb: &str, wanted: &mut Value) -> Result<Value, CliError> {
    let error = match client.call(ui, verb, wanted.clone()).await {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let details = Value::Object((*error.details).clone());
    let old = text(&details, "freshness") == "expired" || details["behind"].is_object();
    let expired = details["refused_new"].is_string() && !is_frozen(&details) && old;
    if !expired || !ui.can_ask() {
        return Err(error);
    }
    ui.note(&error.message);
    match ui.ask("take it all the same?").await {
        Some(true) => {
            wanted["accept_expired"] = true.into();
            client.call(ui, verb, wanted.clone()).await
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_state_is_said_with_its_dates() {
        let of = |freshness: &str| {
            let (fresh, stale) = (1_790_604_800_u64, 1_793_196_800_u64);
            json!({ "freshness": freshness, "fresh_until": fresh, "stale_until": stale, "frozen": false, "petname": "anna" })
        };
        assert_eq!(words(&of("fresh")), "fresh until 2026-09-28 14:13 UTC");
        assert_eq!(words(&of("stale")), "stale since 2026-09-28 14:13 UTC, expires 2026-10-28 14:13 UTC");
        assert_eq!(words(&of("expired")), "expired 2026-10-28 14:13 UTC");
        assert!(lines(&of("fresh")).is_empty());
        let line = "  ! expired 2026-10-28 14:13 UTC: nobody here knows whether this still is the newest word of anna";
        assert_eq!(lines(&of("expired")), [line]);
        let mut unknown = of("stale");
        unknown["age_known"] = false.into();
        assert_eq!(words(&unknown), "of unknown age: the clock of this device is wrong");
        let line = "  ! age     of unknown age: the clock of this device is wrong: nobody here knows whether this still is the newest word of anna";
        assert_eq!(lines(&unknown), [line]);
        let mut lost = of("stale");
        lost["behind"] = json!({ "sequence": 48, "rival": false });
        assert_eq!(words(&lost), "behind: its entry 48 is lost here");
        assert_eq!(lines(&lost), ["  ! doubt   anna: behind: its entry 48 is lost here"]);
        let mut newer = of("fresh");
        newer["needs_protocol"] = 2.into();
        assert_eq!(words(&newer), "needs protocol 2: update softservice");
        let mut frozen = of("fresh");
        (frozen["frozen"], frozen["conflict"]) = (true.into(), json!({ "message": "entry 2 is a in one" }));
        assert_eq!(words(&frozen), "FROZEN: it signed two histories");
        assert_eq!(lines(&frozen), ["  ! frozen  entry 2 is a in one"]);
    }
}
