//! Speaks to a node. Invariant: a verb ends with the node's `result` or its `error`; a connection that ends earlier is
//! an error of its own, never a success.

use crate::{error::CliError, session::Session, ui::Ui};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use softservice_node::verbs::failure::Kind;
use std::time::Duration;
use tokio::net::UnixStream;

/// Answers are documents for people; the longest is a list of every release of every publisher.
const LINE_BYTES: usize = 64 << 20;

/// How long a node may take to begin an answer.
const HEAD: Duration = Duration::from_secs(20);

/// Calls the node of one home.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    session: Session,
}

/// Why a call has no answer.
enum Unanswered {
    /// The connection ended before anything came: the node did not begin to work on it, or died.
    Unheard(CliError),
    /// Anything else.
    Failed(CliError),
}

impl Client {
    /// For the node of this session's home.
    pub(crate) fn new(session: Session) -> Self {
        Self { session }
    }
    /// Runs a verb; progress and notes go to the ui.
    pub(crate) async fn call(&self, ui: &mut Ui, verb: &str, arguments: Value) -> Result<Value, CliError> {
        self.stream(ui, verb, arguments, &mut |_, _| {}).await
    }
    /// Runs a verb that answers with many documents.
    pub(crate) async fn stream(
        &self,
        ui: &mut Ui,
        verb: &str,
        arguments: Value,
        each: &mut dyn FnMut(&mut Ui, &Value),
    ) -> Result<Value, CliError> {
        loop {
            let stream = self.session.connect().await?;
            match self.exchange(stream, ui, verb, &arguments, each).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Failed(error)) => return Err(error),
                // The node of another process's verb, which ended as we came: the next one is found or started.
                Err(Unanswered::Unheard(_)) if self.session.may_move_on().await => {}
                Err(Unanswered::Unheard(error)) => return Err(error),
            }
        }
    }

    async fn exchange(
        &self,
        stream: UnixStream,
        ui: &mut Ui,
        verb: &str,
        arguments: &Value,
        each: &mut dyn FnMut(&mut Ui, &Value),
    ) -> Result<Value, Unanswered> {
        let unheard = |error| Unanswered::Unheard(gone(error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unheard)?;
        let driver = tokio::spawn(connection);
        let request = Request::post(format!("/v1/{verb}"))
            .header("host", "softservice")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(arguments.to_string())))
            .map_err(|e| Unanswered::Failed(CliError::new(Kind::Bug, e.to_string())))?;
        // The head of an answer comes at once, however long the verb takes.
        let response = match tokio::time::timeout(HEAD, sender.send_request(request)).await {
            Ok(response) => response.map_err(unheard)?,
            Err(_) => {
                driver.abort();
                let home = self.session.home().display();
                let text = format!("the node of {home} does not answer within {} s", HEAD.as_secs());
                let hint = "is its process stopped, or the machine overloaded?";
                return Err(Unanswered::Failed(CliError::new(Kind::NoNode, text).hint(hint)));
            }
        };
        let result = read(response.into_body(), ui, each).await;
        driver.abort();
        result.map_err(Unanswered::Failed)
    }
}

async fn read(
    mut body: hyper::body::Incoming,
    ui: &mut Ui,
    each: &mut dyn FnMut(&mut Ui, &Value),
) -> Result<Value, CliError> {
    let mut waiting: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(gone)?.into_data() else { continue };
        waiting.extend_from_slice(&data);
        if waiting.len() > LINE_BYTES {
            return Err(CliError::new(Kind::Bug, "the node answers with a line without end"));
        }
        while let Some(end) = waiting.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let mut line: Value = serde_json::from_slice(&line).map_err(|e| {
                CliError::new(Kind::Bug, format!("the node answers with something else than JSON: {e}"))
            })?;
            if line.get("error").is_some() {
                return Err(CliError::from_line(&line));
            }
            if let Some(result) = line.get_mut("result") {
                return Ok(result.take());
            }
            if let Some(progress) = line.get("progress") {
                ui.progress(progress);
            } else if let Some(note) = line.get("note").and_then(Value::as_str) {
                ui.note(note);
            } else if let Some(document) = line.get("line") {
                each(ui, document);
            }
        }
    }
    Err(CliError::new(Kind::NoNode, "the node went away in the middle of its answer")
        .hint("`softservice status` shows what became of it"))
}

fn gone(error: hyper::Error) -> CliError {
    CliError::new(Kind::NoNode, format!("the connection to the node broke: {error}"))
}
