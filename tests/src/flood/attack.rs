//! Attackers, each a process of its own. Invariant: no two share an address, and none has one of an honest device.

use super::{Attacker, Orders, Stage};
use crate::process::{binary, bounded, newest_source};
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// What an attacker does: its name in `node/examples/mallory`, and in words.
pub type Kind = (&'static str, &'static str);

/// All of them.
pub const KINDS: [Kind; 9] = [
    ("strangers", "valid-looking gossip of publishers that nobody follows"),
    ("forgeries", "gossip in the name of the publisher, with signatures that do not hold"),
    ("garbage", "gossip that is nothing at all"),
    ("repeats", "one and the same gossip, as often as it goes"),
    ("frames", "nonsense as control messages"),
    ("content", "requests for content that the victim holds, over and over"),
    ("handshakes", "handshakes under ever new names, and nothing more"),
    ("identities", "nonsense under ever new names"),
    ("knocks", "connections that never begin a handshake"),
];

/// The attacker's program, built with the same features as everything else if it is not there or older than its sources.
pub fn mallory() -> PathBuf {
    let program = binary().with_file_name("examples").join("mallory");
    let built = program.metadata().and_then(|m| m.modified()).ok();
    let folders = ["protocol/src", "node/src/net/transport", "node/examples", "Cargo.lock"];
    if built.is_some_and(|built| folders.iter().all(|f| newest_source(f).is_none_or(|s| s <= built))) {
        return program;
    }
    let profile = binary().parent().expect("a program stands in a folder");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--example", "mallory", "--target-dir"]);
    cargo.arg(profile.parent().expect("a profile's folder stands in target"));
    // What was resolved for all packages is there already, in tests; a program's own build has what it needs.
    if profile.ends_with("release") {
        cargo.args(["--release", "--package", "softservice-node", "--package", "softservice"]);
    } else {
        cargo.arg("--workspace");
    }
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let status = cargo.args(["--manifest-path", manifest]).status().expect("cargo runs");
    assert!(status.success(), "the attacker does not build");
    program
}

/// Starts `each` of every kind.
pub(super) fn start(mallory: &PathBuf, stage: &Stage, orders: &Orders) -> Vec<(Kind, String, Child)> {
    let address = stage.victim.ready["addresses"][0].as_str().expect("the victim listens");
    let victim = address.split("/p2p/").next().unwrap_or(address);
    let mut all = Vec::new();
    for (number, kind) in (1_u8..).zip(KINDS) {
        for other in 1..=orders.each {
            let from = format!("127.66.{number}.{other}");
            let seconds = orders.flood.as_secs().to_string();
            let mut command = Command::new(mallory);
            command.args([kind.0, &from, victim, &stage.publisher, &seconds]).arg(&stage.chunks);
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            all.push((kind, from, child.expect("an attacker starts")));
        }
    }
    all
}

/// Waits for them, and for what they say.
pub(super) fn end(attackers: Vec<(Kind, String, Child)>) -> Vec<Attacker> {
    let ended = attackers.into_iter().map(|(kind, from, child)| {
        let output = bounded(child, kind.0);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said =
            serde_json::from_str(&said).unwrap_or_else(|e| panic!("{} says what became of it: {e}: {said:?}", kind.0));
        Attacker { kind: kind.0.to_owned(), from, said }
    });
    ended.collect()
}
