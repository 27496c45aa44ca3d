//! `softservice serve-static DIR PORT`: files over HTTP, so that a first distro needs no other program.
//! Invariant: nothing outside the folder is ever read: the kernel resolves every path below it (`openat2`, beneath, no
//! magic links), and at most [`CONNECTIONS`] people are served at a time, each for [`PATIENCE`] without progress.

mod head;

use head::Request;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Threads at a time: a small page for a household, not a content network.
const CONNECTIONS: usize = 64;
/// Time without progress after which a connection is closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves `folder` on this device's `port` until killed; returns only when that cannot begin.
pub fn serve_static(folder: &Path, port: u16) -> ExitCode {
    let opened = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = match opened {
        Ok(root) => Arc::new(root),
        Err(e) => {
            eprintln!("serve-static: open {}: {e}", folder.display());
            return ExitCode::FAILURE;
        }
    };
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => listener,
        Err(e) => {
            eprintln!("serve-static: listen on port {port}: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("serving {} on http://127.0.0.1:{port}/", folder.display());
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if busy.load(Ordering::Acquire) >= CONNECTIONS {
            // Closing at once tells the caller to come again; a queue would only hide it.
            continue;
        }
        busy.fetch_add(1, Ordering::AcqRel);
        let (root, busy) = (Arc::clone(&root), Arc::clone(&busy));
        std::thread::spawn(move || {
            // A caller that goes away is no event.
            let _ = answer(&root, stream);
            busy.fetch_sub(1, Ordering::AcqRel);
        });
    }
    ExitCode::FAILURE
}

fn answer(root: &OwnedFd, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Request::Page { path, content } = head::read(stream.try_clone()?)? else {
        return plain(&mut stream, "405 Method Not Allowed", "only GET and HEAD are served here\n");
    };
    let Some((mut file, size, kind)) = path.and_then(|path| find(root, &path)) else {
        return plain(&mut stream, "404 Not Found", "there is no such page\n");
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    )?;
    if content {
        std::io::copy(&mut (&mut file).take(size), &mut stream)?;
    }
    stream.flush()
}

fn plain(stream: &mut TcpStream, status: &str, text: &str) -> std::io::Result<()> {
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

/// A regular file below the root; of a folder, its `index.html`.
fn find(root: &OwnedFd, path: &str) -> Option<(File, u64, &'static str)> {
    let path = path.trim_end_matches('/');
    let path = if path.is_empty() { "." } else { path };
    let open = |path: &str| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(openat2(root, path, flags, Mode::empty(), rules).ok()?);
        let about = file.metadata().ok()?;
        Some((file, about))
    };
    let (file, about) = open(path)?;
    if about.is_file() {
        return Some((file, about.len(), kind(path)));
    }
    if !about.is_dir() {
        return None;
    }
    let (file, about) = open(&format!("{path}/index.html"))?;
    about.is_file().then(|| (file, about.len(), kind("index.html")))
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let site = dir.path().join("site");
        std::fs::create_dir(&site).expect("site");
        std::fs::write(dir.path().join("secret"), "no").expect("secret");
        std::fs::write(site.join("index.html"), "yes").expect("page");
        std::os::unix::fs::symlink("../secret", site.join("link")).expect("link");
        std::os::unix::fs::symlink(dir.path().join("secret"), site.join("absolute")).expect("link");
        let root = rustix::fs::open(&site, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("open");
        assert!(find(&root, "").is_some() && find(&root, "index.html").is_some());
        for bad in ["../secret", "link", "absolute", "/etc/passwd", "x/../../secret", "nothing"] {
            assert!(find(&root, bad).is_none(), "{bad} was served");
        }
    }
}
