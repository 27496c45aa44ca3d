//! Why a verb came to nothing. Invariant: every failure has one kind, and the kind alone fixes the exit code that
//! scripts rely on (`docs/api.md`).

use crate::handle::CommandError;
use serde_json::{Map, Value, json};
use softservice_protocol::io::Step;
use softservice_store::StoreError;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Health, tests, verification, or the system said no.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// No such thing here.
    NotFound,
    /// Trust, policy or the owner said no.
    Refused,
    /// What must not be published would be.
    Secrets,
    /// No node runs, and none could be started.
    NoNode,
    /// No connected peer has it.
    NoPeer,
    /// Stored bytes are not what they were.
    Damaged,
    /// Our mistake.
    Bug,
}

impl Kind {
    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Secrets => "secrets",
            Self::NoNode => "no_node",
            Self::NoPeer => "no_peer",
            Self::Damaged => "damaged",
            Self::Bug => "bug",
        }
    }
    /// The exit code of a process that ends with it.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused | Self::Secrets => 4,
            Self::NoNode | Self::NoPeer => 5,
            Self::Damaged => 6,
            Self::Bug => 70,
        }
    }
}

/// A verb that came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What happened, a lowercase fragment.
    pub message: String,
    /// What the reader may do about it.
    pub hint: Option<String>,
    /// What the verb found out all the same; stands beside `error` in its answer.
    pub details: Box<Map<String, Value>>,
    /// The step of verification that said no, for its counter.
    pub step: Option<Step>,
}

impl Failure {
    /// Without advice.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, details: Box::default(), step: None }
    }
    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// With the fields of `details`, when it is an object.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        if let Value::Object(fields) = details {
            self.details.extend(fields);
        }
        self
    }
    /// Said no to by this step of verification.
    #[must_use]
    pub fn by(mut self, step: Step) -> Self {
        self.step = Some(step);
        self
    }
    /// Nothing of that name.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }
    /// Arguments that make no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }
    /// Said no to.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }
    /// Tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }
    /// The line that ends an answer.
    pub fn line(&self) -> Value {
        let mut line = Map::new();
        let error = json!({
            "kind": self.kind.name(), "message": self.message, "hint": self.hint, "exit": self.kind.exit(),
        });
        line.insert("error".into(), error);
        for (key, value) in self.details.iter() {
            line.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(line)
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Stopping => Self::new(Kind::NoNode, "the node is stopping"),
            CommandError::NoPeer(why) => Self::new(Kind::NoPeer, why)
                .hint("is a peer that has it running and reachable? `softservice peers` lists those connected"),
            CommandError::Refused(why) => Self::refused(why),
            CommandError::Contradicted(contradiction) => Self::refused(contradiction.to_string()).hint(
                "one of the two is not the publisher's: ask it, by another way than the ticket's, which one is; \
                 `softservice ticket PUBLISHER` prints what is known here",
            ),
            CommandError::Failed(why) => Self::failed(why),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Damaged { .. } => {
                Self::new(Kind::Damaged, message).hint("`softservice fsck --repair` fetches it again")
            }
            StoreError::Missing(_) | StoreError::Incomplete { .. } => {
                Self::not_found(message).hint("`softservice fetch` brings a release here")
            }
            StoreError::Locked { .. } => Self::new(Kind::NoNode, message)
                .hint("another process holds this home; stop it, or choose another with --home"),
            StoreError::Unfit { .. } => {
                Self::failed(message).hint("trees hold regular files, folders and relative links")
            }
            StoreError::Full { .. } => Self::failed(message).hint("`softservice gc` removes what nothing needs"),
            _ => Self::failed(message),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}
