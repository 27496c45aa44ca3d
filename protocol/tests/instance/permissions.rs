//! What an update asks its owner for: all that lets its programs do more on the device, and nothing else.

use crate::cast::*;
use proptest::prelude::*;
use softservice_protocol::{
    id::{PublisherId, ReleaseId},
    instance::{self, Instance, Needs},
    plan::{self, Facts, Permissions},
    release::*,
    time::Span,
};
use std::collections::BTreeMap;

const MORE: ReleaseId = ReleaseId([5; 32]);

/// The shelf and the database that it includes, and a third that may be included.
#[derive(Clone)]
struct Pair {
    pg: Release,
    shelf: Release,
}

impl Pair {
    /// Held in: roots of their own, limits, and a port that nobody exports.
    fn narrow() -> Self {
        let (mut pg, mut shelf) = (pg(), shelf());
        for role in [&mut pg.roles[0], &mut shelf.roles[1]] {
            role.allow.memory = Some(64 << 20);
            role.allow.cpu = Some(500);
            role.allow.processes = Some(8);
            role.services[0].root = Some(role.artifacts[0].name.clone());
        }
        shelf.roles[1].ports.push(Port { name: "inside".into(), wish: None });
        shelf.roles[1].allow.connect = vec!["import.db".into()];
        Self { pg, shelf }
    }

    fn resolved(&self) -> (Needs, Instance) {
        let mut more = release("more");
        more.roles = vec![role("main")];
        let closure = BTreeMap::from([(PG, self.pg.clone()), (SHELF, self.shelf.clone()), (MORE, more)]);
        let needs = instance::needs(&closure, SHELF, &answers(), "linux/amd64").expect("needs");
        let number = |(key, n): (&String, u16)| (key.clone(), n);
        let mut placed = assignment();
        placed.ports = needs.ports.iter().map(|p| &p.key).zip(21_000..).map(number).collect();
        placed.inner = needs.ports.iter().filter(|p| p.fronted).map(|p| &p.key).zip(31_000..).map(number).collect();
        let instance = instance::resolve(&closure, SHELF, &answers(), &placed).expect("an instance");
        (needs, instance)
    }

    /// What going from `before` to this one asks for.
    fn since(&self, before: &Self) -> Permissions {
        let (needs, new) = self.resolved();
        let old = before.resolved().1;
        let facts = Facts { softservice: "shelf", generation: 2, current: Some((1, &old)), ..Facts::default() };
        plan::plan(SHELF, &needs, &new, &facts).permissions
    }
}

fn web(p: &mut Pair) -> &mut Role {
    &mut p.shelf.roles[1]
}
fn hook(kind: HookKind) -> Hook {
    Hook { kind, command: vec!["${artifact.bin}/dump".into(), "${backup}".into()], within: Span::seconds(60) }
}

/// A change, and what its owner reads then.
type Widening = (fn(&mut Pair), &'static str);

/// Everything in a release that lets programs do more on a device than before.
const WIDER: [Widening; 22] = [
    (|p| web(p).services[0].root = None, "web: run app on the device's own system, not in a root of its own"),
    (
        |p| {
            let bare = Service { name: "bare".into(), root: None, healthcheck: None, ..web(p).services[0].clone() };
            web(p).services.push(bare);
        },
        "web: run bare on the device's own system, not in a root of its own",
    ),
    (
        |p| p.pg.roles[0].services[0].root = None,
        "pg.main: run pg.server on the device's own system, not in a root of its own",
    ),
    (
        |p| p.pg.roles[0].ports.push(Port { name: "more".into(), wish: Some(80) }),
        "pg.main: listen at port more itself, also for the network",
    ),
    (
        |p| web(p).ports.push(Port { name: "metrics".into(), wish: None }),
        "web: be reached on this device at port metrics",
    ),
    (
        |p| web(p).exports.push(export("inside", "http/1", Some("inside"), None)),
        "web: be reached from the network at port inside",
    ),
    (
        |p| {
            let rows = Volume { name: "rows".into(), mount: None, backup: "none".into(), keep_on_remove: true };
            web(p).volumes.push(rows);
        },
        "web: listen at port inside itself, also for the network",
    ),
    (|p| web(p).allow.listen.push("tcp:9999".into()), "web: listen tcp:9999"),
    (|p| web(p).allow.listen.push("udp:53".into()), "web: listen udp:53"),
    (|p| web(p).allow.connect.push("internet:*".into()), "web: connect internet:*"),
    (|p| web(p).allow.connect.push("lan:443".into()), "web: connect lan:443"),
    (|p| p.pg.roles[0].allow.connect.push("device:22".into()), "pg.main: connect device:22"),
    (|p| web(p).allow.write.push("/srv/media".into()), "web: write /srv/media"),
    (|p| web(p).allow.read.push("/etc/hosts".into()), "web: read /etc/hosts"),
    (|p| web(p).allow.memory = None, "web: memory without limit instead of 64.0 MiB"),
    (|p| web(p).allow.cpu = Some(1000), "web: cpu 1 core instead of 0.5 cores"),
    (|p| web(p).allow.processes = Some(9), "web: processes 9 instead of 8"),
    (|p| p.pg.roles[0].hooks.push(hook(HookKind::Backup)), "pg.main: run a program when a backup is made"),
    (|p| p.pg.roles[0].hooks.push(hook(HookKind::Restore)), "pg.main: run a program when a backup is restored"),
    (
        |p| p.shelf.roles[0].services.push(service("first", &["/bin/true"])),
        "data: run programs, which it did not, without limit",
    ),
    (|p| p.shelf.roles.push(role("extra")), "extra: run as a new role, without limit"),
    (
        |p| {
            let release = ReleaseRef { id: MORE, size: 1 };
            let (name, distro, publisher) = ("x".into(), "more".into(), PublisherId([8; 32]));
            let (version, role) = ("1.0.0".into(), "data".into());
            p.shelf.includes.push(Include {
                name,
                publisher,
                distro,
                version,
                release,
                role,
                with: vec![],
                bind: vec![],
            });
        },
        "x.main: run as a new role, without limit",
    ),
];

// Of these, what says nothing where something else has said it before.
const ROOTLESS: usize = 0;
const BARE: usize = 1;
const PORT: usize = 4;
const EXPORT: usize = 5;
const VOLUME: usize = 6;

/// What an update may change as it likes.
const SAME: [fn(&mut Pair); 9] = [
    |p| p.shelf.version = "1.1.0".into(),
    |p| web(p).services[0].command.push("-v".into()),
    |p| web(p).services[0].environment.push(("X".into(), "1".into())),
    |p| web(p).artifacts[0].trees[0].1 = tree(9),
    |p| web(p).files[0].template.push('#'),
    |p| web(p).services[0].healthcheck = None,
    |p| web(p).ports[0].wish = Some(80),
    |p| web(p).needs_memory = Some(1 << 30),
    |p| {
        let rooted = Service { name: "rooted".into(), healthcheck: None, ..web(p).services[0].clone() };
        web(p).services.push(rooted);
    },
];

#[test]
fn everything_that_lets_software_do_more_is_a_line_for_its_owner() {
    let before = Pair::narrow();
    for (number, (widen, line)) in WIDER.iter().enumerate() {
        let mut after = before.clone();
        widen(&mut after);
        let asked = after.since(&before);
        assert!(asked.added.iter().any(|l| l == line), "{number}: {line}: {asked:?}");
        let back = before.since(&after);
        assert!(back.added.is_empty(), "{number}: less needs no yes: {back:?}");
    }
}

#[test]
fn who_loses_its_root_is_told_once_and_who_had_none_never() {
    let mut before = Pair::narrow();
    before.shelf.roles[1].services[0].root = None;
    let mut after = before.clone();
    web(&mut after).services.push(Service { healthcheck: None, ..service("second", &["/bin/true"]) });
    assert_eq!(after.since(&before).added, [""; 0], "its role had the device's system before");
    let mut narrow = before.clone();
    web(&mut narrow).services[0].root = Some("app".into());
    let removed = narrow.since(&before).removed;
    assert_eq!(removed, ["web: run app on the device's own system, not in a root of its own"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]
    /// Whatever comes together, nothing that widens hides behind anything else, and nothing else is asked for.
    #[test]
    fn nothing_wider_comes_unseen_and_nothing_else_is_asked(
        wider in proptest::collection::vec(any::<bool>(), WIDER.len()),
        same in proptest::collection::vec(any::<bool>(), SAME.len()),
        narrower in proptest::collection::vec(any::<bool>(), WIDER.len()),
    ) {
        let mut before = Pair::narrow();
        let mut after = before.clone();
        for (n, (widen, _)) in WIDER.iter().enumerate() {
            // In both, in one of them, or in none.
            if narrower[n] {
                widen(&mut before);
            }
            if wider[n] {
                widen(&mut after);
            }
        }
        for (_, change) in same.iter().zip(SAME).filter(|(on, _)| **on) {
            change(&mut after);
        }
        let asked = after.since(&before);
        let alone = [VOLUME, 7, 8, 12].into_iter().any(|n| narrower[n]);
        let grows = (0..WIDER.len()).filter(|n| wider[*n] && !narrower[*n]).any(|n| match n {
            BARE => !narrower[ROOTLESS],
            // A port that the network reaches is no more open when the program listens there itself.
            VOLUME => !alone && (!narrower[EXPORT] || (narrower[PORT] && wider[PORT])),
            _ => true,
        });
        prop_assert_eq!(!asked.added.is_empty(), grows, "{:?}", asked);
    }
}
