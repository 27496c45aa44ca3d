//! The local API: HTTP/1.1 with JSON over a Unix socket in the home, for the command line and for programs.
//! Invariant: only the home's owner reaches it (folder 0700, socket 0600); every call ends with exactly one `result`
//! or `error` line, and a call whose connection is gone stops working. The language is described in `docs/api.md`.
//!
//! A TCP port was refused: any web page and any user of the machine could reach it.

mod served;
mod socket;
pub mod talk;

pub use served::{ServeError, Served};
pub use socket::{appears, connect, is_alive};

use crate::{
    context::Context,
    verbs::{
        self,
        failure::{Failure, Kind},
    },
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{StatusCode, header},
    response::Response,
    routing::post,
};
use futures::stream;
use serde_json::{Value, json};
use softservice_protocol::text;
use std::{convert::Infallible, sync::Arc};
use talk::Talk;
use tokio::{sync::watch, task::JoinHandle};

/// Arguments of a verb: answers, names, a ticket. The longest are an owner's own files, each up to 256 KiB.
const ARGUMENT_BYTES: usize = 4 << 20;

/// The serving socket. Dropping it stops at once; [`Server::stop`] lets calls end.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    calls: Calls,
    served: JoinHandle<()>,
    socket: std::path::PathBuf,
}

impl Server {
    /// Serves the verbs on `home/run/api.sock`.
    ///
    /// # Errors
    /// When the socket cannot be made. The caller holds the home, so a socket that is there is a dead one.
    pub fn start(context: Context) -> std::io::Result<Self> {
        let home = context.home.clone();
        let listener = socket::bind(&home)?;
        let (stop, mut stopped) = watch::channel(false);
        let calls = Calls::default();
        let router = Router::new()
            .route("/v1/{verb}", post(answer))
            .layer(axum::extract::DefaultBodyLimit::max(ARGUMENT_BYTES))
            .with_state((context, calls.clone()));
        let served = tokio::spawn(async move {
            let graceful = async move {
                // An error means that the server is gone, which is a reason to stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(graceful).await {
                tracing::error!(%error, "the local api ended");
            }
        });
        Ok(Self { stop, calls, served, socket: socket::path(&home) })
    }
    /// Nobody new finds the node; returns when the last call that has an end has come to it.
    pub async fn drain(&self) {
        let _ = std::fs::remove_file(&self.socket);
        // An error cannot come: the sender is ours.
        let _ = self.calls.0.subscribe().wait_for(|working| *working == 0).await;
    }
    /// No new calls; those in work may end, until `patience` is over.
    pub async fn stop(mut self, patience: std::time::Duration) {
        // Gone from the folder first: whoever comes now shall find no node rather than a dying one.
        let _ = std::fs::remove_file(&self.socket);
        self.stop.send_replace(true);
        if tokio::time::timeout(patience, &mut self.served).await.is_err() {
            tracing::debug!("calls of the local api were cut off");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        self.served.abort();
    }
}

/// Calls that are worked on, those left out that end only when their caller goes away.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<watch::Sender<usize>>);

/// One of them.
struct Working(Calls);

impl Calls {
    fn begin(&self, verb: &str) -> Option<Working> {
        (verb != "logs").then(|| {
            self.0.send_modify(|working| *working += 1);
            Working(self.clone())
        })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.send_modify(|working| *working -= 1);
    }
}

/// One call. The verb runs in a task of its own, which ends when the answer's body is dropped.
async fn answer(State((context, calls)): State<(Context, Calls)>, Path(verb): Path<String>, body: Bytes) -> Response {
    let working = calls.begin(&verb);
    let arguments = match parse(&body) {
        Ok(arguments) => arguments,
        Err(failure) => {
            return reply(StatusCode::BAD_REQUEST, Body::from(format!("{}\n", text::json(&failure.line()))));
        }
    };
    let (talk, lines) = Talk::channel();
    let work = AbortOnDrop(tokio::spawn(async move {
        let _working = working;
        let last = match verbs::run(&context, &verb, arguments, &talk).await {
            Ok(result) => json!({ "result": result }),
            Err(failure) => failure.line(),
        };
        talk.last(last).await;
    }));
    let body = stream::unfold((lines, Some(work), false), |(mut lines, mut work, ended)| async move {
        if ended {
            return None;
        }
        let line = match lines.recv().await {
            Some(line) => line,
            // The sender vanished without a last line: the verb panicked. Say so; the process goes on.
            None => panicked(work.take()).await,
        };
        let ended = line.get("result").is_some() || line.get("error").is_some();
        let bytes = Bytes::from(format!("{}\n", text::json(&line)));
        Some((Ok::<_, Infallible>(bytes), (lines, work, ended)))
    });
    reply(StatusCode::OK, Body::from_stream(body))
}

fn reply(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-ndjson"));
    response
}

fn parse(body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|e| Failure::usage(format!("arguments are not JSON: {e}")))?;
    if !value.is_object() {
        return Err(Failure::usage("arguments must be one JSON object"));
    }
    Ok(value)
}

async fn panicked(work: Option<AbortOnDrop>) -> Value {
    let why = match work {
        Some(mut work) => match (&mut work.0).await {
            Err(error) => error.to_string(),
            Ok(()) => "the verb ended without an answer".into(),
        },
        None => "the verb ended without an answer".into(),
    };
    Failure::new(Kind::Bug, format!("a bug in this program: {why}")).line()
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);
impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
