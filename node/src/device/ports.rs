//! Port numbers. Invariant: a number, once given, stays with its key as long as nobody else took it; two softservices of
//! this home never share one, whether they run or not.
//!
//! A free number is found by listening on it. The listener stays open until the service is about to start, so that
//! two nodes of one machine that stage at the same time do not choose the same number.

use super::{
    durable,
    error::{DeviceError, Result},
    layout::Place,
};
use softservice_protocol::instance::PortNeed;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

/// Numbers given where none is wished or the wished one is taken: below Linux' ephemeral range, so that no outgoing
/// connection sits on them.
const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;

/// Listeners, by key, that keep numbers until the services come.
pub(super) type Reserved = BTreeMap<String, TcpListener>;

/// Ports of one resolution.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    pub(super) numbers: BTreeMap<String, u16>,
    pub(super) reserved: Reserved,
}

/// A listener on every address of this machine: taken means taken on any of them.
fn listen(number: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()
}

/// Listeners on numbers whose services have just stopped: until others of ours start there, nobody else gets them.
pub(super) fn hold(numbers: &BTreeMap<String, u16>) -> Reserved {
    numbers.iter().filter_map(|(key, number)| Some((key.clone(), listen(*number)?))).collect()
}

/// Numbers for `needs`, written down. `running` are keys whose numbers our own services listen on now.
pub(super) fn assign(
    softservices: &Path,
    place: &Place,
    needs: &[PortNeed],
    running: &BTreeSet<String>,
) -> Result<Assigned> {
    let mut known = place.read_ports()?;
    let others = others(softservices, place)?;
    let mut assigned = Assigned::default();
    for need in needs {
        let held = known.get(&need.key).copied().filter(|n| !others.contains(n));
        if let Some(number) = held.filter(|_| running.contains(&need.key)) {
            assigned.numbers.insert(need.key.clone(), number);
            continue;
        }
        let given: BTreeSet<u16> = assigned.numbers.values().chain(known.values()).copied().collect();
        let free = |n: &u16| !others.contains(n) && (Some(*n) == held || !given.contains(n));
        let first = held.into_iter().chain(need.wish).filter(free);
        let salt = place.root().display().to_string();
        let candidates = first.chain(spare(&salt, &need.key).filter(free));
        let (number, listener) = found(candidates, place, &need.key)?;
        assigned.numbers.insert(need.key.clone(), number);
        assigned.reserved.insert(need.key.clone(), listener);
    }
    known.extend(assigned.numbers.clone());
    durable::write_json(&place.ports(), &known)?;
    Ok(assigned)
}

/// Numbers for a rehearsal: new ones for `keys`, written down nowhere; the others as they are in `live`.
pub(super) fn rehearse(
    softservices: &Path,
    place: &Place,
    live: &BTreeMap<String, u16>,
    keys: &BTreeSet<String>,
) -> Result<Assigned> {
    let mut others = others(softservices, place)?;
    others.extend(place.read_ports()?.values());
    let mut assigned = Assigned { numbers: live.clone(), reserved: Reserved::new() };
    for key in keys {
        let free = |n: &u16| !others.contains(n);
        let salt = format!("{}/rehearsal", place.root().display());
        let (number, listener) = found(spare(&salt, key).filter(free), place, key)?;
        others.insert(number);
        assigned.numbers.insert(key.clone(), number);
        assigned.reserved.insert(key.clone(), listener);
    }
    Ok(assigned)
}

fn found(candidates: impl Iterator<Item = u16>, place: &Place, key: &str) -> Result<(u16, TcpListener)> {
    let mut candidates = candidates.filter_map(|n| listen(n).map(|l| (n, l)));
    let none = || DeviceError::NoPort { name: place.name.clone(), key: key.into(), from: FIRST, to: LAST };
    candidates.next().ok_or_else(none)
}

/// All spare numbers, beginning at one that the key decides: the same key mostly gets the same number again, and nodes
/// that share a machine begin at different places.
fn spare(home: &str, key: &str) -> impl Iterator<Item = u16> {
    let hash = blake3::hash(format!("{home}\0{key}").as_bytes());
    let [a, b, ..] = *hash.as_bytes();
    let count = LAST - FIRST + 1;
    let start = u16::from_le_bytes([a, b]) % count;
    (0..count).map(move |n| FIRST + (start + n) % count)
}

/// Numbers of the other softservices of this home.
fn others(softservices: &Path, place: &Place) -> Result<BTreeSet<u16>> {
    let mut taken = BTreeSet::new();
    for name in super::names(softservices)?.into_iter().filter(|n| *n != place.name) {
        taken.extend(Place::new(softservices, &name)?.read_ports()?.into_values());
    }
    Ok(taken)
}
