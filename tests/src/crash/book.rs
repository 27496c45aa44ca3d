//! The softservice that is crashed: the guestbook in four editions. Invariant: which edition a process, a page or a volume
//! belongs to can be read off it, so that a mixture shows.
//!
//! | edition | page | data part | what it tries |
//! |---|---|---|---|
//! | 1 | 1 | 1 | where all begin |
//! | 2 | 2 | 1 | a new page before the same data: the data part runs on |
//! | 3 | 3 | 3 | both new, and the new data part writes to its volume as soon as it starts |
//! | 4 | 4, never healthy | 4 | as 3, but it must go back, data too |

use crate::{
    Node,
    api::{self, Failure},
    sources::{Guestbook, put, text},
    visit,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// What the softservice is called.
pub const NAME: &str = "guestbook";

/// One of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition(pub u32);

/// Where all begin.
pub const FIRST: Edition = Edition(1);
/// A new page.
pub const PAGE: Edition = Edition(2);
/// Page and data part new.
pub const WHOLE: Edition = Edition(3);
/// Never healthy.
pub const BAD: Edition = Edition(4);

impl Edition {
    /// The edition of a version that the node names.
    pub fn of(version: &str) -> Option<Self> {
        version.strip_suffix(".0.0")?.parse().ok().map(Self)
    }
    /// How `up` is told.
    pub fn reference(self) -> String {
        format!("{NAME}@{}.0.0", self.0)
    }
    /// The edition of each service in it.
    pub fn parts(self) -> [(&'static str, u32); 2] {
        [("guestbook-data", if self == PAGE { 1 } else { self.0 }), ("guestbook-web", self.0)]
    }
}

/// Publishes all editions from `node`'s own home; sources are written below `folder`.
pub fn publish(node: &Node, folder: &Path) {
    let book = Guestbook::write(folder);
    put(&book.data.join("bin/start"), "");
    let start = book.data.join("bin/start");
    for edition in [FIRST, PAGE, WHOLE, BAD] {
        write(&book, edition);
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
        for (folder, new) in [(&book.data, edition != PAGE), (&book.web, true), (&book.whole, true)] {
            if new {
                node.ok(&["publish", text(folder)]);
            }
        }
    }
}

fn write(book: &Guestbook, edition: Edition) {
    let number = edition.0;
    book.set_version(1);
    let version = |toml: String| toml.replace("version = \"1.0.0\"", &format!("version = \"{number}.0.0\""));
    let quick = |toml: String| toml.replace("500ms", "100ms");
    edit(&book.web.join("site/page.html"), |page| {
        let page = page.replace("<h1>A guestbook</h1>", &format!("<h1>A guestbook, edition {number}</h1>"));
        // Without the place for entries the web part is never healthy.
        if edition == BAD { page.replace("<!--entries-->", "") } else { page }
    });
    edit(&book.web.join("distro.toml"), |toml| {
        let toml = quick(version(toml));
        if edition == BAD { toml.replace("start_period = \"5s\"", "start_period = \"300ms\"") } else { toml }
    });
    put(&book.web.join("bin/EDITION"), &number.to_string());
    let [(_, data), _] = edition.parts();
    if edition != PAGE {
        let example = crate::sources::repository().join("examples/guestbook/data/distro.toml");
        let toml = quick(version(fs::read_to_string(example).expect("the example is there")));
        put(&book.data.join("distro.toml"), &toml.replace("${artifact.app}/guestbook-data", "${artifact.app}/start"));
        put(&book.data.join("bin/EDITION"), &number.to_string());
        let mark = "[ \"$(cat \"$dir/last\" 2>/dev/null)\" = \"$0\" ] || echo \"$0\" > \"$dir/last\"\n";
        let script = format!(
            "#!/bin/sh\n# The data part. Each generation of a later edition leaves its mark once, before it serves.\n\
             dir=$4\n{}exec \"${{0%/*}}/guestbook-data\" \"$@\"\n",
            if edition == FIRST { "" } else { mark }
        );
        put(&book.data.join("bin/start"), &script);
    }
    edit(&book.whole.join("distro.toml"), |toml| {
        let include = |part: &str, n: u32| {
            (format!("distro = \"{part}\"\nversion = \"^1\""), format!("distro = \"{part}\"\nversion = \"^{n}\""))
        };
        let (data_old, data_new) = include("guestbook-data", data);
        let (web_old, web_new) = include("guestbook-web", number);
        version(toml)
            .replace(&data_old, &data_new)
            .replace(&web_old, &web_new)
            .replace("settle = \"1s\"", "settle = \"200ms\"")
    });
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    put(path, &change(fs::read_to_string(path).expect("the file is there")));
}

/// The volume of the data part, below a softservice's folder.
pub fn volume(softservice: &Path) -> PathBuf {
    let volumes = fs::read_dir(softservice.join("volumes")).expect("volumes have a folder");
    let mut found: Vec<PathBuf> = volumes.flatten().map(|e| e.path()).collect();
    assert_eq!(found.len(), 1, "the guestbook has one volume: {found:?}");
    found.remove(0)
}

/// Puts into the volume what a careless copy would lose: a link, a second name, a hole, old times, few rights.
pub fn plant(volume: &Path) {
    let attic = volume.join("attic");
    put(&attic.join("letter"), "kept for ever");
    fs::hard_link(attic.join("letter"), attic.join("copy")).expect("a second name");
    symlink("letter", attic.join("pointer")).expect("a link");
    let hole = fs::File::create(attic.join("hole")).expect("a file");
    hole.set_len(4 << 20).expect("a hole");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    hole.set_modified(old).expect("an old time");
    fs::set_permissions(attic.join("letter"), fs::Permissions::from_mode(0o400)).expect("few rights");
    fs::set_permissions(&attic, fs::Permissions::from_mode(0o750)).expect("other rights");
}

/// Asks the node for an edition.
pub fn up(home: &Path, edition: Edition) -> Result<Value, Failure> {
    api::up(home, &edition.reference())
}

/// Signs the book; true when that was acknowledged.
pub fn sign(url: &str, words: &str) -> bool {
    matches!(visit::ask(url, "POST", "/sign", &format!("name=Ada&words={words}")), Ok((303, _)))
}

/// The edition that a page says it is, and its entries.
pub fn read(url: &str) -> Result<(Edition, Vec<String>), String> {
    let (status, page) = visit::ask(url, "GET", "/", "").map_err(|e| e.to_string())?;
    if status != 200 {
        return Err(format!("{status}: {page}"));
    }
    let edition = page.split_once(", edition ").and_then(|(_, rest)| rest.split_once('<')?.0.parse().ok());
    let edition = edition.ok_or_else(|| format!("the page names no edition: {page}"))?;
    let entries = page.lines().filter_map(|l| l.strip_prefix("<li>Ada: ")?.strip_suffix("</li>"));
    Ok((Edition(edition), entries.map(str::to_owned).collect()))
}
