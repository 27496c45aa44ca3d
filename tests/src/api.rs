//! A client of the local API without the command line in between: what a verb costs is what the node costs.
//! Invariant: a call ends with a document, with the node's error, or with the node's end.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

/// Why a call has no result.
#[derive(Debug)]
pub enum Failure {
    /// The node said no: its `error`, and what stands beside it.
    Refused(Value),
    /// There is no node, or it ended in the middle.
    Gone(String),
}

/// Calls a verb of the node in `home` and waits for its end.
pub fn call(home: &Path, verb: &str, arguments: &Value) -> Result<Value, Failure> {
    let gone = |e: std::io::Error| Failure::Gone(e.to_string());
    let mut stream = UnixStream::connect(home.join("run/api.sock")).map_err(gone)?;
    let body = arguments.to_string();
    // HTTP/1.0: the answer ends with the connection, so there are no chunks to put together.
    let head = format!(
        "POST /v1/{verb} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(gone)?;
    for line in BufReader::new(stream).lines().skip_while(|l| !l.as_ref().is_ok_and(String::is_empty)).skip(1) {
        let text = line.map_err(gone)?;
        let mut document: Value = serde_json::from_str(&text).map_err(|e| Failure::Gone(format!("{e}: {text:?}")))?;
        if document.get("error").is_some() {
            return Err(Failure::Refused(document));
        }
        if let Some(result) = document.get_mut("result") {
            return Ok(result.take());
        }
    }
    Err(Failure::Gone("the answer was cut off".into()))
}

/// `up` with every consent that a test gives.
pub fn up(home: &Path, reference: &str) -> Result<Value, Failure> {
    call(home, "up", &json!({ "reference": reference, "yes": true, "accept_reduced": true }))
}
