//! How each role goes from one generation to the next. Invariant: a role with data is never run twice at once, and a role
//! runs on untouched exactly when nothing that decides its behaviour changed.

use super::{Instance, MigrateSpec, RoleNeed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What happens to a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing about it changed: its services run on, whatever generation started them.
    Keep,
    /// Start-first: the new services start beside the old ones, on inner ports of their own; the front then turns to them.
    Beside,
    /// Stop-first: the old services end, data is snapshotted, the new ones start.
    Instead,
}

/// Changes by role key, for every role of the new generation.
pub type Transition = BTreeMap<String, Change>;

/// The transition from `old`, the roles that run, to `new`. `moved`: the data layout (epoch) changes, so nothing that
/// keeps data runs on and nothing that uses it may meet it in between.
///
/// A role without data starts beside unless something that it uses, and that keeps data, changes: its health could only be
/// asked against the wrong version then.
pub fn transition(new: &[RoleNeed], old: &[RoleNeed], moved: bool) -> Transition {
    let unchanged = |r: &RoleNeed| old.iter().any(|o| o.key == r.key && o.fingerprint == r.fingerprint);
    let beside = |r: &RoleNeed| !r.alone && !old.iter().any(|o| o.key == r.key && o.alone);
    let first = |r: &RoleNeed| match (r.volumes.is_empty(), unchanged(r)) {
        (false, true) if moved => Change::Instead,
        (_, true) => Change::Keep,
        (_, false) if beside(r) => Change::Beside,
        (_, false) => Change::Instead,
    };
    let mut changes: Transition = new.iter().map(|r| (r.key.clone(), first(r))).collect();
    // What uses a role that is away for a while cannot be tried meanwhile, and so on upwards.
    loop {
        let waits = |r: &&RoleNeed| {
            let away = |u: &String| changes.get(u) == Some(&Change::Instead);
            changes.get(&r.key) == Some(&Change::Beside) && r.uses.iter().any(away)
        };
        let Some(next) = new.iter().find(waits).map(|r| r.key.clone()) else { return changes };
        changes.insert(next, Change::Instead);
    }
}

/// Whether a role of the old generation ends before the new one's services start: it is replaced, or it is gone and what
/// only one can have at a time - data, a number of its own choice - must be free.
pub fn ends_first(changes: &Transition, old: &RoleNeed) -> bool {
    match changes.get(&old.key) {
        Some(change) => *change == Change::Instead,
        None => old.alone,
    }
}

/// A component whose data layout differs between two instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its path; "" for the top distro.
    pub component: String,
    /// The epoch of the data that is there.
    pub from: u32,
    /// The epoch that the new release reads and writes.
    pub to: u32,
}

impl Instance {
    /// The transition from `old`, whose services run or are down: what does not run cannot be kept or stand beside.
    pub fn transition(&self, old: &Instance, running: bool) -> Transition {
        if running {
            return transition(&self.roles, &old.roles, !self.moves(old).is_empty());
        }
        self.roles.iter().map(|r| (r.key.clone(), Change::Instead)).collect()
    }

    /// Components that both have and whose data layouts differ; ascending by path.
    pub fn moves(&self, old: &Instance) -> Vec<Move> {
        let moved = |(component, to): (&String, &u32)| {
            let from = *old.epochs.get(component)?;
            (from != *to).then(|| Move { component: component.clone(), from, to: *to })
        };
        self.epochs.iter().filter_map(moved).collect()
    }

    /// The migrations that apply to the data of `old`, in their order. A component that moves and declares none carries
    /// its data over by itself.
    ///
    /// # Errors
    /// A component declares how it carries data over, but not from the epoch that is there: the first such move.
    pub fn migrations(&self, old: &Instance) -> Result<Vec<&MigrateSpec>, Move> {
        let mut apply = Vec::new();
        for moved in self.moves(old).into_iter().filter(|m| m.from < m.to) {
            match self.migrate.iter().find(|m| m.component == moved.component) {
                Some(migrate) if migrate.from_epoch == moved.from => apply.push(migrate),
                Some(_) => return Err(moved),
                None => {}
            }
        }
        Ok(apply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(key: &str, volumes: &[&str], uses: &[&str], fingerprint: &str) -> RoleNeed {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect();
        let (volumes, uses): (Vec<String>, Vec<String>) = (texts(volumes), texts(uses));
        let alone = !volumes.is_empty();
        let (limits, needs) = Default::default();
        RoleNeed { key: key.into(), alone, volumes, uses, limits, needs, fingerprint: fingerprint.into() }
    }

    #[test]
    fn a_new_page_starts_beside_while_its_data_runs_on() {
        let old = [role("data", &["data.rows"], &[], "a"), role("web", &[], &["data"], "b")];
        let new = [role("data", &["data.rows"], &[], "a"), role("web", &[], &["data"], "c")];
        let changes = transition(&new, &old, false);
        assert_eq!((changes["data"], changes["web"]), (Change::Keep, Change::Beside));
        let changes = transition(&new, &old, true);
        assert_eq!((changes["data"], changes["web"]), (Change::Instead, Change::Instead));
    }

    #[test]
    fn what_is_gone_ends_first_only_where_it_would_be_in_the_way() {
        let old = [role("data", &["data.rows"], &[], "a"), role("web", &[], &[], "b"), role("edge", &[], &[], "c")];
        let new = [role("db", &["db.rows"], &[], "a"), role("edge", &[], &[], "x")];
        let changes = transition(&new, &old, false);
        let first: Vec<&str> = old.iter().filter(|r| ends_first(&changes, r)).map(|r| r.key.as_str()).collect();
        assert_eq!(first, ["data"]);
    }

    #[test]
    fn what_uses_changing_data_waits_for_it() {
        let old = [
            role("data", &["data.rows"], &[], "a"),
            role("web", &[], &["data"], "b"),
            role("edge", &[], &["web"], "c"),
        ];
        let new = [
            role("data", &["data.rows"], &[], "x"),
            role("web", &[], &["data"], "y"),
            role("edge", &[], &["web"], "z"),
        ];
        let changes = transition(&new, &old, false);
        assert!(changes.values().all(|c| *c == Change::Instead), "{changes:?}");
        let same = [new[0].clone(), old[1].clone(), old[2].clone()];
        let changes = transition(&same, &old, false);
        assert_eq!((changes["web"], changes["edge"]), (Change::Keep, Change::Keep));
    }
}
