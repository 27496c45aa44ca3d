//! References: what each stands for, and how mistakes in them are told.

use crate::cast::*;
use softservice_protocol::{
    id::{PublisherId, ReleaseId},
    instance::{self, Answers, Closure, InstanceError, ProbeSpec},
    release::*,
};
use std::collections::BTreeMap;

#[test]
fn the_device_learns_what_it_needs() {
    let needs = instance::needs(&closure(), SHELF, &Answers::new(), "linux/amd64").expect("needs");
    assert_eq!(needs.questions.iter().map(|q| q.name.as_str()).collect::<Vec<_>>(), ["domain"]);
    let ports: Vec<_> = needs.ports.iter().map(|p| (p.key.as_str(), p.wish)).collect();
    assert_eq!(ports, [("pg.main.sql", Some(5432)), ("web.http", Some(8080))]);
    assert_eq!(needs.trees.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(), ["pg.main.bin", "web.app"]);
    assert_eq!(needs.volumes.iter().map(|v| v.key.as_str()).collect::<Vec<_>>(), ["pg.main.db"]);
    assert_eq!(needs.secrets.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["pg.admin"]);
    let fronted: Vec<_> = needs.ports.iter().filter(|p| p.fronted).map(|p| p.key.as_str()).collect();
    assert_eq!(fronted, ["web.http"], "what keeps data is alone");
}

#[test]
fn the_shelf_finds_its_database_through_exports() {
    let instance = resolved(&closure()).expect("an instance");
    let names: Vec<&str> = instance.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["pg.server", "app"], "the database starts first");
    let [server, app] = &instance.services[..] else { panic!("two services") };
    assert_eq!(server.command, [&*format!("{BIN}/pg"), "--port", "21001", "--data", "/v/pg.main.db"]);
    assert_eq!(app.after, ["pg.server"]);
    assert_eq!(app.environment["SECRET_DB_PASSWORD_FILE"], "/s/pg.admin");
    assert_eq!(app.environment["DOMAIN"], "example.org");
    assert_eq!(instance.files[0].path, "web/etc/shelf.toml");
    assert_eq!(instance.files[0].text, "db = \"127.0.0.1:21001/shelf-example.org\"\nhome = \"${HOME}\"\n");
    assert_eq!(instance.permissions, PERMISSIONS, "its own import is no permission");
    let urls: Vec<&str> = instance.endpoints.iter().map(|e| e.url.as_str()).collect();
    assert_eq!(urls, ["http://127.0.0.1:21002", "postgresql://127.0.0.1:21001"]);
    let health = app.health.as_ref().expect("a healthcheck");
    let wanted = ProbeSpec::Http { url: "http://127.0.0.1:31002/healthz".into(), status: 200, contains: None };
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
    holds(with(|r| r.roles[1].services[0].root = Some("none".into())), "no such artifact");
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
