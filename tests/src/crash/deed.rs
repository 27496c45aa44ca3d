//! What is being done when the crash comes. Invariant: each deed has one edition before and one after; a crash may leave
//! nothing else.

use super::example::{BAD, BESIDE, Edition, FIRST};
use crate::api::{self, Failure};
use serde_json::{Value, json};
use std::path::Path;

/// A change of the softservice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// From nothing to the first edition; after a removal, on the data that it left.
    Install,
    /// From the first edition to another; to the bad one it ends in the first.
    Update(Edition),
    /// From the other edition to the first.
    Rollback(Edition),
    /// From the first edition to nothing; data stays.
    Remove,
}

impl Deed {
    /// The verb that does it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Update(_) => "update",
            Self::Rollback(_) => "rollback",
            Self::Remove => "remove",
        }
    }
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Update(BESIDE) => "update, start-first",
            Self::Update(BAD) => "update, bad release",
            Self::Update(_) => "update, with data",
            Self::Rollback(BESIDE) => "rollback, start-first",
            Self::Rollback(_) => "rollback, with data",
            Self::Install | Self::Remove => self.verb(),
        }
    }
    /// What is there before it.
    pub fn before(self) -> Option<Edition> {
        match self {
            Self::Install => None,
            Self::Update(_) | Self::Remove => Some(FIRST),
            Self::Rollback(edition) => Some(edition),
        }
    }
    /// What is there when it was done.
    pub fn after(self) -> Option<Edition> {
        match self {
            Self::Install | Self::Rollback(_) | Self::Update(BAD) => Some(FIRST),
            Self::Update(edition) => Some(edition),
            Self::Remove => None,
        }
    }
    /// Whether the node says so when it is done.
    pub fn succeeds(self) -> bool {
        self != Self::Update(BAD)
    }

    /// Does it to the softservice `name`; returns at its end, or when the node ends.
    pub fn call(self, home: &Path, name: &str) -> Result<Value, Failure> {
        let up = |edition: Edition| api::up(home, &format!("{name}@{}", edition.version()));
        match self {
            Self::Install => up(FIRST),
            Self::Update(edition) => up(edition),
            Self::Rollback(_) => {
                let all = api::call(home, "generations", &json!({ "name": name }))?;
                let all = all.as_array().cloned().unwrap_or_default();
                let good = |g: &&Value| g["version"] == FIRST.version() && g["state"] == "superseded";
                let to = all.iter().rev().find(good).map(|g| g["generation"].clone());
                api::call(home, "rollback", &json!({ "name": name, "to": to }))
            }
            Self::Remove => api::call(home, "remove", &json!({ "name": name })),
        }
    }
}
