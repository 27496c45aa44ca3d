//! Stories about instances: a shelf (web) that includes a database (pg), put on one device.

use softservice_protocol::{
    id::{ObjectId, PublisherId, ReleaseId},
    instance::{self, Answers, Assignment, Closure, InstanceError, ProbeSpec},
    plan::{self, Facts},
    release::*,
    time::Span,
    tree::TreeRef,
};
use std::collections::BTreeMap;

const PG: ReleaseId = ReleaseId([1; 32]);
const SHELF: ReleaseId = ReleaseId([2; 32]);

fn tree(n: u8) -> TreeRef {
    TreeRef { manifest: ObjectId([n; 32]), chunks: vec![], bytes: 10, files: 1 }
}
fn release(distro: &str) -> Release {
    Release {
        publisher: PublisherId([9; 32]),
        distro: distro.into(),
        version: "1.0.0".into(),
        revision: 0,
        summary: String::new(),
        platforms: vec![],
        epoch: 0,
        parents: vec![],
        includes: vec![],
        params: vec![],
        secrets: vec![],
        roles: vec![],
        tests: vec![],
        update: Update { order: vec![], settle: Span::seconds(1), migrate: None },
        source: tree(0),
    }
}
fn role(name: &str) -> Role {
    Role {
        name: name.into(),
        devices_min: 1,
        devices_max: None,
        needs_memory: None,
        needs_disk: None,
        imports: vec![],
        exports: vec![],
        artifacts: vec![],
        volumes: vec![],
        ports: vec![],
        files: vec![],
        services: vec![],
        allow: Allow::default(),
    }
}
fn service(name: &str, command: &[&str]) -> Service {
    Service {
        name: name.into(),
        command: command.iter().map(|c| (*c).to_owned()).collect(),
        environment: vec![],
        secrets: vec![],
        depends_on: vec![],
        restart: Restart::OnFailure,
        stop_grace_period: Span::seconds(5),
        healthcheck: None,
        root: None,
    }
}
fn param(name: &str, kind: ParamKind) -> Param {
    Param { name: name.into(), kind, ask: String::new(), default: None, min: None, max: None }
}
fn export(name: &str, kind: &str, port: Option<&str>, from: Option<&str>) -> Export {
    let (port, from) = (port.map(Into::into), from.map(Into::into));
    Export { name: name.into(), kind: kind.into(), port, from, fields: vec![], secrets: vec![] }
}

/// A database with a volume, a password and a parameter.
fn pg() -> Release {
    let mut main = role("main");
    main.ports = vec![Port { name: "sql".into(), wish: Some(5432) }];
    main.volumes = vec![Volume { name: "db".into(), mount: None, backup: "none".into(), keep_on_remove: true }];
    main.artifacts = vec![Artifact { name: "bin".into(), trees: vec![("any".into(), tree(3))] }];
    let mut sql = export("sql", "postgresql/1", Some("sql"), None);
    sql.fields = vec![("database".into(), "${param.database}".into())];
    sql.secrets = vec![("password".into(), "admin".into())];
    main.exports = vec![sql];
    let mut server = service("server", &["${artifact.bin}/pg", "--port", "${port.sql}", "--data", "${volume.db}"]);
    server.secrets = vec!["admin".into()];
    main.services = vec![server];
    Release {
        params: vec![param("database", ParamKind::Text)],
        secrets: vec![Secret { name: "admin".into(), generate: Generate::Bytes(32), roles: vec![], show_once: false }],
        roles: vec![main],
        ..release("postgres")
    }
}

/// A web role that uses the database through the role beside which it stands.
fn shelf() -> Release {
    let mut data = role("data");
    data.exports = vec![export("sql", "postgresql/1", None, Some("pg.sql"))];
    let mut web = role("web");
    web.imports = vec![Import { name: "db".into(), kind: "postgresql/1".into(), from: Some("data.sql".into()) }];
    web.ports = vec![Port { name: "http".into(), wish: Some(8080) }];
    web.exports = vec![export("app", "http/1", Some("http"), None)];
    web.artifacts = vec![Artifact { name: "app".into(), trees: vec![("linux/amd64".into(), tree(4))] }];
    web.files = vec![File {
        path: "etc/shelf.toml".into(),
        template: "db = \"${import.db.address}/${import.db.database}\"\nhome = \"$${HOME}\"\n".into(),
        mode: 0o640,
        on_change: "restart".into(),
    }];
    let mut app = service("app", &["${artifact.app}/shelf", "${files}/etc/shelf.toml"]);
    app.environment = vec![("DOMAIN".into(), "${param.domain}".into())];
    app.secrets = vec!["import.db.password".into()];
    app.depends_on = vec!["import.db".into()];
    app.healthcheck = Some(Healthcheck {
        probe: Probe::Http { url: ":${port.http}/healthz".into(), status: 200, contains: None },
        interval: Span::seconds(1),
        timeout: Span::seconds(1),
        start_period: Span::seconds(1),
        retries: 3,
    });
    web.services = vec![app];
    web.allow.connect = vec!["import.db".into(), "internet:443".into()];
    Release {
        includes: vec![Include {
            name: "pg".into(),
            publisher: PublisherId([8; 32]),
            distro: "postgres".into(),
            version: "1.0.0".into(),
            release: ReleaseRef { id: PG, size: 1 },
            role: "data".into(),
            with: vec![("database".into(), "shelf-${param.domain}".into())],
            bind: vec![],
        }],
        params: vec![param("domain", ParamKind::Hostname)],
        roles: vec![data, web],
        tests: vec![Test {
            name: "login".into(),
            role: "web".into(),
            probe: Probe::Http { url: "${web.app.url}/login".into(), status: 200, contains: None },
            within: Span::seconds(10),
            when: vec![],
        }],
        ..release("shelf")
    }
}
fn closure() -> Closure {
    BTreeMap::from([(PG, pg()), (SHELF, shelf())])
}
fn answers() -> Answers {
    BTreeMap::from([("domain".to_owned(), "example.org".to_owned())])
}
fn assignment() -> Assignment {
    Assignment {
        ports: BTreeMap::from([("pg.main.sql".into(), 21001), ("web.http".into(), 21002)]),
        trees: "/g/tree".into(),
        files: "/g/files".into(),
        volumes: "/v".into(),
        secrets: "/s".into(),
        platform: "linux/amd64".into(),
        softservice: "/bin/softservice".into(),
    }
}
fn resolved(closure: &Closure) -> Result<instance::Instance, InstanceError> {
    instance::resolve(closure, SHELF, &answers(), &assignment())
}
fn needs(closure: &Closure) -> instance::Needs {
    instance::needs(closure, SHELF, &answers(), "linux/amd64").expect("needs")
}

#[test]
fn the_device_learns_what_it_needs() {
    let needs = instance::needs(&closure(), SHELF, &Answers::new(), "linux/amd64").expect("needs");
    assert_eq!(needs.questions.iter().map(|q| q.name.as_str()).collect::<Vec<_>>(), ["domain"]);
    let ports: Vec<_> = needs.ports.iter().map(|p| (p.key.as_str(), p.wish)).collect();
    assert_eq!(ports, [("pg.main.sql", Some(5432)), ("web.http", Some(8080))]);
    assert_eq!(needs.trees.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(), ["pg.main.bin", "web.app"]);
    assert_eq!(needs.volumes.iter().map(|v| v.key.as_str()).collect::<Vec<_>>(), ["pg.main.db"]);
    assert_eq!(needs.secrets.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["pg.admin"]);
    assert_eq!(needs.roles.iter().find(|r| r.key == "web").expect("web").uses, ["pg.main"]);
}

#[test]
fn the_shelf_finds_its_database_through_exports() {
    let instance = resolved(&closure()).expect("an instance");
    let names: Vec<&str> = instance.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["pg.server", "app"], "the database starts first");
    let [server, app] = &instance.services[..] else { panic!("two services") };
    assert_eq!(server.command, ["/g/tree/pg.main.bin/pg", "--port", "21001", "--data", "/v/pg.main.db"]);
    assert_eq!(app.after, ["pg.server"]);
    assert_eq!(app.environment["SECRET_DB_PASSWORD_FILE"], "/s/pg.admin");
    assert_eq!(app.environment["DOMAIN"], "example.org");
    assert_eq!(instance.files[0].path, "web/etc/shelf.toml");
    assert_eq!(instance.files[0].text, "db = \"127.0.0.1:21001/shelf-example.org\"\nhome = \"${HOME}\"\n");
    assert_eq!(instance.permissions, ["web: connect internet:443"], "its own import is no permission");
    let urls: Vec<&str> = instance.endpoints.iter().map(|e| e.url.as_str()).collect();
    assert_eq!(urls, ["http://127.0.0.1:21002", "postgresql://127.0.0.1:21001"]);
    let health = app.health.as_ref().expect("a healthcheck");
    let wanted = ProbeSpec::Http { url: "http://127.0.0.1:21002/healthz".into(), status: 200, contains: None };
    assert_eq!(health.probe, wanted);
}

#[test]
fn answers_are_typed_and_known() {
    let ask = |name: &str, answer: &str| {
        let answers = BTreeMap::from([(name.to_owned(), answer.to_owned())]);
        instance::needs(&closure(), SHELF, &answers, "linux/amd64").expect_err("refused")
    };
    assert!(matches!(ask("domain", "no host"), InstanceError::Answer { .. }));
    assert!(ask("domian", "x.org").to_string().contains("asks for domain"));
    let none = instance::resolve(&closure(), SHELF, &Answers::new(), &assignment());
    assert_eq!(none, Err(InstanceError::Unanswered { names: "domain".into() }));
}

#[test]
fn mistakes_of_the_author_are_named_with_their_place() {
    let with = |change: fn(&mut Release)| {
        let mut closure = closure();
        change(closure.get_mut(&SHELF).expect("shelf"));
        resolved(&closure).expect_err("refused").to_string()
    };
    let holds = |text: String, part: &str| assert!(text.contains(part), "{text:?} lacks {part:?}");
    holds(with(|r| r.roles[1].services[0].command[0] = "${artifact.ap}/x".into()), "there are app");
    holds(with(|r| r.roles[1].imports[0].kind = "postgresql/2".into()), "wants postgresql/2");
    holds(with(|r| r.roles[1].imports[0].from = Some("data.sqll".into())), "exports no \"sqll\"");
    holds(with(|r| r.roles[1].imports[0].from = None), "nobody includes");
    holds(with(|r| r.includes[0].with.clear()), "needs its parameter database");
    holds(with(|r| r.roles[0].exports[0].from = Some("data.sql".into())), "leads back to itself");
    holds(with(|r| r.roles[1].services[0].depends_on = vec!["ap".into()]), "no such service");
    holds(with(|r| r.roles[1].services[0].root = Some("app".into())), "sandbox");
    holds(with(|r| r.roles[1].files[0].path = "../x".into()), "must be relative");
    holds(with(|r| r.platforms = vec!["linux/arm64".into()]), "this device is linux/amd64");
    holds(with(|r| r.roles[1].services[0].command[0] = "${secret.none}".into()), "no such secret");
    holds(with(|r| r.roles[1].services[0].command[0] = "${param.none}".into()), "there is no parameter \"none\"");
}

#[test]
fn a_secret_serves_only_the_roles_it_is_for() {
    let mut closure = closure();
    closure.get_mut(&PG).expect("pg").secrets[0].roles = vec!["other".into()];
    assert!(resolved(&closure).expect_err("refused").to_string().contains("not in the secret's \"for\""));
}

#[test]
fn circles_of_parameters_and_of_services_end() {
    let mut looped = closure();
    let shelf = looped.get_mut(&SHELF).expect("shelf");
    let mut second = service("second", &["/bin/true"]);
    second.depends_on = vec!["app".into()];
    shelf.roles[1].services[0].depends_on = vec!["second".into()];
    shelf.roles[1].services.push(second);
    assert!(matches!(resolved(&looped), Err(InstanceError::Circle { .. })));

    let mut doubling = closure();
    let shelf = doubling.get_mut(&SHELF).expect("shelf");
    shelf.roles[1].exports[0].fields = vec![("x".into(), "${web.app.x}${web.app.x}".into())];
    shelf.roles[1].services[0].command[0] = "${web.app.x}".into();
    assert!(matches!(resolved(&doubling), Err(InstanceError::Circle { .. })));
}

#[test]
fn includes_of_includes_cannot_multiply_without_end() {
    let mut bomb = Closure::new();
    for level in 0..12u8 {
        let mut release = release("bomb");
        release.roles = vec![role("main")];
        for name in ["a", "b"].into_iter().filter(|_| level > 0) {
            release.includes.push(Include {
                name: name.into(),
                publisher: PublisherId([8; 32]),
                distro: "bomb".into(),
                version: "1.0.0".into(),
                release: ReleaseRef { id: ReleaseId([level - 1; 32]), size: 1 },
                role: "main".into(),
                with: vec![],
                bind: vec![],
            });
        }
        bomb.insert(ReleaseId([level; 32]), release);
    }
    let refused = instance::needs(&bomb, ReleaseId([11; 32]), &Answers::new(), "linux/amd64");
    assert!(matches!(refused, Err(InstanceError::TooMuch { .. })));
}

#[test]
fn only_roles_that_can_be_tried_apart_are_rehearsed() {
    let old = needs(&closure()).roles;
    let mut tried = instance::rehearsable(&old, &old);
    tried.sort_unstable();
    assert_eq!(tried, ["data", "web"], "its database runs unchanged");
    let mut newer = closure();
    newer.get_mut(&PG).expect("pg").roles[0].services[0].command.push("--new".into());
    let new = needs(&newer).roles;
    assert_eq!(instance::rehearsable(&new, &old), ["data"], "the new shelf must not be tried against the old database");
}

#[test]
fn a_plan_says_everything_and_its_hash_covers_it() {
    let closure = closure();
    let needs = needs(&closure);
    let instance = resolved(&closure).expect("an instance");
    let facts = Facts { softservice: "shelf", generation: 1, fetch_bytes: 7, ..Facts::default() };
    let first = plan::plan(SHELF, &needs, &instance, &facts);
    assert_eq!(first.hash, first.digest());
    assert_eq!(first.permissions.added, ["web: connect internet:443"]);
    assert_eq!(first.secrets_made, ["pg.admin"]);
    assert!(first.isolation.starts_with("none"));
    let kinds: Vec<&str> = first.steps.iter().map(|s| s.kind.as_str()).collect();
    let wanted =
        ["tree", "tree", "file", "secret", "volume", "port", "port", "point", "start", "start", "test", "keep"];
    assert_eq!(kinds, wanted);
    let fetched = plan::plan(SHELF, &needs, &instance, &Facts { fetch_bytes: 0, ..facts.clone() });
    assert_eq!(fetched.hash, first.hash, "content that arrives does not void an agreed plan");
    let running = Facts { current: Some((1, &instance)), running: true, generation: 2, ..facts };
    let second = plan::plan(SHELF, &needs, &instance, &running);
    assert_ne!(second.hash, first.hash);
    assert!(second.permissions.added.is_empty());
    assert!(second.steps.iter().any(|s| s.kind == "rehearse" && s.what == "app"));
    let json = serde_json::to_value(&second).expect("json");
    assert_eq!(json["plan"], second.hash.as_str());
    assert_eq!(json["from_release"], SHELF.to_string().as_str());
}
