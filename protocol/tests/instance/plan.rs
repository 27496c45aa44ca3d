//! Plans: everything that happens, in its order, and a hash over it.

use crate::cast::*;
use proptest::prelude::*;
use softservice_protocol::{
    id::{ObjectId, ReleaseId},
    instance::{self, Assignment, Instance, Isolation, sandbox::Reduced},
    plan::{self, Facts, Lack, Plan, RestoreFact, SnapshotFact, SnapshotHow},
    release::*,
    time::Span,
};

/// The releases, where things are, and what the device knows: all that a plan follows from.
#[derive(Clone)]
struct Given {
    pg: Release,
    shelf: Release,
    assignment: Assignment,
    facts: Known,
}
#[derive(Clone, Default)]
struct Known {
    softservice: String,
    generation: u32,
    current: Option<Instance>,
    running: bool,
    trees: Vec<ObjectId>,
    volumes: Vec<String>,
    snapshots: Vec<SnapshotFact>,
    restores: Vec<RestoreFact>,
    ports: Vec<(String, u16)>,
    fetch_bytes: u64,
    expired: Vec<u32>,
    isolation: Isolation,
    at_boot: bool,
    memory: Option<u64>,
    disk: Option<u64>,
}

impl Given {
    fn new() -> Self {
        let facts = Known { softservice: "shelf".into(), generation: 1, ..Known::default() };
        Self { pg: pg(), shelf: shelf(), assignment: assignment(), facts }
    }
    /// Generation 1 runs; the next one is planned.
    fn second() -> Self {
        let mut given = Self::new();
        given.facts.current = Some(given.instance());
        given.facts.running = true;
        given.facts.generation = 2;
        given.facts.volumes = vec!["pg.main.db".into()];
        given.facts.ports = vec![("pg.main.sql".into(), 21001), ("web.http".into(), 21002)];
        let db = SnapshotFact { volume: "pg.main.db".into(), bytes: 3 << 20, how: SnapshotHow::Copy };
        given.facts.snapshots = vec![db];
        given
    }
    fn closure(&self) -> instance::Closure {
        [(PG, self.pg.clone()), (SHELF, self.shelf.clone())].into()
    }
    fn instance(&self) -> Instance {
        instance::resolve(&self.closure(), SHELF, &answers(), &self.assignment).expect("an instance")
    }
    fn plan_of(&self, release: ReleaseId) -> Plan {
        let known = &self.facts;
        let secrets = if known.current.is_some() { vec!["pg.admin".to_owned()] } else { vec![] };
        let facts = Facts {
            softservice: &known.softservice,
            generation: known.generation,
            current: known.current.as_ref().map(|i| (1, i)),
            running: known.running,
            secrets: &secrets,
            trees: &known.trees,
            volumes: &known.volumes,
            snapshots: &known.snapshots,
            restores: &known.restores,
            ports: &known.ports,
            fetch_bytes: known.fetch_bytes,
            expired: &known.expired,
            overlay: &[],
            backup: &[],
            isolation: known.isolation.clone(),
            at_boot: known.at_boot,
            memory: known.memory,
            disk: known.disk,
        };
        plan::plan(release, &needs(&self.closure()), &self.instance(), &facts)
    }
    fn plan(&self) -> Plan {
        self.plan_of(SHELF)
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|s| format!("{} {}: {}", s.kind, s.what, s.detail)).collect()
}

#[test]
fn a_first_plan_says_what_appears_and_what_starts() {
    let mut given = Given::new();
    given.pg.roles[0].allow = Allow { memory: Some(512 << 20), cpu: Some(1500), ..Allow::default() };
    let command = vec!["${artifact.bin}/dump".into(), "${backup}".into()];
    given.pg.roles[0].hooks = vec![Hook { kind: HookKind::Backup, command, within: Span::seconds(600) }];
    given.shelf.tests.push(Test { name: "later".into(), when: vec!["restore".into()], ..given.shelf.tests[0].clone() });
    let plan = given.plan();
    assert_eq!(plan.hash, plan.digest());
    let wanted = [
        "tree pg.main.bin: 1 file, 10 B, linked from the store",
        "tree web.app: 1 file, 10 B, linked from the store",
        "file web/etc/shelf.toml: rendered, mode 0640",
        "secret pg.admin: made on this device: 32 random bytes",
        "volume pg.main.db: a new, empty folder",
        "port pg.main.sql: tcp 5432 if it is free, else another",
        "port web.http: tcp 8080 if it is free, else another; the device listens and passes on to an inner one",
        "limit pg.main: memory 512.0 MiB, cpu 1.5 cores",
        "limit web: none is declared",
        "hook pg.main backup: dump, when a backup is made, within 600 s",
        "point current: to generation 1",
        "start pg.server: pg; no healthcheck is declared",
        "start app: shelf; then its health is asked",
        "front web.http: new connections go to the new service, for everybody who reaches this device",
        "test login: GET http://127.0.0.1:21002/login, on web, within 10 s",
        "settle confirmation: healthy for 1 s, else everything goes back",
    ];
    assert_eq!(lines(&plan), wanted);
    assert_eq!((plan.total_bytes, plan.unverified), (20, false));
    assert_eq!(plan.permissions.added, PERMISSIONS);
    assert_eq!(plan.secrets_made, ["pg.admin"]);
    assert_eq!(plan.downtime, "none: nothing of it runs now");
    let json = serde_json::to_value(&plan).expect("json");
    assert_eq!((&json["plan"], &json["from_release"]), (&plan.hash.as_str().into(), &serde_json::Value::Null));
}

#[test]
fn a_new_page_starts_first_and_the_data_is_not_touched() {
    let mut given = Given::second();
    given.shelf.roles[1].services[0].command.push("-v".into());
    let plan = given.plan();
    let life: Vec<String> = lines(&plan).into_iter().skip_while(|l| !l.starts_with("keep")).collect();
    let wanted = [
        "keep pg.server: runs on untouched: nothing about it changed",
        "beside app: starts on inner ports and must be healthy while the old one still serves",
        "point current: from generation 1 to 2",
        "front web.http: new connections go to the new service, for everybody who reaches this device",
        "test login: GET http://127.0.0.1:21002/login, on web, within 10 s",
        "settle confirmation: healthy for 1 s, else everything goes back",
        "retire app: the old one ends when the new one is confirmed",
    ];
    assert_eq!(life, wanted);
    assert_eq!(plan.downtime, "none: nothing that answers now stops before its successor answers");
    let words: Vec<_> = plan.downtimes.iter().map(|d| (d.service.as_str(), d.words.as_str())).collect();
    let wanted =
        [("pg.server", "none: it runs on untouched"), ("app", "none: the new one answers before the old one ends")];
    assert_eq!(words, wanted);
}

#[test]
fn new_data_is_kept_before_it_is_carried_over() {
    let mut given = Given::second();
    given.pg.epoch = 2;
    given.pg.update.migrate = Some(Migrate {
        from_epoch: 0,
        role: "main".into(),
        command: vec!["${artifact.bin}/migrate".into()],
        needs_snapshot: true,
    });
    given.pg.roles[0].services[0].command.push("--new".into());
    given.shelf.roles[1].services[0].command.push("-v".into());
    given.facts.expired = vec![7];
    let plan = given.plan();
    let life: Vec<String> = lines(&plan).into_iter().skip_while(|l| !l.starts_with("stop")).collect();
    let wanted = [
        "stop app: of generation 1, within 5 s",
        "stop pg.server: of generation 1, within 5 s",
        "snapshot pg.main.db: copied whole; put back if the update does not hold, kept as long as generation 1",
        "migrate pg: data of epoch 0 to 2: migrate",
        "point current: from generation 1 to 2",
        "start pg.server: pg; no healthcheck is declared",
        "start app: shelf; then its health is asked",
        "front web.http: new connections go to the new service, for everybody who reaches this device",
        "test login: GET http://127.0.0.1:21002/login, on web, within 10 s",
        "settle confirmation: healthy for 1 s, else everything goes back",
        "expire generation 7: removed after success; volumes stay",
    ];
    assert_eq!(life, wanted);
    assert_eq!(plan.downtime, "of pg.server, app: from the stop until healthy again");
    assert_eq!(plan.downtimes[0].words, "from its stop until it is healthy again; its data is copied in between");
    let snapshot = plan.steps.iter().find(|s| s.kind == "snapshot").expect("a snapshot");
    assert_eq!(snapshot.bytes, Some(3 << 20));
}

#[test]
fn a_tree_that_is_here_is_shared() {
    let mut given = Given::second();
    given.facts.trees = vec![tree(3).manifest];
    let trees: Vec<String> = lines(&given.plan()).into_iter().filter(|l| l.starts_with("tree ")).collect();
    let wanted = [
        "tree pg.main.bin: 1 file, 10 B, shared with earlier generations",
        "tree web.app: 1 file, 10 B, linked from the store",
    ];
    assert_eq!(trees, wanted);
}

#[test]
fn a_port_that_is_exported_later_is_a_permission_and_its_front_a_step() {
    let mut given = Given::second();
    let mut hidden = given.shelf.clone();
    hidden.roles[1].exports.clear();
    hidden.tests.clear();
    given.facts.current = Some({
        let closure = [(PG, given.pg.clone()), (SHELF, hidden)].into();
        instance::resolve(&closure, SHELF, &answers(), &given.assignment).expect("an instance")
    });
    let plan = given.plan();
    assert_eq!(plan.permissions.added, ["web: be reached from the network at port http"]);
    let fronts: Vec<String> = lines(&plan).into_iter().filter(|l| l.starts_with("front ")).collect();
    assert_eq!(fronts, ["front web.http: new connections are taken for everybody who reaches this device"]);
}

#[test]
fn what_moves_by_itself_voids_no_agreed_plan() {
    let mut given = Given::second();
    given.pg.roles[0].services[0].command.push("--new".into());
    let agreed = given.plan();
    given.facts.fetch_bytes = 9;
    given.facts.snapshots[0].bytes += 1;
    given.assignment.inner.insert("web.http".into(), 31444);
    (given.assignment.trees, given.assignment.softservice) = ("/other/tree".into(), "/other/softservice".into());
    assert_eq!(given.plan().hash, agreed.hash);
    given.facts.snapshots[0].how = SnapshotHow::Reflink;
    assert_ne!(given.plan().hash, agreed.hash);
}

#[test]
fn a_service_that_is_down_is_no_downtime_but_its_data_is_kept() {
    let mut given = Given::second();
    given.facts.running = false;
    let plan = given.plan();
    assert_eq!(plan.downtime, "none: nothing of it runs now");
    let kinds: Vec<&str> = plan.steps.iter().map(|s| s.kind.as_str()).filter(|k| *k != "tree").collect();
    let wanted = ["file", "port", "port", "limit", "limit", "snapshot", "point", "start", "start", "front", "test"];
    assert_eq!(kinds[..wanted.len()], wanted);
}

#[test]
fn a_limit_that_rises_is_a_permission_and_one_that_falls_is_none() {
    let mut given = Given::new();
    let before = Allow { memory: Some(512 << 20), cpu: Some(1000), processes: Some(10), ..Allow::default() };
    given.pg.roles[0].allow = before.clone();
    given.facts.current = Some(given.instance());
    given.pg.roles[0].allow = Allow { memory: Some(1 << 30), cpu: None, processes: Some(5), ..before };
    given.shelf.roles[1].allow.connect.clear();
    let permissions = given.plan().permissions;
    let wider = ["pg.main: cpu without limit instead of 1 core", "pg.main: memory 1.0 GiB instead of 512.0 MiB"];
    assert_eq!(permissions.added, wider);
    assert_eq!(permissions.removed, ["pg.main: processes 5 instead of 10", "web: connect internet:443"]);
}

#[test]
fn a_role_that_comes_with_an_update_is_a_permission_whatever_it_asks_for() {
    let mut given = Given::new();
    let all = given.instance();
    let mut before = all.clone();
    before.roles.retain(|role| role.key != "pg.main");
    before.permissions.retain(|line| !line.starts_with("pg.main"));
    given.facts.current = Some(before);
    given.pg.roles[0].allow = Allow { memory: Some(64 << 20), ..Allow::default() };
    let added = given.plan().permissions.added;
    assert!(added.contains(&"pg.main: run as a new role, at most memory 64.0 MiB".into()), "{added:?}");
    given.pg.roles[0].allow = Allow::default();
    assert!(given.plan().permissions.added.contains(&"pg.main: run as a new role, without limit".into()));
    given.facts.current = Some(given.instance());
    assert!(given.plan().permissions.added.is_empty(), "what runs is not new");
}

#[test]
fn what_a_device_lacks_is_told() {
    let lack = |what: &str, needed, has| Lack { what: what.into(), needed, has };
    let mut given = Given::new();
    (given.pg.roles[0].needs_memory, given.pg.roles[0].needs_disk) = (Some(3 << 30), Some(20 << 30));
    given.shelf.roles[1].needs_memory = Some(1 << 30);
    (given.facts.memory, given.facts.disk) = (Some(4 << 30), Some(20 << 30));
    let enough = given.plan();
    assert!(enough.lacks.is_empty(), "just so");
    assert!(lines(&enough).contains(&"need pg.main: memory 3.0 GiB, disk 20.0 GiB".into()));
    given.facts.disk = Some(21 << 30);
    assert_eq!(given.plan().hash, enough.hash, "what is free moves by itself");
    (given.facts.memory, given.facts.disk) = (None, None);
    assert_eq!(given.plan().hash, enough.hash, "nobody knows better than the author");
    (given.facts.memory, given.facts.disk) = (Some(2 << 30), Some(1 << 30));
    let plan = given.plan();
    assert_eq!(plan.lacks, [lack("memory", 4 << 30, 2 << 30), lack("disk", 20 << 30, 1 << 30)], "all roles together");
    assert_eq!(plan.lacks[0].describe(), "memory: 4.0 GiB are needed, this device has 2.0 GiB");
    assert_ne!(plan.hash, enough.hash);
    given.facts.disk = Some(2 << 30);
    assert_eq!(given.plan().hash, plan.hash, "so does what is missing");
}

#[test]
fn what_comes_back_at_boot_is_told() {
    let mut given = Given::new();
    let before = given.plan();
    assert!(!before.steps.iter().any(|s| s.kind == "boot"));
    given.facts.at_boot = true;
    let plan = given.plan();
    let told: Vec<&str> = plan.steps.iter().filter(|s| s.kind == "boot").map(|s| s.what.as_str()).collect();
    assert_eq!(told, ["pg.server", "app"]);
    assert_ne!(plan.hash, before.hash, "it is an effect");
}

#[test]
fn what_runs_does_not_need_its_device_anew() {
    let mut given = Given::new();
    (given.pg.roles[0].needs_memory, given.pg.roles[0].needs_disk) = (Some(3 << 30), Some(20 << 30));
    given.facts.current = Some(given.instance());
    (given.facts.memory, given.facts.disk) = (Some(2 << 30), Some(1 << 30));
    assert!(given.plan().lacks.is_empty(), "it needs no more than before");
    (given.pg.roles[0].needs_memory, given.pg.roles[0].needs_disk) = (Some(4 << 30), Some(22 << 30));
    let lacks: Vec<_> = given.plan().lacks.into_iter().map(|l| (l.what, l.needed, l.has)).collect();
    assert_eq!(lacks, [("memory".into(), 4 << 30, 2 << 30), ("disk".into(), 2 << 30, 1 << 30)]);
}

#[test]
fn a_rollback_says_what_is_lost() {
    let mut given = Given::second();
    let restore = RestoreFact { volume: "pg.main.db".into(), generation: 1, bytes: 5 };
    let before = given.plan();
    given.facts.restores = vec![restore];
    let plan = given.plan();
    assert_ne!(plan.hash, before.hash);
    let step = plan.steps.iter().find(|s| s.kind == "restore").expect("a step");
    assert!(step.detail.contains("as it was kept with generation 1") && step.detail.contains("was written since"));
}

/// Changes of which each has an effect, whatever the others do.
const CHANGES: [fn(&mut Given); 20] = [
    |g| g.shelf.roles[1].services[0].command.push("-v".into()),
    |g| g.shelf.roles[1].services[0].environment.push(("X".into(), "1".into())),
    |g| g.shelf.roles[1].files[0].template.push('#'),
    |g| g.shelf.roles[1].files[0].mode = 0o600,
    |g| g.shelf.roles[1].artifacts[0].trees[0].1 = tree(9),
    |g| g.shelf.roles[1].services[0].stop_signal = StopSignal::Quit,
    |g| g.shelf.tests[0].within = Span::seconds(11),
    |g| g.shelf.update.settle = Span::seconds(99),
    |g| g.shelf.version = "1.0.1".into(),
    |g| g.shelf.roles[1].allow.read.push("/etc/hosts".into()),
    |g| g.shelf.roles[1].allow.memory = Some(1 << 20),
    |g| {
        let more = Secret { name: "more".into(), ..g.pg.secrets[0].clone() };
        g.pg.secrets.push(more);
    },
    |g| {
        let more = Volume { name: "more".into(), ..g.pg.roles[0].volumes[0].clone() };
        g.pg.roles[0].volumes.push(more);
    },
    |g| g.pg.roles[0].ports.push(Port { name: "more".into(), wish: None }),
    |g| *g.assignment.ports.get_mut("pg.main.sql").expect("a number") = 21003,
    |g| g.facts.softservice = "other".into(),
    |g| g.facts.generation += 1,
    |g| g.facts.expired.push(1),
    |g| g.facts.isolation.enforced.push("files".into()),
    |g| g.facts.isolation.reduced.push(Reduced { measure: "udp".into(), why: "no".into() }),
];

fn changed(which: &[bool]) -> Plan {
    let mut given = Given::second();
    given.assignment.ports.insert("pg.main.more".into(), 21009);
    for (_, change) in which.iter().zip(CHANGES).filter(|(on, _)| **on) {
        change(&mut given);
    }
    given.plan()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_same_facts_have_the_same_hash_and_any_changed_effect_another(
        one in proptest::collection::vec(any::<bool>(), CHANGES.len()),
        flip in proptest::option::of(0..CHANGES.len()),
    ) {
        let mut other = one.clone();
        if let Some(flip) = flip {
            other[flip] = !other[flip];
        }
        let (first, second) = (changed(&one), changed(&other));
        prop_assert_eq!(first.hash == second.hash, flip.is_none());
        prop_assert_eq!(first == second, flip.is_none());
    }
}
