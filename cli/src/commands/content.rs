//! `fetch`, `pin`, `unpin`, `quota`, `gc`, `fsck`: the care of content.

use super::{count, list, short, text};
use crate::{
    args::Quota,
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
    for line in explained(&done) {
        ui.data(format!("  {line}"));
    }
    Ok(())
}

/// One line about what a fetch moved.
fn fetched(figures: &Value) -> String {
    let seconds = figures["seconds"].as_f64().unwrap_or(0.0);
    let size = |key: &str| ui::size(count(figures, key));
    format!(
        "{}, of which {} were new and {} found here, in {seconds:.2} s",
        size("bytes"),
        size("new_bytes"),
        size("local_bytes")
    )
}

/// How a fetch came to its figures: what crossed the wire, what the seconds went into, what limited it, and who gave how much.
pub(super) fn explained(figures: &Value) -> Vec<String> {
    let mut lines = vec![wire(figures), phases(figures)];
    lines.extend(limited(figures));
    lines.extend(peers(figures));
    lines
}

fn wire(figures: &Value) -> String {
    let compression = &figures["compression"];
    let mut ways = Vec::new();
    for (way, words) in [("plain", "as it is"), ("zstd", "compressed"), ("delta", "against what was here")] {
        let (bytes, wire) = (count(&compression[way], "bytes"), count(&compression[way], "wire_bytes"));
        if wire > 0 {
            ways.push(match way {
                "plain" => format!("{} {words}", ui::size(wire)),
                _ => format!("{} for {} {words}", ui::size(wire), ui::size(bytes)),
            });
        }
    }
    let ratio =
        compression["ratio"].as_f64().map_or(String::new(), |ratio| format!(", {ratio:.1} times less than it holds"));
    let ways = if ways.is_empty() { String::new() } else { format!(": {}", ways.join(", ")) };
    let size = |key: &str| ui::size(count(figures, key));
    let all = format!("{} on the wire{ratio}{ways}", size("wire_bytes"));
    format!("{all}; {} came twice, {} in vain", size("duplicates"), size("wasted"))
}

fn phases(figures: &Value) -> String {
    let seconds = |phase: &str| figures["phases"][phase].as_f64().unwrap_or(0.0);
    let (look, transfer, assemble) = (seconds("look"), seconds("transfer"), seconds("assemble"));
    format!("looking what is here {look:.2} s, transfer {transfer:.2} s, whole objects made durable {assemble:.2} s")
}

/// The largest cause, and then all that took a hundredth of a second.
fn limited(figures: &Value) -> Option<String> {
    let words = limit_words(text(figures, "limited_by"))?;
    let all =
        ["looking", "peer", "link", "limit", "disk", "cpu"].map(|cause| (cause, figures["waits"][cause].as_f64()));
    let waits = all.into_iter().filter_map(|(cause, seconds)| Some((cause, seconds.filter(|s| *s >= 0.01)?)));
    let waits: Vec<String> = waits.map(|(cause, seconds)| format!("{cause} {seconds:.2} s")).collect();
    let waits = if waits.is_empty() { String::new() } else { format!(": {}", waits.join(", ")) };
    Some(format!("limited by {words}{waits}"))
}

/// What `limited_by` means; none when nothing took any time.
pub(super) fn limit_words(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "looking" => "looking for what is missing",
        "peer" => "peers that had nothing ready",
        "link" => "the link",
        "limit" => "the rate allowed here",
        "disk" => "the disk here",
        "cpu" => "unpacking and hashing here",
        _ => return None,
    })
}

/// Who gave how much.
fn peers(figures: &Value) -> impl Iterator<Item = String> + '_ {
    list(figures, "peers").iter().map(|peer| {
        let (bytes, wire) = (ui::size(count(peer, "bytes")), ui::size(count(peer, "wire_bytes")));
        let address = text(peer, "address");
        format!("from {}  {bytes} in {wire}  {address}", short(text(peer, "device"))).trim_end().to_owned()
    })
}

/// Keeps a release through every `gc`, or no more.
pub(super) async fn pin(client: &Client, ui: &mut Ui, verb: &str, reference: &str) -> Result<(), CliError> {
    let done = client.call(ui, verb, json!({ "reference": reference })).await?;
    ui.document(&done);
    ui.data(format!("{}  {verb}ned", short(text(&done, "release"))));
    Ok(())
}

/// Shows, and sets if asked, how much may be here.
pub(super) async fn quota(
    client: &Client,
    ui: &mut Ui,
    publisher: Option<String>,
    size: Option<Quota>,
    total: Option<Quota>,
) -> Result<(), CliError> {
    let mut wish = json!({ "publisher": publisher });
    for (key, quota) in [("quota", size), ("total", total)] {
        if let Some(quota) = quota {
            wish[key] = quota.value();
        }
    }
    let all = client.call(ui, "quota", wish).await?;
    ui.document(&all);
    let line = |name: &str, id: &str, of: &Value| {
        let quota = of["quota"].as_u64().map_or("none".into(), ui::size);
        vec![name.to_owned(), short(id), quota, ui::size(count(of, "used"))]
    };
    let rows = list(&all, "publishers").iter().map(|p| line(text(p, "petname"), text(p, "publisher"), p));
    let rows: Vec<_> = rows.chain([line("total", "", &all["total"])]).collect();
    ui.data(ui::table(&["NAME", "PUBLISHER", "QUOTA", "USED"], &rows));
    for one in list(&all, "publishers").iter().chain([&all["total"]]) {
        refused(ui, one);
    }
    Ok(())
}

/// What may be here and what is, in few words; `-` where there is no limit.
pub(super) fn quota_words(of: &Value) -> String {
    match of["quota"].as_u64() {
        Some(quota) => format!("{} of {}", ui::size(count(of, "used")), ui::size(quota)),
        None => "-".into(),
    }
}

/// What a quota refused last, if anything.
pub(super) fn refused(ui: &mut Ui, of: &Value) {
    let refused = &of["refused"];
    if refused.is_object() {
        let size = |key: &str| ui::size(count(refused, key));
        let (name, release) = (text(refused, "name"), short(text(refused, "release")));
        let (needed, used, quota) = (size("needed"), size("used"), size("quota"));
        ui.data(format!("refused    {release} of {name}: it needs {needed} more, {used} of {quota} are in use"));
    }
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
