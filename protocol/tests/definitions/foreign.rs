//! Releases and texts that somebody made to harm.

use crate::shelf::{Folder, good, shelf};
use softservice_protocol::{
    codec, definition,
    release::{Param, Release, Service},
};

#[test]
fn a_foreign_release_is_refused_for_every_rule_that_it_breaks() {
    let sound = shelf().compile("mallory", &good("photo-shelf")).unwrap();
    sound.check().unwrap();
    type Lie = fn(&mut Release);
    let lies: Vec<(&str, Lie)> = vec![
        ("distro.name", |r| r.distro = "evil\u{1b}[2J".into()),
        ("distro.version", |r| r.version = "new".into()),
        ("distro.summary", |r| r.summary = "a\u{202e}b".into()),
        ("stands after", |r| r.roles.reverse()),
        ("canonical order", |r| {
            let earlier = Service { name: "aaa".into(), ..r.roles[1].services[0].clone() };
            r.roles[1].services.push(earlier);
        }),
        ("stands there twice", |r| r.tests.insert(1, r.tests[0].clone())),
        ("\"../../x\" would leave", |r| r.roles[1].files[0].path = "../../x".into()),
        ("permission bits", |r| r.roles[1].files[0].mode = 0o4755),
        ("there is no port \"none\"", |r| r.roles[1].exports[0].port = Some("none".into())),
        ("0 is not a port", |r| r.roles[1].ports[0].wish = Some(0)),
        ("`${secret.none}` is unknown", |r| r.roles[1].files[0].template = "${secret.none}".into()),
        ("U+001B", |r| r.roles[1].files[0].template = "greeting = \u{1b}[2J\n".into()),
        ("never closed", |r| r.roles[1].services[0].command[0] = "${".into()),
        ("the command is empty", |r| r.roles[1].services[0].command.clear()),
        ("a /proc of its own", |r| r.roles[1].allow.read = vec!["/proc/1".into()]),
        ("a /dev of its own", |r| r.roles[1].allow.write = vec!["/dev/sda".into()]),
        ("a /dev of its own", |r| r.roles[1].volumes[0].mount = Some("/dev".into())),
        ("the whole device", |r| r.roles[1].allow.read = vec!["/".into()]),
        ("must be absolute", |r| r.roles[1].allow.read = vec!["etc".into()]),
        ("there is no role \"none\"", |r| r.includes[0].role = "none".into()),
        ("beside which role", |r| r.includes[0].role.clear()),
        ("includes itself", |r| {
            r.includes[0].publisher = r.publisher;
            r.includes[0].distro = r.distro.clone();
        }),
        ("of 0 bytes", |r| r.includes[0].release.size = 0),
        ("impossible sizes", |r| r.source.bytes = u64::MAX),
        ("impossible sizes", |r| r.roles[1].artifacts[0].trees[0].1.chunks[0].len = 0),
        ("it has no tree", |r| r.roles[1].artifacts[0].trees.clear()),
        ("more than 256", |r| r.tests = vec![r.tests[0].clone(); 257]),
        ("longer than a day", |r| r.update.settle = softservice_protocol::time::Span(u64::MAX)),
        ("would never run", |r| r.tests[0].when.clear()),
    ];
    for (wanted, lie) in lies {
        let mut release = sound.clone();
        lie(&mut release);
        let error = release.check().expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(softservice_protocol::text::is_plain(&error), "{error:?}");
    }
}

#[test]
fn a_megabyte_of_mistakes_costs_no_more_than_a_megabyte() {
    let sound = shelf().compile("mallory", &good("photo-shelf")).unwrap();
    let long = "x".repeat(29);
    let nonsense = [
        "${".repeat(400_000),
        "${import.db.nothing}".repeat(40_000),
        format!("${{param.{long}}}").repeat(20_000),
        "${web.app.nothing}".repeat(50_000),
        "${".to_owned() + &"a.".repeat(400_000),
    ];
    for text in nonsense {
        let mut release = sound.clone();
        release.roles[1].files[0].template = text.clone();
        release.params =
            (0..256).map(|n| Param { name: format!("{}{n:03}", &long), ..sound.params[0].clone() }).collect();
        assert!(codec::encode(&release).is_ok());
        assert!(release.check().is_err());
        let mut folder = Folder::for_all_of(&definition::read(&good("photo-shelf")).unwrap());
        folder.0.insert("templates/shelf.toml".into(), text);
        let d = definition::read(&good("photo-shelf")).unwrap();
        assert!(!definition::check(&d, None, &folder).is_empty());
    }
    let mut release = sound.clone();
    let service = release.roles[1].services[0].clone();
    let names = (0..256).map(|n| format!("s{n:03}")).collect::<Vec<_>>();
    release.roles[1].services =
        names.iter().map(|n| Service { name: n.clone(), depends_on: names.clone(), ..service.clone() }).collect();
    assert!(release.check().unwrap_err().to_string().contains("wait for each other"));
}

#[test]
fn no_depth_exhausts_the_stack() {
    for deep in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(50_000)),
        "a.".repeat(100_000) + "a = 1",
    ] {
        assert!(definition::read(&deep).is_err());
    }
    assert!(definition::read(&"#".repeat(2 << 20)).is_err());
}
