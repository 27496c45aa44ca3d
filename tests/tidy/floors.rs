//! Versions below which a library is known to be dangerous. The public advisory database does not list most of the
//! gossipsub and yamux ones, so the list is ours.

use semver::Version;
use softservice_tests::sources::repository;
use std::fs;

/// Library, lowest version, why.
const FLOORS: &[(&str, &str, &str)] = &[
    ("libp2p", "0.57.1", "0.56 still brings a yamux that one packet kills"),
    (
        "libp2p-gossipsub",
        "0.50.1",
        "remote crash or growth: GHSA-xqmp-fxgv-xvq5, -gc42-3jg7-rxr2, -g3g5-x568-qvqx, -vrx6-jcp8-vm7m",
    ),
    ("libp2p-rendezvous", "0.17.1", "GHSA-cqfx-gf56-8x59, GHSA-v5hw-cv9c-rpg7"),
    ("yamux", "0.13.10", "GHSA-3999-5ffv-wp2r, GHSA-vxx9-2994-q338"),
    ("quinn-proto", "0.11.15", "RUSTSEC-2026-0037, RUSTSEC-2026-0185"),
    ("rustls", "0.23.18", "RUSTSEC-2024-0399"),
    ("rustls-webpki", "0.103.13", "RUSTSEC-2026-0049, -0098, -0099, -0104"),
    ("hickory-proto", "0.26.1", "RUSTSEC-2026-0118, -0119"),
    ("crossbeam-epoch", "0.9.20", "RUSTSEC-2026-0204"),
    ("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    ("tracing-subscriber", "0.3.20", "RUSTSEC-2025-0055"),
    ("ed25519-dalek", "2.0.0", "RUSTSEC-2022-0093"),
];

/// Libraries that stay at one version, and why.
const PINS: &[(&str, &str, &str)] = &[
    ("bincode", "2.0.1", "3.0.0 is a tombstone; canonical bytes depend on it"),
    ("sled", "0.34.7", "1.0 is alpha and brings RUSTSEC-2023-0018"),
];

fn locked() -> Vec<(String, Version)> {
    let text = fs::read_to_string(repository().join("Cargo.lock")).expect("the lock file is committed");
    let lock: toml::Table = text.parse().expect("it is TOML");
    let packages = lock["package"].as_array().expect("it lists packages");
    let field = |p: &toml::Value, name: &str| p[name].as_str().expect("a package has it").to_owned();
    packages.iter().map(|p| (field(p, "name"), field(p, "version").parse().expect("a version"))).collect()
}

#[test]
fn no_dependency_is_below_its_floor() {
    let locked = locked();
    for (name, floor, why) in FLOORS {
        let floor: Version = floor.parse().expect("a floor is a version");
        for (_, version) in locked.iter().filter(|(n, _)| n == name) {
            assert!(*version >= floor, "{name} {version} is below {floor}: {why}");
        }
    }
    assert!(locked.iter().any(|(n, _)| n == "yamux"), "the lock file was read");
}

#[test]
fn pinned_dependencies_stay() {
    for (name, pin, why) in PINS {
        let pin: Version = pin.parse().expect("a pin is a version");
        let found: Vec<_> = locked().into_iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
        assert_eq!(found, [pin], "{name} is pinned: {why}");
    }
}
