//! Distros of distros: no circles, no end of them, none missing.

use crate::shelf::{Shelf, shown};

fn including(name: &str, version: &str, includes: &[&str]) -> String {
    let includes = includes.iter().map(|i| format!("[include.the-{i}]\ndistro = \"x/{i}\"\nversion = \"^1\"\n"));
    format!(
        "format = 1\ndistro = {{ name = {name:?}, version = {version:?} }}\n{}[role.main]\n",
        includes.collect::<String>()
    )
}

#[test]
fn a_distro_cannot_contain_itself_by_way_of_others() {
    let mut shelf = Shelf::default();
    shelf.publish("alice", &including("a", "1.0.0", &[]));
    shelf.publish("bob", &including("b", "1.0.0", &["a"]));
    shelf.publish("carol", &including("c", "1.0.0", &["b"]));
    let refused = shown(&shelf.compile("alice", &including("a", "1.1.0", &["c"])).unwrap_err());
    assert!(refused.contains("the distro includes itself: a -> c -> b -> a"), "{refused}");
    // The same name of another publisher is another distro.
    assert!(shelf.compile("dave", &including("a", "1.1.0", &["c"])).is_ok());
}

#[test]
fn a_closure_has_a_limit_and_must_be_complete() {
    let mut shelf = Shelf::default();
    shelf.publish("alice", &including("d0", "1.0.0", &[]));
    let refused = |n: usize, shelf: &mut Shelf| {
        let release = shelf.compile("alice", &including(&format!("d{n}"), "1.0.0", &[&format!("d{}", n - 1)]));
        release.map(|r| shelf.put(r)).map_err(|p| shown(&p))
    };
    // Built by hand, because compiling each link anew would check the whole chain each time.
    for n in 1..=softservice_protocol::limits::CLOSURE {
        let pin = shelf.pins[&format!("d{}", n - 1)].clone();
        let mut next = shelf.releases[&pin.release.id].clone();
        next.distro = format!("d{n}");
        next.includes = vec![softservice_protocol::release::Include {
            name: "inner".into(),
            publisher: pin.publisher,
            distro: pin.distro,
            version: pin.version,
            release: pin.release,
            role: "main".into(),
            with: vec![],
            bind: vec![],
        }];
        shelf.put(next);
    }
    let why = refused(softservice_protocol::limits::CLOSURE + 1, &mut shelf).unwrap_err();
    assert!(why.contains("more than 256 releases"), "{why}");
    refused(100, &mut shelf).unwrap();
    let lost = shelf.pins["d50"].release.id;
    shelf.releases.remove(&lost);
    let why = refused(60, &mut shelf).unwrap_err();
    assert!(why.contains(&format!("d50 1.0.0 ({}) is not here", lost.short())), "{why}");
}
