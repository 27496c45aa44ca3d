//! Arrows: `protocol <- store <- node <- cli`; `simulations -> protocol, store`; and two drivers only.

use crate::sources::rust_files;
use std::{collections::BTreeSet, fs};

/// The crates of this workspace that a member's manifest names, development aside.
fn arrows(member: &str) -> BTreeSet<String> {
    let path = softservice_tests::sources::repository().join(member).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(path).expect("a member has a manifest").parse().expect("it is TOML");
    let named = manifest["dependencies"].as_table().expect("it has dependencies").keys();
    named.filter_map(|k| k.strip_prefix("softservice-")).map(str::to_owned).collect()
}

#[test]
fn arrows_between_crates_point_down() {
    let expect = |member: &str, allowed: &[&str]| {
        let allowed: BTreeSet<String> = allowed.iter().map(|s| (*s).to_owned()).collect();
        let found = arrows(member);
        assert!(found.is_subset(&allowed), "{member} may use {allowed:?}, it names {found:?}");
    };
    expect("protocol", &[]);
    expect("store", &["protocol"]);
    expect("node", &["protocol", "store"]);
    expect("cli", &["protocol", "store", "node"]);
    expect("simulations", &["protocol", "store"]);
}

#[test]
fn protocol_does_no_io() {
    let manifest = softservice_tests::sources::repository().join("protocol/Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).expect("it is there").parse().expect("it is TOML");
    for refused in ["tokio", "libp2p", "sled", "rustix", "axum", "hyper", "getrandom", "tempfile"] {
        assert!(manifest["dependencies"].get(refused).is_none(), "protocol depends on {refused}");
    }
    for (path, text) in rust_files("protocol/src") {
        for refused in
            ["std::fs", "std::net", "std::process", "std::thread", "Instant::now", "SystemTime", "HashMap", "HashSet"]
        {
            let used = text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(refused));
            assert!(!used, "{path} uses {refused}");
        }
    }
}

#[test]
fn two_drivers_and_nobody_else_call_the_core() {
    let allowed = |path: &str| {
        path.starts_with("protocol/")
            || path == "node/src/driver.rs"
            || path.starts_with("node/src/driver/")
            || path == "simulations/src/world.rs"
            || path.starts_with("simulations/src/world/")
    };
    let mut drivers = 0;
    for folder in ["protocol", "store", "node", "cli", "simulations", "tests"] {
        for (path, text) in rust_files(folder) {
            let calls =
                text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(concat!("Core", "::new(")));
            if calls && !path.starts_with("protocol/") {
                drivers += 1;
            }
            assert!(!calls || allowed(&path), "{path} drives the core");
        }
    }
    assert_eq!(drivers, 2, "the node and the simulator drive the same core");
}

#[test]
fn device_knows_no_network_library() {
    for (path, text) in rust_files("node/src/device") {
        let named = text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains("libp2p"));
        assert!(!named, "{path} names libp2p");
    }
}

#[test]
fn sled_and_bincode_have_one_door_each() {
    for folder in ["protocol/src", "store/src", "node/src", "cli/src", "simulations/src"] {
        for (path, text) in rust_files(folder) {
            let names = |word: &str| text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word));
            assert!(!names("sled::") || path.starts_with("store/src/index"), "{path} touches sled");
            assert!(!names("bincode::") || path == "protocol/src/codec.rs", "{path} touches bincode");
        }
    }
}
