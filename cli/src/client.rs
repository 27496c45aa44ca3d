//! Speaks to a node. Invariant: a verb ends with the node's `result` or its `error`; a connection that ends earlier is
//! an error of its own, never a success.

use crate::{error::CliError, ui::Ui};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use softservice_node::verbs::failure::Kind;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Answers are documents for people; the longest is a list of every release of every publisher.
const LINE_BYTES: usize = 64 << 20;

/// How long a node may take to begin an answer.
const HEAD: Duration = Duration::from_secs(20);

/// Calls the node of one home.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    home: PathBuf,
}

impl Client {
    /// For the node of this home.
    pub(crate) fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
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
        let stream = softservice_node::api::connect(&self.home)
            .await
            .map_err(|e| CliError::new(Kind::NoNode, format!("no node answers in {}: {e}", self.home.display())))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        let driver = tokio::spawn(connection);
        let request = Request::post(format!("/v1/{verb}"))
            .header("host", "softservice")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(arguments.to_string())))
            .map_err(|e| CliError::new(Kind::Bug, e.to_string()))?;
        // The head of an answer comes at once, however long the verb takes.
        let response = match tokio::time::timeout(HEAD, sender.send_request(request)).await {
            Ok(response) => response.map_err(gone)?,
            Err(_) => {
                driver.abort();
                return Err(CliError::new(
                    Kind::NoNode,
                    format!("the node of {} does not answer within {} s", self.home.display(), HEAD.as_secs()),
                )
                .hint("is its process stopped, or the machine overloaded?"));
            }
        };
        let result = read(response.into_body(), ui, each).await;
        driver.abort();
        result
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
