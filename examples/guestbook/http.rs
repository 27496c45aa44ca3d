//! The little HTTP/1.1 that both guestbook servers speak, on the standard library alone, so that one `rustc` call
//! builds either of them. Invariant: a request is read within bounds and a deadline, or refused; one thread serves one
//! connection, and each connection carries one request.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

const LINE: u64 = 8 << 10;
const HEADERS: usize = 64;
const BODY: usize = 64 << 10;

#[allow(dead_code, reason = "only the data part reads headers")]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    #[allow(dead_code, reason = "only the data part reads headers")]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) location: Option<&'static str>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", location: None, body: body.into().into_bytes() }
    }
}

/// Serves until the process ends.
pub(crate) fn serve(
    address: &str,
    answer: impl Fn(Request) -> Response + Send + Sync + 'static,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let answer = Arc::new(answer);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let answer = answer.clone();
        // A refused thread drops the connection; the client tries again.
        let _ = std::thread::Builder::new().spawn(move || {
            if let Err(e) = connection(stream, answer.as_ref()) {
                eprintln!("connection: {e}");
            }
        });
    }
    Ok(())
}

fn connection(stream: TcpStream, answer: &dyn Fn(Request) -> Response) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let response = match read_request(&mut reader) {
        Ok(Some(request)) => answer(request),
        Ok(None) => return Ok(()),
        Err(e) => Response::text(400, format!("bad request: {e}\n")),
    };
    write_response(stream, &response)
}

fn write_response(mut stream: TcpStream, response: &Response) -> std::io::Result<()> {
    let location = response.location.map(|l| format!("Location: {l}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} -\r\nContent-Type: {}\r\nContent-Length: {}\r\n{location}Connection: close\r\n\r\n",
        response.status,
        response.kind,
        response.body.len(),
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&response.body)?;
    stream.flush()
}

fn line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    reader.take(LINE).read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

fn read_headers(reader: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let text = line(reader)?;
        if text.is_empty() {
            return Ok(headers);
        }
        let (name, value) = text.split_once(':').ok_or_else(|| invalid("a header has no colon"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
        if headers.len() > HEADERS {
            return Err(invalid("too many headers"));
        }
    }
}

fn read_body(reader: &mut impl Read, headers: &[(String, String)]) -> std::io::Result<Vec<u8>> {
    let length = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
    let length: usize = match length {
        Some((_, value)) => value.parse().map_err(|_| invalid("content-length is no number"))?,
        None => 0,
    };
    if length > BODY {
        return Err(invalid("body is too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let first = line(reader)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(invalid("no request line")) };
    let headers = read_headers(reader)?;
    let body = read_body(reader, &headers)?;
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), headers, body }))
}

/// One request to another server: status and body.
#[allow(dead_code, reason = "only the web part asks others")]
pub(crate) fn ask(
    address: &str,
    method: &str,
    path: &str,
    token: &str,
    body: &[u8],
) -> std::io::Result<(u16, Vec<u8>)> {
    use std::net::ToSocketAddrs;
    let resolved = address.to_socket_addrs()?.next().ok_or_else(|| invalid("address does not resolve"))?;
    let mut stream = TcpStream::connect_timeout(&resolved, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-Token: {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?;
    let status = status.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| invalid("no status"))?;
    read_headers(&mut reader)?;
    let mut body = Vec::new();
    reader.take(4 << 20).read_to_end(&mut body)?;
    Ok((status, body))
}

/// The value of `--name` on the command line, or the end of the program.
pub(crate) fn argument(name: &str) -> String {
    let wanted = format!("--{name}");
    let found = std::env::args().skip_while(|a| *a != wanted).nth(1);
    found.unwrap_or_else(|| {
        eprintln!("{wanted} VALUE is missing");
        std::process::exit(2)
    })
}

/// The bytes of a secret file as hex, fit for a header.
pub(crate) fn secret(path: &str) -> String {
    match std::fs::read(path) {
        Ok(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        Err(e) => {
            eprintln!("secret {path}: {e}");
            std::process::exit(2)
        }
    }
}
