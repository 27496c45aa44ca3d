//! Findings that an author lets through, one by one: `distro.allow`, which the tool writes and people review. Invariant: a
//! line allows one secret in one file; another one in its place is a new finding. What a line is bound to is a hash of
//! the secret, so it stands beside the secret that is published anyway, and is printed nowhere.

use super::Finding;
use crate::{limits, text::Foreign};
use std::collections::BTreeMap;

/// The file, beside `distro.toml`.
pub const ALLOW_FILE: &str = "distro.allow";
/// Lines that it may have.
const LINES: usize = 100_000;

const HEAD: &str = "\
# Likely secrets that are published on purpose, one a line: written by `softservice publish --allow-secret FILE:LINE`.
# A line is bound to the secret itself: another one in its place is refused again. Remove a line to be asked again.
";

/// What is allowed, in the order in which it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    lines: Vec<String>,
    by_id: BTreeMap<String, u32>,
}

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// It does not begin with an id.
    #[error("{ALLOW_FILE}:{line}: {:?} is no id of a finding: 32 hexadecimal digits, as the tool writes them", Foreign(.id))]
    Id {
        /// Its number, from 1.
        line: u32,
        /// What stands there.
        id: String,
    },
    /// There are more than anybody reviews.
    #[error("{ALLOW_FILE} has more than {LINES} lines")]
    Long,
}

impl Allowed {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn read(text: &str) -> Result<Self, AllowError> {
        let mut read = Self::default();
        for (number, line) in (1u32..).zip(text.lines()) {
            if read.lines.len() >= LINES || line.len() > limits::PATH_BYTES + 256 {
                return Err(AllowError::Long);
            }
            let said = line.trim();
            if !said.is_empty() && !said.starts_with('#') {
                let id = said.split_whitespace().next().unwrap_or_default();
                if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    return Err(AllowError::Id { line: number, id: id.chars().take(40).collect() });
                }
                read.by_id.insert(id.to_owned(), number);
            }
            read.lines.push(line.to_owned());
        }
        Ok(read)
    }

    /// Whether this finding may be published.
    pub fn allows(&self, finding: &Finding) -> bool {
        // That there are more says nothing of what they are.
        !finding.is_more() && self.by_id.contains_key(&finding.id)
    }

    /// Lets one through, if it is one.
    pub fn add(&mut self, finding: &Finding) {
        if finding.is_more() || self.allows(finding) {
            return;
        }
        if self.lines.is_empty() {
            self.lines.extend(HEAD.lines().map(str::to_owned));
        }
        // The place is for people; lines move, and the id does not care.
        let (id, file) = (&finding.id, Foreign(&finding.file));
        self.lines.push(format!("{id}  {file}:{}  {}", finding.line, finding.what));
        self.by_id.insert(id.clone(), u32::try_from(self.lines.len()).unwrap_or(u32::MAX));
    }

    /// The file's text.
    pub fn write(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Lines by number whose secret was not `met`: it is gone, or another one.
    pub fn idle(&self, met: impl Fn(&str) -> bool) -> Vec<u32> {
        let mut idle: Vec<u32> = self.by_id.iter().filter(|(id, _)| !met(id)).map(|(_, line)| *line).collect();
        idle.sort_unstable();
        idle
    }
}
