//! The link that other measurements trust: ping sees exactly the losses that the relay counts, and no answer before its time.

use softservice_tests::root_or_skip;
use std::{path::Path, process::Command};

/// Requests, one way.
const ASKED: u64 = 400;
/// One way, in milliseconds.
const DELAY: f64 = 15.0;

fn ready(what: &str) -> bool {
    let ping = Command::new("ping").arg("-V").output().is_ok_and(|o| o.status.success());
    if !Path::new("/dev/net/tun").exists() || !ping {
        eprintln!("SKIPPED, needs /dev/net/tun and ping: {what}");
        return false;
    }
    root_or_skip(what)
}

/// Least round trip in milliseconds, answers, and what became of the frames.
fn asked(seed: u64, loss: &str) -> (f64, u64, serde_json::Value) {
    let ping = format!("$LINK_B ping -q -c {ASKED} -i 0.002 -W 10 $LINK_ADDRESS_A");
    let output = Command::new(env!("CARGO_BIN_EXE_link"))
        .args([
            "--counts",
            "--rate",
            "1000",
            "--delay",
            &DELAY.to_string(),
            "--loss",
            loss,
            "--seed",
            &seed.to_string(),
        ])
        .args(["--", "sh", "-c", &ping])
        .output()
        .expect("link runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let number = |text: Option<&str>| text.and_then(|t| t.trim().parse::<f64>().ok());
    let least = number(said.split("min/avg/max/mdev = ").nth(1).and_then(|rest| rest.split('/').next()));
    let answers = number(said.split(" received").next().and_then(|before| before.rsplit(',').next()));
    let counts = complaint.lines().find_map(|line| serde_json::from_str(line).ok());
    match (least, answers, counts) {
        (Some(least), Some(answers), Some(counts)) => (least, answers as u64, counts),
        _ => panic!("link and ping said: {said}{complaint}"),
    }
}

#[test]
fn a_link_delays_and_loses_as_told() {
    if !ready("a link delays and loses as told") {
        return;
    }
    let (least, answers, counts) = asked(5, "10");
    assert!(least >= 2.0 * DELAY, "an answer after {least} ms");
    let (there, back) = (&counts["ba"], &counts["ab"]);
    let count = |way: &serde_json::Value, what: &str| way[what].as_u64().expect("a count");
    assert_eq!(count(there, "came"), ASKED, "{counts}");
    assert_eq!(count(there, "came"), count(there, "arrived") + count(there, "lost"), "{counts}");
    assert_eq!(count(there, "arrived"), count(back, "came"), "{counts}");
    assert_eq!(count(back, "arrived"), answers, "{counts}");
    assert!(count(there, "lost") > 0 && count(back, "lost") > 0, "{counts}");

    // The same frames meet the same fate again, and another one under another seed.
    let (_, again, same) = asked(5, "10");
    assert_eq!((again, &same["ba"]["lost"]), (answers, &counts["ba"]["lost"]));
    let (_, all, none) = asked(6, "0");
    assert_eq!((all, none["ba"]["lost"].as_u64()), (ASKED, Some(0)), "{none}");
}
