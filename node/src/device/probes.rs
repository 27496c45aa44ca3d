//! Questions to services: http, tcp, exec. Invariant: each ends within its timeout, reads a bounded answer, follows no
//! redirect to another host, and leaves no process behind.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, body::Bytes, header};
use hyper_util::rt::TokioIo;
use softservice_protocol::instance::ProbeSpec;
use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};
use tokio::{io::AsyncReadExt, net::TcpStream, process::Command, time::timeout};

/// Bytes of an answer's body that are read: a page, not a download.
const BODY_BYTES: usize = 1 << 20;
/// Bytes of a program's output that are kept for people.
const OUTPUT_BYTES: usize = 4 << 10;
/// Redirects followed on one host.
const REDIRECTS: usize = 5;

/// Where programs run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) folder: &'a Path,
}

/// Asks once.
///
/// # Errors
/// What was seen instead, for people.
pub(super) async fn ask(probe: &ProbeSpec, patience: Duration, around: Surroundings<'_>) -> Result<(), String> {
    let late = || format!("no answer within {:.1} s", patience.as_secs_f32());
    match probe {
        ProbeSpec::Http { url, status, contains } => timeout(patience, http(url, *status, contains.as_deref()))
            .await
            .map_err(|_| format!("{url}: {}", late()))?,
        ProbeSpec::Tcp { address } => {
            let connected = timeout(patience, TcpStream::connect(address)).await;
            connected.map_err(|_| format!("{address}: {}", late()))?.map(drop).map_err(|e| format!("{address}: {e}"))
        }
        ProbeSpec::Exec { command } => exec(command, patience, around).await,
    }
}

async fn http(url: &str, wanted: u16, contains: Option<&str>) -> Result<(), String> {
    let mut uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
    let mut hops = 0;
    loop {
        let (status, location, body) = get(&uri).await.map_err(|e| format!("{uri}: {e}"))?;
        let moved = (300..400).contains(&status) && status != wanted;
        if let Some(next) = location.filter(|_| moved && hops < REDIRECTS) {
            uri = same_host(&uri, &next).ok_or_else(|| format!("{uri}: redirects to another host, {next}"))?;
            hops += 1;
            continue;
        }
        if status != wanted {
            return Err(format!("{uri}: status {status}, expected {wanted}"));
        }
        return match contains {
            Some(text) if !String::from_utf8_lossy(&body).contains(text) => {
                Err(format!("{uri}: the answer does not contain {text:?}"))
            }
            _ => Ok(()),
        };
    }
}

async fn get(uri: &Uri) -> Result<(u16, Option<String>, Bytes), String> {
    if uri.scheme_str() != Some("http") {
        return Err("only http:// can be asked by this version".into());
    }
    let host = uri.host().ok_or("has no host")?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)));
    let stream = stream.await.map_err(|e| e.to_string())?;
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let authority = uri.authority().map_or(host, |a| a.as_str());
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, "softservice-probe")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let exchange = async {
        let answer = send.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let location = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = Limited::new(answer.into_body(), BODY_BYTES).collect().await;
        let body = body.map_err(|e| format!("reading the answer: {e}"))?.to_bytes();
        Ok((status, location, body))
    };
    // The connection is driven here and ends here: no task outlives the question.
    tokio::pin!(exchange, connection);
    let mut driven = false;
    loop {
        tokio::select! {
            done = &mut exchange => return done,
            _ = &mut connection, if !driven => driven = true,
        }
    }
}

fn same_host(from: &Uri, to: &str) -> Option<Uri> {
    let to: Uri = to.parse().ok()?;
    match to.authority() {
        Some(authority) => (Some(authority) == from.authority() && to.scheme() == from.scheme()).then_some(to),
        None => {
            let path = to.path_and_query().map_or("/", |p| p.as_str());
            // A relative redirect is read against the root: services that need more are rare, and say so when it fails.
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            Uri::builder()
                .scheme(from.scheme()?.clone())
                .authority(from.authority()?.clone())
                .path_and_query(path)
                .build()
                .ok()
        }
    }
}

async fn exec(command: &[String], patience: Duration, around: Surroundings<'_>) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let other = writer.try_clone().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(around.environment)
        .current_dir(around.folder)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(other)
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    // The command holds the pipe's writing ends: without this the output would never end.
    drop(command);
    let group = Group(child.id());
    let mut output = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(|e| e.to_string())?;
    let mut said = Vec::new();
    let mut ended = None;
    let spoken = timeout(patience, async {
        let tail = keep_tail(&mut output, &mut said);
        tokio::pin!(tail);
        tokio::select! {
            () = &mut tail => ended = Some(child.wait().await),
            status = child.wait() => {
                ended = Some(status);
                // Whatever it left behind holds the output open: it goes first, then the rest is read.
                drop(group);
                tail.await;
            }
        }
    });
    let _ = spoken.await;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match ended {
        Some(Ok(status)) if status.success() => Ok(()),
        Some(Ok(status)) => Err(format!("{program}: {status}{}{said}", if said.is_empty() { "" } else { ": " })),
        Some(Err(e)) => Err(format!("{program}: {e}")),
        None => Err(format!("{program}: did not end within {:.1} s: {said}", patience.as_secs_f32())),
    }
}

/// Kills what a program left in its group, also when the question is given up.
#[derive(Debug)]
struct Group(Option<u32>);
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|p| rustix::process::Pid::from_raw(p as i32)) {
            // The group's number is free again when nobody is left in it; nothing is started in between.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

async fn keep_tail(output: &mut tokio::net::unix::pipe::Receiver, said: &mut Vec<u8>) {
    let mut buffer = vec![0; OUTPUT_BYTES];
    while let Ok(n @ 1..) = output.read(&mut buffer).await {
        said.extend_from_slice(buffer.get(..n).unwrap_or_default());
        let surplus = said.len().saturating_sub(OUTPUT_BYTES);
        said.drain(..surplus);
    }
}
