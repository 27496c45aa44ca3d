//! The database: the example out of Debian's packages, a single role with data. Invariant: what it holds is compared by rows; a
//! server that was stopped and started has other bits in its files and the same rows.
//!
//! Edition 3 has other settings; edition 4 drops what it finds, and then fails its own test.

use super::{
    attic,
    deed::Deed,
    example::{BAD, Edition, Example, FIRST, INSTEAD, edit, swap},
    imprint::Imprint,
    processes::Process,
};
use crate::{
    Node,
    debian::{Psql, copy},
    sources::text,
    visit::endpoint,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rows that are there from the beginning.
const PLANTED: &str = "SELECT count(*) || ' ' || md5(string_agg(id || words, ',' ORDER BY id)) FROM notes";

/// The example, made of a root tree.
#[derive(Debug)]
pub(super) struct Postgresql {
    /// The folder with the complete distros.
    trees: PathBuf,
}

impl Postgresql {
    pub(super) fn new(trees: &Path) -> Self {
        Self { trees: trees.into() }
    }

    fn client(&self, softservice: &Path, info: &Value) -> Result<Psql, String> {
        let url = endpoint(info, "sql");
        let port = url.rsplit(':').next().and_then(|p| p.parse().ok()).ok_or_else(|| format!("no port in {url}"))?;
        let password = fs::read_to_string(softservice.join("secrets/password")).map_err(|e| e.to_string())?;
        Ok(Psql { root: self.trees.join("roots/postgresql"), port, name: "app".into(), password })
    }
}

impl Example for Postgresql {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn deeds(&self) -> Vec<Deed> {
        vec![Deed::Install, Deed::Update(INSTEAD), Deed::Update(BAD), Deed::Rollback(INSTEAD), Deed::Remove]
    }

    fn publish(&mut self, node: &Node, folder: &Path) {
        for edition in [FIRST, INSTEAD, BAD] {
            let source = folder.join(edition.version());
            fs::create_dir_all(folder).expect("a folder can be made");
            copy(&self.trees.join("postgresql"), &source);
            edit(&source.join("templates/postgresql.conf"), |conf| {
                // The comment is for who reads the file, the setting for who asks the server.
                format!("# {}\n{conf}work_mem = {}MB\n", edition.mark(), edition.0)
            });
            edit(&source.join("distro.toml"), |toml| {
                let toml = swap(toml, "version = \"15.20.0\"", &format!("version = \"{}\"", edition.version()));
                let toml = swap(toml, "settle = \"5s\"", "settle = \"200ms\"");
                let toml = swap(toml, "interval = \"1s\"", "interval = \"100ms\"");
                // A migration is another story: all editions have the same data layout.
                let toml = toml.split_once("[update.migrate]").map(|(head, _)| head.to_owned()).expect("it migrates");
                let asks = |statement: &str| {
                    format!(
                        "on = \"data\"\nwithin = \"400ms\"\nexec = [\"${{artifact.scripts}}/sql\", \"${{port.sql}}\", \
                         \"${{param.database}}\", \"${{param.user}}\", \"{statement}\"]\n"
                    )
                };
                match edition {
                    BAD => format!(
                        "{toml}\n[test.ruin]\n{}\n[test.whole]\n{}",
                        asks("DROP TABLE IF EXISTS notes, entries"),
                        asks("SELECT count(*) FROM notes")
                    ),
                    _ => toml,
                }
            });
            node.ok(&["publish", text(&source)]);
        }
    }

    fn services(&self, edition: Edition) -> Vec<(&'static str, Edition)> {
        vec![("postgresql", edition)]
    }

    fn has_front(&self) -> bool {
        false
    }

    fn running(&self, _service: &str, all: &[Process]) -> Vec<Result<Edition, String>> {
        // The server's other processes have other command lines, and die with it.
        let server = |p: &&Process| p.line.first().is_some_and(|w| w.ends_with("/bin/postgres"));
        let conf = |p: &Process| p.line.iter().find_map(|w| w.strip_prefix("config_file=")).map(PathBuf::from);
        all.iter().filter(server).map(|p| marked(conf(p))).collect()
    }

    fn plant(&self, softservice: &Path, info: &Value) -> Vec<String> {
        attic::plant(softservice);
        let psql = self.client(softservice, info).expect("a client");
        psql.ask("CREATE TABLE notes (id int PRIMARY KEY, words text)");
        psql.ask("INSERT INTO notes SELECT n, md5(n::text) || repeat('x', n % 900) FROM generate_series(1, 20000) n");
        psql.ask("CREATE TABLE entries (id serial PRIMARY KEY, words text)");
        vec![psql.ask(PLANTED)]
    }

    fn write(&self, softservice: &Path, info: &Value, words: &str) -> Option<bool> {
        let said = self.client(softservice, info);
        Some(said.and_then(|c| c.try_ask(&format!("INSERT INTO entries (words) VALUES ('{words}')"))).is_ok())
    }

    fn read(&self, softservice: &Path, info: &Value) -> Result<(Edition, Vec<String>), String> {
        let psql = self.client(softservice, info)?;
        let setting = psql.try_ask("SHOW work_mem")?;
        let edition = setting.strip_suffix("MB").and_then(|n| n.parse().ok()).map(Edition);
        let edition = edition.ok_or_else(|| format!("its setting is {setting}"))?;
        let mut rows = vec![psql.try_ask(PLANTED)?];
        rows.extend(psql.try_ask("SELECT words FROM entries ORDER BY id")?.lines().map(str::to_owned));
        Ok((edition, rows))
    }

    fn data(&self, softservice: &Path) -> Imprint {
        // Files that are not the server's: they must come back as well.
        attic::imprint(softservice)
    }

    fn rewrites(&self, _from: Edition, _to: Edition) -> bool {
        false
    }
}

/// The edition of the settings that a process was started with.
pub(super) fn marked(conf: Option<PathBuf>) -> Result<Edition, String> {
    let conf = conf.ok_or("a server without settings")?;
    let text = fs::read_to_string(&conf).map_err(|e| format!("{}: {e}", conf.display()))?;
    Edition::marked(&text).ok_or_else(|| format!("{} is of no edition", conf.display()))
}
