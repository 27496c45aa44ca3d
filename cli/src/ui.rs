//! The one printer. Invariant: stdout is data, stderr is conversation; with `--json` stdout holds exactly one document
//! (or one per line of a stream), with `--quiet` stderr holds errors only. Meaning never rests on colour.

use crate::{args::Global, error::CliError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use softservice_protocol::text::{self, Foreign};
use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// Bytes for people.
pub(crate) use softservice_protocol::definition::units::bytes as size;

/// Without a terminal, progress is a line this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where everything that the program says goes through.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    bar: Option<ProgressBar>,
    bar_of: String,
    plain_at: Option<Instant>,
}

impl Ui {
    /// As the flags ask for.
    pub(crate) fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet, bar: None, bar_of: String::new(), plain_at: None }
    }
    /// Whether only errors are said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }
    /// Whether stdout is for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }
    /// Whether people read stdout on a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// One line of data for people. Nothing with `--json`.
    pub(crate) fn data(&mut self, text: impl AsRef<str>) {
        if !self.json {
            self.clear();
            put(&seen(text.as_ref()));
        }
    }
    /// The document of a verb. Nothing without `--json`.
    pub(crate) fn document(&mut self, document: &Value) {
        if self.json {
            self.clear();
            put(&text::json(document));
        }
    }
    /// A document in either mode: for whoever started this process.
    pub(crate) fn event(&mut self, document: &Value) {
        self.clear();
        put(&text::json(document));
    }
    /// Bytes for another program, in either mode.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        // A reader who has enough is no error.
        let _ = io::stdout().lock().write_all(bytes);
    }
    /// A line of conversation.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        if !self.quiet {
            self.clear();
            // A closed stderr is no reason to stop working.
            let _ = writeln!(io::stderr(), "{}", seen(text.as_ref()));
        }
    }
    /// What went wrong: the document with `--json`, and a line with the advice for people.
    pub(crate) fn error(&mut self, error: &CliError) {
        self.clear();
        if self.json {
            put(&text::json(&error.document()));
            return;
        }
        let mut stderr = io::stderr();
        let _ = writeln!(stderr, "error: {}", seen(&error.message));
        if let Some(hint) = &error.hint {
            let _ = writeln!(stderr, "hint: {}", seen(hint));
        }
    }
    /// Whether somebody is there to answer.
    pub(crate) fn can_ask(&self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }
    /// Asks; anything but yes is no. Without a terminal there is nobody to ask: None.
    pub(crate) async fn ask(&mut self, question: &str) -> Option<bool> {
        let answer = self.question(&format!("{question} [y/N]")).await?;
        Some(matches!(answer.to_lowercase().as_str(), "y" | "yes"))
    }
    /// Asks for a line. None without a terminal, and at the end of input.
    pub(crate) async fn question(&mut self, question: &str) -> Option<String> {
        self.clear();
        if !self.can_ask() {
            return None;
        }
        let mut stderr = io::stderr();
        let _ = write!(stderr, "{} ", seen(question));
        let _ = stderr.flush();
        // Beside the runtime: whoever waits for an answer must notice Ctrl-C.
        let read = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().lock().read_line(&mut answer).map(|read| (read, answer))
        });
        match read.await {
            Ok(Ok((read, answer))) if read > 0 => Some(answer.trim().to_owned()),
            _ => None,
        }
    }

    /// How far the work is: a bar on a terminal, now and then a plain line elsewhere.
    pub(crate) fn progress(&mut self, progress: &Value) {
        if self.quiet {
            return;
        }
        let what = &*seen(progress["what"].as_str().unwrap_or("work"));
        let number = |key: &str| progress[key].as_u64().unwrap_or(0);
        let (of, peers) = (number("of"), number("peers"));
        // Objects are counted, everything else is measured.
        let counted = progress["objects"].as_u64();
        let done = counted.unwrap_or(number("bytes"));
        let from =
            if peers > 0 { format!(" from {peers} peer{}", if peers == 1 { "" } else { "s" }) } else { String::new() };
        if io::stderr().is_terminal() {
            let bar = self.bar_for(what, of, counted.is_some());
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(from);
            return;
        }
        // What is quick needs no line, so the first one waits as well.
        if self.plain_at.get_or_insert_with(Instant::now).elapsed() >= PLAIN_EVERY {
            self.plain_at = Some(Instant::now());
            let words = |n: u64| if counted.is_some() { n.to_string() } else { size(n) };
            let percent =
                if of > 0 { format!(" of {} ({} %)", words(of), done.min(of) * 100 / of) } else { String::new() };
            let _ = writeln!(io::stderr(), "{what}: {}{percent}{from}", words(done));
        }
    }

    fn bar_for(&mut self, what: &str, of: u64, counted: bool) -> &ProgressBar {
        if self.bar_of != what {
            self.clear();
            what.clone_into(&mut self.bar_of);
        }
        self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr());
            let template = if counted {
                "{prefix:>10} [{bar:30}] {human_pos}/{human_len} objects {eta}{msg}"
            } else {
                "{prefix:>10} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}{msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(what.to_owned());
            bar
        })
    }
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A ticket as people can photograph it.
    pub(crate) fn qr(&mut self, text: &str) {
        if !self.is_terminal() {
            return;
        }
        if let Ok(code) = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L) {
            put(&code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build());
        }
    }
}

/// One write per line, so that lines of two processes do not mix. A closed pipe ends the program quietly, as `head`
/// expects.
fn put(text: &str) {
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Others wrote much of what is printed: nothing of it may move a cursor or hide. Lines and columns are ours.
pub(crate) fn seen(text: &str) -> String {
    text.split('\n')
        .map(|line| line.split('\t').map(|cell| Foreign(cell).to_string()).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Rows under headings, columns as wide as they need to be. A cell is one line of visible characters, so that none looks like
/// a row of its own.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let seen = |row: &Vec<String>| row.iter().map(|cell| Foreign(cell).to_string()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(seen).collect();
    let width = |i: usize| {
        rows.iter()
            .filter_map(|row| row.get(i))
            .map(|cell| cell.chars().count())
            .chain(headings.get(i).map(|h| h.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(seen("a\tb\n\u{1b}[2Jc"), "a\tb\n\\u{1b}[2Jc");
    }

    #[test]
    fn naughty_strings_are_printed_as_lines_and_cells_that_hide_nothing() {
        for text in naughty_strings::BLNS {
            assert!(seen(text).split(['\n', '\t']).all(softservice_protocol::text::is_plain), "{text:?}");
            let table = table(&["NAME", "SUMMARY"], &[vec![(*text).into(), (*text).into()]]);
            assert!(
                table.split('\n').count() == 2 && table.lines().all(softservice_protocol::text::is_plain),
                "{table:?}"
            );
        }
    }

    #[test]
    fn tables_align_and_do_not_trail() {
        let rows = vec![vec!["a".into(), "long".into()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table(&["n", "v"], &rows), "n    v\na    long\nbcd  x");
        assert_eq!(table(&["n"], &[vec!["a\nforged  row".into()]]), "n\na\\nforged  row");
    }
}
