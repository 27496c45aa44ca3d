//! Whole distros put through all that owners do with them, the restore drill among it.

use serde_json::Value;
use softservice_tests::{
    Node, World,
    debian::examples,
    sources::{Guestbook, publish, text},
};
use std::path::Path;

/// The names of rows, after each of them has passed.
fn rows(answer: &Value) -> Vec<&str> {
    let rows = answer["matrix"].as_array().unwrap_or_else(|| panic!("no matrix: {answer}"));
    for row in rows {
        assert_eq!(row["ok"], true, "{row}");
        eprintln!("{}  {:.1} s  {}", row["name"], row["seconds"].as_f64().unwrap_or(0.0), row["output"]);
    }
    rows.iter().filter_map(|r| r["name"].as_str()).collect()
}

/// The drill of a folder; its answer.
fn drilled(node: &Node, folder: &Path) -> Value {
    let answer = node.ok(&["test", text(folder), "--restore"]);
    assert_eq!(answer["failed"], 0, "{answer}");
    let steps: Vec<&str> =
        answer["tests"].as_array().expect("tests").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(steps.contains(&"backup") && steps.contains(&"restore"), "{answer}");
    eprintln!("drill: {}", answer["restore"]);
    answer
}

#[test]
fn the_guestbook_stands_all_that_owners_do_with_it() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let ann = world.node("ann");
    for folder in [&book.data, &book.web, &book.whole] {
        publish(&ann, folder);
    }
    book.set_version(2);
    publish(&ann, &book.web);
    let answer = ann.ok(&["test", text(&book.whole), "--matrix"]);
    let all = [
        "install",
        "reinstall",
        "remove",
        "upgrade from 1.0.0",
        "backup and restore",
        "two instances",
        "port taken",
        "parameter change",
        "crash during switch",
    ];
    assert_eq!(rows(&answer), all, "{answer}");
    let answer = drilled(&ann, &book.whole);
    assert_eq!(answer["restore"]["volumes"][0]["same"], true, "{answer}");
    // Nobody signed it, which the book itself can tell from one whose entries are gone.
    assert_eq!(answer["restore"]["unproven"], serde_json::json!([]), "{answer}");
}

#[test]
fn distros_out_of_debians_packages_stand_it_too() {
    let Some(examples) = examples(env!("CARGO_TARGET_TMPDIR")) else { return };
    let world = World::new();
    let ann = world.node("ann");
    let answer = ann.ok(&["test", text(&examples.join("nginx-site")), "--matrix", "--releases", "0"]);
    assert_eq!(rows(&answer).len(), 8, "{answer}");
    // Its data goes through its own program, and its own test looks at it afterwards.
    let answer = drilled(&ann, &examples.join("postgresql"));
    assert_eq!(answer["restore"]["hooks"], serde_json::json!(["data"]), "{answer}");
    assert_eq!(answer["restore"]["unproven"], serde_json::json!([]), "{answer}");
}
