//! Why a verb failed, as people and scripts are told. Invariant: the exit code follows from the kind alone.

use serde_json::{Map, Value, json};
use softservice_node::verbs::failure::{Failure, Kind};

/// The end of a verb that did not work out.
#[derive(Debug)]
pub(crate) struct CliError {
    /// What kind of trouble.
    pub(crate) kind: String,
    /// What happened, a lowercase fragment.
    pub(crate) message: String,
    /// What the reader may do.
    pub(crate) hint: Option<String>,
    /// The process's exit code.
    pub(crate) exit: u8,
    /// What the verb has to say all the same: stands beside `error` in the document.
    pub(crate) details: Box<Map<String, Value>>,
}

impl CliError {
    /// One of the node's kinds.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure::new(kind, message).into()
    }
    /// With advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// As `--json` prints it.
    pub(crate) fn document(&self) -> Value {
        let mut document = (*self.details).clone();
        document.insert("error".into(), json!({ "kind": self.kind, "message": self.message, "hint": self.hint }));
        Value::Object(document)
    }
    /// An `error` line of the API, back to what the node meant; anything else there is a bug of the node's.
    pub(crate) fn from_line(line: &Value) -> Self {
        let error = &line["error"];
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        let exit = error["exit"].as_u64().and_then(|n| u8::try_from(n).ok()).unwrap_or(70);
        let mut details = line.as_object().cloned().unwrap_or_default();
        details.shift_remove("error");
        Self {
            kind: text("kind").unwrap_or_else(|| "bug".into()),
            message: text("message").unwrap_or_else(|| "the node answered without a reason".into()),
            hint: text("hint"),
            exit,
            details: Box::new(details),
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind.name().into(),
            exit: failure.kind.exit(),
            message: failure.message,
            hint: failure.hint,
            details: failure.details,
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::Failed, error.to_string())
    }
}
