//! Distros to publish: the guestbook as files, and plain trees. Invariant: a source is complete when it is returned.

use crate::Node;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The guestbook's three folders below one.
#[derive(Debug, Clone)]
pub struct Guestbook {
    /// The data part.
    pub data: PathBuf,
    /// The web part.
    pub web: PathBuf,
    /// The distro of both.
    pub whole: PathBuf,
}

/// A folder's path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

fn build(part: &str, out: &Path) {
    let source = repository().join(format!("examples/guestbook/{part}/server/src/main.rs"));
    fs::create_dir_all(out.parent().expect("a file stands in a folder")).expect("a folder can be made");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "-C", "opt-level=1", "-C", "strip=symbols", "--crate-name", "guestbook_part", "-o"])
        .arg(out)
        .arg(source)
        .status();
    assert!(status.expect("rustc runs").success(), "the guestbook's {part} server does not build");
}

impl Guestbook {
    /// Version 1, servers built, below `folder`.
    pub fn write(folder: &Path) -> Self {
        let book = Self { data: folder.join("data"), web: folder.join("web"), whole: folder.join("whole") };
        let example = repository().join("examples/guestbook");
        build("data", &book.data.join("bin/guestbook-data"));
        build("web", &book.web.join("bin/guestbook-web"));
        fs::create_dir_all(book.web.join("site")).expect("a folder can be made");
        fs::create_dir_all(&book.whole).expect("a folder can be made");
        fs::copy(example.join("data/distro.toml"), book.data.join("distro.toml")).expect("the example is there");
        book.set_version(1);
        book
    }

    /// Edits web part and whole to version 1, 2 or 3.
    pub fn set_version(&self, version: u32) {
        let example = repository().join("examples/guestbook");
        let page = match version {
            1 => example.join("web/site/page.html"),
            n => example.join(format!("updates/{n}/page.html")),
        };
        fs::copy(page, self.web.join("site/page.html")).expect("the example is there");
        let number = format!("version = \"{version}.0.0\"");
        let web = fs::read_to_string(example.join("web/distro.toml")).expect("the example is there");
        put(&self.web.join("distro.toml"), &web.replace("version = \"1.0.0\"", &number));
        let whole = fs::read_to_string(example.join("distro.toml")).expect("the example is there");
        let whole = whole.replace("version = \"1.0.0\"", &number).replace(
            "distro = \"guestbook-web\"\nversion = \"^1\"",
            &format!("distro = \"guestbook-web\"\nversion = \"^{version}\""),
        );
        put(&self.whole.join("distro.toml"), &whole);
        let _ = fs::remove_file(self.whole.join("distro.lock"));
    }
}

/// Publishes a folder; the ticket.
pub fn publish(node: &Node, folder: &Path) -> String {
    let answer = node.ok(&["publish", text(folder)]);
    answer["ticket"].as_str().expect("publishing gives a ticket").to_owned()
}

/// Writes a text file, folders included.
pub fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("a folder can be made");
    fs::write(path, text).expect("a file can be written");
}

/// A distro around a tree of files, without services: something to fetch.
pub fn plain(folder: &Path, name: &str, version: &str) {
    put(
        &folder.join("distro.toml"),
        &format!(
            "format = 1\n[distro]\nname = \"{name}\"\nversion = \"{version}\"\nsummary = \"Files\"\n\
             [role.main.artifact]\nroot = {{ tree = \"root\" }}\n"
        ),
    );
}

/// A distro that serves the file `root/file`, which holds its name, and whose confirmation takes `settle` seconds.
pub fn served(folder: &Path, name: &str, settle: u32) {
    let toml = format!(
        "format = 1\n[distro]\nname = \"{name}\"\nversion = \"1.0.0\"\nsummary = \"A file, served\"\n\
         [update]\nsettle = \"{settle}s\"\n[role.main.artifact]\nroot = {{ tree = \"root\" }}\n\
         [role.main.service.web]\n\
         command = [\"${{softservice}}\", \"serve-static\", \"${{artifact.root}}\", \"${{port.http}}\"]\n\
         [role.main]\nexport.page = {{ type = \"http/1\", port = \"http\" }}\n"
    );
    put(&folder.join("distro.toml"), &toml);
    put(&folder.join("root/file"), name);
}

/// Every file below `folder`: path, executable, content's hash; symlinks with their targets.
pub fn listing(folder: &Path) -> Vec<(String, bool, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let kind = fs::symlink_metadata(&path).expect("an entry exists");
            let name = text(path.strip_prefix(folder).expect("it is below")).to_owned();
            if kind.is_symlink() {
                found.push((name, false, format!("-> {}", text(&fs::read_link(&path).expect("a link has a target")))));
            } else if kind.is_dir() {
                found.push((name, false, "folder".into()));
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file can be read");
                let executable = kind.permissions().mode() & 0o100 != 0;
                found.push((name, executable, blake3::hash(&bytes).to_hex().to_string()));
            }
        }
    }
    found.sort();
    found
}
