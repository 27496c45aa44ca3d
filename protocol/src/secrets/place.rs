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
    /// Tests, documentation, translations and samples: names mean nothing here, and keys are told, not refused.
    Specimen = 5,
}

/// Files that are there to hold credentials.
const HOLDERS: [&str; 15] = [
    ".env",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".git-credentials",
    ".dockercfg",
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
    /// That of a path below the definition's folder.
    pub fn of(path: &str) -> Self {
        let lower = path.to_ascii_lowercase();
        let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
        if folders.is_empty() && ["distro.toml", "distro.lock", super::ALLOW_FILE].contains(&name) {
            return Self::Definition;
        }
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        let written = WRITTEN.contains(&ending) || (ending.len() == 1 && ending.as_bytes()[0].is_ascii_digit());
        let of_tests = ["test_", "test-"].iter().any(|s| stem.starts_with(s))
            || ["_test", "-test", ".test", "_spec", ".spec", "_tests"].iter().any(|s| stem.ends_with(s));
        let told = ["readme", "changelog", "changes", "news", "license", "copying", "copyright", "authors", "todo"];
        let plain = ending.is_empty() && told.contains(&stem);
        let variant = [".example", ".sample", ".dist", ".template", "-sample", "-example", "_sample", "_example"];
        let sampled = variant.iter().any(|v| stem.ends_with(v));
        if written || of_tests || plain || sampled || folders.split('/').any(is_specimen) {
            return Self::Specimen;
        }
        if HOLDERS.contains(&name) || name.starts_with(".env.") || ending == "tfvars" {
            return Self::Own;
        }
        if SETTINGS.contains(&ending) { Self::Settings } else { Self::Program }
    }

    /// Names that say `password` are looked for.
    pub(super) fn has_names(self) -> bool {
        self != Self::Specimen
    }

    /// By what rule it is looked at, as a number to remember; never 0.
    pub fn rule(self) -> u32 {
        RULE * 8 + self as u32
    }
}
