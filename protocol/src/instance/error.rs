//! Why a release cannot become an instance: what, where, and what to do about it.

use crate::{definition::substitution::BadSubstitution, id::ReleaseId};

/// Why a release, with these answers, cannot run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// The closure is not complete.
    #[error("release {release} of {place} is not in the closure")]
    Missing {
        /// Which.
        release: ReleaseId,
        /// Who needs it.
        place: String,
    },
    /// Not made for this device.
    #[error("{place} runs on {wanted}, this device is {platform}")]
    Platform {
        /// The distro or artifact.
        place: String,
        /// The platforms it names.
        wanted: String,
        /// Ours.
        platform: String,
    },
    /// Answers are missing.
    #[error("no answer for {names}; give it with --set NAME=VALUE")]
    Unanswered {
        /// Their names, joined.
        names: String,
    },
    /// An answer nobody asked for.
    #[error("there is no parameter {name:?}; this distro asks for {known}")]
    Unasked {
        /// Its name.
        name: String,
        /// What is asked.
        known: String,
    },
    /// An answer or a `with` of the wrong type.
    #[error("parameter {name}: {why}")]
    Answer {
        /// Its name, with its component.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// An include's parameter that nobody gives.
    #[error("{component} needs its parameter {param}; its includer must give it in [include] with")]
    Withheld {
        /// The component.
        component: String,
        /// The parameter.
        param: String,
    },
    /// A reference to nothing.
    #[error("{place}: ${{{reference}}}: {why}")]
    Reference {
        /// Where it stands.
        place: String,
        /// The reference.
        reference: String,
        /// What is wrong.
        why: String,
    },
    /// A text that is no template.
    #[error("{place}: {why}")]
    Template {
        /// Where it stands.
        place: String,
        /// What is wrong.
        why: BadSubstitution,
    },
    /// Something that leads back to itself, or too deep.
    #[error("{place}: {what} leads back to itself")]
    Circle {
        /// Where it was found.
        place: String,
        /// What.
        what: String,
    },
    /// Out of bounds.
    #[error("{place}: {what}, at most {limit}")]
    TooMuch {
        /// Where.
        place: String,
        /// Of what.
        what: String,
        /// The bound.
        limit: usize,
    },
    /// Not understood by this version.
    #[error("{place}: {what}")]
    Unsupported {
        /// Where.
        place: String,
        /// What, and why.
        what: String,
    },
    /// The node would have to ask somebody whom the owner has not allowed.
    #[error(
        "{place} asks {address}: {why}; the node asks a softservice's own ports, and what `allow.connect` of the role names"
    )]
    Asks {
        /// The test or service.
        place: String,
        /// Its role's name.
        role: String,
        /// The address, as it was filled in.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two things would have the same name.
    #[error("two services would be called {name}; rename one")]
    Twice {
        /// The name.
        name: String,
    },
    /// A rendered file's path that leaves its folder.
    #[error("{place}: the path {path:?} must be relative and stay in its folder")]
    Path {
        /// Where.
        place: String,
        /// The path.
        path: String,
    },
}
