//! The static site behind nginx: the example out of Debian's packages, a role without data. Invariant: its pages and its settings
//! say of which edition they are.
//!
//! Edition 2 has another page; edition 4 as well, and fails its own test after it has taken over.

use super::{
    deed::Deed,
    example::{BAD, BESIDE, Edition, Example, FIRST, edit, swap},
    imprint::Imprint,
    postgresql::marked,
    processes::Process,
};
use crate::{Node, debian::copy, sources::text, visit};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The example, made of a root tree.
#[derive(Debug)]
pub(super) struct Site {
    /// The folder with the complete distros.
    trees: PathBuf,
}

impl Site {
    pub(super) fn new(trees: &Path) -> Self {
        Self { trees: trees.into() }
    }
}

impl Example for Site {
    fn name(&self) -> &'static str {
        "nginx-site"
    }

    fn deeds(&self) -> Vec<Deed> {
        vec![Deed::Install, Deed::Update(BESIDE), Deed::Update(BAD), Deed::Rollback(BESIDE), Deed::Remove]
    }

    fn publish(&mut self, node: &Node, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder can be made");
        for edition in [FIRST, BESIDE, BAD] {
            let source = folder.join(edition.version());
            copy(&self.trees.join("nginx-site"), &source);
            let mark = edition.mark();
            edit(&source.join("templates/nginx.conf"), |conf| format!("# {mark}\n{conf}"));
            edit(&source.join("site/index.html"), |page| swap(page, "</h1>", &format!(", {mark}</h1>")));
            edit(&source.join("distro.toml"), |toml| {
                let toml = swap(toml, "version = \"1.22.1\"", &format!("version = \"{}\"", edition.version()));
                let toml = swap(toml, "interval = \"1s\"", "interval = \"100ms\"");
                let toml = swap(toml, "settle = \"2s\"", "settle = \"200ms\"");
                let fails = ("contains = \"<title>\", within = \"10s\"", "contains = \"no page\", within = \"400ms\"");
                if edition == BAD { swap(toml, fails.0, fails.1) } else { toml }
            });
            node.ok(&["publish", text(&source)]);
        }
    }

    fn services(&self, edition: Edition) -> Vec<(&'static str, Edition)> {
        vec![("nginx", edition)]
    }

    fn has_front(&self) -> bool {
        true
    }

    fn running(&self, _service: &str, all: &[Process]) -> Vec<Result<Edition, String>> {
        // It writes one text over its command line; its workers call themselves otherwise.
        let master = |p: &Process| {
            let line = p.line.join(" ");
            line.starts_with("nginx: master process").then_some(line)
        };
        let conf = |line: String| Some(PathBuf::from(line.split_once(" -c ")?.1.split(' ').next()?));
        all.iter().filter_map(master).map(|line| marked(conf(line))).collect()
    }

    fn plant(&self, _softservice: &Path, _info: &Value) -> Vec<String> {
        Vec::new()
    }

    fn write(&self, _softservice: &Path, _info: &Value, _words: &str) -> Option<bool> {
        None
    }

    fn read(&self, _softservice: &Path, info: &Value) -> Result<(Edition, Vec<String>), String> {
        let (status, page) = visit::ask(&visit::url(info), "GET", "/", "").map_err(|e| e.to_string())?;
        match Edition::marked(&page).filter(|_| status == 200) {
            Some(edition) => Ok((edition, Vec::new())),
            None => Err(format!("{status}: {page}")),
        }
    }

    fn data(&self, _softservice: &Path) -> Imprint {
        Imprint::default()
    }

    fn rewrites(&self, _from: Edition, _to: Edition) -> bool {
        false
    }
}
