//! Questions to services: http, tcp, exec. Invariant: each ends within its timeout, goes nowhere that its role's permissions
//! do not lead, follows no redirect to another host, reads a bounded answer, and leaves no process behind.

use super::dial::dial;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, body::Bytes, header};
use hyper_util::rt::TokioIo;
use softservice_protocol::instance::{ProbeSpec, destination::Destination, sandbox::Reach};
use std::{process::Stdio, time::Duration};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// Bytes of an answer's body that are read: a page, not a download.
const BODY_BYTES: usize = 1 << 20;
/// Bytes of a program's output that are kept for people.
const OUTPUT_BYTES: usize = 4 << 10;
/// Redirects followed on one host.
const REDIRECTS: usize = 5;

/// Makes the command of a program to ask with: held as its softservice is, see `Device::command`.
pub(super) type Run<'a> = dyn Fn(&[String]) -> Result<Command, String> + Sync + 'a;

/// Asks once. Beyond the softservice's own ports the node goes where `allowed` leads.
///
/// # Errors
/// What was seen instead, for people.
pub(super) async fn ask(probe: &ProbeSpec, patience: Duration, allowed: &[Reach], run: &Run<'_>) -> Result<(), String> {
    let to = probe.destination()?;
    match (probe, &to) {
        (ProbeSpec::Http { url, status, contains }, Some(to)) => {
            within(patience, url, http(url, to, allowed, *status, contains.as_deref())).await
        }
        (ProbeSpec::Tcp { address }, Some(to)) => {
            within(patience, address, async { dial(to, allowed).await.map_err(|e| format!("{address}: {e}")) })
                .await
                .map(drop)
        }
        (ProbeSpec::Exec { command }, _) => exec(command, patience, run).await,
        (ProbeSpec::Http { .. } | ProbeSpec::Tcp { .. }, None) => Err("it does not say whom to ask".into()),
    }
}

async fn within<T>(
    patience: Duration,
    whom: &str,
    answer: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let late = |_| format!("{whom}: no answer within {:.1} s", patience.as_secs_f32());
    timeout(patience, answer).await.map_err(late)?
}

async fn http(
    url: &str,
    to: &Destination,
    allowed: &[Reach],
    wanted: u16,
    contains: Option<&str>,
) -> Result<(), String> {
    let mut uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
    let mut hops = 0;
    loop {
        let (status, location, body) = get(&uri, to, allowed).await.map_err(|e| format!("{uri}: {e}"))?;
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

/// One question. The connection goes to `to`, whatever else `uri` may say.
async fn get(uri: &Uri, to: &Destination, allowed: &[Reach]) -> Result<(u16, Option<String>, Bytes), String> {
    if uri.scheme_str() != Some("http") {
        return Err("only http:// can be asked by this version".into());
    }
    let authority = uri.authority().ok_or("has no host")?;
    let stream = dial(to, allowed).await?;
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
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

async fn exec(command: &[String], patience: Duration, run: &Run<'_>) -> Result<(), String> {
    let program = command.first().ok_or("the command is empty")?;
    let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let other = writer.try_clone().map_err(|e| e.to_string())?;
    let mut command = run(command)?;
    command.stdin(Stdio::null()).stdout(writer).stderr(other).process_group(0).kill_on_drop(true);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    /// Long enough for any machine; what must be slow is slow for ever.
    const PATIENT: Duration = Duration::from_secs(30);
    const IMPATIENT: Duration = Duration::from_millis(200);

    /// A server that gives each caller this answer, at the address returned.
    async fn serving(answer: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                // A caller that has seen enough hangs up.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    async fn http_with(answer: &str, contains: Option<&str>, patience: Duration) -> Result<(), String> {
        let url = format!("http://{}/", serving(answer.into()).await);
        asked(ProbeSpec::Http { url, status: 200, contains: contains.map(Into::into) }, patience).await
    }

    async fn asked(probe: ProbeSpec, patience: Duration) -> Result<(), String> {
        let plain = |argv: &[String]| {
            let mut command = Command::new(&argv[0]);
            command.args(&argv[1..]).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
            Ok(command)
        };
        ask(&probe, patience, &[], &plain).await
    }

    #[tokio::test]
    async fn an_answer_is_judged_by_status_and_content() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(http_with(ok, Some("ell"), PATIENT).await, Ok(()));
        assert!(http_with(ok, Some("bye"), PATIENT).await.unwrap_err().contains("does not contain \"bye\""));
        let bad = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        assert!(http_with(bad, None, PATIENT).await.unwrap_err().contains("status 503, expected 200"));
        assert!(http_with("nonsense\r\n\r\n", None, PATIENT).await.is_err());
    }

    #[tokio::test]
    async fn an_endless_answer_and_a_silent_server_end() {
        let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n{}", "x".repeat(2 << 20));
        assert!(http_with(&endless, None, PATIENT).await.unwrap_err().contains("length limit exceeded"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let why = asked(ProbeSpec::Http { url, status: 200, contains: None }, IMPATIENT).await.unwrap_err();
        assert!(why.contains("no answer within 0.2 s"), "{why}");
        drop(listener);
    }

    #[tokio::test]
    async fn redirects_stay_on_their_host() {
        let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = other.local_addr().expect("an address").port();
        for elsewhere in ["http://example.org/".to_owned(), format!("http://127.0.0.1:{port}/")] {
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n");
            assert!(http_with(&answer, None, PATIENT).await.unwrap_err().contains("another host"));
        }
        let came = std::future::poll_fn(|cx| std::task::Poll::Ready(other.poll_accept(cx).is_ready())).await;
        assert!(!came, "another port of the same host is another host");
        let round = "HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n";
        assert!(http_with(round, None, PATIENT).await.unwrap_err().contains("/again: status 302"), "after five");
    }

    #[tokio::test]
    async fn a_port_is_open_or_not() {
        let open = serving(String::new()).await;
        assert_eq!(asked(ProbeSpec::Tcp { address: open }, PATIENT).await, Ok(()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        assert!(asked(ProbeSpec::Tcp { address }, PATIENT).await.unwrap_err().contains("refused"));
    }

    #[tokio::test]
    async fn a_program_says_why_and_leaves_nobody() {
        let sh = |script: &str| ProbeSpec::Exec { command: vec!["sh".into(), "-c".into(), script.into()] };
        assert_eq!(asked(sh("exit 0"), PATIENT).await, Ok(()));
        assert!(asked(sh("echo because >&2; exit 3"), PATIENT).await.unwrap_err().contains("exit status: 3: because"));
        assert_eq!(asked(sh("sleep 1000 & exit 0"), PATIENT).await, Ok(()), "what it left does not hold us up");
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        assert!(asked(sh(&script), Duration::from_secs(2)).await.unwrap_err().contains("did not end within 2.0 s"));
        let pid: i32 = std::fs::read_to_string(file).expect("it ran").trim().parse().expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        // Killed means dying: the kernel tells when it is over, and no such process means that it was.
        if let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) {
            let process = crate::device::readable::readable(process).expect("a descriptor");
            drop(timeout(PATIENT, process.readable()).await.expect("its child lives on").expect("a wait"));
        }
    }
}
