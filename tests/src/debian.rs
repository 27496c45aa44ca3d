//! The example distros out of Debian's packages. Invariant: root trees are made once and never written again; what a test
//! edits is a copy.

use crate::sources::repository;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The folder with one complete distro each, made below `target`, the build's folder for tests; None, said loudly, where
/// this machine cannot make or run them.
pub fn examples(target: &str) -> Option<&'static Path> {
    static EXAMPLES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = EXAMPLES.get_or_init(|| {
        let what = "services out of Debian's packages";
        if std::env::var_os("SOFTSERVICE_DEBIAN").is_none() {
            eprintln!("SKIPPED, needs SOFTSERVICE_DEBIAN=1, for it takes minutes: {what}");
            return None;
        }
        make(Path::new(target)).inspect_err(|why| eprintln!("SKIPPED, {why}: {what}")).ok()
    });
    made.as_deref()
}

/// The same folder for a program that was told to use it; made if it is not there yet.
///
/// # Errors
/// What this machine lacks to make or run them.
pub fn make(target: &Path) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".into());
    }
    for program in ["apt-get", "dpkg-deb", "bwrap"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Err(format!("needs {program}"));
        }
    }
    let script = repository().join("examples/debian/build.sh");
    // Trees of another recipe are other trees.
    let recipe = blake3::hash(&fs::read(&script).expect("the script is there")).to_hex();
    let folder = target.join(format!("debian-examples-{}", &recipe[..8]));
    let status = Command::new(&script).arg(&folder).status().expect("the script runs");
    assert!(status.success(), "the examples cannot be made");
    Ok(folder)
}

/// A copy of a distro to edit. Its files are its own: a further link to one changes its times, and whoever publishes the
/// other copy at that moment finds that it changed while it was read.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).output().expect("cp runs");
    assert!(copied.status.success(), "{}: {}", from.display(), String::from_utf8_lossy(&copied.stderr));
}

/// Replaces a file of a copy, so that the original keeps its own.
pub fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let old = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mode = fs::metadata(path).expect("it was read").permissions();
    let new = change(old.clone());
    assert_ne!(old, new, "{}: the edit changes something", path.display());
    fs::remove_file(path).expect("the old one can go");
    fs::write(path, new).expect("a file can be written");
    fs::set_permissions(path, mode).expect("a mode can be set");
}

/// A client of a PostgreSQL server: the tree's own `psql`, run with the tree's own libraries.
#[derive(Debug, Clone)]
pub struct Psql {
    /// The root tree of PostgreSQL.
    pub root: PathBuf,
    /// The server's port on loopback.
    pub port: u16,
    /// Database and user, which bear one name here.
    pub name: String,
    /// The user's password.
    pub password: String,
}

impl Psql {
    /// Rows of the answer, columns joined by `|`, or what was wrong.
    pub fn try_ask(&self, statement: &str) -> Result<String, String> {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let output = Command::new(libraries.join("ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.root.join("usr/lib/postgresql/15/bin/psql"))
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-c", statement])
            .args(["-p", &self.port.to_string(), "-U", &self.name, "-d", &self.name])
            .env("PGPASSWORD", &self.password)
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .expect("psql runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }

    /// The same of a statement that must succeed.
    pub fn ask(&self, statement: &str) -> String {
        self.try_ask(statement).unwrap_or_else(|why| panic!("{statement}: {why}"))
    }
}

/// Bytes on disk of everything below `paths` but for what is named in `without`; hard links are counted once.
pub fn disk(paths: &[&Path], without: &[&str]) -> u64 {
    let mut du = Command::new("du");
    du.args(["--summarize", "--total", "--block-size=1"]);
    du.args(without.iter().map(|name| format!("--exclude={name}"))).args(paths);
    let output = du.output().expect("du runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let total = text.lines().last().and_then(|line| line.split('\t').next()?.parse().ok());
    total.unwrap_or_else(|| panic!("du ends with a total: {text}"))
}
