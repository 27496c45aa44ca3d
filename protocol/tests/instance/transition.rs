//! How roles go from one generation to the next: what counts as a change of behaviour, and what follows from it.

use crate::cast::*;
use proptest::prelude::*;
use softservice_protocol::{
    instance::{self, Assignment, Change, Instance, Limits, Minimum, Move, RoleNeed, transition},
    release::*,
};

fn made(change: impl Fn(&mut Release, &mut Release), assignment: &Assignment) -> Instance {
    let (mut pg, mut shelf) = (pg(), shelf());
    change(&mut pg, &mut shelf);
    instance::resolve(&[(PG, pg), (SHELF, shelf)].into(), SHELF, &answers(), assignment).expect("an instance")
}
fn changes(change: impl Fn(&mut Release, &mut Release)) -> Vec<(String, Change)> {
    let (old, new) = (made(|_, _| {}, &assignment()), made(change, &assignment()));
    let all = transition(&new.roles, &old.roles, !new.moves(&old).is_empty());
    all.into_iter().filter(|(_, c)| *c != Change::Keep).collect()
}

#[test]
fn another_folder_and_other_inner_ports_are_no_change() {
    let old = made(|_, _| {}, &assignment());
    let mut moved = assignment();
    moved.inner.insert("web.http".into(), 31999);
    (moved.trees, moved.files) = ("/g2/tree".into(), "/g2/files".into());
    let new = made(|_, _| {}, &moved);
    assert_eq!(new.roles, old.roles);
    assert_ne!(new.services, old.services);
    moved.ports.insert("pg.main.sql".into(), 21111);
    let new = made(|_, _| {}, &moved);
    assert!(new.roles.iter().zip(&old.roles).filter(|(n, o)| n.fingerprint != o.fingerprint).count() == 2, "its users");
}

#[test]
fn everything_that_reaches_a_program_is_a_change_of_its_role_alone() {
    let web = |c| vec![("web".to_owned(), c)];
    assert_eq!(changes(|_, _| {}), []);
    assert_eq!(changes(|_, s| s.roles[1].services[0].command.push("-v".into())), web(Change::Beside));
    assert_eq!(changes(|_, s| s.roles[1].files[0].template.push('#')), web(Change::Beside));
    assert_eq!(changes(|_, s| s.roles[1].artifacts[0].trees[0].1 = tree(9)), web(Change::Beside));
    assert_eq!(changes(|_, s| s.roles[1].allow.memory = Some(1)), web(Change::Beside));
    assert_eq!(changes(|_, s| s.roles[1].allow.listen = vec!["tcp:80".into()]), web(Change::Instead));
    assert_eq!(changes(|_, s| s.version = "1.0.1".into()), []);
    assert_eq!(changes(|_, s| s.tests.clear()), []);
    let quiet = |s: &mut Release| s.roles[1].files[0].on_change = "nothing".into();
    let (old, new) = (
        made(|_, s| quiet(s), &assignment()),
        made(|_, s| (quiet(s), s.roles[1].files[0].template.push('#')).0, &assignment()),
    );
    assert_eq!(new.roles, old.roles, "a change of this file does nothing");
}

#[test]
fn what_uses_changed_data_waits_for_it() {
    let both = changes(|p, s| {
        p.roles[0].services[0].command.push("--new".into());
        s.roles[1].services[0].command.push("-v".into());
    });
    assert_eq!(both, [("pg.main".to_owned(), Change::Instead), ("web".to_owned(), Change::Instead)]);
    let data = changes(|p, _| p.roles[0].services[0].command.push("--new".into()));
    assert_eq!(data, [("pg.main".to_owned(), Change::Instead)], "the page runs on");
}

#[test]
fn the_data_layout_of_an_include_counts() {
    let old = made(|_, _| {}, &assignment());
    let migrate = |from_epoch| {
        made(
            |p, _| {
                p.epoch = 2;
                let command = vec!["${artifact.bin}/migrate".into()];
                p.update.migrate = Some(Migrate { from_epoch, role: "main".into(), command, needs_snapshot: true });
            },
            &assignment(),
        )
    };
    let wanted = Move { component: "pg".into(), from: 0, to: 2 };
    assert_eq!(migrate(0).moves(&old), std::slice::from_ref(&wanted));
    assert_eq!(migrate(0).migrations(&old).expect("it applies").len(), 1);
    assert_eq!(migrate(1).migrations(&old), Err(wanted), "it carries data over from another epoch only");
    assert!(old.migrations(&migrate(0)).expect("back").is_empty(), "back goes only with its data");
    let bumped = changes(|p, _| p.epoch = 2);
    assert_eq!(bumped, [("pg.main".to_owned(), Change::Instead)]);
}

/// A role among five, of which some keep data and some change.
fn any_role(n: usize) -> impl Strategy<Value = RoleNeed> {
    let keys = ["a", "b", "c", "d", "e"];
    (any::<bool>(), any::<bool>(), 0..2u8, proptest::sample::subsequence(keys.to_vec(), 0..=2)).prop_map(
        move |(data, fixed, version, uses)| RoleNeed {
            key: keys[n].into(),
            volumes: data.then(|| format!("{}.rows", keys[n])).into_iter().collect(),
            alone: data || fixed,
            uses: uses.into_iter().filter(|u| *u != keys[n]).map(str::to_owned).collect(),
            limits: Limits::default(),
            needs: Minimum::default(),
            fingerprint: version.to_string(),
        },
    )
}
fn any_roles() -> impl Strategy<Value = Vec<RoleNeed>> {
    let each: Vec<_> = (0..5).map(|n| proptest::option::weighted(0.8, any_role(n))).collect();
    each.prop_map(|roles| roles.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn roles_run_on_exactly_when_nothing_changed_and_data_is_never_run_twice(
        old in any_roles(), new in any_roles(), moved in any::<bool>(),
    ) {
        let changes = transition(&new, &old, moved);
        prop_assert_eq!(changes.len(), new.len());
        for role in &new {
            let before = old.iter().find(|o| o.key == role.key);
            let same = before.is_some_and(|o| o.fingerprint == role.fingerprint);
            let carried = moved && !role.volumes.is_empty();
            let change = changes[&role.key];
            prop_assert_eq!(change == Change::Keep, same && !carried, "{} in {:?}", &role.key, &changes);
            if change == Change::Beside {
                prop_assert!(!role.alone && role.volumes.is_empty(), "{} is alone", &role.key);
                prop_assert!(!before.is_some_and(|o| o.alone), "the old {} is alone", &role.key);
                let meets = role.uses.iter().find(|u| changes.get(*u) == Some(&Change::Instead));
                prop_assert_eq!(meets, None, "{} would be tried against what is away", &role.key);
            }
        }
    }
}
