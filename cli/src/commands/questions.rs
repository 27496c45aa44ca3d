//! Asks the owner what a distro wants to know. Invariant: an answer is judged here by the very rule that the device
//! judges it by, so that a slip is told at once and asked again; nobody is asked without a terminal or with `--json`.

use super::{freshness, list, text};
use crate::{args::Answers, client::Client, error::CliError, ui::Ui};
use serde_json::{Map, Value};
use softservice_node::verbs::failure::Kind;
use softservice_protocol::{
    definition::answer,
    release::{Param, ParamKind},
};
use std::path::Path;

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// What has no default, and what its author wants people to think about.
    Everything,
    /// What nothing goes on without.
    Needed,
}

/// Asks what is open and puts the answers into `wanted`. Without a terminal nothing is asked: the node then refuses with
/// the list of questions.
pub(super) async fn ask(client: &Client, ui: &mut Ui, wanted: &mut Value, ask: Ask) -> Result<(), CliError> {
    if !ui.can_ask() {
        return Ok(());
    }
    let open = freshness::call(client, ui, "questions", wanted).await?;
    // Who provisions again has seen the offers, and `--set` changes an answer.
    let offer = ask == Ask::Everything && open["new"].as_bool() == Some(true);
    let params: Vec<Param> = list(&open, "questions").iter().filter_map(param).collect();
    for param in params.iter().filter(|p| p.default.is_none() || (offer && !p.ask.is_empty())) {
        match one(ui, param).await? {
            Some(given) => wanted["set"][&param.name] = given.into(),
            None if param.default.is_some() => {}
            // The end of input: the node names what is missing.
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Asks what an error of the node lists; false when it lists nothing or nobody answers.
pub(super) async fn ask_listed(ui: &mut Ui, error: &CliError, wanted: &mut Value) -> Result<bool, CliError> {
    let listed = error.details.get("questions").and_then(Value::as_array).cloned().unwrap_or_default();
    let params: Vec<Param> = listed.iter().filter_map(param).collect();
    for param in &params {
        let Some(given) = one(ui, param).await? else { return Ok(false) };
        wanted["set"][&param.name] = given.into();
    }
    Ok(!params.is_empty())
}

/// Asks until the answer fits. None when the default is taken, or at the end of input.
async fn one(ui: &mut Ui, param: &Param) -> Result<Option<String>, CliError> {
    let question = spelled(param);
    while let Some(given) = ui.question(&question).await {
        if given.is_empty() && param.default.is_some() {
            return Ok(None);
        }
        if given.is_empty() {
            ui.note("  it has no default: an answer is needed");
            continue;
        }
        match answer::accept(param, &given) {
            Ok(_) => return Ok(Some(given)),
            Err(why) => ui.note(format!("  {why}")),
        }
    }
    Ok(None)
}

/// `Largest upload (size, up to 2GiB) [200MiB]:`
fn spelled(param: &Param) -> String {
    let what = if param.ask.is_empty() { &param.name } else { &param.ask };
    let shown = |n: i64| in_units(&param.kind, &n.to_string());
    let mut shape = match &param.kind {
        ParamKind::Enum(of) => of.join(", "),
        kind => answer::kind_word(kind).to_owned(),
    };
    match (param.min, param.max) {
        (Some(min), Some(max)) => shape += &format!(", {} to {}", shown(min), shown(max)),
        (Some(min), None) => shape += &format!(", from {}", shown(min)),
        (None, Some(max)) => shape += &format!(", up to {}", shown(max)),
        (None, None) => {}
    }
    let default = param.default.as_ref().map(|d| format!(" [{}]", in_units(&param.kind, d))).unwrap_or_default();
    format!("{what} ({shape}){default}:")
}

/// A canonical answer as people write it: sizes and durations in the biggest unit that divides them.
fn in_units(kind: &ParamKind, canonical: &str) -> String {
    const SIZES: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let units = match kind {
        ParamKind::Size => SIZES,
        ParamKind::Duration => SPANS,
        _ => return canonical.to_owned(),
    };
    let Ok(n) = canonical.parse::<u64>() else { return canonical.to_owned() };
    let (unit, factor) = units.into_iter().find(|(_, f)| n > 0 && n.is_multiple_of(*f)).unwrap_or(units[4]);
    format!("{}{unit}", n / factor)
}

/// A question as the node lists it.
fn param(question: &Value) -> Option<Param> {
    let of = || list(question, "of").iter().filter_map(|o| o.as_str().map(str::to_owned)).collect();
    let kind = match text(question, "type") {
        "text" => ParamKind::Text,
        "int" => ParamKind::Int,
        "bool" => ParamKind::Bool,
        "enum" => ParamKind::Enum(of()),
        "size" => ParamKind::Size,
        "duration" => ParamKind::Duration,
        "hostname" => ParamKind::Hostname,
        "port" => ParamKind::Port,
        "url" => ParamKind::Url,
        "path" => ParamKind::Path,
        // A newer node asks for something that this program does not know: the node will judge.
        _ => ParamKind::Text,
    };
    Some(Param {
        name: question["name"].as_str()?.to_owned(),
        kind,
        ask: text(question, "ask").to_owned(),
        default: question["default"].as_str().map(str::to_owned),
        min: question["min"].as_i64(),
        max: question["max"].as_i64(),
    })
}

/// All answers that the command line gives: those of the file, over them those of `--set`.
pub(super) fn given(answers: &Answers) -> Result<Map<String, Value>, CliError> {
    let mut all = match &answers.file {
        Some(file) => read(file)?,
        None => Map::new(),
    };
    all.extend(answers.set.iter().map(|(k, v)| (k.clone(), v.clone().into())));
    Ok(all)
}

/// A TOML file of `NAME = VALUE`; numbers and truth values may stand without quotes.
fn read(file: &Path) -> Result<Map<String, Value>, CliError> {
    let wrong = |why: String| CliError::new(Kind::Usage, format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| wrong(e.to_string().trim().to_owned()))?;
    let one = |(name, value): (String, toml::Value)| match value {
        toml::Value::String(text) => Ok((name, text.into())),
        toml::Value::Integer(n) => Ok((name, n.to_string().into())),
        toml::Value::Boolean(b) => Ok((name, b.to_string().into())),
        other => Err(wrong(format!("{name}: expected a text, a number, true or false, found {}", found(&other)))
            .hint("one line for each answer: NAME = \"VALUE\"")),
    };
    table.into_iter().map(one).collect()
}

fn found(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::Float(_) => "a number with decimals",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "a list",
        _ => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: ParamKind, default: Option<&str>, bounds: (Option<i64>, Option<i64>)) -> String {
        let default = default.map(str::to_owned);
        spelled(&Param { name: "x".into(), kind, ask: "What".into(), default, min: bounds.0, max: bounds.1 })
    }

    #[test]
    fn questions_say_what_fits() {
        let size = asked(ParamKind::Size, Some("209715200"), (None, Some(2 << 30)));
        assert_eq!(size, "What (size, up to 2GiB) [200MiB]:");
        assert_eq!(
            asked(ParamKind::Duration, Some("90000"), (Some(0), Some(3_600_000))),
            "What (duration, 0ms to 1h) [90s]:"
        );
        let choice = ParamKind::Enum(vec!["closed".into(), "open".into()]);
        assert_eq!(asked(choice, None, (None, None)), "What (closed, open):");
        assert_eq!(asked(ParamKind::Int, Some("-3"), (Some(-5), None)), "What (int, from -5) [-3]:");
    }

    #[test]
    fn what_the_node_lists_is_understood() {
        let listed = serde_json::json!({
            "name": "upload", "type": "size", "of": null, "ask": "Largest", "default": "1", "min": null, "max": 9,
        });
        let param = param(&listed).expect("a question");
        assert_eq!((param.kind, param.default.as_deref(), param.max), (ParamKind::Size, Some("1"), Some(9)));
    }
}
