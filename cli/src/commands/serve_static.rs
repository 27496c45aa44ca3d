//! A folder over HTTP, read only: what small distros and tests serve pages with. Invariant: only regular files below
//! the folder are given out, whatever the path says.

use crate::error::CliError;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Component, Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// Connections at once: more than a small page needs, fewer than a process has file descriptors.
const CONNECTIONS: usize = 256;
/// Pages, not downloads.
const FILE_BYTES: u64 = 16 << 20;

/// Serves until a signal.
pub(super) async fn run(dir: &Path, address: SocketAddr) -> Result<(), CliError> {
    let root = Arc::new(dir.canonicalize()?);
    let listener = TcpListener::bind(address).await?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else { continue };
            let root = root.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let response = respond(&root, &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                // A visitor who goes away early is no error of ours.
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = super::interrupted() => {}
    }
    Ok(())
}

fn respond<B>(root: &Path, request: &Request<B>) -> Response<Full<Bytes>> {
    let (status, kind, body) = match find(root, request.uri().path()) {
        Some((path, bytes)) => (StatusCode::OK, kind(&path), bytes),
        None => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", b"not found\n".to_vec()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

fn find(root: &Path, wanted: &str) -> Option<(PathBuf, Vec<u8>)> {
    let relative = Path::new(wanted.trim_start_matches('/'));
    if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return None;
    }
    let mut path = root.join(relative);
    if path.is_dir() {
        path.push("index.html");
    }
    // Resolved, then compared: a link may point anywhere.
    let path = path.canonicalize().ok().filter(|p| p.starts_with(root))?;
    let metadata = path.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES {
        return None;
    }
    let bytes = std::fs::read(&path).ok()?;
    Some((path, bytes))
}

fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_given_out() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("site").canonicalize().unwrap_or_else(|_| folder.path().join("site"));
        std::fs::create_dir(&root).expect("site");
        std::fs::write(root.join("index.html"), "hello").expect("page");
        std::fs::write(folder.path().join("secret"), "no").expect("secret");
        std::os::unix::fs::symlink(folder.path().join("secret"), root.join("link")).expect("link");
        let root = root.canonicalize().expect("real path");
        assert_eq!(find(&root, "/").map(|f| f.1), Some(b"hello".to_vec()));
        for bad in ["/../secret", "/link", "/missing", "//../secret", "/./../secret"] {
            assert!(find(&root, bad).is_none(), "{bad}");
        }
    }
}
