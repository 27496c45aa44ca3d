//! The owner changes what an author made; the author goes on; nothing of either is lost silently.

use crate::cast::{PG, SHELF, closure, pg, resolved, shelf};
use proptest::prelude::*;
use softservice_protocol::{
    instance::{
        Closure, Instance,
        overlay::{Edit, Laid, Overlay, OverlayError, lay},
    },
    release::{File, Release},
};

const CONFIG: &str = "web/etc/shelf.toml";

fn set_file(key: &str, text: &str) -> Edit {
    Edit::SetFile { key: key.into(), text: text.into(), mode: None }
}
fn set(service: &str, name: &str, value: &str) -> Edit {
    Edit::SetVariable { service: service.into(), name: name.into(), value: value.into() }
}
fn edited(edits: &[Edit]) -> Result<Overlay, OverlayError> {
    Overlay::default().edited(&closure(), SHELF, edits)
}
fn laid(closure: &Closure, overlay: &Overlay) -> Laid {
    lay(closure, SHELF, overlay).expect("a whole closure")
}
fn text<'a>(instance: &'a Instance, path: &str) -> &'a str {
    &instance.files.iter().find(|f| f.path == path).unwrap_or_else(|| panic!("no {path}")).text
}
fn variable<'a>(instance: &'a Instance, service: &str, name: &str) -> Option<&'a String> {
    instance.services.iter().find(|s| s.name == service).expect("a service").environment.get(name)
}
/// A closure with another shelf.
fn with(change: impl FnOnce(&mut Release)) -> Closure {
    let mut shelf = shelf();
    change(&mut shelf);
    Closure::from([(PG, pg()), (SHELF, shelf)])
}
fn template(text: &str) -> impl FnOnce(&mut Release) {
    let text = text.to_owned();
    |shelf| shelf.roles[1].files[0].template = text
}

#[test]
fn nothing_of_ones_own_changes_nothing() {
    let plain = laid(&closure(), &Overlay::default());
    assert_eq!((&plain.closure, plain.changes.len(), plain.conflicts.len()), (&closure(), 0, 0));
}

#[test]
fn own_texts_and_variables_are_filled_in_like_the_authors() {
    let overlay = edited(&[
        set_file(CONFIG, "mine = \"${import.db.address}\"\n"),
        set_file("web/extra/more.toml", "port = ${port.http}\n"),
        set_file("pg.main/pg.conf", "listen = ${port.sql}\n"),
        set("app", "DOMAIN", "other.${param.domain}"),
        set("app", "CACHE", "200"),
        set("pg.server", "SLOW", "1"),
    ])
    .expect("sound edits");
    let laid = laid(&closure(), &overlay);
    assert_eq!((laid.conflicts.len(), laid.changes.len(), &laid.overlay), (0, 6, &overlay));
    let instance = resolved(&laid.closure).expect("it runs");
    assert_eq!(text(&instance, CONFIG), "mine = \"127.0.0.1:21001\"\n");
    assert_eq!(text(&instance, "web/extra/more.toml"), "port = 31002\n");
    assert_eq!(text(&instance, "pg.main/pg.conf"), "listen = 21001\n");
    assert_eq!(variable(&instance, "app", "DOMAIN").expect("set"), "other.example.org");
    assert_eq!(variable(&instance, "app", "CACHE").expect("set"), "200");
    assert_eq!(variable(&instance, "pg.server", "SLOW").expect("set"), "1");
    // Only what was changed differs: what runs on is told by these.
    let (was, data) = (resolved(&closure()).expect("it runs"), "pg.main");
    let print = |i: &Instance, key: &str| i.roles.iter().find(|r| r.key == key).expect("a role").fingerprint.clone();
    assert_ne!(print(&instance, "web"), print(&was, "web"));
    assert_ne!(print(&instance, data), print(&was, data));
    let only_web = edited(&[set("app", "CACHE", "200")]).expect("sound");
    let only_web = resolved(&lay(&closure(), SHELF, &only_web).expect("whole").closure).expect("it runs");
    assert_eq!(print(&only_web, data), print(&was, data));
}

#[test]
fn an_edit_that_cannot_be_says_why() {
    let long = "x".repeat(300_000);
    for (edit, what) in [
        (set_file("shelf.toml", "x"), "ROLE/PATH"),
        (set_file("edge/shelf.toml", "x"), "there is no role \"edge\""),
        (set_file("web/../../etc/passwd", "x"), "stay below"),
        (set_file("web//x", "x"), "stay below"),
        (set_file(CONFIG, "${param.domain"), "${"),
        (set_file(CONFIG, &long), "the most"),
        (set("web", "A", "1"), "there is no service \"web\"; there are"),
        (set("app", "A B", "1"), "letters"),
        (set("app", "1A", "1"), "letters"),
        (set("app", "DB_PASSWORD", "hunter2"), "secret"),
        (set("app", "SECRET_SESSION_FILE", "/tmp/x"), "this device's"),
        (Edit::Drop(CONFIG.into()), "there is nothing"),
    ] {
        let refused = edited(std::slice::from_ref(&edit)).expect_err(what).to_string();
        assert!(refused.contains(what), "{edit:?}: {refused}");
    }
    let most: Vec<Edit> = (0..257).map(|n| set("app", &format!("V{n}"), "1")).collect();
    assert!(matches!(edited(&most), Err(OverlayError::TooMuch { .. })));
}

#[test]
fn what_is_dropped_is_the_authors_again() {
    let overlay = edited(&[set_file(CONFIG, "mine\n"), set("app", "CACHE", "200")]).expect("sound");
    let drop = |key: &str| Edit::Drop(key.into());
    let less = overlay.edited(&closure(), SHELF, &[drop(CONFIG), drop("app.CACHE")]).expect("both are there");
    assert!(less.is_empty());
    let refused = overlay.edited(&closure(), SHELF, &[drop("app.OTHER")]).expect_err("it is not there").to_string();
    assert!(refused.contains(CONFIG) && refused.contains("app.CACHE"), "{refused}");
}

#[test]
fn an_update_merges_what_goes_together() {
    let base = "one\ntwo\nthree\nfour\nfive\n";
    let overlay =
        Overlay::default().edited(&with(template(base)), SHELF, &[set_file(CONFIG, "ONE\ntwo\nthree\nfour\nfive\n")]);
    let overlay = overlay.expect("sound");
    let laid = laid(&with(template("one\ntwo\nthree\nfour\nFIVE\n")), &overlay);
    assert!(laid.conflicts.is_empty(), "{:?}", laid.conflicts);
    let own = &laid.overlay.files[CONFIG];
    assert_eq!(own.text, "ONE\ntwo\nthree\nfour\nFIVE\n");
    assert_eq!(own.base.as_deref(), Some("one\ntwo\nthree\nfour\nFIVE\n"), "the next update is merged with this one");
    assert!(laid.changes[0].detail.contains("merged"), "{:?}", laid.changes);
    // The author takes over what the owner wrote.
    let same = lay(&with(template("ONE\ntwo\nthree\nfour\nfive\n")), SHELF, &overlay).expect("whole");
    assert!(same.conflicts.is_empty() && same.changes[0].detail.contains("equals"));
}

#[test]
fn what_does_not_go_together_is_a_conflict_and_nothing_is_lost() {
    let more = |shelf: &mut Release| {
        let file =
            File { path: "own.toml".into(), template: "theirs\n".into(), mode: 0o600, on_change: "restart".into() };
        shelf.roles[1].files.push(file);
    };
    let renamed = |shelf: &mut Release| shelf.roles[1].services[0].name = "site".into();
    let overlay = edited(&[set_file(CONFIG, "mine\n"), set_file("web/own.toml", "own\n"), set("app", "CACHE", "1")]);
    let overlay = overlay.expect("sound");
    let cases: [(Closure, &str, &str, bool); 4] = [
        (with(template("theirs\n")), CONFIG, "same lines", true),
        (with(|s| s.roles[1].files.clear()), CONFIG, "no such file any more", false),
        (with(more), "web/own.toml", "brings a file", true),
        (with(renamed), "app.CACHE", "no such service", false),
    ];
    for (next, what, why, marked) in cases {
        let laid = laid(&next, &overlay);
        let [conflict] = &laid.conflicts[..] else { panic!("{what}: {:?}", laid.conflicts) };
        assert_eq!(conflict.what, what);
        assert!(conflict.why.contains(why), "{conflict:?}");
        assert_eq!(conflict.marked.is_some(), marked, "{conflict:?}");
        if let Some(text) = &conflict.marked {
            assert!(text.contains("<<<<<<<") && text.contains("theirs") && text.contains(">>>>>>>"), "{text}");
        }
        assert_eq!(laid.overlay, overlay, "it stays until the owner decides");
        // Made against the next release, it goes with it; dropped, the author's stands.
        let key = what.to_owned();
        let settled = match what {
            "app.CACHE" => vec![Edit::Drop(key), set("site", "CACHE", "1")],
            _ => vec![set_file(what, "mine and theirs\n")],
        };
        let settled = overlay.edited(&next, SHELF, &settled).expect("sound");
        assert!(lay(&next, SHELF, &settled).expect("whole").conflicts.is_empty());
    }
    let without_role = with(|s| {
        s.roles[1].name = "site".into();
        s.tests.clear();
    });
    assert_eq!(laid(&without_role, &overlay).conflicts.len(), 2, "both files; the service goes by its own name");
}

#[test]
fn one_release_at_two_places_is_altered_at_one() {
    let twice = with(|s| {
        let mut second = s.includes[0].clone();
        second.name = "archive".into();
        s.includes.push(second);
    });
    let overlay = Overlay::default().edited(&twice, SHELF, &[set("archive.server", "SLOW", "1")]).expect("sound");
    let laid = laid(&twice, &overlay);
    let mut assignment = crate::cast::assignment();
    assignment.ports.insert("archive.main.sql".into(), 21003);
    let answers = crate::cast::answers();
    let instance = softservice_protocol::instance::resolve(&laid.closure, SHELF, &answers, &assignment).expect("runs");
    assert_eq!(variable(&instance, "archive.server", "SLOW").expect("set"), "1");
    assert_eq!(variable(&instance, "pg.server", "SLOW"), None);
    assert_eq!(instance.release, SHELF);
}

proptest! {
    #[test]
    fn laying_is_deterministic_and_never_loses_an_own_line(
        base in "([abc]\n){0,8}", own in "([abcX]\n){0,8}", theirs in "([abcY]\n){0,8}",
    ) {
        let overlay = Overlay::default().edited(&with(template(&base)), SHELF, &[set_file(CONFIG, &own)]).expect("sound");
        let next = with(template(&theirs));
        let one = lay(&next, SHELF, &overlay).expect("whole");
        prop_assert_eq!(&one, &lay(&next, SHELF, &overlay).expect("whole"));
        let count = |text: &str, mark| text.matches(mark).count();
        let kept = &one.overlay.files[CONFIG].text;
        if one.conflicts.is_empty() {
            // What only the owner writes is there as often as before, what only the author writes as often as now.
            prop_assert_eq!(count(kept, 'X'), count(&own, 'X'));
            if base != theirs {
                prop_assert_eq!(count(kept, 'Y'), count(&theirs, 'Y'));
            }
        } else {
            prop_assert_eq!(kept, &own);
        }
    }
}
