//! What each program may see and do.

use crate::cast::*;
use softservice_protocol::{
    instance::{
        self, BACKUP, Instance, Sandbox,
        sandbox::{Listen, Mount, Network, Reach, Transport},
    },
    release::*,
    time::Span,
};

fn resolved_with(change: impl Fn(&mut Release, &mut Release)) -> Instance {
    let (mut pg, mut shelf) = (pg(), shelf());
    change(&mut pg, &mut shelf);
    let closure = [(PG, pg), (SHELF, shelf)].into();
    instance::resolve(&closure, SHELF, &answers(), &assignment()).expect("an instance")
}
fn sandbox<'i>(instance: &'i Instance, service: &str) -> &'i Sandbox {
    &instance.services.iter().find(|s| s.name == service).expect("the service").sandbox
}
fn read(sandbox: &Sandbox) -> Vec<&str> {
    sandbox.read.iter().map(|m| m.at.as_str()).collect()
}
fn tcp(port: u16) -> Listen {
    Listen { transport: Transport::Tcp, port }
}
fn reach(to: Network, port: u16) -> Reach {
    Reach { to, port: Some(port) }
}

#[test]
fn a_program_gets_what_its_role_owns_and_lists() {
    let instance = resolved_with(|_, _| {});
    let server = sandbox(&instance, "pg.server");
    assert_eq!(read(server), ["/g/files/pg.main", BIN, "/s/pg.admin"]);
    assert_eq!(server.write, [Mount::here("/v/pg.main.db")]);
    assert_eq!(server.listen, [tcp(21001)]);
    assert_eq!(server.connect, [reach(Network::Device, 21001)]);
    let app = sandbox(&instance, "app");
    assert_eq!(read(app), ["/g/files/web", APP, "/s/pg.admin"], "the import's secret is listed");
    assert!(app.write.is_empty() && app.root.is_none());
    assert_eq!(app.listen, [tcp(31002)], "the number behind the front");
    let peers = [
        reach(Network::Import, 21001),
        reach(Network::Device, 21002),
        reach(Network::Device, 31002),
        reach(Network::Internet, 443),
    ];
    assert_eq!(app.connect, peers);
    assert_eq!(instance.fronts.len(), 1, "the database keeps data: it has one number");
    let front = &instance.fronts[0];
    assert_eq!((front.key.as_str(), front.role.as_str()), ("web.http", "web"));
    assert_eq!((front.public, front.inner, front.everywhere), (21002, 31002, true));
}

#[test]
fn allow_adds_exactly_what_it_names() {
    let instance = resolved_with(|pg, shelf| {
        pg.roles[0].volumes[0].mount = Some("/var/lib/pg".into());
        let allow = &mut shelf.roles[1].allow;
        allow.listen = vec!["tcp:8080".into(), "udp:53".into()];
        allow.connect = vec!["device:5000".into(), "import.db".into(), "lan:*".into()];
        allow.read = vec!["/etc/hosts".into()];
        allow.write = vec!["/srv/photos".into()];
        (allow.memory, allow.cpu, allow.processes) = (Some(1 << 20), Some(500), Some(7));
    });
    let both = [Mount::here("/v/pg.main.db"), Mount { from: "/v/pg.main.db".into(), at: "/var/lib/pg".into() }];
    assert_eq!(sandbox(&instance, "pg.server").write, both);
    let app = sandbox(&instance, "app");
    assert!(app.listen.contains(&tcp(8080)) && app.listen.contains(&Listen { transport: Transport::Udp, port: 53 }));
    assert!(app.connect.contains(&Reach { to: Network::Lan, port: None }));
    assert!(app.connect.contains(&reach(Network::Device, 5000)));
    assert_eq!(app.connect.iter().filter(|r| r.to == Network::Import).count(), 1, "no import twice");
    assert!(read(app).contains(&"/etc/hosts"));
    assert_eq!(app.write, [Mount::here("/srv/photos")]);
    assert_eq!((app.memory, app.cpu, app.processes), (Some(1 << 20), Some(500), Some(7)));
    let web = instance.roles.iter().find(|r| r.key == "web").expect("web");
    assert!(web.alone && instance.fronts.is_empty(), "two of it cannot listen on the same fixed number");
}

#[test]
fn a_keypair_comes_with_its_public_half() {
    let instance = resolved_with(|pg, _| pg.secrets[0].generate = Generate::Keypair);
    let app = sandbox(&instance, "app");
    assert_eq!(read(app), ["/g/files/web", APP, "/s/pg.admin", "/s/pg.admin.pub"]);
}

#[test]
fn a_tree_can_be_the_whole_root() {
    let instance = resolved_with(|pg, _| {
        pg.roles[0].services[0].root = Some("bin".into());
        pg.tests = vec![exec("rows", &["/usr/bin/psql"])];
    });
    assert_eq!(sandbox(&instance, "pg.server").root.as_deref(), Some(BIN));
    let test = instance.tests.iter().find(|t| t.name == "pg.rows").expect("the test");
    assert_eq!(test.sandbox.root.as_deref(), Some(BIN), "tests look from where the service looks");
}

fn exec(name: &str, command: &[&str]) -> Test {
    Test {
        name: name.into(),
        role: "main".into(),
        probe: Probe::Exec { command: command.iter().map(|c| (*c).to_owned()).collect() },
        within: Span::seconds(1),
        when: vec!["install".into()],
    }
}

#[test]
fn tests_hooks_and_migrations_see_what_their_role_sees_and_what_they_name() {
    let instance = resolved_with(|pg, shelf| {
        pg.secrets.push(Secret { name: "spare".into(), ..pg.secrets[0].clone() });
        pg.roles[0].services[0].environment = vec![("PORT".into(), "${port.sql}".into())];
        pg.roles[0].hooks = vec![Hook {
            kind: HookKind::Backup,
            command: vec!["${softservice}".into(), "${backup}/rows".into(), "${secret.spare}".into()],
            within: Span::seconds(60),
        }];
        pg.update.migrate = Some(Migrate {
            from_epoch: 1,
            role: "main".into(),
            command: vec!["${artifact.bin}/migrate".into()],
            needs_snapshot: true,
        });
        let command = vec!["${artifact.app}/ask".into(), "${data.sql.address}".into(), "${web.app.port}".into()];
        shelf.tests[0].probe = Probe::Exec { command };
    });
    let hook = &instance.hooks[0];
    assert_eq!((hook.role.as_str(), hook.kind), ("pg.main", HookKind::Backup));
    assert_eq!(hook.command, ["/bin/softservice", &format!("{BACKUP}/rows"), "/s/pg.spare"]);
    assert_eq!(hook.environment["PORT"], "21001");
    assert_eq!(hook.environment["SECRET_ADMIN_FILE"], "/s/pg.admin");
    let seen = ["/bin/softservice", "/g/files/pg.main", BIN, "/s/pg.admin", "/s/pg.spare"];
    assert_eq!(read(&hook.sandbox), seen);
    assert_eq!(hook.sandbox.write, [Mount::here("/v/pg.main.db")]);
    assert!(!read(sandbox(&instance, "pg.server")).contains(&"/s/pg.spare"), "the service does not list it");
    let migrate = &instance.migrate[0];
    assert_eq!((migrate.component.as_str(), migrate.role.as_str()), ("pg", "pg.main"));
    assert_eq!(migrate.command, [format!("{BIN}/migrate")]);
    assert_eq!(migrate.sandbox.write, [Mount::here("/v/pg.main.db")]);
    let test = &instance.tests[0];
    assert_eq!(test.environment["DOMAIN"], "example.org");
    let instance::ProbeSpec::Exec { command } = &test.probe else { panic!("a program") };
    assert_eq!(command[1..], ["127.0.0.1:21001", "21002"], "tests ask where everybody asks");
    assert!(test.sandbox.connect.contains(&reach(Network::Import, 21001)));
}

#[test]
fn the_backup_folder_is_known_to_hooks_only() {
    let mut closure = closure();
    closure.get_mut(&SHELF).expect("shelf").roles[1].services[0].command.push("${backup}".into());
    assert!(resolved(&closure).expect_err("refused").to_string().contains("in hooks only"));
}
