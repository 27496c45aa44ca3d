//! Port numbers. Invariant: a public number, once given, stays with its key as long as nobody else took it; an inner number
//! belongs to one generation; two softservices of this home never share one, whether they run or not.
//!
//! A free number is found by listening on it. The listener stays open until the service or the front is about to start,
//! so that two nodes of one machine that stage at the same time do not choose the same number.

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

/// Listeners, by number, that keep numbers until the services come.
pub(super) type Reserved = BTreeMap<u16, TcpListener>;

/// Numbers by key.
pub(super) type Numbers = BTreeMap<String, u16>;

/// A listener on every address of this machine: taken means taken on any of them.
fn listen(number: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()
}

/// Listeners on numbers whose services have just stopped: until others of ours start there, nobody else gets them.
pub(super) fn hold(numbers: impl IntoIterator<Item = u16>) -> Reserved {
    numbers.into_iter().filter_map(|number| Some((number, listen(number)?))).collect()
}

/// Public numbers for `needs`, written down. `running` are keys whose numbers our own services or front listen on now.
pub(super) fn assign(
    softservices: &Path,
    place: &Place,
    needs: &[PortNeed],
    running: &BTreeSet<String>,
    reserved: &mut Reserved,
) -> Result<Numbers> {
    let numbers = choose(softservices, place, needs, running, reserved)?;
    let mut known = place.read_ports()?;
    known.extend(numbers.clone());
    durable::write_json(&place.ports(), &known)?;
    Ok(numbers)
}

/// Public numbers as they would be given now; none is given, and nothing is held. Numbers that keys have already are told
/// as they are.
pub(super) fn foresee(softservices: &Path, place: &Place, needs: &[PortNeed]) -> Result<Numbers> {
    let had = place.read_ports()?.into_keys().collect();
    choose(softservices, place, needs, &had, &mut Reserved::new())
}

fn choose(
    softservices: &Path,
    place: &Place,
    needs: &[PortNeed],
    running: &BTreeSet<String>,
    reserved: &mut Reserved,
) -> Result<Numbers> {
    let known = place.read_ports()?;
    let mut others = others(softservices, place)?;
    others.extend(place.read_inner_ports()?.into_values().flat_map(BTreeMap::into_values));
    let mut numbers = Numbers::new();
    for need in needs {
        let held = known.get(&need.key).copied().filter(|n| !others.contains(n));
        if let Some(number) = held.filter(|_| running.contains(&need.key)) {
            numbers.insert(need.key.clone(), number);
            continue;
        }
        let given: BTreeSet<u16> = numbers.values().chain(known.values()).copied().collect();
        let free = |n: &u16| !others.contains(n) && (Some(*n) == held || !given.contains(n));
        let first = held.into_iter().chain(need.wish).filter(free);
        let candidates = first.chain(spare(place, &need.key).filter(free));
        let (number, listener) = found(candidates, place, &need.key)?;
        numbers.insert(need.key.clone(), number);
        reserved.insert(number, listener);
    }
    Ok(numbers)
}

/// Fresh inner numbers of a generation for these keys, written down. Numbers of generations that are gone are forgotten.
pub(super) fn assign_inner<'k>(
    softservices: &Path,
    place: &Place,
    number: u32,
    keys: impl IntoIterator<Item = &'k str>,
    reserved: &mut Reserved,
) -> Result<Numbers> {
    let mut known = place.read_inner_ports()?;
    let here = place.numbers()?;
    known.retain(|generation, _| *generation != number && here.contains(generation));
    let mut taken = others(softservices, place)?;
    taken.extend(place.read_ports()?.into_values());
    taken.extend(known.values().flat_map(|inner| inner.values().copied()));
    let mut numbers = Numbers::new();
    for key in keys {
        let free = |n: &u16| !taken.contains(n);
        let candidates = spare(place, &format!("{key} of {number}")).filter(free);
        let (inner, listener) = found(candidates, place, key)?;
        taken.insert(inner);
        numbers.insert(key.to_owned(), inner);
        reserved.insert(inner, listener);
    }
    known.insert(number, numbers.clone());
    durable::write_json(&place.inner_ports(), &known)?;
    Ok(numbers)
}

fn found(candidates: impl Iterator<Item = u16>, place: &Place, key: &str) -> Result<(u16, TcpListener)> {
    let mut candidates = candidates.filter_map(|n| listen(n).map(|l| (n, l)));
    let none = || DeviceError::NoPort { name: place.name.clone(), key: key.into(), from: FIRST, to: LAST };
    candidates.next().ok_or_else(none)
}

/// All spare numbers, beginning at one that the key decides: the same key mostly gets the same number again, and nodes
/// that share a machine begin at different places.
fn spare(place: &Place, key: &str) -> impl Iterator<Item = u16> + use<> {
    let hash = blake3::hash(format!("{}\0{key}", place.root().display()).as_bytes());
    let [a, b, ..] = *hash.as_bytes();
    let count = LAST - FIRST + 1;
    let start = u16::from_le_bytes([a, b]) % count;
    (0..count).map(move |n| FIRST + (start + n) % count)
}

/// Numbers of the other softservices of this home, public and inner. One whose files cannot be read must not keep this one
/// from its ports: what it listens on is found out by listening.
fn others(softservices: &Path, place: &Place) -> Result<BTreeSet<u16>> {
    let mut taken = BTreeSet::new();
    for name in super::names(softservices)?.into_iter().filter(|n| *n != place.name) {
        let other = Place::new(softservices, &name)?;
        taken.extend(other.read_ports().unwrap_or_default().into_values());
        taken.extend(other.read_inner_ports().unwrap_or_default().into_values().flat_map(BTreeMap::into_values));
    }
    Ok(taken)
}
