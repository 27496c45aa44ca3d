//! What a sandbox adds to the start of a service: from the wish to the program's first look at the clock, beside fork and
//! exec of the same program. The node's own binary measures itself, as it is the one that starts services.

use super::figures::Figure;
use crate::process::binary;
use std::{process::Command, time::Duration};

/// Starts of each kind, in turns.
pub(super) fn measure(rounds: usize) -> Vec<Figure> {
    let task = serde_json::json!({ "task": "cost", "rounds": rounds }).to_string();
    let done = Command::new(binary()).args(["keeper", &task]).output().expect("the binary runs");
    let document: serde_json::Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&done.stderr)));
    let seconds = |key: &str| -> Vec<f64> {
        let list = document[key].as_array().expect("a list of starts");
        list.iter().map(|s| s.as_f64().expect("seconds")).collect()
    };
    let (plain, held) = (seconds("plain"), seconds("held"));
    let more = held.iter().zip(&plain).map(|(held, plain)| (held - plain) * 1000.0).collect();
    let times = |all: &[f64]| all.iter().map(|s| Duration::from_secs_f64(*s)).collect::<Vec<_>>();
    vec![
        Figure::times("start of a program: fork and exec", "", &times(&plain)),
        Figure::times("start of a program in a sandbox", "", &times(&held)),
        Figure::differences("what the sandbox adds", "median ≤ 30 ms", more),
    ]
}
