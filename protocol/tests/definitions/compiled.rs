//! Good definitions compile, to the same bytes each time.

use crate::shelf::{Folder, Shelf, files, good, publisher, shelf, shown};
use softservice_protocol::{codec, definition, release::Release};
use std::{fs, path::PathBuf};

#[test]
fn good_definitions_compile_to_releases_that_every_device_accepts() {
    let mut shelf = shelf();
    for (name, text) in files("good") {
        let release = shelf.compile("me", &text).unwrap_or_else(|p| panic!("{name}:\n{}", shown(&p)));
        release.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        definition::closure::check(&release, &shelf.releases).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = shelf.compile("me", &text).unwrap();
        let bytes = codec::encode(&release).unwrap();
        assert_eq!(bytes, codec::encode(&again).unwrap(), "{name} compiles to the same bytes");
        let back: Release = codec::decode(&bytes).unwrap();
        assert_eq!(back, release);
        shelf.put(release);
    }
}

#[test]
fn the_examples_of_this_repository_are_good() {
    let example = |path: &str| {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path).join(definition::FILE);
        fs::read_to_string(file).unwrap()
    };
    let mut shelf = Shelf::default();
    for path in ["guestbook/data", "guestbook/web", "guestbook"] {
        let text = example(path);
        let d = definition::read(&text).unwrap_or_else(|p| panic!("{path}:\n{}", shown(&p)));
        let advice = definition::check(&d, None, &Folder::for_all_of(&d));
        assert!(advice.iter().all(|p| p.message.contains("is not pinned")), "{path}:\n{}", shown(&advice));
        shelf.publish("me", &text);
    }
}

#[test]
fn the_reference_example_says_what_it_says() {
    let release = shelf().compile("me", &good("photo-shelf")).unwrap();
    let web = release.roles.iter().find(|r| r.name == "web").unwrap();
    assert_eq!((release.revision, release.epoch, release.update.order.join(" ")), (4, 3, "data web".into()));
    assert_eq!((web.devices_min, web.devices_max, web.needs_memory), (1, None, Some(256 << 20)));
    assert_eq!(web.ports.iter().map(|p| (p.name.as_str(), p.wish)).collect::<Vec<_>>(), [("app", Some(8080))]);
    let platforms: Vec<&str> = web.artifacts[0].trees.iter().map(|(p, _)| p.as_str()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(web.files[0].mode, 0o640);
    assert_eq!(web.services[0].secrets, ["admin", "import.db.password", "session"]);
    assert_eq!(release.params.iter().find(|p| p.name == "upload").unwrap().default.as_deref(), Some("209715200"));
    let edge = release.includes.iter().find(|i| i.name == "edge").unwrap();
    assert_eq!((edge.publisher, edge.version.as_str()), (publisher("oakfield"), "2.8.4"));
    assert_eq!(
        edge.with,
        [("site".into(), "${param.domain}".into()), ("upstream".into(), "${web.app.url}".to_owned())]
    );
}

#[test]
fn a_new_distro_is_checked_and_compiled_without_a_word() {
    for (template, _) in definition::scaffold::TEMPLATES {
        let files = definition::scaffold::files(template, "my-thing").unwrap();
        let folder = Folder(files.into_iter().map(|f| (f.path.to_owned(), f.text)).collect());
        let d = definition::read(&folder.0[definition::FILE]).unwrap_or_else(|p| panic!("{}", shown(&p)));
        assert_eq!(shown(&definition::check(&d, None, &folder)), "");
        let release = Shelf::default().compile_in("me", &d, &folder).unwrap();
        assert_eq!(release.distro, "my-thing");
    }
    assert!(definition::scaffold::files("hello", "No Good").is_err());
    assert!(definition::scaffold::files("nothing", "good").unwrap_err().contains("known: hello"));
}
