//! What happens to the tests when a defence is gone: `tests/defences.toml` says which lines each is, and which tests must
//! go red without them. Invariant: a defence is named by text that stands exactly once in its file, so a list that no
//! longer fits the code is noticed, not passed over.

use crate::sources::repository;
use serde::Deserialize;
use std::{fmt::Write as _, fs, path::Path};

/// One defence, and what proves it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defence {
    /// What it is, in words for the table.
    pub what: String,
    /// Rows of the attack table in `docs/security.md`.
    pub rows: Vec<u8>,
    /// Where it stands, from the repository's root.
    pub file: String,
    /// Its text, exactly once in that file.
    pub old: String,
    /// What stands there without it.
    pub new: String,
    /// The package whose tests are run.
    pub package: String,
    /// Which of them are built, in cargo's words, such as `--lib` or `--test stories`; all unless said.
    #[serde(default = "all_tests")]
    pub target: String,
    /// Names of tests that must fail.
    pub red: Vec<String>,
}

fn all_tests() -> String {
    "--tests".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    defence: Vec<Defence>,
}

impl Defence {
    /// All of them.
    ///
    /// # Panics
    /// When the list cannot be read.
    pub fn all() -> Vec<Self> {
        let path = repository().join("tests/defences.toml");
        let text = fs::read_to_string(&path).expect("the list of defences is there");
        let list: List = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        list.defence
    }

    /// Its file below `root` as it is, and as it would be without it.
    ///
    /// # Errors
    /// When the text does not stand there exactly once.
    pub fn disabled(&self, root: &Path) -> Result<(String, String), String> {
        let text = fs::read_to_string(root.join(&self.file)).map_err(|e| format!("{}: {e}", self.file))?;
        match text.matches(&self.old).count() {
            1 => Ok((text.clone(), text.replacen(&self.old, &self.new, 1))),
            n => Err(format!("{}: stands {n} times in {}", self.what, self.file)),
        }
    }
}

/// The table of `docs/security.md`, without its heading.
pub fn table(defences: &[Defence]) -> String {
    let mut out = "| Defence | Where | Rows | Goes red without it |\n|---|---|---|---|\n".to_owned();
    for d in defences {
        let rows: Vec<String> = d.rows.iter().map(u8::to_string).collect();
        let red: Vec<String> = d.red.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "| {} | `{}` | {} | {} |", d.what, d.file, rows.join(", "), red.join(" "));
    }
    out
}
