//! `publisher`. Invariant: a secret is read where it is used and never printed; what a signature will say is shown before it is
//! made.

use super::{count, list, number, short, text};
use crate::{
    args::{Delegate, Hands, NewKey, PublisherVerb, Recover, Rotate, Sign, Signing},
    client::Client,
    error::CliError,
    home,
    ui::{self, Ui},
};
use serde_json::{Map, Value, json};
use softservice_node::{
    publisher::{PublisherError, make_key, public, request::Request, secret_at},
    verbs::failure::{Failure, Kind},
};
use softservice_protocol::{id::PublicKey, limits, time::calendar};
use std::path::{Path, PathBuf};

/// Verbs that need neither node nor home; gives the others back.
pub(super) async fn offline(ui: &mut Ui, verb: PublisherVerb) -> Result<Option<PublisherVerb>, CliError> {
    match verb {
        PublisherVerb::NewKey(args) => new_key(ui, &args)?,
        PublisherVerb::Sign(args) => sign(ui, &args).await?,
        other => return Ok(Some(other)),
    }
    Ok(None)
}

/// Verbs of this home's publisher.
pub(super) async fn run(client: &Client, ui: &mut Ui, verb: PublisherVerb) -> Result<(), CliError> {
    match verb {
        PublisherVerb::Show => show(client, ui).await,
        PublisherVerb::Rotate(args) => {
            let done = speak(client, ui, "publisher_rotate", rotation(&args)?).await?;
            told(ui, &done, args.signing.out.as_deref());
            Ok(())
        }
        PublisherVerb::Assemble { requests, yes } => {
            let requests = requests.iter().map(|p| home::absolute(p)).collect::<Result<Vec<_>, _>>()?;
            let done = speak(client, ui, "publisher_assemble", json!({ "requests": requests, "alone": yes })).await?;
            told(ui, &done, None);
            Ok(())
        }
        PublisherVerb::Freshen { keys } => {
            let keys = keys.iter().map(|p| home::absolute(p)).collect::<Result<Vec<_>, _>>()?;
            let done = client.call(ui, "publisher_freshen", json!({ "keys": keys })).await?;
            ui.document(&done);
            let until = calendar(count(&done, "fresh_until"));
            ui.data(format!(
                "entry {} is the newest, and stays so stated until {until} UTC",
                number(&done, "sequence")
            ));
            Ok(())
        }
        PublisherVerb::SignHead(args) => {
            let wanted = json!({ "signing": signing(&args)? });
            let done = client.call(ui, "publisher_sign_head", wanted.clone()).await?;
            ui.document(&done);
            match done["published"].as_bool() {
                Some(true) => ui.data(format!("entry {} is signed by the keys of now", number(&done, "sequence"))),
                _ => asked(ui, &done, &wanted["signing"]["out"]),
            }
            Ok(())
        }
        PublisherVerb::Withdraw { yes } => withdraw(client, ui, yes).await,
        PublisherVerb::Recover(args) => recover(client, ui, &args).await,
        PublisherVerb::Delegate(args) => {
            let out = args.signing.out.clone();
            let done = speak(client, ui, "publisher_delegate", delegation(args)?).await?;
            told(ui, &done, out.as_deref());
            Ok(())
        }
        PublisherVerb::Join { key, ticket } => {
            let wanted = json!({ "key": home::absolute(&key)?, "ticket": ticket });
            let done = client.call(ui, "publisher_join", wanted).await?;
            ui.document(&done);
            ui.data(format!("publisher  {}", text(&done, "publisher")));
            ui.data(format!("           {}", text(&done, "words")));
            match done["role"].as_str() {
                Some(role) => ui.data(format!("this home has a key of its {role} role")),
                None => ui.data(format!("this home may publish: {}", text(&done, "delegation"))),
            }
            Ok(())
        }
        PublisherVerb::NewKey(_) | PublisherVerb::Sign(_) => {
            Err(CliError::new(Kind::Bug, "this verb needs no node and was given one"))
        }
    }
}

fn failed(error: PublisherError) -> CliError {
    Failure::from(error).into()
}

fn new_key(ui: &mut Ui, args: &NewKey) -> Result<(), CliError> {
    let file = home::absolute(&args.file)?;
    let key = public(&make_key(&file).map_err(failed)?);
    ui.document(&json!({ "key": key.to_string(), "file": file }));
    ui.data(key.to_string());
    ui.note(format!("its secret half is in {}: keep a copy where nobody else comes", file.display()));
    if let Some(role) = args.role {
        ui.note(format!("softservice publisher rotate --role {}={key} gives it that role", role.name()));
    }
    Ok(())
}

/// Signs a request, after showing what it asks for.
async fn sign(ui: &mut Ui, args: &Sign) -> Result<(), CliError> {
    let refused = |e| CliError::from(Failure::from(e));
    let file = home::absolute(&args.request)?;
    let mut request = Request::read(&file).map_err(refused)?;
    let keys = args.keys.iter().map(|file| secret_at(file)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let (lines, before) = (request.lines(), request.envelope().signatures.len());
    // On a copy first: a key that may not sign is told before anybody is asked.
    let new: Vec<PublicKey> = request.sign(&keys).map_err(refused)?;
    lines.iter().for_each(|line| ui.data(line));
    if new.is_empty() {
        return Err(CliError::new(Kind::Refused, "these keys have signed it already"));
    }
    let question = format!("sign this with {} key{}?", new.len(), if new.len() == 1 { "" } else { "s" });
    agreed(ui, args.yes, &question, "signed").await?;
    request.write(&file).map_err(refused)?;
    let mut document = request.document();
    document["signed_by"] = json!(new.iter().map(ToString::to_string).collect::<Vec<_>>());
    document["signatures"] = json!(before.saturating_add(new.len()));
    ui.document(&document);
    match request.is_complete() {
        true => ui.data("signed; nothing is lacking: softservice publisher assemble, where the publisher's home is"),
        false => {
            ui.data(format!("signed; still lacking: {}", softservice_node::publisher::words::lacks(&request.lacking())))
        }
    }
    Ok(())
}

/// A key of a flag: public as it is, a file by its absolute path.
fn key(text: &str) -> Result<String, CliError> {
    if text.parse::<PublicKey>().is_ok() {
        return Ok(text.to_owned());
    }
    let path = home::absolute(Path::new(text))?;
    path.into_os_string().into_string().map_err(|p| CliError::new(Kind::Usage, format!("the path {p:?} is not text")))
}

fn keys<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<String>, CliError> {
    texts.map(str::trim).filter(|t| !t.is_empty()).map(key).collect()
}

fn signing(of: &Signing) -> Result<Value, CliError> {
    let files = of.keys.iter().map(|p| home::absolute(p)).collect::<Result<Vec<PathBuf>, _>>()?;
    let out = of.out.as_deref().map(home::absolute).transpose()?;
    Ok(json!({ "keys": files, "out": out }))
}

/// The same of an entry's.
pub(super) fn hands(of: &Hands) -> Result<Value, CliError> {
    signing(&Signing { keys: of.keys.clone(), out: of.request.clone() })
}

fn rotation(args: &Rotate) -> Result<Value, CliError> {
    let mut roles = Map::new();
    for (role, given) in &args.roles {
        roles.insert(role.clone(), json!(keys(given.split(','))?));
    }
    let thresholds: Map<String, Value> = args.thresholds.iter().map(|(role, n)| (role.clone(), json!(n))).collect();
    Ok(json!({
        "renew": args.renew.iter().map(|r| r.name()).collect::<Vec<_>>(),
        "roles": roles,
        "thresholds": thresholds,
        "commit": keys(args.commit.iter().map(String::as_str))?,
        "min_protocol": args.min_protocol,
        "days": args.expires,
        "alone": args.yes,
        "signing": signing(&args.signing)?,
    }))
}

fn delegation(args: Delegate) -> Result<Value, CliError> {
    let remove = args.remove.is_some();
    let named = args.key.or(args.remove).unwrap_or_default();
    Ok(json!({
        "key": key(&named)?, "remove": remove, "channel": args.channel, "distros": args.distros,
        "days": args.days, "entries": args.entries, "alone": args.yes, "signing": signing(&args.signing)?,
    }))
}

async fn recover(client: &Client, ui: &mut Ui, args: &Recover) -> Result<(), CliError> {
    let mut wanted = json!({ "from": args.from, "hash": args.hash, "signing": signing(&args.signing)?, "look": true });
    let seen = client.call(ui, "publisher_recover", wanted.clone()).await?;
    let given_up = list(&seen, "given_up");
    ui.data(format!("entry {} still counts ({})", args.from, short(text(&seen, "from_hash"))));
    for entry in given_up {
        ui.data(format!("given up: entry {}, {}", number(entry, "sequence"), text(entry, "says")));
    }
    if given_up.is_empty() {
        ui.data("no entry behind it is known here; what others have is given up as well");
    }
    agreed(ui, args.yes, "give up every entry behind it, for good?", "given up").await?;
    (wanted["look"], wanted["alone"]) = (false.into(), args.yes.into());
    wanted["hash"] = seen["from_hash"].clone();
    let done = speak(client, ui, "publisher_recover", wanted).await?;
    told(ui, &done, args.signing.out.as_deref());
    Ok(())
}

/// Calls a verb that speaks for the publisher. Where another home may have spoken and no peer could be asked, whoever sits here
/// can say that none does.
pub(super) async fn speak(client: &Client, ui: &mut Ui, verb: &str, mut wanted: Value) -> Result<Value, CliError> {
    let error = match client.call(ui, verb, wanted.clone()).await {
        Err(error) if error.details.contains_key("others") && ui.can_ask() => error,
        done => return done,
    };
    ui.note(&error.message);
    match ui.ask("does no other home speak for this publisher, so that this one may go on alone?").await {
        Some(true) => {
            wanted["alone"] = true.into();
            client.call(ui, verb, wanted).await
        }
        _ => Err(error),
    }
}

/// What became of a change.
fn told(ui: &mut Ui, done: &Value, out: Option<&Path>) {
    ui.document(done);
    let adopted = done["adopted"].as_bool() == Some(true);
    match (text(done, "kind"), adopted) {
        ("entry", true) => ui.data(format!("entry {} is published", number(done, "sequence"))),
        (_, true) => ui.data(format!("root document {} holds", number(done, "root_version"))),
        (_, false) => {
            let file = out.map(|p| p.display().to_string()).unwrap_or_default();
            ui.data(format!("{file} asks for root document {}", number(done, "root_version")));
        }
    }
    for line in list(done, "says").iter().filter_map(Value::as_str) {
        ui.data(format!("  {line}"));
    }
    for made in list(done, "made") {
        ui.data(format!("  new {} key in {}", text(made, "role"), text(made, "file")));
    }
    if done["head_signed"].as_bool() == Some(false) {
        ui.data(
            "  the newest entry is signed by keys of before: newcomers begin after `softservice publisher sign-head`",
        );
    }
    if done["asked"].as_u64() == Some(0) {
        ui.note("nobody was connected who could have told of newer keys: change keys in one home at a time");
    }
    if !adopted {
        lacking(ui, done);
    }
}

/// What a request still needs.
fn lacking(ui: &mut Ui, done: &Value) {
    for demand in list(done, "lacking") {
        let more = count(demand, "threshold").saturating_sub(list(demand, "signed").len() as u64);
        ui.data(format!("  lacking: {more} of the {}", text(demand, "role")));
    }
    ui.note(
        "`softservice publisher sign` adds signatures where the keys are, `softservice publisher assemble` ends it",
    );
}

/// An entry that waits for signatures, in this file.
pub(super) fn asked(ui: &mut Ui, done: &Value, file: &Value) {
    ui.data(format!("  not done yet: {} asks for signatures", file.as_str().unwrap_or_default()));
    lacking(ui, done);
}

/// Gives up what waits.
async fn withdraw(client: &Client, ui: &mut Ui, yes: bool) -> Result<(), CliError> {
    let seen = client.call(ui, "publisher_withdraw", json!({ "look": true })).await?;
    list(&seen, "withdrawn").iter().for_each(|request| ui.data(format!("given up: {}", waits(request))));
    agreed(ui, yes, "is every copy destroyed, and will nobody sign it?", "given up").await?;
    let done = client.call(ui, "publisher_withdraw", json!({})).await?;
    ui.document(&done);
    Ok(())
}

/// Goes on only after a yes.
async fn agreed(ui: &mut Ui, yes: bool, question: &str, done: &str) -> Result<(), CliError> {
    let answer = if yes { Some(true) } else { ui.ask(question).await };
    match answer {
        Some(true) => Ok(()),
        Some(false) => Err(CliError::new(Kind::Refused, format!("nothing was {done}"))),
        None => Err(CliError::new(Kind::Refused, format!("nobody is there to say yes, so nothing was {done}"))
            .hint("--yes goes on without being asked")),
    }
}

/// A request that waits, in a few words.
fn waits(request: &Value) -> String {
    let what = match text(request, "kind") {
        "root" => format!("root document {}", number(request, "root_version")),
        _ => format!("entry {}", number(request, "sequence")),
    };
    format!("{what}, request {}", short(text(request, "request")))
}

/// From this many root documents on `show` says how many are left: each change of keys, build machine or epoch takes one.
const MANY_ROOTS: u64 = 900;

/// What is said of a publisher that has used up most of its root documents.
fn roots_left(version: u64) -> Option<String> {
    let left = limits::ROOT_STEPS.saturating_sub(version);
    (version >= MANY_ROOTS).then(|| {
        format!(
            "{left} more root documents, then nobody follows a change of keys: move people to a new publisher before"
        )
    })
}

/// Who this home publishes as.
async fn show(client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let done = client.call(ui, "publisher", json!({})).await?;
    ui.document(&done);
    let date = |key: &str| calendar(count(&done, key));
    ui.data(format!("publisher  {}", text(&done, "publisher")));
    ui.data(format!("           {}", text(&done, "words")));
    ui.data(format!("root       version {}, expires {} UTC", number(&done, "root_version"), date("expires_at")));
    ui.data(format!("           digest {}", text(&done, "root")));
    if let Some(warning) = roots_left(count(&done, "root_version")) {
        ui.data(format!("           {warning}"));
    }
    if done["next_keys"].is_string() {
        ui.data(format!("           promises the next root role: {}", text(&done, "next_keys")));
    }
    let sequence = count(&done, "sequence");
    // Of a feed without entries nothing is old.
    let freshness = if sequence > 0 { format!(", {}", text(&done, "freshness")) } else { String::new() };
    ui.data(format!("feed       epoch {}, entry {sequence}{freshness}", number(&done, "epoch")));
    if done["head_signed"].as_bool() == Some(false) {
        ui.data("           its newest entry is signed by keys of before: softservice publisher sign-head");
    }
    if done["frozen"].as_bool() == Some(true) {
        let part = done["conflict"]["message"].as_str().unwrap_or("two histories were signed");
        ui.data(format!("           FROZEN: {part}"));
        ui.data(format!("           {}", text(&done, "way_out")));
    }
    ui.data(format!("releases   {}", number(&done, "releases")));
    let mut rows = Vec::new();
    for role in list(&done, "roles") {
        for (at, key) in list(role, "keys").iter().enumerate() {
            let (name, needs) = match at {
                0 => (text(role, "role"), format!("{} of {}", number(role, "threshold"), list(role, "keys").len())),
                _ => ("", String::new()),
            };
            rows.push(vec![
                name.into(),
                needs,
                short(text(key, "key")),
                key["file"].as_str().unwrap_or("elsewhere").into(),
            ]);
        }
    }
    ui.data(format!("\n{}", ui::table(&["ROLE", "NEEDS", "KEY", "FILE"], &rows)));
    for one in list(&done, "delegations") {
        let distros: Vec<&str> = list(one, "distros").iter().filter_map(Value::as_str).collect();
        ui.data(format!(
            "delegated to {}: {} on channels {}*, {} entries until {} UTC",
            short(text(one, "key")),
            distros.join(", "),
            text(one, "channel_prefix"),
            number(one, "max_entries"),
            calendar(count(one, "not_after"))
        ));
    }
    for idle in list(&done, "idle_keys") {
        ui.data(format!("no role: {} in {}", short(text(idle, "key")), text(idle, "file")));
    }
    for one in list(&done, "unreadable") {
        ui.data(format!("cannot be read: {}: {}", text(one, "file"), text(one, "why")));
    }
    for request in list(&done, "requests") {
        ui.data(format!("waits for signatures: {}", waits(request)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_used_up_most_root_documents_is_told_how_many_are_left() {
        assert_eq!(roots_left(899), None);
        assert!(roots_left(900).unwrap().starts_with("124 more"));
        assert!(roots_left(1024).unwrap().starts_with("0 more"));
    }
}
