//! Bad definitions are explained at their line, with what was meant.

use crate::shelf::{Folder, files, folder, good, shelf, shown};
use softservice_protocol::definition;
use std::fs;

#[test]
fn bad_definitions_are_explained_at_their_line() {
    let bless = std::env::var_os("SOFTSERVICE_BLESS").is_some();
    for (name, text) in files("bad") {
        let problems = match definition::read(&text) {
            Err(problems) => problems,
            Ok(d) => {
                let folder = Folder::for_all_of(&d);
                let problems = definition::check(&d, None, &folder);
                let errors = shelf().compile_in("me", &d, &folder).err().unwrap_or_default();
                [problems, errors].concat()
            }
        };
        let found = shown(&problems);
        assert!(!found.is_empty(), "{name} is bad");
        let path = folder("bad").join(format!("{name}.txt"));
        if bless {
            fs::write(&path, &found).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{name}: SOFTSERVICE_BLESS=1 accepts the new text");
    }
}

#[test]
fn folders_and_templates_that_are_missing_are_told_where_they_are_named() {
    let d = definition::read(&good("photo-shelf")).unwrap();
    let empty = shown(&definition::check(&d, None, &Folder::default()));
    assert!(empty.contains("distro.toml:36:16: error: the folder \"build/linux/arm64\" does not exist"), "{empty}");
    assert!(
        empty.contains("distro.toml:40:29: error: the template \"templates/shelf.toml\" does not exist"),
        "{empty}"
    );
    let mut folder = Folder::for_all_of(&d);
    folder
        .0
        .insert("templates/shelf.toml".into(), "host = $host\nsite = ${param.domian}\nport = ${port.extra}\n".into());
    let wrong = shown(&definition::check(&d, None, &folder));
    assert!(wrong.starts_with("templates/shelf.toml:2:8: error: `${param.domian}` is unknown"), "{wrong}");
    // A port that only a template names is declared by that.
    folder.0.insert("templates/shelf.toml".into(), "port = ${port.extra}\n".into());
    let release = shelf().compile_in("me", &d, &folder).unwrap();
    assert!(release.roles.iter().any(|r| r.ports.iter().any(|p| p.name == "extra" && p.wish.is_none())));
}

#[test]
fn secrets_in_templates_are_told_at_their_line() {
    let d = definition::read(&good("photo-shelf")).unwrap();
    let mut folder = Folder::for_all_of(&d);
    let template =
        "[db]\npassword = \"hunter2\"\nhost = ${import.db.host}\nkey = '''\n-----BEGIN PRIVATE KEY-----\n'''\n";
    folder.0.insert("templates/shelf.toml".into(), template.into());
    let told = definition::check(&d, None, &folder);
    let told: Vec<_> = told.into_iter().filter(|p| p.file == "templates/shelf.toml").collect();
    let wanted = "\
templates/shelf.toml:2:1: warning: \"password\" looks like a secret, and everybody would get the same one (let each device make its own: [secret] NAME = { generate = \"bytes:32\" }, read as a file)
templates/shelf.toml:5:1: warning: a private key stands here, and everybody would get the same one (let each device make its own: [secret] NAME = { generate = \"keypair:ed25519\" })
";
    assert_eq!(shown(&told), wanted);
}
