//! The guestbook's data part: keeps entries in an append-only file and serves them to whoever knows the token.
//! Invariant: an entry is acknowledged only after it is on the disk; a torn last line is cut off at start; how many there were
//! is known apart from them, so that a book whose pages are gone is not taken for one that nobody signed.

#[path = "../../../http.rs"]
mod http;

use http::{Request, Response};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(http::argument("dir"));
    let token = http::secret(&http::argument("token-file"));
    let book = Mutex::new(Book::open(folder)?);
    http::serve(&http::argument("listen"), move |request| answer(&book, &token, &request))
}

/// Entries in memory and the file behind them.
struct Book {
    file: File,
    lines: Vec<u8>,
    folder: PathBuf,
    /// Entries that were ever kept, also those that are missing now.
    count: usize,
    /// What was found at the start, for people and for the test after a restore.
    found: String,
}

impl Book {
    fn open(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("entries");
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let mut lines = Vec::new();
        file.read_to_end(&mut lines)?;
        let whole = lines.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < lines.len() {
            eprintln!("cutting off a torn entry of {} bytes", lines.len() - whole);
            file.set_len(whole as u64)?;
            lines.truncate(whole);
        }
        file.sync_all()?;
        File::open(&folder)?.sync_all()?;
        let entries = lines.iter().filter(|b| **b == b'\n').count();
        let counted = counted(&folder);
        let found = match counted {
            None if entries == 0 => "a new book\n".into(),
            Some(counted) if entries < counted => {
                format!("a book of {counted} entries that has lost {}\n", counted - entries)
            }
            _ => format!("a book with {entries} entries from before\n"),
        };
        let count = counted.unwrap_or(0).max(entries);
        // Only where it says something else: a start alone leaves the data as it found them.
        if counted != Some(count) {
            count_to(&folder, count)?;
        }
        Ok(Self { file, lines, folder, count, found })
    }

    fn add(&mut self, line: &[u8]) -> std::io::Result<()> {
        let mut record = line.to_vec();
        record.push(b'\n');
        self.file.write_all(&record)?;
        self.file.sync_data()?;
        self.lines.extend_from_slice(&record);
        self.count += 1;
        // The entry is kept all the same. A count that is behind misses less than it could.
        if let Err(e) = count_to(&self.folder, self.count) {
            eprintln!("not counted: {e}");
        }
        Ok(())
    }
}

fn counted(folder: &Path) -> Option<usize> {
    std::fs::read_to_string(folder.join("count")).ok()?.trim().parse().ok()
}

/// Not synced: a power cut may take it back to what it was, or take it away, and never ahead of the entries.
fn count_to(folder: &Path, count: usize) -> std::io::Result<()> {
    let beside = folder.join("count.new");
    std::fs::write(&beside, format!("{count}\n"))?;
    std::fs::rename(beside, folder.join("count"))
}

fn answer(book: &Mutex<Book>, token: &str, request: &Request) -> Response {
    if request.method == "GET" && request.path == "/healthz" {
        return Response::text(200, "ok\n");
    }
    // A panic while holding the lock would have ended the process' usefulness: say so instead of serving half a book.
    let Ok(mut book) = book.lock() else { return Response::text(500, "the book is damaged\n") };
    if request.method == "GET" && request.path == "/found" {
        return Response::text(200, book.found.clone());
    }
    if request.header("x-token") != Some(token) {
        return Response::text(403, "the token is missing or wrong\n");
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/entries") => {
            Response { status: 200, kind: "text/plain; charset=utf-8", location: None, body: book.lines.clone() }
        }
        ("POST", "/entries") => {
            let line = &request.body;
            if line.is_empty() || line.contains(&b'\n') || std::str::from_utf8(line).is_err() {
                return Response::text(400, "an entry is one line of UTF-8\n");
            }
            match book.add(line) {
                Ok(()) => Response::text(201, "kept\n"),
                Err(e) => Response::text(507, format!("not kept: {e}\n")),
            }
        }
        _ => Response::text(404, "nothing here\n"),
    }
}
