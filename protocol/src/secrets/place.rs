//! What kind of file stands at a path, and so how it is looked at. Invariant: a path alone decides, so that a file that was
//! found clean is clean for everybody who looks at it by that path.

use super::RULE;

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Place {
    /// `distro.toml` and what belongs to it: its values are judged by the definition's own reader, which knows names of
    /// secrets from secrets.
    Definition = 1,
    /// A template of the author's, or a file that is there to hold credentials (`.env`, `.netrc`): whatever a name that says
    /// `password` is given is one.
    Own = 2,
    /// A format of settings: a value that a person might have chosen is one.
    Settings = 3,
    /// Programs and everything else: only a quoted value that looks drawn by lot is one.
    Program = 4,
    /// Below folders of tests, documentation, translations and samples: names mean nothing here, and keys are told, not
    /// refused.
    Specimen = 5,
    /// A document or a sample by its name alone: names mean nothing here, but a key is refused, since anything may be called
    /// `server.txt`.
    Written = 6,
    /// `.netrc`: words, of which the one behind `password` is one.
    Netrc = 7,
    /// `.pgpass`: fields between colons, of which the last is one.
    Pgpass = 8,
    /// What Docker and npm log in with: `auth` is a user and a password.
    Registry = 9,
}

/// Files that are there to hold credentials, by names that say it.
const HOLDERS: [&str; 10] = [
    ".env",
    ".pypirc",
    ".my.cnf",
    ".git-credentials",
    ".s3cfg",
    "credentials",
    "wp-config.php",
    "localsettings.php",
    "secrets.yml",
    "secrets.yaml",
];

const SETTINGS: [&str; 16] = [
    "ini",
    "cfg",
    "conf",
    "cnf",
    "config",
    "toml",
    "yaml",
    "yml",
    "json",
    "properties",
    "env",
    "xml",
    "plist",
    "hcl",
    "service",
    "nmconnection",
];

/// Folders whose files are made to be seen.
const SPECIMENS: [&str; 40] = [
    "test",
    "tests",
    "testing",
    "testdata",
    "test-data",
    "test_data",
    "testsuite",
    "test-suite",
    "t",
    "spec",
    "specs",
    "fixture",
    "fixtures",
    "__tests__",
    "mock",
    "mocks",
    "example",
    "examples",
    "sample",
    "samples",
    "demo",
    "demos",
    "doc",
    "docs",
    "documentation",
    "man",
    "help",
    "info",
    "locale",
    "locales",
    "i18n",
    "l10n",
    "lang",
    "languages",
    "translations",
    "po",
    "messages",
    "tutorial",
    "tutorials",
    "benchmarks",
];

/// Endings of documents, translations and samples.
const WRITTEN: [&str; 27] = [
    "md", "markdown", "rst", "txt", "adoc", "asciidoc", "tex", "texi", "texinfo", "html", "htm", "xhtml", "po", "pot",
    "pod", "man", "info", "svg", "css", "map", "example", "sample", "dist", "template", "default", "lock", "sum",
];

/// Among these also what an installer of Python writes down of a package: its documentation.
fn is_specimen(folder: &str) -> bool {
    SPECIMENS.contains(&folder) || folder.ends_with(".egg-info") || folder.ends_with(".dist-info")
}

impl Place {
    /// That of a path below the definition's folder, which has these folders of trees. What an author calls the folder of a
    /// tree says nothing about what is in it: a tree `help` is no documentation.
    pub fn below<'a>(trees: impl IntoIterator<Item = &'a str>, path: &str) -> Self {
        let inside = trees.into_iter().map(|dir| dir.trim_matches('/')).filter(|dir| !dir.is_empty());
        let inside = inside.filter_map(|dir| path.strip_prefix(dir)?.strip_prefix('/'));
        // Of trees in trees the innermost; no tree has a definition that is read.
        inside
            .min_by_key(|rest| rest.len())
            .map_or_else(|| Self::of(path), |rest| Self::of_file(&rest.to_ascii_lowercase()))
    }

    /// The same of a definition without trees.
    pub fn of(path: &str) -> Self {
        let lower = path.to_ascii_lowercase();
        if ["distro.toml", "distro.lock", super::ALLOW_FILE].contains(&lower.as_str()) {
            return Self::Definition;
        }
        Self::of_file(&lower)
    }

    /// The same of a file that is no definition, by its path in lower case.
    pub(super) fn of_file(lower: &str) -> Self {
        let (folders, name) = lower.rsplit_once('/').unwrap_or(("", lower));
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        let written = WRITTEN.contains(&ending) || (ending.len() == 1 && ending.as_bytes()[0].is_ascii_digit());
        let of_tests = ["test_", "test-"].iter().any(|s| stem.starts_with(s))
            || ["_test", "-test", ".test", "_spec", ".spec", "_tests"].iter().any(|s| stem.ends_with(s));
        let told = ["readme", "changelog", "changes", "news", "license", "copying", "copyright", "authors", "todo"];
        let plain = ending.is_empty() && told.contains(&stem);
        let variant = [".example", ".sample", ".dist", ".template", "-sample", "-example", "_sample", "_example"];
        let sampled = variant.iter().any(|v| stem.ends_with(v));
        if folders.split('/').any(is_specimen) {
            return Self::Specimen;
        }
        if written || of_tests || plain || sampled {
            return Self::Written;
        }
        match name {
            ".netrc" | "_netrc" | ".authinfo" => return Self::Netrc,
            ".pgpass" | "pgpass.conf" => return Self::Pgpass,
            ".npmrc" | ".dockercfg" | ".dockerconfigjson" => return Self::Registry,
            "config.json" if folders.rsplit('/').next() == Some(".docker") => return Self::Registry,
            _ => {}
        }
        if HOLDERS.contains(&name) || name.starts_with(".env.") || ending == "tfvars" {
            return Self::Own;
        }
        if SETTINGS.contains(&ending) { Self::Settings } else { Self::Program }
    }

    /// Names that say `password` are looked for.
    pub(super) fn has_names(self) -> bool {
        !matches!(self, Self::Specimen | Self::Written)
    }

    /// By what rule it is looked at, as a number to remember; never 0.
    pub fn rule(self) -> u32 {
        RULE * 16 + self as u32
    }
}
