//! The order in which services start. Invariant: each one stands behind all that it waits for.

use super::{InstanceError, RoleNeed, ServiceSpec};
use std::collections::BTreeSet;

/// A service with what it waits for, before names are known to exist.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) spec: ServiceSpec,
    /// The service's own name in its role.
    pub(super) own: String,
    /// Services of the same role.
    pub(super) services: Vec<String>,
    /// Roles all of whose services come first.
    pub(super) roles: Vec<String>,
}

/// Start order: what `depends_on` says always holds; that a role comes after the roles it uses holds unless roles use
/// each other; the rest keeps the order of the definition.
pub(super) fn ordered(wishes: Vec<Wish>, roles: &[RoleNeed]) -> Result<Vec<ServiceSpec>, InstanceError> {
    let mut names = BTreeSet::new();
    for wish in &wishes {
        if !names.insert(wish.spec.name.clone()) {
            return Err(InstanceError::Twice { name: wish.spec.name.clone() });
        }
    }
    let hard: Vec<BTreeSet<usize>> = wishes.iter().map(|w| before(&wishes, w)).collect();
    let soft: Vec<BTreeSet<usize>> = wishes
        .iter()
        .zip(&hard)
        .map(|(wish, hard)| {
            let uses = roles.iter().find(|r| r.key == wish.spec.role).map_or(&[][..], |r| r.uses.as_slice());
            let used = (0..wishes.len()).filter(|i| {
                wishes.get(*i).is_some_and(|w| w.spec.role != wish.spec.role && uses.contains(&w.spec.role))
            });
            hard.iter().copied().chain(used).collect()
        })
        .collect();
    let order = sorted(&soft).or_else(|| sorted(&hard)).ok_or_else(|| InstanceError::Circle {
        place: "depends_on".into(),
        what: wishes.iter().map(|w| w.spec.name.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    let after: Vec<Vec<String>> = hard
        .iter()
        .map(|set| set.iter().filter_map(|i| wishes.get(*i)).map(|w| w.spec.name.clone()).collect())
        .collect();
    let mut specs: Vec<Option<ServiceSpec>> =
        wishes.into_iter().zip(after).map(|(w, after)| Some(ServiceSpec { after, ..w.spec })).collect();
    Ok(order.into_iter().filter_map(|i| specs.get_mut(i).and_then(Option::take)).collect())
}

fn before(wishes: &[Wish], wish: &Wish) -> BTreeSet<usize> {
    let waits = |other: &Wish| {
        let beside = other.spec.role == wish.spec.role && wish.services.contains(&other.own);
        beside || (other.spec.role != wish.spec.role && wish.roles.contains(&other.spec.role))
    };
    wishes.iter().enumerate().filter(|(_, other)| waits(other)).map(|(i, _)| i).collect()
}

/// A topological order that keeps ascending numbers where it may; none when there is a circle.
fn sorted(before: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(before.len());
    let mut done = BTreeSet::new();
    while order.len() < before.len() {
        let ready = before.iter().enumerate().find(|(i, b)| !done.contains(i) && b.is_subset(&done));
        let (next, _) = ready?;
        done.insert(next);
        order.push(next);
    }
    Some(order)
}
