//! Who plays in these stories: a shelf (web) that includes a database (pg), put on one device.

use softservice_protocol::{
    id::{ObjectId, PublisherId, ReleaseId},
    instance::{self, Answers, Assignment, Closure, InstanceError},
    release::*,
    time::Span,
    tree::TreeRef,
};
use std::collections::BTreeMap;

pub(crate) const PG: ReleaseId = ReleaseId([1; 32]);
pub(crate) const SHELF: ReleaseId = ReleaseId([2; 32]);

/// Where the trees of the database and of the application are.
pub(crate) const BIN: &str = "/g/trees/0303030303030303030303030303030303030303030303030303030303030303";
pub(crate) const APP: &str = "/g/trees/0404040404040404040404040404040404040404040404040404040404040404";

/// What the shelf asks for.
pub(crate) const PERMISSIONS: [&str; 3] = [
    "pg.main: be reached from the network at port sql",
    "web: be reached from the network at port http",
    "web: connect internet:443",
];

pub(crate) fn tree(n: u8) -> TreeRef {
    TreeRef { manifest: ObjectId([n; 32]), chunks: vec![], bytes: 10, files: 1 }
}
pub(crate) fn release(distro: &str) -> Release {
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
pub(crate) fn role(name: &str) -> Role {
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
        hooks: vec![],
    }
}
pub(crate) fn service(name: &str, command: &[&str]) -> Service {
    Service {
        name: name.into(),
        command: command.iter().map(|c| (*c).to_owned()).collect(),
        environment: vec![],
        secrets: vec![],
        depends_on: vec![],
        restart: Restart::OnFailure,
        stop_signal: StopSignal::Term,
        stop_grace_period: Span::seconds(5),
        healthcheck: None,
        root: None,
    }
}
pub(crate) fn param(name: &str, kind: ParamKind) -> Param {
    Param { name: name.into(), kind, ask: String::new(), default: None, min: None, max: None }
}
pub(crate) fn export(name: &str, kind: &str, port: Option<&str>, from: Option<&str>) -> Export {
    let (port, from) = (port.map(Into::into), from.map(Into::into));
    Export { name: name.into(), kind: kind.into(), port, from, fields: vec![], secrets: vec![] }
}

/// A database with a volume, a password and a parameter.
pub(crate) fn pg() -> Release {
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
pub(crate) fn shelf() -> Release {
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
pub(crate) fn closure() -> Closure {
    BTreeMap::from([(PG, pg()), (SHELF, shelf())])
}
pub(crate) fn answers() -> Answers {
    BTreeMap::from([("domain".to_owned(), "example.org".to_owned())])
}
pub(crate) fn assignment() -> Assignment {
    Assignment {
        ports: BTreeMap::from([("pg.main.sql".into(), 21001), ("web.http".into(), 21002)]),
        inner: BTreeMap::from([("web.http".into(), 31002)]),
        trees: "/g/trees".into(),
        files: "/g/files".into(),
        volumes: "/v".into(),
        secrets: "/s".into(),
        platform: "linux/amd64".into(),
        softservice: "/bin/softservice".into(),
    }
}
pub(crate) fn resolved(closure: &Closure) -> Result<instance::Instance, InstanceError> {
    instance::resolve(closure, SHELF, &answers(), &assignment())
}
pub(crate) fn needs(closure: &Closure) -> instance::Needs {
    instance::needs(closure, SHELF, &answers(), "linux/amd64").expect("needs")
}
