//! Definitions as people write them: good ones read and compile to the same bytes each time, bad ones are explained.
//! `SOFTSERVICE_BLESS=1` writes the expected texts anew.
#![allow(clippy::disallowed_methods)] // the wall is around the crate; definitions live in files

use proptest::prelude::*;
use softservice_protocol::{
    chunk::ChunkRef,
    codec,
    definition::{self, Definition, Lock, Locked, Materials, Problem, Sources, closure::Releases},
    feed::{Listing, RevokeLevel},
    id::{ChunkId, ObjectId, PublisherId, ReleaseId},
    release::{Param, Release, ReleaseRef, Service},
    tree::TreeRef,
};
use std::{collections::BTreeMap, fs, path::PathBuf};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/definitions").join(name)
}

fn files(name: &str) -> Vec<(String, String)> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder(name)).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    found.sort();
    let named = |p: PathBuf| (p.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&p).unwrap());
    found.into_iter().map(named).collect()
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{p}\n")).collect()
}

/// A folder in memory.
#[derive(Default)]
struct Folder(BTreeMap<String, String>);

impl Folder {
    /// Everything that a definition asks for.
    fn for_all_of(d: &Definition) -> Self {
        let trees = definition::trees(d).into_iter().map(|t| (format!("{}/some-file", t.dir), "content".into()));
        Self(trees.chain(d.templates.iter().map(|t| (t.template.clone(), "port = 1\n".into()))).collect())
    }
}
impl Sources for Folder {
    fn text(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
    fn is_dir(&self, path: &str) -> bool {
        self.0.keys().any(|k| k.starts_with(&format!("{path}/")))
    }
    fn is_file(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

fn tree_of(text: &str) -> TreeRef {
    let id = ObjectId::of(text.as_bytes());
    TreeRef { manifest: id, chunks: vec![ChunkRef { id: ChunkId::from(id), len: 100 }], bytes: 7, files: 1 }
}

fn publisher(name: &str) -> PublisherId {
    PublisherId(ObjectId::of(name.as_bytes()).0)
}

/// Publishers that publish into one shelf and find each other's releases there.
#[derive(Default)]
struct Shelf {
    releases: Releases,
    pins: BTreeMap<String, Locked>,
}

impl Shelf {
    fn compile_in(&self, who: &str, d: &Definition, folder: &Folder) -> Result<Release, Vec<Problem>> {
        let includes = d
            .includes
            .iter()
            .filter_map(|i| Some(Locked { name: i.name.clone(), ..self.pins.get(&i.distro)?.clone() }));
        let lock = Lock { includes: includes.collect() };
        let trees =
            definition::trees(d).into_iter().map(|t| ((t.role, t.artifact, t.platform), tree_of(&t.dir))).collect();
        definition::compile(
            d,
            &Materials {
                publisher: publisher(who),
                lock: &lock,
                releases: &self.releases,
                trees: &trees,
                source: tree_of("source"),
                templates: folder,
                parents: Vec::new(),
            },
        )
    }
    fn compile(&self, who: &str, text: &str) -> Result<Release, Vec<Problem>> {
        let d = definition::read(text)?;
        self.compile_in(who, &d, &Folder::for_all_of(&d))
    }
    /// Puts a release onto the shelf, without asking whether it is any good.
    fn put(&mut self, release: Release) -> ReleaseId {
        let bytes = codec::encode(&release).unwrap();
        let id = ReleaseId::of(&bytes);
        self.pins.insert(
            release.distro.clone(),
            Locked {
                name: String::new(),
                publisher: release.publisher,
                distro: release.distro.clone(),
                version: release.version.clone(),
                revision: release.revision,
                release: ReleaseRef { id, size: bytes.len() as u32 },
            },
        );
        self.releases.insert(id, release);
        id
    }
    fn publish(&mut self, who: &str, text: &str) -> ReleaseId {
        let release = self.compile(who, text).unwrap_or_else(|p| panic!("{}", shown(&p)));
        self.put(release)
    }
}

fn good(name: &str) -> String {
    fs::read_to_string(folder("good").join(format!("{name}.toml"))).unwrap()
}

/// Oakfield's two distros, which the reference example includes.
fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    shelf.publish("oakfield", &good("postgres"));
    shelf.publish("oakfield", &good("caddy-edge"));
    shelf
}

#[test]
fn good_definitions_compile_to_releases_that_every_device_accepts() {
    let mut shelf = shelf();
    for (name, text) in files("good") {
        let release = shelf.compile("me", &text).unwrap_or_else(|p| panic!("{name}:\n{}", shown(&p)));
        release.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        definition::closure::check(&release, &shelf.releases).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = shelf.compile("me", &text).unwrap();
        let bytes = codec::encode(&release).unwrap();
        assert_eq!(bytes, codec::encode(&again).unwrap(), "{name} compiles to the same bytes");
        let back: Release = codec::decode(&bytes).unwrap();
        assert_eq!(back, release);
        shelf.put(release);
    }
}

#[test]
fn the_examples_of_this_repository_are_good() {
    let example = |path: &str| {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path).join(definition::FILE);
        fs::read_to_string(file).unwrap()
    };
    let mut shelf = Shelf::default();
    for path in ["guestbook/data", "guestbook/web", "guestbook"] {
        let text = example(path);
        let d = definition::read(&text).unwrap_or_else(|p| panic!("{path}:\n{}", shown(&p)));
        let advice = definition::check(&d, None, &Folder::for_all_of(&d));
        assert!(advice.iter().all(|p| p.message.contains("is not pinned")), "{path}:\n{}", shown(&advice));
        shelf.publish("me", &text);
    }
}

#[test]
fn a_pin_that_no_longer_fits_is_told_and_never_compiled() {
    let mut shelf = Shelf::default();
    shelf.publish("bob", LIBRARY);
    let d = definition::read(&changed(BINDER, "\"^1\"", "\"^2\"")).unwrap();
    let lock = Lock { includes: vec![Locked { name: "reader".into(), ..shelf.pins["log-reader"].clone() }] };
    let folder = Folder::for_all_of(&d);
    let told = definition::check(&d, Some(&lock), &folder);
    assert!(told.iter().all(|p| !p.is_error()), "{}", shown(&told));
    assert!(
        shown(&told)
            .contains("distro.lock pins log-reader 1.0.0, which is not within ^2 (publishing chooses it again)")
    );
    let refused = shown(&shelf.compile_in("alice", &d, &folder).unwrap_err());
    assert!(refused.contains("distro.toml:6:11: error: distro.lock pins log-reader 1.0.0"), "{refused}");
}

#[test]
fn bad_definitions_are_explained_at_their_line() {
    let bless = std::env::var_os("SOFTSERVICE_BLESS").is_some();
    for (name, text) in files("bad") {
        let problems = match definition::read(&text) {
            Err(problems) => problems,
            Ok(d) => {
                let folder = Folder::for_all_of(&d);
                let problems = definition::check(&d, None, &folder);
                let errors = shelf().compile_in("me", &d, &folder).err().unwrap_or_default();
                [problems, errors].concat()
            }
        };
        let found = shown(&problems);
        assert!(!found.is_empty(), "{name} is bad");
        let path = folder("bad").join(format!("{name}.txt"));
        if bless {
            fs::write(&path, &found).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{name}: SOFTSERVICE_BLESS=1 accepts the new text");
    }
}

#[test]
fn the_reference_example_says_what_it_says() {
    let release = shelf().compile("me", &good("photo-shelf")).unwrap();
    let web = release.roles.iter().find(|r| r.name == "web").unwrap();
    assert_eq!((release.revision, release.epoch, release.update.order.join(" ")), (4, 3, "data web".into()));
    assert_eq!((web.devices_min, web.devices_max, web.needs_memory), (1, None, Some(256 << 20)));
    assert_eq!(web.ports.iter().map(|p| (p.name.as_str(), p.wish)).collect::<Vec<_>>(), [("app", Some(8080))]);
    let platforms: Vec<&str> = web.artifacts[0].trees.iter().map(|(p, _)| p.as_str()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(web.files[0].mode, 0o640);
    assert_eq!(web.services[0].secrets, ["admin", "import.db.password", "session"]);
    assert_eq!(release.params.iter().find(|p| p.name == "upload").unwrap().default.as_deref(), Some("209715200"));
    let edge = release.includes.iter().find(|i| i.name == "edge").unwrap();
    assert_eq!((edge.publisher, edge.version.as_str()), (publisher("oakfield"), "2.8.4"));
    assert_eq!(
        edge.with,
        [("site".into(), "${param.domain}".into()), ("upstream".into(), "${web.app.url}".to_owned())]
    );
}

/// The definition with a change; both texts must be there and gone.
fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

const LIBRARY: &str = r#"
format = 1
distro = { name = "log-reader", version = "1.0.0" }
[role.main]
import.log = { type = "log/1" }
export.page = { type = "http/1", port = "http" }
[role.main.service.reader]
command = ["/bin/reader", "${import.log.address}", "${import.log.format}", "${port.http}"]
"#;
const BINDER: &str = r#"
format = 1
distro = { name = "whole", version = "1.0.0" }
[include.reader]
distro = "bob/log-reader"
version = "^1"
bind = { log = "main.log" }
[role.main]
export.log = { type = "log/1", port = "log", fields = { format = "json" } }
"#;

#[test]
fn an_open_import_is_bound_by_whoever_includes_the_distro() {
    let mut shelf = Shelf::default();
    shelf.publish("bob", LIBRARY);
    let whole = shelf.compile("alice", BINDER).unwrap();
    assert_eq!(whole.includes[0].bind, [("log".to_owned(), "main.log".to_owned())]);
    let refused = |text: String| shown(&shelf.compile("alice", &text).unwrap_err());
    let unbound = refused(changed(BINDER, "bind = { log = \"main.log\" }\n", ""));
    assert!(unbound.contains("nothing is bound to it (add `bind = { log = "), "{unbound}");
    let kind = refused(changed(BINDER, "type = \"log/1\"", "type = \"log/2\""));
    assert!(kind.contains("distro.toml:7:17: error: main.log is log/2, wanted is log/1"), "{kind}");
    let field = refused(changed(BINDER, "format = \"json\"", "colour = \"red\""));
    assert!(field.contains("the field \"format\" is used, which main.log has not"), "{field}");
}

fn including(name: &str, version: &str, includes: &[&str]) -> String {
    let includes = includes.iter().map(|i| format!("[include.the-{i}]\ndistro = \"x/{i}\"\nversion = \"^1\"\n"));
    format!(
        "format = 1\ndistro = {{ name = {name:?}, version = {version:?} }}\n{}[role.main]\n",
        includes.collect::<String>()
    )
}

#[test]
fn a_distro_cannot_contain_itself_by_way_of_others() {
    let mut shelf = Shelf::default();
    shelf.publish("alice", &including("a", "1.0.0", &[]));
    shelf.publish("bob", &including("b", "1.0.0", &["a"]));
    shelf.publish("carol", &including("c", "1.0.0", &["b"]));
    let refused = shown(&shelf.compile("alice", &including("a", "1.1.0", &["c"])).unwrap_err());
    assert!(refused.contains("the distro includes itself: a -> c -> b -> a"), "{refused}");
    // The same name of another publisher is another distro.
    assert!(shelf.compile("dave", &including("a", "1.1.0", &["c"])).is_ok());
}

#[test]
fn a_closure_has_a_limit_and_must_be_complete() {
    let mut shelf = Shelf::default();
    shelf.publish("alice", &including("d0", "1.0.0", &[]));
    let refused = |n: usize, shelf: &mut Shelf| {
        let release = shelf.compile("alice", &including(&format!("d{n}"), "1.0.0", &[&format!("d{}", n - 1)]));
        release.map(|r| shelf.put(r)).map_err(|p| shown(&p))
    };
    // Built by hand, because compiling each link anew would check the whole chain each time.
    for n in 1..=softservice_protocol::limits::CLOSURE {
        let pin = shelf.pins[&format!("d{}", n - 1)].clone();
        let mut next = shelf.releases[&pin.release.id].clone();
        next.distro = format!("d{n}");
        next.includes = vec![softservice_protocol::release::Include {
            name: "inner".into(),
            publisher: pin.publisher,
            distro: pin.distro,
            version: pin.version,
            release: pin.release,
            role: "main".into(),
            with: vec![],
            bind: vec![],
        }];
        shelf.put(next);
    }
    let why = refused(softservice_protocol::limits::CLOSURE + 1, &mut shelf).unwrap_err();
    assert!(why.contains("more than 256 releases"), "{why}");
    refused(100, &mut shelf).unwrap();
    let lost = shelf.pins["d50"].release.id;
    shelf.releases.remove(&lost);
    let why = refused(60, &mut shelf).unwrap_err();
    assert!(why.contains(&format!("d50 1.0.0 ({}) is not here", lost.short())), "{why}");
}

fn listing(version: &str, revision: u32, revoked: Option<RevokeLevel>) -> Listing {
    Listing {
        distro: "d".into(),
        version: version.into(),
        revision,
        channel: "stable".into(),
        release: ReleaseId(ObjectId::of(format!("{version}~{revision}").as_bytes()).0),
        size: 1,
        summary: String::new(),
        parents: vec![],
        revoked,
    }
}

#[test]
fn a_lock_takes_the_newest_that_fits_and_was_not_revoked() {
    let listings = [
        listing("1.9.0", 1, None),
        listing("1.10.0", 1, None),
        listing("1.10.0", 2, None),
        listing("1.11.0", 1, Some(RevokeLevel::Withdraw)),
        listing("1.12.0-rc.1", 1, None),
        listing("2.0.0", 1, None),
        listing("not a version", 1, None),
    ];
    let choose = |range: &str| {
        let found = definition::lock::choose(&range.parse().unwrap(), &listings);
        found.map(|l| format!("{}~{}", l.version, l.revision))
    };
    assert_eq!(choose("^1.9").as_deref(), Some("1.10.0~2"));
    assert_eq!(choose("~1.9").as_deref(), Some("1.9.0~1"));
    assert_eq!(choose("*").as_deref(), Some("2.0.0~1"));
    assert_eq!(choose("=1.12.0-rc.1").as_deref(), Some("1.12.0-rc.1~1"));
    assert_eq!(choose("^3"), None);
}

#[test]
fn a_lock_survives_its_text_and_says_what_is_wrong_with_another() {
    let mut lock = Lock { includes: shelf().pins.into_values().collect() };
    lock.includes.iter_mut().enumerate().for_each(|(n, l)| l.name = format!("include-{n}"));
    let text = lock.write();
    assert_eq!(Lock::read(&text).unwrap(), lock);
    assert_eq!(Lock::read(&text).unwrap().write(), text);
    lock.includes.reverse();
    assert_eq!(lock.write(), text, "the order of a lock is its names'");
    let problems = |text: &str| shown(&Lock::read(text).unwrap_err());
    assert!(problems("").contains("lacks `format`"));
    assert!(problems("format = 2").contains("needs softservice that reads format 2"));
    assert!(problems(&changed(&text, "include-1", "include-0")).contains("pinned twice"));
    assert!(
        problems(&changed(&text, "release = \"", "release = \"zz"))
            .contains("distro.lock:10:11: error: expected 64 hex")
    );
    assert!(problems(&changed(&text, "size", "sise")).contains("did you mean `size`?"));
}

#[test]
fn a_new_distro_is_checked_and_compiled_without_a_word() {
    for (template, _) in definition::scaffold::TEMPLATES {
        let files = definition::scaffold::files(template, "my-thing").unwrap();
        let folder = Folder(files.into_iter().map(|f| (f.path.to_owned(), f.text)).collect());
        let d = definition::read(&folder.0[definition::FILE]).unwrap_or_else(|p| panic!("{}", shown(&p)));
        assert_eq!(shown(&definition::check(&d, None, &folder)), "");
        let release = Shelf::default().compile_in("me", &d, &folder).unwrap();
        assert_eq!(release.distro, "my-thing");
    }
    assert!(definition::scaffold::files("hello", "No Good").is_err());
    assert!(definition::scaffold::files("nothing", "good").unwrap_err().contains("known: hello"));
}

#[test]
fn folders_and_templates_that_are_missing_are_told_where_they_are_named() {
    let d = definition::read(&good("photo-shelf")).unwrap();
    let empty = shown(&definition::check(&d, None, &Folder::default()));
    assert!(empty.contains("distro.toml:36:16: error: the folder \"build/linux/arm64\" does not exist"), "{empty}");
    assert!(
        empty.contains("distro.toml:40:29: error: the template \"templates/shelf.toml\" does not exist"),
        "{empty}"
    );
    let mut folder = Folder::for_all_of(&d);
    folder
        .0
        .insert("templates/shelf.toml".into(), "host = $host\nsite = ${param.domian}\nport = ${port.extra}\n".into());
    let wrong = shown(&definition::check(&d, None, &folder));
    assert!(wrong.starts_with("templates/shelf.toml:2:8: error: `${param.domian}` is unknown"), "{wrong}");
    // A port that only a template names is declared by that.
    folder.0.insert("templates/shelf.toml".into(), "port = ${port.extra}\n".into());
    let release = shelf().compile_in("me", &d, &folder).unwrap();
    assert!(release.roles.iter().any(|r| r.ports.iter().any(|p| p.name == "extra" && p.wish.is_none())));
}

#[test]
fn a_foreign_release_is_refused_for_every_rule_that_it_breaks() {
    let sound = shelf().compile("mallory", &good("photo-shelf")).unwrap();
    sound.check().unwrap();
    type Lie = fn(&mut Release);
    let lies: Vec<(&str, Lie)> = vec![
        ("distro.name", |r| r.distro = "evil\u{1b}[2J".into()),
        ("distro.version", |r| r.version = "new".into()),
        ("distro.summary", |r| r.summary = "a\u{202e}b".into()),
        ("stands after", |r| r.roles.reverse()),
        ("canonical order", |r| {
            let earlier = Service { name: "aaa".into(), ..r.roles[1].services[0].clone() };
            r.roles[1].services.push(earlier);
        }),
        ("stands there twice", |r| r.tests.insert(1, r.tests[0].clone())),
        ("\"../../x\" would leave", |r| r.roles[1].files[0].path = "../../x".into()),
        ("permission bits", |r| r.roles[1].files[0].mode = 0o4755),
        ("there is no port \"none\"", |r| r.roles[1].exports[0].port = Some("none".into())),
        ("0 is not a port", |r| r.roles[1].ports[0].wish = Some(0)),
        ("`${secret.none}` is unknown", |r| r.roles[1].files[0].template = "${secret.none}".into()),
        ("never closed", |r| r.roles[1].services[0].command[0] = "${".into()),
        ("the command is empty", |r| r.roles[1].services[0].command.clear()),
        ("must be absolute", |r| r.roles[1].allow.read = vec!["etc".into()]),
        ("there is no role \"none\"", |r| r.includes[0].role = "none".into()),
        ("beside which role", |r| r.includes[0].role.clear()),
        ("includes itself", |r| {
            r.includes[0].publisher = r.publisher;
            r.includes[0].distro = r.distro.clone();
        }),
        ("of 0 bytes", |r| r.includes[0].release.size = 0),
        ("impossible sizes", |r| r.source.bytes = u64::MAX),
        ("impossible sizes", |r| r.roles[1].artifacts[0].trees[0].1.chunks[0].len = 0),
        ("it has no tree", |r| r.roles[1].artifacts[0].trees.clear()),
        ("more than 256", |r| r.tests = vec![r.tests[0].clone(); 257]),
        ("longer than a day", |r| r.update.settle = softservice_protocol::time::Span(u64::MAX)),
        ("would never run", |r| r.tests[0].when.clear()),
    ];
    for (wanted, lie) in lies {
        let mut release = sound.clone();
        lie(&mut release);
        let error = release.check().expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(softservice_protocol::text::is_plain(&error), "{error:?}");
    }
}

#[test]
fn a_megabyte_of_mistakes_costs_no_more_than_a_megabyte() {
    let sound = shelf().compile("mallory", &good("photo-shelf")).unwrap();
    let long = "x".repeat(29);
    let nonsense = [
        "${".repeat(400_000),
        "${import.db.nothing}".repeat(40_000),
        format!("${{param.{long}}}").repeat(20_000),
        "${web.app.nothing}".repeat(50_000),
        "${".to_owned() + &"a.".repeat(400_000),
    ];
    for text in nonsense {
        let mut release = sound.clone();
        release.roles[1].files[0].template = text.clone();
        release.params =
            (0..256).map(|n| Param { name: format!("{}{n:03}", &long), ..sound.params[0].clone() }).collect();
        assert!(codec::encode(&release).is_ok());
        assert!(release.check().is_err());
        let mut folder = Folder::for_all_of(&definition::read(&good("photo-shelf")).unwrap());
        folder.0.insert("templates/shelf.toml".into(), text);
        let d = definition::read(&good("photo-shelf")).unwrap();
        assert!(!definition::check(&d, None, &folder).is_empty());
    }
    let mut release = sound.clone();
    let service = release.roles[1].services[0].clone();
    let names = (0..256).map(|n| format!("s{n:03}")).collect::<Vec<_>>();
    release.roles[1].services =
        names.iter().map(|n| Service { name: n.clone(), depends_on: names.clone(), ..service.clone() }).collect();
    assert!(release.check().unwrap_err().to_string().contains("wait for each other"));
}

/// The sections of a definition, in another order.
fn reordered(text: &str, seed: u64) -> String {
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') || parts.is_empty() {
            parts.push(String::new());
        }
        parts.last_mut().unwrap().push_str(&format!("{line}\n"));
    }
    let head = parts.remove(0);
    parts.sort_by_key(|p| *blake3::keyed_hash(&[seed as u8; 32], p.as_bytes()).as_bytes());
    head + &parts.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,200}|([a-z.\\[\\]{}=\"$ \\n0-9]){0,200}") {
        let _ = definition::read(&text);
        let _ = Lock::read(&text);
    }

    #[test]
    fn no_slip_of_the_pen_makes_reading_panic(at in 0usize..4000, cut in 0usize..60, put in "[\\[\\]{}=\".$a-z0-9\\n\u{202e}-]{0,8}") {
        let text: Vec<char> = good("photo-shelf").chars().collect();
        let at = at.min(text.len());
        let rest = text.iter().skip(at + cut);
        let slipped: String = text.iter().take(at).chain(put.chars().collect::<Vec<_>>().iter()).chain(rest).collect();
        match definition::read(&slipped) {
            Ok(d) => {
                let folder = Folder::for_all_of(&d);
                let _ = definition::check(&d, None, &folder);
                let _ = shelf().compile_in("me", &d, &folder);
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                let lines = slipped.lines().count() as u32 + 1;
                prop_assert!(problems.iter().all(|p| (1..=lines).contains(&p.line) && p.column >= 1));
            }
        }
    }

    #[test]
    fn the_order_of_sections_means_nothing(seed in any::<u64>()) {
        let text = good("photo-shelf");
        let (one, other) = (shelf().compile("me", &text), shelf().compile("me", &reordered(&text, seed)));
        prop_assert_eq!(codec::encode(&one.unwrap()).unwrap(), codec::encode(&other.unwrap()).unwrap());
    }

    #[test]
    fn templates_read_whole_or_not_at_all(text in "([$]|[{]|[}]|[.]|param|import|x|files| ){0,12}") {
        // Devices and authors read with this one function: what it gives, written again, is the text.
        use softservice_protocol::definition::substitution::{self, Part};
        if let Ok(parts) = substitution::parse(&text) {
            let written: String = parts.iter().map(|p| match p {
                Part::Text(t) => t.replace("${", "$${"),
                Part::Reference(r) => r.to_string(),
            }).collect();
            prop_assert_eq!(substitution::parse(&written), Ok(parts));
        }
    }
}

#[test]
fn no_depth_exhausts_the_stack() {
    for deep in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(50_000)),
        "a.".repeat(100_000) + "a = 1",
    ] {
        assert!(definition::read(&deep).is_err());
    }
    assert!(definition::read(&"#".repeat(2 << 20)).is_err());
}
