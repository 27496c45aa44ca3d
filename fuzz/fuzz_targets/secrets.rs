//! Any file under any kind of name, looked at for secrets at once and in pieces; and what an author lets through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_protocol::secrets::{Allowed, Scanner};

/// One of each place.
const FILES: [&str; 9] =
    ["distro.toml", ".env", "etc/a.ini", "bin/a", "tests/a", "a.txt", ".netrc", ".pgpass", ".npmrc"];

fuzz_target!(|bytes: &[u8]| {
    let [kind, cut, bytes @ ..] = bytes else { return };
    let file = FILES[usize::from(kind & 0x7f) % FILES.len()];
    // Alone, or so far inside a text that pieces end in it.
    let text = match kind & 0x80 {
        0 => bytes.to_vec(),
        _ => ["a b\n".repeat(2500).as_bytes(), bytes, "\nc d\n".repeat(4000).as_bytes()].concat(),
    };
    let whole = Scanner::new(file).whole(&text);
    let mut scanner = Scanner::new(file);
    text.chunks(97 * (usize::from(*cut) + 1)).for_each(|piece| scanner.push(piece));
    let pieces = scanner.finish();
    assert!(whole.iter().all(|f| pieces.contains(f)), "{whole:?} is more than {pieces:?}");
    for finding in &pieces {
        assert!(finding.file == file && finding.id.len() == 32, "{finding:?}");
        let mut allowed = Allowed::default();
        allowed.add(finding);
        let again = Allowed::read(&allowed.write()).expect("what was written is read");
        assert_eq!(again.allows(finding), !finding.is_more());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(allowed) = Allowed::read(text)
    {
        assert_eq!(Allowed::read(&allowed.write()).as_ref(), Ok(&allowed));
    }
});
