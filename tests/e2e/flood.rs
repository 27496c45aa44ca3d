//! A flood of some seconds: the long one, with rates, is `cargo run -p softservice-tests --release --bin flood`.

use softservice_tests::flood::{self, Orders};
use std::time::Duration;

#[test]
fn attackers_of_every_kind_are_cut_off_and_honest_devices_are_served() {
    // Handshakes that never begin are given up after ten seconds, twice, before their address is shut out; that it stays so
    // takes ten more to see.
    let span = Duration::from_secs(40);
    let orders = Orders { flood: span, quiet: Duration::ZERO, bytes: 8 << 20, each: 1, pin: false };
    let figures = flood::run(&orders, &mut |_| {});
    let faults = figures.faults(false);
    assert!(faults.is_empty(), "{faults:#?}\n{figures}");
    assert!(figures.flooded.bytes > 0.0 && figures.bans > 0, "{figures}");
    // An attack that never got in proves nothing about what follows.
    for attacker in &figures.attackers {
        assert!(attacker.said["let_in"].as_u64() > Some(0), "{figures}");
    }
}
