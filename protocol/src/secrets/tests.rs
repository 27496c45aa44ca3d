//! What is a secret, and what is none. Nothing here is one: each is made of pieces, so that no look at this file finds it.

use super::*;

pub(super) mod evasion;
mod hidden;

fn found(file: &str, text: &str) -> Vec<(u32, &'static str, Weight)> {
    Scanner::new(file).whole(text.as_bytes()).into_iter().map(|f| (f.line, f.what, f.weight)).collect()
}
fn refused(file: &str, text: &str) -> bool {
    found(file, text).iter().any(|(_, _, weight)| *weight == Weight::Refused)
}
/// So many letters and digits that look drawn by lot.
fn drawn(length: usize) -> String {
    blake3::hash(b"drawn")
        .to_hex()
        .chars()
        .chain("Q7zR2mXw9KpL4vBt8NcY3sHd6JfG1uEa5".chars())
        .cycle()
        .take(length)
        .collect()
}
fn armour(kind: &str, lines: usize) -> String {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    format!("-----BEGIN {kind}-----\n{}-----END {kind}-----\n", format!("{line}\n").repeat(lines))
}

#[test]
fn needles_fit_one_pass() {
    assert!(NEEDLES.is_some());
    let all: Vec<&str> = form::FORMS.iter().map(|f| f.needle).chain(assigned::NEEDLES).collect();
    assert!(all.len() <= 64, "{}", all.len());
    for a in &all {
        assert!(all.iter().all(|b| a == b || !b.starts_with(a)), "{a} hides another");
    }
}

#[test]
fn keys_and_tokens_of_every_form_are_found_at_their_line() {
    let keys = [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
    ];
    for kind in keys {
        let text = format!("one\ntwo\n{}", armour(kind, 4));
        assert!(matches!(found("srv/data", &text)[..], [(3, _, Weight::Refused)]), "{kind}");
    }
    let tokens = [
        ("AKIA", "Q7ZR2MXW9KPL4VBT".to_owned()),
        ("ghp_", drawn(36)),
        ("github_pat_", drawn(82)),
        ("glpat-", drawn(20)),
        ("xoxb-", format!("123456789012-{}", drawn(24))),
        ("sk_live_", drawn(24)),
        ("AIza", drawn(35)),
        ("npm_", drawn(36)),
        ("pypi-AgE", drawn(80)),
        ("sk-ant-", drawn(90)),
        ("hvs.", drawn(24)),
        ("AGE-SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE".into()),
        ("AccountKey=", drawn(86) + "=="),
    ];
    for (prefix, body) in tokens {
        for file in ["bin/run", "tests/a.py", "README.md", "conf/a.ini"] {
            let text = format!("a\nb = \"{prefix}{body}\"\n");
            assert!(matches!(found(file, &text)[..], [(2, _, Weight::Refused)]), "{file}: {prefix}");
        }
    }
    let web = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.{}", drawn(43));
    assert!(matches!(found("a.js", &web)[..], [(1, "a signed web token", Weight::Refused)]));
    let minisign = format!("untrusted comment: minisign encrypted secret key\nRWRTY0Iy{}\n", drawn(200));
    assert!(matches!(found("release.key", &minisign)[..], [(2, "a minisign secret key", Weight::Refused)]));
    let putty = format!("PuTTY-User-Key-File-3: ssh-ed25519\nPublic-Lines: 2\n{0}\nPrivate-Lines: 1\n{0}\n", drawn(64));
    assert!(refused("key.ppk", &putty));
    let json = armour("PRIVATE KEY", 4).replace('\n', "\\n");
    assert!(refused("service.json", &format!("{{\"private_key\": \"{json}\"}}")));
}

#[test]
fn what_only_speaks_of_a_form_is_none() {
    let all = [
        "if line.startswith(\"-----BEGIN PRIVATE KEY-----\"):".to_owned(),
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----\n".into(),
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQ...\n-----END RSA PRIVATE KEY-----\n".into(),
        "-----BEGIN PRIVATE KEY-----\n<your key here>\n-----END PRIVATE KEY-----\n".into(),
        armour("PUBLIC KEY", 4),
        armour("CERTIFICATE", 4),
        format!("AKIA{}", "IOSFODNN7EXAMPLE"),
        format!("ghp_{}", "x".repeat(36)),
        "ghp_*** and xoxb-your-token-goes-here-0123456789".into(),
        "npm_config_registry_and_more_of_the_same_kind".into(),
        format!("my_npm_{}", drawn(36)),
        "eyJhbGciOiJIUzI1NiJ9.e30.".into(),
    ];
    for text in all {
        assert_eq!(found("lib/a", &text), [], "{text}");
    }
}

#[test]
fn tests_and_documents_may_hold_keys_and_are_told_of() {
    for file in ["lib/tests/key.pem", "doc/tls.md", "t/server.key", "share/doc/x/ssl.txt"] {
        assert!(matches!(found(file, &armour("PRIVATE KEY", 4))[..], [(1, _, Weight::Told)]), "{file}");
        assert_eq!(found(file, "password = \"hunter22\"\n"), [], "{file}");
    }
}

#[test]
fn values_are_judged_by_the_kind_of_file_they_stand_in() {
    let own = [".env", "a/.pypirc", "wp-config.php", "prod.tfvars"];
    for file in own {
        assert!(refused(file, "DB_PASSWORD=hunter\n"), "{file}");
    }
    for line in [
        "password = hunter2",
        "db_password: 'hunter2'",
        "  \"apiKey\": \"q8w7e6r5\",",
        "<password>hunter2</password>",
        "url = postgres://app:hunter2@db.internal/app",
    ] {
        let settings = found("conf/a.yaml", line);
        assert!(matches!(settings[..], [(1, _, Weight::Refused)]), "{line}: {settings:?}");
    }
    let lot = drawn(32);
    for line in [
        format!("$wgSecretKey = \"{lot}\";"),
        format!("define('AUTH_SECRET', '{lot}');"),
        format!("const client_secret = `{lot}`"),
        format!("'password' => '{lot}',"),
    ] {
        assert!(refused("src/a.php", &line), "{line}");
    }
}

#[test]
fn placeholders_variables_terms_and_prose_are_none() {
    let lines = [
        "password =",
        "password = \"\"",
        "password = ${secret.db}",
        "password = \"{{ db_password }}\"",
        "password = $PASSWORD",
        "password = <password>",
        "password = changeme",
        "password = 'your-password-1'",
        "password = xxxxxxxx",
        "password = ********",
        "password = *",
        "password = !",
        "passwd: files systemd",
        "password = Passwort eingeben",
        "password_encryption = 'scram-sha-256'",
        "password = scram-sha-256",
        "token = oauth2",
        "token: null",
        "secret: true",
        "# password = hunter2",
        "; password = hunter2",
        "input_password = secret",
        "output_password = secret",
        "challengePassword = A challenge password",
        "password_file = /run/secrets/db1",
        "password = /run/secrets/db1",
        "password = getpass()",
        "PublicKeyToken=b77a5c561934e089",
        "next_token = q8w7e6r5t4",
        "url = postgres://user:password@localhost/db",
        "url = http://user:s3cr3t99@example.com/",
        "url = https://host/path?x=1@2",
        "if password == 'hunter2'",
        "token::Kind2",
    ];
    for line in lines {
        for file in ["etc/a.conf", "lib/a.py"] {
            assert_eq!(found(file, line), [], "{file}: {line}");
        }
    }
    let code = [
        "password = 'hunter2'",
        "token = lexer.next()",
        "secret: \"Geheimnis2 eingeben\"",
        "apiKey: 'sha256WithEncryption'",
    ];
    for line in code {
        assert_eq!(found("lib/a.py", line), [], "{line}");
    }
    assert_eq!(found("po/de.po", &format!("password = \"{}\"", drawn(30))), []);
}

#[test]
fn a_finding_never_holds_the_secret() {
    for length in [4, 8, 15, 16, 40] {
        let secret: String = drawn(length);
        let finding = Finding::of_value("distro.toml", 3, &secret).expect("a literal");
        let shown = format!("{finding:?} {}", finding.describe());
        assert!(!shown.contains(&secret), "{shown}");
        let start: String = secret.chars().take((length / 4).min(4)).collect();
        assert!(finding.shown.contains(&format!("\"{start}…\", {length} characters")), "{shown}");
        let more: String = secret.chars().take((length / 4).min(4) + 1).collect();
        assert!(!finding.shown.contains(&more), "{shown}");
    }
}

#[test]
fn pieces_of_any_size_find_what_the_whole_does() {
    let mut text = "fn a() {}\n".repeat(3000);
    text += &format!("x = \"ghp_{}\"\n", drawn(36));
    text += &"let b = 3;\n".repeat(4000);
    text += &armour("PRIVATE KEY", 20);
    text += &"c\n".repeat(20_000);
    text += &format!("api_key = '{}'\n", drawn(40));
    let whole = Scanner::new("src/a").whole(text.as_bytes());
    assert_eq!(whole.len(), 3, "{whole:?}");
    for size in [1000, 7919, 65_536, 200_000] {
        let mut scanner = Scanner::new("src/a");
        text.as_bytes().chunks(size).for_each(|piece| scanner.push(piece));
        assert_eq!(scanner.finish(), whole, "{size}");
    }
}

#[test]
fn binary_files_are_passed_over_unless_they_are_keys() {
    let mut program = b"\x7fELF\0\0".to_vec();
    program.extend(armour("PRIVATE KEY", 4).into_bytes());
    assert_eq!(Scanner::new("bin/a").whole(&program), []);
    // An Ed25519 key as PKCS#8, and a structure like it that is none.
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend(1..=32);
    assert_eq!(Scanner::new("a.der").whole(&der).len(), 1);
    der[11] = 0x71;
    assert_eq!(Scanner::new("a.der").whole(&der), []);
    let store = |tag: u8| [&b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0"[..], &[tag], &[7; 40]].concat();
    assert_eq!(Scanner::new("a.jks").whole(&store(1)).len(), 1);
    assert_eq!(Scanner::new("cacerts").whole(&store(2)), [], "certificates are for everybody");
}

#[test]
fn key_files_of_softservice_are_known_by_their_two_halves() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let text = format!("{}\n{}\n", hex(&key.to_bytes()), hex(&key.verifying_key().to_bytes()));
    assert_eq!(found("site/release.key", &text), [(0, "a key file of softservice", Weight::Refused)]);
    let sums = format!("{}\n{}\n", hex(&[7; 32]), hex(&[8; 32]));
    assert_eq!(found("site/sums", &sums), [], "two hashes");
    assert!(refused("home/softservices/db/secrets/admin", "anything"));
}

#[test]
fn what_is_allowed_is_one_secret_in_one_file() {
    let find = |file: &str, text: &str| Scanner::new(file).whole(text.as_bytes()).remove(0);
    let first = find("a.ini", "password = hunter22\n");
    let mut allowed = Allowed::read("").expect("empty");
    allowed.add(&first);
    let allowed = Allowed::read(&allowed.write()).expect("what it wrote");
    assert!(allowed.allows(&find("a.ini", "\n\n  password = hunter22\n")), "lines move");
    assert!(!allowed.allows(&find("a.ini", "password = hunter23\n")), "another one in its place");
    assert!(!allowed.allows(&find("b.ini", "password = hunter22\n")), "another file");
    assert_eq!(allowed.idle(|_| false), [3]);
    assert_eq!(Allowed::read(&allowed.write()).expect("again"), allowed);
    assert!(!allowed.write().contains("hunter"));
    for bad in ["x", "password", "0123", &format!("{}Z", "0".repeat(31))] {
        assert!(
            matches!(Allowed::read(&format!("# fine\n{bad} more\n")), Err(AllowError::Id { line: 2, .. })),
            "{bad}"
        );
    }
}

#[test]
fn a_file_full_of_secrets_is_bounded_and_refused_whatever_is_allowed() {
    let text: String = (0..FINDINGS + 50).map(|n| format!("password = hunter{n}\n")).collect();
    let found = Scanner::new("a.ini").whole(text.as_bytes());
    assert_eq!(found.len(), FINDINGS + 1);
    assert_eq!(found.last().map(|f| f.what), Some("more likely secrets than can be listed"));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_looked_at_without_harm(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        seeds in proptest::collection::vec(0usize..61, 0..6),
        cut in 1usize..300,
    ) {
        let needles: Vec<&str> = form::FORMS.iter().map(|f| f.needle).chain(assigned::NEEDLES).collect();
        let mut text = b"-----BEGIN ".to_vec();
        for seed in seeds {
            text.extend(needles[seed % needles.len()].bytes());
            text.extend(&bytes);
        }
        for file in ["a.ini", "a", ".env", "t/a"] {
            let whole = Scanner::new(file).whole(&text);
            let mut pieces = Scanner::new(file);
            text.chunks(cut).for_each(|piece| pieces.push(piece));
            let pieces = pieces.finish();
            proptest::prop_assert!(whole.iter().all(|f| pieces.contains(f)), "{whole:?} {pieces:?}");
        }
    }
}
