//! Where logs go: standard error. Invariant: one event is one line of characters that can all be seen, whatever peers,
//! programs and files put into it; nobody writes a second line, or hides one, by what they are called.

use softservice_protocol::text::Foreign;
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;

/// Begins to print logs, more of them the more often `-v` was said.
pub(crate) fn listen(verbose: u8) {
    let ours = match verbose {
        0 => "error",
        1 => "warn,softservice=info,softservice_node=info,softservice_store=info,softservice_protocol=info",
        2 => "info,softservice=debug,softservice_node=debug,softservice_store=debug,softservice_protocol=debug",
        _ => "debug",
    };
    let filter = std::env::var("SOFTSERVICE_LOG")
        .ok()
        .and_then(|directives| EnvFilter::try_new(directives).ok())
        .unwrap_or_else(|| EnvFilter::new(ours));
    // A log on a full disk loses lines; to say so there as well would end whoever said it. Without colours: they are the
    // very sequences that foreign text is kept from, and once a line is written nobody can tell the two apart.
    let told = tracing_subscriber::fmt().log_internal_errors(false).with_ansi(false);
    told.with_env_filter(filter).with_writer(|| Lines(io::stderr())).init();
}

/// Writes each event, which comes in one piece, as one visible line.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        self.0.write_all(format!("{}\n", Foreign(line)).as_bytes())?;
        Ok(event.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naughty_strings::BLNS;
    use softservice_protocol::text::is_plain;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);
    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_event_is_one_visible_line_whatever_peers_say() {
        let heard = Heard::default();
        let writer = heard.clone();
        let told = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Lines(writer.clone())).finish();
        let mut events = 0;
        tracing::subscriber::with_default(told, || {
            for said in
                BLNS.iter().copied().chain(["\u{1b}[2J\u{9b}31m\u{202e}\u{200b}", "one\n2026 ERROR another\r\n"])
            {
                tracing::error!(why = said, error = %said, "peer said {said}");
                events += 1;
            }
        });
        let bytes = heard.0.lock().expect("nobody panicked").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert_eq!(text.lines().count(), events);
        for line in text.split('\n') {
            assert!(is_plain(line), "{line:?}");
        }
    }
}
