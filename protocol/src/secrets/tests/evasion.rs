//! What would slip through: secrets with something behind them, files with a grammar of their own, names of folders, and files
//! made to cost a look.

use super::*;

#[test]
fn what_stands_behind_a_value_does_not_hide_it() {
    for line in [
        "Environment=\"DB_PASSWORD=hunter2x9\"",
        "Environment=DB_PASSWORD=hunter2x9 LANG=C",
        "- \"POSTGRES_PASSWORD=hunter2x9\"",
        "primary_conninfo = 'host=a user=r password=hunter2x9 sslmode=require'",
        "url = \"jdbc:postgresql://h/d?user=a&password=hunter2x9\"",
        "url = jdbc:postgresql://h/d?password=hunter2x9&user=a",
        "run: mysql --password=hunter2x9 shop",
        "export DB_PASSWORD=hunter2x9; run",
        "db: { user: a, password: hunter2x9 }",
        "say: \"password: hunter2x9\"",
    ] {
        for file in ["etc/a.conf", "a/.env"] {
            assert!(matches!(found(file, line)[..], [(1, _, Weight::Refused)]), "{file}: {line}");
        }
    }
    let ends = |line: &str| Scanner::new("a.conf").whole(line.as_bytes()).remove(0).shown;
    assert!(ends("url = h?password=hunter2x9&user=anna").contains("9 characters"), "not what belongs to others");
    for prose in [
        "password: Give the one from step1 again",
        "password = something2 that you know",
        "password: doesn't match rule2",
        "url=h?password=&user=anna77",
        "ExecStart=/bin/a --password=${PW} --x",
    ] {
        assert_eq!(found("etc/a.conf", prose), [], "{prose}");
    }
}

#[test]
fn files_that_hold_credentials_are_read_by_their_own_grammar() {
    for (file, text, line) in [
        ("a/.netrc", "machine db.internal login anna password hunter\n", 1),
        ("_netrc", "machine db\n  login anna\n  password\thunter\n", 3),
        (".netrc", "machine db password \"hunter\"", 1),
        (".pgpass", "# host:port:db:user:password\ndb:5432:shop:anna:hunter\n", 2),
        (".pgpass", "a\\:b:5432:*:anna:hun\\:ter\n", 1),
        (".dockercfg", "{\"https://r.internal\": {\"auth\": \"YW5uYTpodW50ZXI=\"}}", 1),
        ("root/.docker/config.json", "{\"auths\": {\"r\": {\"auth\": \"YW5uYTpodW50ZXI=\"}}}", 1),
        (".npmrc", "//registry.internal/:_authToken=q8w7e6r5t4\n", 1),
        (".npmrc", "registry=a\n_auth=YW5uYTpodW50ZXI=\n", 2),
        (".npmrc", "//registry.internal/:_password=aHVudGVy\n", 1),
    ] {
        let found = found(file, text);
        assert!(matches!(found[..], [(at, _, Weight::Refused)] if at == line), "{file}: {text}: {found:?}");
        assert!(!Scanner::new(file).whole(text.as_bytes()).remove(0).shown.contains("hun"), "{text}");
    }
    for (file, text) in [
        (".netrc", "machine db login anna\n# password hunter\n"),
        (".pgpass", "db:5432:shop:anna:*\ndb:5432:shop:anna\n"),
        (".npmrc", "//registry.internal/:_authToken=${NPM_TOKEN}\nauth-type=legacy\n; _auth=YW5uYTpodW50ZXI=\n"),
        (".docker/config.json", "{\"auths\": {}, \"credsStore\": \"pass\"}"),
        ("etc/a.json", "{\"auth\": \"YW5uYTpodW50ZXI=\"}"),
    ] {
        assert_eq!(found(file, text), [], "{file}: {text}");
    }
}

#[test]
fn that_there_are_more_is_never_let_through() {
    let text: String = (0..FINDINGS + 50).map(|n| format!("password = hunter{n}\n")).collect();
    let more = Scanner::new("a.ini").whole(text.as_bytes()).pop().expect("the last");
    let mut allowed = Allowed::read("").expect("empty");
    allowed.add(&more);
    assert!(!allowed.allows(&more));
    let by_hand = Allowed::read(&format!("{}  a.ini:0\n", more.id)).expect("an id");
    assert!(!by_hand.allows(&more));
}

#[test]
fn what_an_author_calls_a_tree_says_nothing_of_what_is_in_it() {
    for tree in ["t", "help", "demo", "messages", "doc", "packages/doc/"] {
        let below = |path: &str| Place::below([tree, "other"], &format!("{}/{path}", tree.trim_matches('/')));
        assert_eq!(below("etc/app.ini"), Place::Settings, "{tree}");
        assert_eq!(below("run"), Place::Program, "{tree}");
        assert_eq!(below("tests/app.ini"), Place::Specimen, "{tree}");
        assert_eq!(below("distro.toml"), Place::Settings, "{tree}: no definition, and its names count");
    }
    assert_eq!(Place::below(["t", "t/doc"], "t/doc/a.ini"), Place::Settings, "the innermost");
    assert_eq!(Place::below(["t"], "tests/a.ini"), Place::Specimen, "no tree");
    assert_eq!(Place::below(["site"], "distro.toml"), Place::Definition);
    assert_eq!(Place::below(["", "/"], "doc/a.ini"), Place::Specimen);
}

#[test]
fn a_name_alone_lets_no_key_through() {
    let putty = format!("PuTTY-User-Key-File-3: ssh-ed25519\nPublic-Lines: 2\n{0}\nPrivate-Lines: 1\n{0}\n", drawn(64));
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend(1..=32);
    for file in ["etc/server.txt", "etc/key.default", "etc/test_key", "etc/key.1", "README"] {
        for key in [armour("PRIVATE KEY", 4).into_bytes(), putty.clone().into_bytes(), der.clone()] {
            let found = Scanner::new(file).whole(&key);
            assert!(matches!(&found[..], [f] if f.weight == Weight::Refused), "{file}: {found:?}");
        }
        assert_eq!(found(file, "password = \"hunter22\"\n"), [], "{file}");
    }
    let web = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.{}", drawn(43));
    assert!(matches!(found("lib/tokens.md", &web)[..], [(1, _, Weight::Told)]));
}

thread_local! {
    pub(in crate::secrets) static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[test]
fn no_bytes_cost_more_than_a_bounded_look_each() {
    for piece in [
        "-----BEGIN PRIVATE KEY-----:\n",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\n",
        "PuTTY-User-Key-File-",
        "xRWRTY0Iy",
        "RWRTY0Iy",
        "AKIA",
        "-ghp_",
        "-ghp_abcdef123456-",
        "-eyJhbGci",
        "T3BlbkFJ",
        "LS0tLS1CRUdJTi",
        "LS0tLS1CRUdJTi BQUklWQVRFIEtFWS0tLS0t",
        "0tLS0tQkVHSU4",
        "tLS0tLUJFR0lO LS0tLS1CRUdJTi 0tLS0tQkVHSU4",
        "\"--password\", \"",
        "- --token\n",
    ] {
        let work = |length: usize| {
            let text = piece.repeat(length / piece.len());
            WORK.set(0);
            Scanner::new("bin/a").whole(text.as_bytes());
            WORK.get()
        };
        let (small, large) = (work(32 << 10), work(128 << 10));
        assert!(large < 300 * (128 << 10), "{piece:?}: {large}");
        assert!(large <= 5 * small + 4096, "{piece:?}: {small}, {large}: it grows with the file");
    }
}

#[test]
fn a_key_behind_one_that_is_none_is_found() {
    let text = format!("-----BEGIN PRIVATE KEY-----:\n{}", armour("PRIVATE KEY", 4));
    assert!(matches!(found("a", &text)[..], [(2, _, Weight::Refused)]));
}
