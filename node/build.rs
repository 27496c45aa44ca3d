//! Tells the node when it was built: no clock of a device that runs it can honestly show less. `SOURCE_DATE_EPOCH`, as every
//! reproducible build sets it, goes before the builder's clock.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.trim().parse::<u64>().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    println!("cargo::rustc-env=SOFTSERVICE_BUILT={}", given.unwrap_or_else(now));
}
