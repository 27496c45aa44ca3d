//! The four roles of a root document by the names that people type. Invariant: a name means one role, and prints as it is typed.

use serde::{Deserialize, Serialize};
use softservice_protocol::{
    id::PublicKey,
    root::{Role, Roles},
};

/// One of the four roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Changes keys and reopens feeds.
    Root,
    /// Appends releases.
    Release,
    /// Restates that the head is current.
    Fresh,
    /// Stops a release.
    Revoke,
}

impl RoleName {
    /// All of them, in the order of a root document.
    pub const ALL: [Self; 4] = [Self::Root, Self::Release, Self::Fresh, Self::Revoke];

    /// As people type it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Fresh => "fresh",
            Self::Revoke => "revoke",
        }
    }
    /// This role of a document.
    pub fn of(self, roles: &Roles) -> &Role {
        match self {
            Self::Root => &roles.root,
            Self::Release => &roles.release,
            Self::Fresh => &roles.fresh,
            Self::Revoke => &roles.revoke,
        }
    }
    /// This role of a document that is being made.
    pub fn of_mut(self, roles: &mut Roles) -> &mut Role {
        match self {
            Self::Root => &mut roles.root,
            Self::Release => &mut roles.release,
            Self::Fresh => &mut roles.fresh,
            Self::Revoke => &mut roles.revoke,
        }
    }
    /// The role that a key has in a document; a key has one at most.
    pub fn of_key(roles: &Roles, key: PublicKey) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.of(roles).keys.contains(&key))
    }
}

impl std::fmt::Display for RoleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for RoleName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|role| role.name() == text);
        named.ok_or_else(|| format!("no role {text:?}: roles are root, release, fresh and revoke"))
    }
}
