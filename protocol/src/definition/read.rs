//! Text to [`Definition`]: the top of the document; roles are read in `roles.rs`. Invariant: reading never stops at the
//! first mistake, and what is wrong in one place is still known by name in all others, so that one mistake is told once.

use super::{
    Definition, FILE, FORMAT, IncludeSource, Problem, answer, asked, names, roles, rules,
    source::{Item, Reader, Section},
};
use crate::{
    id::{ObjectId, PublisherId},
    release::{Generate, Migrate, Param, ParamKind, Probe, Release, Secret, Test, Update},
    time::Span,
    tree::TreeRef,
};
use toml::de::DeTable;

/// Longest text that is a definition: more than any person writes, little enough to refuse quickly.
const LONGEST: usize = 1 << 20;

/// Reads a definition.
///
/// # Errors
/// All that is wrong with it.
pub fn read(text: &str) -> Result<Definition, Vec<Problem>> {
    let reader = Reader::new(FILE, text);
    if text.len() > LONGEST {
        reader.complain("", format!("longer than {LONGEST} bytes"), None);
        return Err(reader.finish().1);
    }
    let (table, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        let (at, message) = (error.span().map_or(0, |s| s.start), error.message());
        reader.complain_at(at, format!("not TOML: {message}"), None);
    }
    // What is left of a text that is no TOML says little: complaints about it would be noise. A key that stands twice
    // is the exception.
    if broken.iter().any(|e| !e.message().starts_with("duplicate key")) {
        return Err(reader.finish().1);
    }
    let root = Section::root(&reader, table.get_ref());
    if !format(&root) {
        return Err(reader.finish().1);
    }
    let mut definition = document(&root);
    root.finish();
    let (places, mut problems) = reader.finish();
    definition.places = places;
    // A place that is complained of already is not complained of again for what follows from it.
    let told: Vec<(u32, u32)> = problems.iter().map(|p| (p.line, p.column)).collect();
    let more = rules::faults(&definition.draft).into_iter().chain(sources(&definition));
    let more = more.chain(asked::faults(&definition.draft));
    let more = more.map(|f| definition.problem(f)).filter(|p| !told.contains(&(p.line, p.column)));
    problems.extend(more.collect::<Vec<_>>());
    problems.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
    problems.dedup();
    if problems.is_empty() { Ok(definition) } else { Err(problems) }
}

/// Whether the rest can be read.
fn format(root: &Section<'_>) -> bool {
    let Some(item) = root.get("format") else {
        root.reader.complain_at(
            0,
            "the definition does not say its format".into(),
            Some(format!("begin with `format = {FORMAT}`")),
        );
        return true;
    };
    match item.int() {
        Some(n) if n > FORMAT => {
            item.complain(
                format!("needs softservice that reads format {n}"),
                Some(format!("this one reads format {FORMAT}")),
            );
            false
        }
        Some(n) if n < 1 => {
            item.complain(format!("there is no format {n}"), Some(format!("write `format = {FORMAT}`")));
            true
        }
        _ => true,
    }
}

fn document(root: &Section<'_>) -> Definition {
    let nothing = TreeRef { manifest: ObjectId([0; 32]), chunks: Vec::new(), bytes: 0, files: 0 };
    let mut d = Definition {
        draft: Release {
            publisher: PublisherId([0; 32]),
            distro: String::new(),
            version: String::new(),
            revision: 1,
            summary: String::new(),
            platforms: Vec::new(),
            epoch: 1,
            parents: Vec::new(),
            includes: Vec::new(),
            params: root.named("param").into_iter().map(param).collect(),
            secrets: root.named("secret").into_iter().map(secret).collect(),
            roles: Vec::new(),
            tests: Vec::new(),
            update: Update { order: Vec::new(), settle: Span::seconds(10), migrate: None },
            source: nothing,
        },
        includes: Vec::new(),
        artifacts: Vec::new(),
        templates: Vec::new(),
        places: Default::default(),
    };
    if let Some(section) = root.need("distro", "{ name = \"…\", version = \"1.0.0\" }").and_then(|i| i.section()) {
        identity(&section, &mut d.draft);
        section.finish();
    }
    for (name, item) in root.named("role") {
        roles::role(name, &item, &mut d);
    }
    let only = match d.draft.roles.as_slice() {
        [one] => Some(one.name.clone()),
        _ => None,
    };
    d.includes = root.named("include").into_iter().filter_map(|(n, i)| include(n, &i, only.as_deref())).collect();
    d.draft.tests = root.named("test").into_iter().map(|(n, i)| test(n, &i, only.as_deref())).collect();
    if let Some(section) = root.get("update").and_then(|i| i.section()) {
        update(&section, &mut d.draft.update, only.as_deref());
        section.finish();
    }
    d.draft.includes = d.includes.iter().map(unpinned).collect();
    roles::settle(&mut d);
    d
}

/// An include as the draft holds it, for the rules that need no release.
fn unpinned(i: &IncludeSource) -> crate::release::Include {
    crate::release::Include {
        name: i.name.clone(),
        publisher: PublisherId([0; 32]),
        distro: i.distro.clone(),
        version: "0.0.0".into(),
        release: crate::release::ReleaseRef { id: crate::id::ReleaseId([0; 32]), size: 0 },
        role: i.role.clone(),
        with: i.with.clone(),
        bind: i.bind.clone(),
    }
}

fn identity(s: &Section<'_>, draft: &mut Release) {
    draft.distro = s.need("name", "\"my-service\"").and_then(|i| i.text()).unwrap_or_default();
    if let Some(item) = s.need("version", "\"1.0.0\"") {
        draft.version = item.text().unwrap_or_default();
    }
    draft.revision = s.get("revision").and_then(|i| i.within(0, i64::from(u32::MAX))).unwrap_or(1);
    draft.summary = s.get("summary").and_then(|i| i.text()).unwrap_or_default();
    draft.platforms = s.get("platforms").map(|i| i.texts()).unwrap_or_default();
    draft.epoch = s.get("epoch").and_then(|i| i.within(0, i64::from(u32::MAX))).unwrap_or(1);
}

fn pairs(s: &Section<'_>, key: &'static str) -> Vec<(String, String)> {
    s.named(key).into_iter().filter_map(|(name, item)| Some((name, item.scalar()?))).collect()
}

fn include(name: String, item: &Item<'_>, only: Option<&str>) -> Option<IncludeSource> {
    let s = item.section()?;
    let written = s.need("distro", "\"publisher/name\"").and_then(|i| i.text()).unwrap_or_default();
    let (publisher, distro) = match written.split_once('/') {
        Some((publisher, distro)) => (Some(publisher.to_owned()), distro.to_owned()),
        None => (None, written),
    };
    let parse = |t: &str| {
        semver::VersionReq::parse(t)
            .map_err(|e| format!("{t:?} is not a range of versions: {e}; write \"^1.4\" or \"~2.8\""))
    };
    let version = s.need("version", "\"^1.0\"");
    let written = version.as_ref().filter(|i| i.is_text()).and_then(Item::text).unwrap_or_default();
    let range = version.and_then(|i| i.parsed(parse)).unwrap_or_default();
    let role = match s.get("role") {
        Some(role) => role.text().unwrap_or_default(),
        None => only.map(str::to_owned).unwrap_or_else(|| {
            item.complain(
                format!("[include.{name}] does not say beside which role it runs"),
                Some("add `role = \"…\"`".into()),
            );
            String::new()
        }),
    };
    let found = IncludeSource {
        publisher,
        distro,
        range,
        written,
        role,
        with: pairs(&s, "with"),
        bind: pairs(&s, "bind"),
        name,
    };
    if let Some(Err(why)) = found
        .publisher
        .as_deref()
        .map(names::local)
        .filter(|_| found.publisher.as_deref().is_none_or(|p| p.parse::<PublisherId>().is_err()))
    {
        item.complain(why, Some("write \"publisher/name\": the publisher's petname or id, a slash, the distro".into()));
    }
    s.finish();
    Some(found)
}

const KINDS: [&str; 10] = ["text", "int", "bool", "enum", "size", "duration", "hostname", "port", "url", "path"];

fn param((name, item): (String, Item<'_>)) -> Param {
    let mut p = Param { name, kind: ParamKind::Text, ask: String::new(), default: None, min: None, max: None };
    let Some(s) = item.section() else { return p };
    let word = s.need("type", "\"text\"").and_then(|i| i.one_of(&KINDS));
    let of = s.get("of");
    p.kind = match word {
        Some("int") => ParamKind::Int,
        Some("bool") => ParamKind::Bool,
        Some("enum") => ParamKind::Enum(of.as_ref().map(Item::texts).unwrap_or_default()),
        Some("size") => ParamKind::Size,
        Some("duration") => ParamKind::Duration,
        Some("hostname") => ParamKind::Hostname,
        Some("port") => ParamKind::Port,
        Some("url") => ParamKind::Url,
        Some("path") => ParamKind::Path,
        _ => ParamKind::Text,
    };
    if let (Some(word), Some(of)) = (word.filter(|w| *w != "enum"), of) {
        of.complain(format!("`of` belongs to the type \"enum\", this one is {word:?}"), None);
    }
    p.ask = s.get("ask").and_then(|i| i.text()).unwrap_or_default();
    let canonical = |i: Item<'_>| {
        let text = i.scalar()?;
        // A wrong type was told at `type`; guessing at the value would tell it again.
        word.map_or(Some(text.clone()), |_| answer::unbounded(&p.kind, &text).map_err(|why| i.complain(why, None)).ok())
    };
    let (default, min, max) =
        (s.get("default").and_then(canonical), s.get("min").and_then(canonical), s.get("max").and_then(canonical));
    let bounded = matches!(p.kind, ParamKind::Int | ParamKind::Size | ParamKind::Duration);
    if !bounded && let Some(item) = s.get("min").or_else(|| s.get("max")) {
        item.complain(
            format!("only int, size and duration have bounds, this one is {:?}", answer::kind_word(&p.kind)),
            None,
        );
    }
    p.default = default;
    if bounded {
        (p.min, p.max) = (min.and_then(|t| t.parse().ok()), max.and_then(|t| t.parse().ok()));
    }
    s.finish();
    p
}

fn secret((name, item): (String, Item<'_>)) -> Secret {
    let mut secret = Secret { name, generate: Generate::Bytes(32), roles: Vec::new(), show_once: false };
    let Some(s) = item.section() else { return secret };
    if let Some(how) = s.need("generate", "\"bytes:32\"").and_then(|i| i.parsed(generate)) {
        secret.generate = how;
    }
    secret.roles = s.get("for").map(|i| i.texts()).unwrap_or_default();
    secret.show_once = s.get("show").and_then(|i| i.one_of(&["once", "never"])) == Some("once");
    s.finish();
    secret
}

fn generate(text: &str) -> Result<Generate, String> {
    let bad = || format!("{text:?} makes no secret; write bytes:32, words:5, password:20 or keypair:ed25519");
    let (how, what) = text.split_once(':').ok_or_else(bad)?;
    let count = what.parse::<u16>().map_err(|_| bad());
    match how {
        "bytes" => count.map(Generate::Bytes),
        "words" => count.map(Generate::Words),
        "password" => count.map(Generate::Password),
        "keypair" if what == "ed25519" => Ok(Generate::Keypair),
        _ => Err(bad()),
    }
}

/// The one of http, tcp and exec that a test or a health check asks with.
pub(crate) fn probe(s: &Section<'_>) -> Probe {
    let (http, tcp, exec) = (s.get("http"), s.get("tcp"), s.get("exec"));
    let (status, contains) = (s.get("status"), s.get("contains"));
    let given = [&http, &tcp, &exec].into_iter().flatten().count();
    if given != 1 {
        let message = format!("[{}] must ask with exactly one of http, tcp and exec, found {given}", s.path);
        s.reader.complain(&s.path, message, Some("http = \":${port.NAME}/\" asks this device".into()));
    }
    for (key, item) in [("status", &status), ("contains", &contains)] {
        if let (Some(item), None) = (item, &http) {
            item.complain(format!("`{key}` belongs to `http`"), None);
        }
    }
    match (http, tcp, exec) {
        (Some(url), ..) => Probe::Http {
            url: url.text().unwrap_or_default(),
            status: status.and_then(|i| i.within(100, 599)).unwrap_or(200),
            contains: contains.and_then(|i| i.text()),
        },
        (None, Some(address), _) => Probe::Tcp { address: address.text().unwrap_or_default() },
        (None, None, exec) => Probe::Exec { command: exec.map(|i| i.texts()).unwrap_or_else(|| vec!["true".into()]) },
    }
}

fn test(name: String, item: &Item<'_>, only: Option<&str>) -> Test {
    let mut t = Test {
        name,
        role: only.unwrap_or_default().into(),
        probe: Probe::Exec { command: vec!["true".into()] },
        within: Span::seconds(30),
        when: vec!["install".into(), "update".into()],
    };
    let Some(s) = item.section() else { return t };
    match s.get("on") {
        Some(on) => t.role = on.text().unwrap_or_default(),
        None if only.is_none() => {
            item.complain("the test does not say on which role it runs", Some("add `on = \"…\"`".into()))
        }
        None => {}
    }
    t.probe = probe(&s);
    if let Some(within) = s.get("within").and_then(|i| i.duration()) {
        t.within = within;
    }
    if let Some(when) = s.get("when") {
        let words = when.items().iter().filter_map(|i| i.one_of(&rules::WHEN)).map(str::to_owned).collect::<Vec<_>>();
        t.when = words;
    }
    s.finish();
    t
}

fn update(s: &Section<'_>, update: &mut Update, only: Option<&str>) {
    update.order = s.get("order").map(|i| i.texts()).unwrap_or_default();
    if let Some(settle) = s.get("settle").and_then(|i| i.duration()) {
        update.settle = settle;
    }
    let Some(m) = s.get("migrate").and_then(|i| i.section()) else { return };
    let on = match (m.get("on"), only) {
        (Some(on), _) => on.text().unwrap_or_default(),
        (None, Some(only)) => only.to_owned(),
        (None, None) => m.need("on", "\"…\"").and_then(|i| i.text()).unwrap_or_default(),
    };
    update.migrate = Some(Migrate {
        from_epoch: m.need("from_epoch", "1").and_then(|i| i.within(0, i64::from(u32::MAX))).unwrap_or(0),
        role: on,
        command: m.need("exec", "[\"…\"]").map(|i| i.texts()).unwrap_or_else(|| vec!["true".into()]),
        needs_snapshot: m.get("needs").and_then(|i| i.one_of(&["snapshot", "nothing"])) != Some("nothing"),
    });
    m.finish();
}

/// The rules of what never reaches a release: folders, templates, include cycles of the first order.
fn sources(d: &Definition) -> Vec<super::Fault> {
    fn fault(at: impl Into<String>, message: impl Into<String>) -> super::Fault {
        super::Fault::new(at, message)
    }
    let mut faults = Vec::new();
    for a in &d.artifacts {
        let at = format!("role.{}.artifact.{}", a.role, a.name);
        let (at_tree, plain) = (format!("{at}.tree"), a.tree.replace("${platform}", "os/arch"));
        faults.extend(super::substitution::scan(&plain).into_iter().filter_map(|p| {
            match p {
                Err(bad) => Some(fault(&at_tree, bad.to_string()).token(bad.token).hint(bad.hint)),
                Ok(super::substitution::Part::Reference(r)) => Some(
                    fault(&at_tree, format!("`{r}` is not known in a folder's path"))
                        .hint(Some("only `${platform}` is".into())),
                ),
                Ok(super::substitution::Part::Text(_)) => None,
            }
        }));
        if super::substitution::is_literal(&plain) {
            faults.extend(names::relative(&plain).err().map(|why| fault(&at_tree, why)));
        }
        if plain != a.tree && d.draft.platforms.is_empty() {
            let hint = "add `platforms = [\"linux/amd64\"]` to [distro]".to_owned();
            faults.push(fault(&at_tree, "`${platform}` has no value: the distro names no platforms").hint(Some(hint)));
        }
        for (n, pattern) in a.exclude.iter().enumerate() {
            let why = if pattern.is_empty() { Err("the pattern is empty".to_owned()) } else { names::line(pattern) };
            faults.extend(why.err().map(|why| fault(format!("{at}.exclude[{n}]"), why)));
        }
    }
    for t in &d.templates {
        let why = names::relative(&t.template).err();
        faults.extend(why.map(|why| fault(format!("role.{}.file.{}.template", t.role, t.path), why)));
    }
    for i in d.includes.iter().filter(|i| i.publisher.is_none() && i.distro == d.draft.distro) {
        let message = format!("the distro includes itself: {0} -> {0}", i.distro);
        faults.push(fault(format!("include.{}.distro", i.name), message));
    }
    faults
}
