//! The pointer and the generations that it may point to. Invariant: `current` names a staged generation or nothing, and
//! changes in one rename; what is current, was current before it, is still run from or failed lately, is never removed.

use super::{durable, error::Result, layout::Place, record::Standing, trees};
use std::{collections::BTreeSet, path::Path};

/// Confirmed generations that stay beside the current and the previous one.
///
/// Generations share the trees that did not change, so an old one costs what it alone is made of.
const KEPT: usize = 8;
/// Failed generations whose logs stay.
const KEPT_FAILED: usize = 3;

/// Points to a generation, or to none.
pub(super) fn point(place: &Place, number: Option<u32>) -> Result<()> {
    match number {
        Some(number) => durable::point(&place.current(), &Path::new("generations").join(number.to_string())),
        None => durable::remove(&place.current()),
    }
}

/// Points back to the generation before, which is the good one again.
pub(super) fn point_back(place: &Place, previous: Option<u32>) -> Result<()> {
    if let Some(previous) = previous {
        place.change_record(previous, |r| r.state = Standing::Committed)?;
    }
    point(place, previous)
}

/// Writes down that a generation is good.
pub(super) fn confirm(place: &Place, number: u32, previous: Option<u32>) -> Result<()> {
    if let Some(previous) = previous.filter(|p| *p != number) {
        // It may have been removed by hand; what is good now does not hang on it.
        if place.generation(previous).record().exists() {
            place.change_record(previous, |r| r.state = Standing::Superseded)?;
        }
    }
    // Last: it says that all of this is done.
    place.change_record(number, |r| (r.state, r.why) = (Standing::Committed, None))
}

/// Lets old generations go.
pub(super) fn expire(place: &Place, number: u32, previous: Option<u32>) -> Result<()> {
    for old in expired(place, number, previous)? {
        tracing::info!(softservice = place.name, generation = old, "removing an old generation");
        durable::let_go(&place.generation(old).path)?;
    }
    trees::sweep(place)
}

/// Writes down that a generation failed.
pub(super) fn mark_failed(place: &Place, number: u32, why: &str) -> Result<()> {
    place.change_record(number, |r| {
        r.state = Standing::Failed;
        r.why.get_or_insert_with(|| why.to_owned());
    })
}

/// Generations that go once `number` is confirmed after `previous`. One out of whose folder services of either run stays.
pub(super) fn expired(place: &Place, number: u32, previous: Option<u32>) -> Result<Vec<u32>> {
    let mut needed = BTreeSet::from([number]);
    for generation in [Some(number), previous].into_iter().flatten() {
        needed.insert(generation);
        needed.extend(place.course(generation)?.runs.into_values());
    }
    let (mut good, mut failed, mut gone) = (0, 0, Vec::new());
    for old in place.numbers()?.into_iter().rev().filter(|n| !needed.contains(n)) {
        let standing = place.record(old).map(|r| r.state);
        let (count, kept) = match standing {
            Ok(Standing::Failed) => (&mut failed, KEPT_FAILED),
            Ok(Standing::Committed | Standing::Superseded) => (&mut good, KEPT),
            // Never begun, or without a record: of no use to anybody.
            Ok(Standing::Pending) | Err(_) if old < number => (&mut failed, 0),
            Ok(Standing::Pending) | Err(_) => continue,
        };
        *count += 1;
        if *count > kept {
            gone.push(old);
        }
    }
    gone.sort_unstable();
    Ok(gone)
}
