//! The guestbook: a page before a data part. Invariant: each process has a file beside its program that says of which edition it
//! is, and so says the page.
//!
//! | edition | page | data part | what it tries |
//! |---|---|---|---|
//! | 1 | 1 | 1 | where all begin |
//! | 2 | 2 | 1 | a new page before the same data: the data part runs on |
//! | 3 | 3 | 3 | both new; each edition of the data part marks its volume before it serves |
//! | 4 | 4, never healthy | 4 | as 3, but it must go back, data too |

use super::{
    attic,
    deed::Deed,
    example::{BAD, BESIDE, Edition, Example, FIRST, INSTEAD, edit, swap},
    imprint::Imprint,
    processes::Process,
};
use crate::{
    Node,
    sources::{Guestbook, put, text},
    visit,
};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// The guestbook.
#[derive(Debug)]
pub(super) struct Book;

impl Example for Book {
    fn name(&self) -> &'static str {
        "guestbook"
    }

    fn deeds(&self) -> Vec<Deed> {
        let changes = [BESIDE, INSTEAD, BAD].map(Deed::Update);
        let back = [BESIDE, INSTEAD].map(Deed::Rollback);
        [Deed::Install].into_iter().chain(changes).chain(back).chain([Deed::Remove]).collect()
    }

    fn publish(&mut self, node: &Node, folder: &Path) {
        let book = Guestbook::write(folder);
        put(&book.data.join("bin/start"), "");
        let start = book.data.join("bin/start");
        for edition in [FIRST, BESIDE, INSTEAD, BAD] {
            write(&book, edition);
            fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
            for (folder, new) in [(&book.data, edition != BESIDE), (&book.web, true), (&book.whole, true)] {
                if new {
                    node.ok(&["publish", text(folder)]);
                }
            }
        }
    }

    fn services(&self, edition: Edition) -> Vec<(&'static str, Edition)> {
        vec![("guestbook-data", data_part(edition)), ("guestbook-web", edition)]
    }

    fn has_front(&self) -> bool {
        true
    }

    fn running(&self, service: &str, all: &[Process]) -> Vec<Result<Edition, String>> {
        let runs = |p: &&Process| p.line.first().is_some_and(|w| Path::new(w).ends_with(service));
        all.iter().filter(runs).map(beside).collect()
    }

    fn plant(&self, softservice: &Path, _info: &Value) -> Vec<String> {
        attic::plant(softservice);
        Vec::new()
    }

    fn write(&self, _softservice: &Path, info: &Value, words: &str) -> Option<bool> {
        let said = visit::ask(&visit::url(info), "POST", "/sign", &format!("name=Ada&words={words}"));
        Some(matches!(said, Ok((303, _))))
    }

    fn read(&self, _softservice: &Path, info: &Value) -> Result<(Edition, Vec<String>), String> {
        let (status, page) = visit::ask(&visit::url(info), "GET", "/", "").map_err(|e| e.to_string())?;
        if status != 200 {
            return Err(format!("{status}: {page}"));
        }
        let edition = Edition::marked(&page).ok_or_else(|| format!("the page names no edition: {page}"))?;
        let entries = page.lines().filter_map(|l| l.strip_prefix("<li>Ada: ")?.strip_suffix("</li>"));
        Ok((edition, entries.map(str::to_owned).collect()))
    }

    fn data(&self, softservice: &Path) -> Imprint {
        // The folder of all volumes is the device's.
        Imprint::inside(&softservice.join("volumes"))
    }

    fn rewrites(&self, from: Edition, to: Edition) -> bool {
        data_part(from) != data_part(to)
    }
}

/// The edition of the data part in an edition.
fn data_part(edition: Edition) -> Edition {
    if edition == BESIDE { FIRST } else { edition }
}

/// What a file beside a process' program says.
fn beside(process: &Process) -> Result<Edition, String> {
    let program = process.line.first().map(Path::new);
    let path = program.and_then(Path::parent).map(|p| p.join("EDITION")).unwrap_or_default();
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Edition::marked(&text).ok_or_else(|| format!("{} says {text:?}", path.display()))
}

fn write(book: &Guestbook, edition: Edition) {
    book.set_version(1);
    let version = |toml: String| swap(toml, "version = \"1.0.0\"", &format!("version = \"{}\"", edition.version()));
    let quick = |toml: String| swap(toml, "500ms", "100ms");
    edit(&book.web.join("site/page.html"), |page| {
        let page = swap(page, "<h1>A guestbook</h1>", &format!("<h1>A guestbook, {}</h1>", edition.mark()));
        // Without the place for entries the web part is never healthy.
        if edition == BAD { swap(page, "<!--entries-->", "") } else { page }
    });
    edit(&book.web.join("distro.toml"), |toml| {
        let toml = quick(version(toml));
        if edition == BAD { swap(toml, "start_period = \"5s\"", "start_period = \"300ms\"") } else { toml }
    });
    put(&book.web.join("bin/EDITION"), &edition.mark());
    let data = data_part(edition);
    if data == edition {
        let example = crate::sources::repository().join("examples/guestbook/data/distro.toml");
        let toml = quick(version(fs::read_to_string(example).expect("the example is there")));
        put(&book.data.join("distro.toml"), &swap(toml, "${artifact.app}/guestbook-data", "${artifact.app}/start"));
        put(&book.data.join("bin/EDITION"), &edition.mark());
        // An edition that finds another's mark leaves its own, before it serves: who was confirmed may, nobody else.
        let script = "#!/bin/sh\ndir=$4\n[ \"$(cat \"$dir/last\" 2>/dev/null)\" = \"$0\" ] || echo \"$0\" > \"$dir/last\"\n\
                      exec \"${0%/*}/guestbook-data\" \"$@\"\n";
        put(&book.data.join("bin/start"), script);
    }
    edit(&book.whole.join("distro.toml"), |toml| {
        let include = |toml: String, part: &str, of: Edition| {
            let of_version = |n: u32| format!("distro = \"{part}\"\nversion = \"^{n}\"");
            swap(toml, &of_version(1), &of_version(of.0))
        };
        let toml = include(include(version(toml), "guestbook-data", data), "guestbook-web", edition);
        swap(toml, "settle = \"1s\"", "settle = \"200ms\"")
    });
}
