//! `docs/security.md`: every row of the attack table is there, says what proves it or what is open, and names tests that
//! exist; so do the tables of what others thought of and of keys that are lost. The list of defences that are tried without
//! fits the code. And one rule that a row rests on: only the printer prints.

use crate::sources::rust_files;
use softservice_tests::{
    defences::{Defence, table},
    sources::repository,
};
use std::{collections::BTreeSet, fs};

const FOLDERS: [&str; 7] = ["protocol", "store", "node", "cli", "simulations", "tests", "examples"];

/// Names of functions that a test attribute stands above.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in FOLDERS.into_iter().flat_map(rust_files) {
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some((head, rest)) = line.split_once("fn ")
                && marked
                && (head.is_empty() || head == "async ")
            {
                let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                found.insert(name);
                marked = false;
            } else if !line.starts_with("#[") && !line.starts_with("//") {
                marked = false;
            }
        }
    }
    found
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}
fn document() -> String {
    fs::read_to_string(repository().join("docs/security.md")).expect("the table of attacks")
}
/// Cells of the rows of the tables under a heading.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section =
        text.split("\n## ").find(|s| s.starts_with(heading)).unwrap_or_else(|| panic!("no section {heading}"));
    let lines = section.lines().filter(|l| l.starts_with('|')).skip(2);
    lines.map(|l| l.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn every_attack_has_a_proof_or_says_what_is_open() {
    let (text, tests) = (document(), tests());
    assert!(tests.len() > 500, "{} tests were found", tests.len());
    let attacks = rows(&text, "1. ");
    let numbers: Vec<usize> = attacks.iter().map(|row| row[0].parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=32).collect::<Vec<_>>());
    for row in &attacks {
        let [_, attack, defence, place, proven, open] = row[..] else { panic!("six cells: {row:?}") };
        assert!(!attack.is_empty() && !defence.is_empty() && !place.is_empty(), "{row:?}");
        assert!(!quoted(proven).is_empty() || !open.is_empty(), "{attack}: neither proven nor open");
    }
    let proofs = attacks.iter().map(|row| row[4]);
    let vectors = rows(&text, "2. ");
    let scenarios = rows(&text, "3. ");
    assert!(vectors.len() >= 5 && scenarios.len() >= 20);
    let cases: usize = scenarios.iter().map(|row| row[1].parse::<usize>().expect("a number of cases")).sum();
    assert!(text.contains(&format!("{cases} cases in all")), "the rows of section 3 have {cases} cases");
    let played = |row: &&Vec<&str>| !row[2].starts_with('`') && !row[2].starts_with("does not apply: ");
    assert_eq!(scenarios.iter().find(played), None, "neither played nor said why not");
    let lost = rows(&text, "5. ");
    assert!(lost.len() >= 8 && lost.iter().all(|row| !quoted(row[3]).is_empty()), "each loss of a key is played");
    let named = proofs.chain(vectors.iter().map(|row| row[2])).chain(scenarios.iter().map(|row| row[2]));
    let named = named.chain(lost.iter().map(|row| row[3]));
    for name in named.flat_map(quoted) {
        assert!(tests.contains(name), "docs/security.md names {name}, and there is no such test");
    }
}

#[test]
fn every_defence_that_is_tried_without_stands_in_the_code_once_and_in_the_table() {
    let (defences, mut tests) = (Defence::all(), tests());
    // Tests that a macro makes of names: one for each transcript, and the contract of every kind of store.
    for (_, text) in FOLDERS.into_iter().flat_map(rust_files) {
        let lists = text.split("transcripts!(").skip(1).filter_map(|rest| rest.split(')').next());
        tests.extend(lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()));
        tests.extend(text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once("(make:")?.0.to_owned())));
    }
    for defence in &defences {
        defence.disabled(&repository()).expect("tests/defences.toml fits the code");
        assert!(!defence.red.is_empty() && defence.old != defence.new, "{}", defence.what);
        for name in &defence.red {
            assert!(tests.contains(name), "tests/defences.toml names {name}, and there is no such test");
        }
    }
    assert!(document().contains(&table(&defences)), "the table of section 4 is what `defences --table` prints");
}

#[test]
fn nobody_but_the_printer_prints() {
    // Processes of their own, which speak of themselves: a keeper, a file server, a program in its sandbox.
    const OWN: [&str; 3] = ["node/src/device/keeper/", "node/src/device/static_server.rs", "node/src/sandbox/once.rs"];
    // The printer, the log, help and usage, and a story told by the printer's own function.
    const PRINTERS: [&str; 4] = ["cli/src/ui.rs", "cli/src/logs.rs", "cli/src/main.rs", "cli/src/commands/mod.rs"];
    for (path, text) in ["protocol/src", "store/src", "node/src", "cli/src"].into_iter().flat_map(rust_files) {
        if OWN.iter().chain(&PRINTERS).any(|p| path.starts_with(p)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let prints = ["print!(", "println!(", "io::stdout()", "io::stderr()"].iter().any(|w| line.contains(w));
            assert!(
                !prints || line.starts_with("//") || line.contains("SKIPPED") || line.contains("is_terminal"),
                "{path}:{}: {line}",
                number + 1
            );
        }
    }
}
