//! Secrets in other clothes: in base64 once more, in two bytes a letter, far behind, in an argument of their own, in an
//! archive.

use super::*;
use data_encoding::BASE64;

/// As it would come from a disk, in pieces of this size.
fn pieces(file: &str, bytes: &[u8], size: usize) -> Vec<Finding> {
    let mut scanner = Scanner::new(file);
    bytes.chunks(size).for_each(|piece| scanner.push(piece));
    scanner.finish()
}

#[test]
fn a_key_in_base64_once_more_is_found_wherever_it_begins_and_a_certificate_is_none() {
    for before in ["", "x", "xy", "xyz"] {
        let wrap = |text: &str| BASE64.encode(format!("{before}{text}").as_bytes());
        for kind in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            let key = wrap(&armour(kind, 6));
            let lines = key.as_bytes().chunks(76).map(|l| String::from_utf8_lossy(l).into_owned()).collect::<Vec<_>>();
            for text in [
                format!("a: 1\ntls.key: {key}\n"),
                format!("a: 1\nkey = \"{key}\"\nb = 2\n"),
                format!("a: 1\nkey: {}\n", lines.join("\n    ")),
                format!("a: 1\nkey: \"{}\"\n", lines.join("\\n")),
            ] {
                for file in ["deploy/secret.yaml", "bin/run", "etc/server.txt"] {
                    let found = Scanner::new(file).whole(text.as_bytes());
                    let what = if kind.starts_with("ENCRYPTED") {
                        "a password-protected private key"
                    } else {
                        "a private key"
                    };
                    assert!(
                        matches!(&found[..], [f] if (f.line, f.what, f.weight) == (2, what, Weight::Refused)),
                        "{before:?} {kind} {file}: {found:?}"
                    );
                    assert_eq!(pieces(file, text.as_bytes(), 50), found);
                }
                let told = found("tests/secret.yaml", &text);
                assert!(matches!(told[..], [(2, _, Weight::Told)]), "{told:?}");
            }
        }
        for none in ["CERTIFICATE", "PUBLIC KEY", "CERTIFICATE REQUEST"] {
            assert_eq!(found("deploy/secret.yaml", &format!("tls.crt: {}\n", wrap(&armour(none, 6)))), [], "{none}");
        }
        let speaks = wrap("-----BEGIN PRIVATE KEY-----\n<your key here>\n-----END PRIVATE KEY-----\n");
        assert_eq!(found("deploy/secret.yaml", &format!("tls.key: {speaks}\n")), []);
    }
}

#[test]
fn two_bytes_a_letter_hide_nothing() {
    let text = format!("; Grüße aus Zürich 𝄞\r\n\r\npassword = hunter22\r\ntoken = ghp_{}\r\n", drawn(36));
    let plain = found("conf/app.ini", &text);
    assert_eq!(plain.iter().map(|f| f.0).collect::<Vec<_>>(), [3, 4]);
    let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let marked = format!("\u{feff}{text}");
    for bytes in [little(&text), big(&text), little(&marked), big(&marked)] {
        for size in [1, 3, 64, 1000] {
            let found: Vec<_> =
                pieces("conf/app.ini", &bytes, size).into_iter().map(|f| (f.line, f.what, f.weight)).collect();
            assert_eq!(found, plain, "{size}");
        }
    }
    let long = format!("{}{}", "line of a log\n".repeat(20_000), armour("PRIVATE KEY", 8));
    let found = Scanner::new("etc/key.reg").whole(&little(&long));
    assert!(matches!(&found[..], [f] if f.line == 20_001), "{found:?}");
    assert_eq!(pieces("etc/key.reg", &little(&long), 9999), found);
    // Numbers of two bytes are no text.
    let numbers: Vec<u8> = (0..4000u16).flat_map(|n| (n * 7).to_le_bytes()).collect();
    assert_eq!(Scanner::new("a.bin").whole(&numbers), []);
}

#[test]
fn a_long_file_is_looked_at_to_its_end() {
    let mut text = "insert into t values (1, 'abc');\n".repeat((17 << 20) / 33);
    let lines = text.lines().count() as u32;
    text += &armour("PRIVATE KEY", 4);
    let whole = Scanner::new("db/dump.sql").whole(text.as_bytes());
    assert!(matches!(&whole[..], [f] if f.line == lines + 1), "{whole:?}");
    assert_eq!(pieces("db/dump.sql", text.as_bytes(), 4 << 20), whole);
}

#[test]
fn what_lies_across_two_pieces_is_found_once() {
    let text = format!("{}\nx = \"ghp_{}\"\n{}", "a b c\n".repeat(4000), drawn(36), "d e f\n".repeat(4000));
    let whole = Scanner::new("src/a").whole(text.as_bytes());
    assert_eq!(whole.len(), 1);
    let at = text.find("ghp_").expect("there");
    for cut in at - 3..at + 44 {
        let mut scanner = Scanner::new("src/a");
        scanner.push(&text.as_bytes()[..cut]);
        scanner.push(&text.as_bytes()[cut..]);
        assert_eq!(scanner.finish(), whole, "{cut}");
    }
}

#[test]
fn an_argument_of_its_own_behind_an_option_is_one() {
    for (file, text, line) in [
        ("compose.yaml", "command: [\"serve\", \"--db-password\", \"hunter2x\"]", 1),
        ("compose.yaml", "command:\n  - serve\n  - --db-password\n  - hunter2x\n", 4),
        ("compose.yaml", "command:\n  - \"--db-password\"\n  - \"hunter2x\"\n", 3),
        ("etc/run.json", "{\"args\": [\n  \"--api-key\",\n  \"hunter2x\"\n]}", 3),
        ("etc/a.service", "[Service]\nExecStart=/usr/bin/a --token hunter2x9 --verbose\n", 2),
        ("etc/a.service", "[Service]\nExecStart=/usr/bin/a --token 'hunter2x9'\n", 2),
    ] {
        let found = found(file, text);
        assert!(matches!(found[..], [(at, _, Weight::Refused)] if at == line), "{file}: {text}: {found:?}");
    }
    let lot = drawn(32);
    assert!(refused("bin/run", &format!("#!/bin/sh\nserve --secret {lot} &\n")));
    for none in [
        "command: [\"serve\", \"--db-password\", \"${DB_PASSWORD}\"]",
        "command: [\"serve\", \"--db-password\", \"--user\", \"anna2\"]",
        "command:\n  - --db-password\nother:\n  - hunter2x\n",
        "ExecStart=/usr/bin/a --token $TOKEN1 --verbose",
        "ExecStart=/usr/bin/a --token-file /run/token1",
        "help: the option --password takes one",
        "help: --password <password1>",
        "# serve --password hunter2x",
        "say: well-known-secret number2x",
    ] {
        assert_eq!(found("etc/a.yaml", none), [], "{none}");
    }
    assert_eq!(found("bin/run", "serve --password hunter2x\nadd(\"--token\", \"token_type2\")\n"), [], "a program");
}

#[test]
fn short_options_count_for_the_programs_that_take_them_so() {
    let found = |command: &[&str]| Finding::of_command("distro.toml", 7, command).len();
    assert_eq!(found(&["/usr/bin/mysql", "-uroot", "-phunter"]), 1);
    assert_eq!(found(&["/bin/sh", "-c", "exec mysqldump -u root -p'hunter2' shop"]), 1);
    assert_eq!(found(&["serve", "--password", "hunter"]), 1);
    for none in [
        &["/usr/bin/serve", "-phunter"][..],
        &["mysql", "-p", "shop"],
        &["mysql", "-p${secret.db}"],
        &["/bin/sh", "-c", "mysql shop; serve -port8080"],
        &["serve", "--password", "${secret.db}"],
        &["serve", "--password-file", "hunter"],
        &["serve", "--max-tokens", "4096"],
    ] {
        assert_eq!(found(none), 0, "{none:?}");
    }
}

/// A member as tar writes it.
fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(124, &format!("{:011o}", bytes.len()));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend(bytes);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

#[test]
fn what_stands_in_an_archive_that_is_not_compressed_is_found() {
    let key = armour("PRIVATE KEY", 40);
    let archive = [
        member("app/bin/run", &[0; 5000]),
        member("app/tls/server.key", key.as_bytes()),
        member("app/tests/server.key", key.as_bytes()),
        member("app/empty", b""),
        member("app/conf/app.ini", b"a = 1\npassword = hunter22\n"),
        vec![0; 1024],
    ]
    .concat();
    let whole = Scanner::new("dist/app.tar").whole(&archive);
    let seen: Vec<_> = whole.iter().map(|f| (f.file.as_str(), f.line, f.what, f.weight)).collect();
    let wanted = [
        ("dist/app.tar", 0, "a private key", Weight::Refused),
        ("dist/app.tar", 0, "a private key", Weight::Told),
        ("dist/app.tar", 0, "a literal password or token", Weight::Refused),
    ];
    assert_eq!(seen, wanted);
    assert!(whole[2].shown.ends_with("in app/conf/app.ini:2"), "{:?}", whole[2]);
    assert!(whole.iter().all(|f| !f.shown.contains("hunter")));
    for size in [1, 511, 512, 10_000] {
        assert_eq!(pieces("dist/app.tar", &archive, size), whole, "{size}");
    }
    let told = Scanner::new("tests/app.tar").whole(&archive);
    assert!(told.iter().all(|f| f.weight == Weight::Told), "{told:?}");
    // One in another is not looked into, and what is cut or damaged ends it.
    let nested = member("inner.tar", &archive);
    assert_eq!(Scanner::new("dist/app.tar").whole(&nested), []);
    for cut in (0..archive.len()).step_by(97) {
        let _ = Scanner::new("dist/app.tar").whole(&archive[..cut]);
    }
    let mut damaged = archive.clone();
    damaged[5632 + 124] = b'7';
    assert_eq!(Scanner::new("dist/app.tar").whole(&damaged), []);
    let huge = [member("a", b""), vec![0xff; 512], archive].concat();
    assert_eq!(Scanner::new("dist/app.tar").whole(&huge), []);
}
