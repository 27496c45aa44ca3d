//! A real database through updates: back as it was when a new version fails, forward and back across data layouts.

use serde_json::Value;
use softservice_tests::{
    Node, World,
    debian::{Psql, copy, edit, examples},
    sources::publish,
    visit::endpoint,
};
use std::path::{Path, PathBuf};

/// What is compared: how many rows, and everything that is in them.
const ROWS: &str = "SELECT count(*), md5(string_agg(id || ':' || words, ',' ORDER BY id)) FROM notes";

struct Story {
    _world: World,
    ann: Node,
    bob: Node,
    folder: PathBuf,
    root: PathBuf,
}

impl Story {
    /// A publisher with the distro to edit, and a device that is subscribed to nothing yet.
    fn begin(examples: &Path) -> Self {
        let world = World::new();
        let (ann, bob) = (world.node("ann"), world.node("bob"));
        let folder = world.path("postgresql");
        copy(&examples.join("postgresql"), &folder);
        Self { ann, bob, folder, root: examples.join("roots/postgresql"), _world: world }
    }

    fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        edit(&self.folder.join(file), change);
    }

    fn install(&self) -> Psql {
        let ticket = publish(&self.ann, &self.folder);
        self.bob.ok(&["subscribe", &ticket, "--as", "ann"]);
        let answer = self.bob.ok(&["up", "ann/postgresql", "--as", "pg", "--yes", "--accept-reduced"]);
        let password = std::fs::read_to_string(self.bob.home.join("softservices/pg/secrets/password"));
        Psql {
            root: self.root.clone(),
            port: port(&answer),
            name: "app".into(),
            password: password.expect("root reads the password"),
        }
    }

    fn update(&self) -> (i32, Value) {
        publish(&self.ann, &self.folder);
        self.bob.verb(&["update", "pg", "--yes", "--accept-reduced"])
    }
}

/// The database's port, as an answer names it.
fn port(answer: &Value) -> u16 {
    let url = endpoint(answer, "sql");
    url.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or_else(|| panic!("no port in {url}"))
}

fn write_rows(psql: &Psql) -> String {
    psql.ask("CREATE TABLE notes (id int PRIMARY KEY, words text)");
    psql.ask("INSERT INTO notes SELECT n, md5(n::text) || repeat('x', n % 900) FROM generate_series(1, 20000) n");
    psql.ask("CHECKPOINT");
    psql.ask(ROWS)
}

#[test]
fn a_version_that_ruins_the_data_and_fails_its_test_goes_back_with_every_row() {
    let Some(examples) = examples(env!("CARGO_TARGET_TMPDIR")) else { return };
    let story = Story::begin(examples);
    let psql = story.install();
    let rows = write_rows(&psql);
    assert!(rows.starts_with("20000|"), "{rows}");

    // The new version runs, destroys what it finds, and its own test notices. Tests run in the order of their names.
    story.edit("templates/postgresql.conf", |text| format!("{text}work_mem = 8MB\n"));
    story.edit("distro.toml", |text| {
        let sql = |name: &str, statement: &str| {
            format!(
                "[test.{name}]\non = \"data\"\nwithin = \"2s\"\nexec = [\"${{artifact.scripts}}/sql\", \"${{port.sql}}\", \
                 \"${{param.database}}\", \"${{param.user}}\", \"{statement}\"]\n"
            )
        };
        let ruin = sql("ruin", "DROP TABLE IF EXISTS notes") + &sql("whole", "SELECT count(*) FROM notes");
        text.replacen("\nsummary", "\nrevision = 2\nsummary", 1) + &ruin
    });
    let (code, answer) = story.update();
    assert_eq!(code, 1, "a version that fails its test is a failure: {answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|m| m.contains("whole")), "{answer}");
    assert_eq!(psql.ask(ROWS), rows, "every row is back");
    assert_eq!(psql.ask("SHOW work_mem"), "4MB", "under the old version's settings");
    let list = story.bob.ok(&["ps", "pg"]);
    assert_eq!((&list[0]["generation"], &list[0]["state"]), (&1.into(), &"running".into()), "{list}");
    story.bob.ok(&["remove", "pg", "--data"]);
}

#[test]
fn an_older_data_layout_comes_back_with_its_data_or_not_at_all() {
    let Some(examples) = examples(env!("CARGO_TARGET_TMPDIR")) else { return };
    let story = Story::begin(examples);
    // As the distro was before its data layout 2: no checksums on pages, and so nothing to migrate.
    let read = |file: &str| std::fs::read_to_string(story.folder.join(file)).expect("it is there");
    let (newer, start) = (read("distro.toml"), read("scripts/start"));
    story.edit("distro.toml", |text| {
        let (before, _) = text.split_once("[update.migrate]").expect("it migrates");
        before.replacen("\nepoch = 2", "", 1)
    });
    story.edit("scripts/start", |text| text.replacen(" --data-checksums", "", 1));
    let psql = story.install();
    let rows = write_rows(&psql);
    assert_eq!(psql.ask("SHOW data_checksums"), "off");

    story.edit("distro.toml", |_| newer.replacen("\nsummary", "\nrevision = 2\nsummary", 1));
    story.edit("scripts/start", |_| start.clone());
    let (code, answer) = story.update();
    assert_eq!(code, 0, "{answer}");
    assert_eq!(psql.ask("SHOW data_checksums"), "on", "the migration ran");
    assert_eq!(psql.ask(ROWS), rows, "and kept every row");
    psql.ask("INSERT INTO notes VALUES (20001, 'written under the new layout')");

    let answer = story.bob.ok(&["rollback", "pg", "--yes", "--accept-reduced"]);
    assert_eq!(answer["generation"], 1, "{answer}");
    assert_eq!(psql.ask("SHOW data_checksums"), "off", "the old layout is back");
    assert_eq!(psql.ask(ROWS), rows, "with the data that belongs to it");

    let answer = story.bob.ok(&["update", "pg", "--yes", "--accept-reduced"]);
    let now = psql.ask(ROWS);
    for snapshot in std::fs::read_dir(story.bob.home.join("softservices/pg/snapshots")).expect("there are some") {
        std::fs::remove_dir_all(snapshot.expect("an entry can be read").path()).expect("it can go");
    }
    let (code, refusal) = story.bob.verb(&["rollback", "pg", "--yes", "--accept-reduced"]);
    assert_eq!(code, 4, "without its snapshot the old layout stays away: {refusal}");
    assert!(refusal["error"]["message"].as_str().is_some_and(|m| m.contains("snapshot")), "{refusal}");
    assert_eq!((psql.ask("SHOW data_checksums").as_str(), psql.ask(ROWS)), ("on", now), "{answer}");
    story.bob.ok(&["remove", "pg", "--data"]);
}
