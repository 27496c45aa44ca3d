//! Units as text, and as systemd itself reads them.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn units(scope: Scope, softservices: &Path) -> Units {
    Units { scope, folder: softservices.with_file_name("units"), softservices: softservices.into() }
}

#[test]
fn a_unit_starts_the_keeper_and_leaves_everything_else_to_it() {
    let units = units(Scope::System, Path::new("/var/lib/softservice/softservices"));
    let folder = Path::new("/var/lib/softservice/softservices/photo-shelf/run/3/front.web");
    let text = units.text(Purpose {
        description: "softservice photo-shelf/front.web",
        command: &["/usr/bin/softservice".into(), "keeper".into()],
        folder,
        task: &folder.join("spec.json"),
        words: &folder.join("keeper.log"),
        grace: Duration::from_secs(20),
    });
    let expected = r#"# Made by softservice, and removed by it with what it is for. Changes do not last.
[Unit]
Description=softservice photo-shelf/front.web
RequiresMountsFor="/var/lib/softservice/softservices/photo-shelf/run/3/front.web"
ConditionPathExists=/var/lib/softservice/softservices/photo-shelf/run/3/front.web/spec.json
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=:"/usr/bin/softservice" "keeper" "/var/lib/softservice/softservices/photo-shelf/run/3/front.web/spec.json"
WorkingDirectory=/
StandardInput=null
StandardOutput=null
StandardError=append:/var/lib/softservice/softservices/photo-shelf/run/3/front.web/keeper.log
KillMode=mixed
TimeoutStopSec=35
Restart=on-failure
RestartSec=200ms
OOMPolicy=continue
Slice=softservice-photo\x2dshelf.slice

[Install]
WantedBy=multi-user.target
"#;
    assert_eq!(text, expected);
}

#[test]
fn every_keeper_has_a_name_of_its_own() {
    let units = units(Scope::System, Path::new("/srv/a/softservices"));
    let name = |folder: &str| units.name(&units.softservices.join(folder));
    assert!(name("book/run/3/web").ends_with("-book.3.web.service"), "{}", name("book/run/3/web"));
    assert_ne!(name("book/run/3/web"), name("book-3/run/3/web"));
    assert_ne!(name("a-b/run/1/c"), name("a/run/1/b-c"));
    let other = Units { softservices: "/srv/b/softservices".into(), ..units.clone() };
    assert_ne!(name("book/run/3/web"), other.name(&other.softservices.join("book/run/3/web")), "another home");
    let long = |end: &str| name(&format!("book/run/3/{}{end}", "x".repeat(250)));
    assert!(long("a").len() < 256 && long("a") != long("b"));
}

/// Says loudly when nothing was verified.
fn verify(scope: &[&str], file: &Path) -> Option<String> {
    let runtime = file.parent().expect("a folder");
    let verify = std::process::Command::new("systemd-analyze")
        .args(scope)
        .args(["verify", "--man=no"])
        .arg(file)
        .env("XDG_RUNTIME_DIR", runtime)
        .output();
    match verify {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}\n{}", std::fs::read_to_string(file).expect("a unit"));
            Some(said)
        }
        Err(e) => {
            eprintln!("SKIPPED, needs systemd-analyze: generated units are verified: {e}");
            None
        }
    }
}

#[test]
fn systemd_takes_our_units_whatever_a_home_is_called() {
    let scratch = tempfile::tempdir().expect("a folder");
    for home in ["plain", "with blank", "100%h $HOME", "it's \"quoted\"", "back\\slash", "grün;#", "'"] {
        let softservices = scratch.path().join(home).join("softservices");
        let folder = softservices.join("photo-shelf/run/3/front.web");
        std::fs::create_dir_all(&folder).expect("folders");
        // systemd itself takes no quotes in a program's path.
        let program = scratch.path().join("soft 100% $service");
        std::fs::write(&program, "#!/bin/sh\n").expect("a program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let task = folder.join("spec.json");
        let purpose = Purpose {
            description: "softservice photo-shelf/front.web",
            command: &[program.display().to_string(), "keeper".into()],
            folder: &folder,
            task: &task,
            words: &folder.join("keeper.log"),
            grace: Duration::from_secs(20),
        };
        for (scope, arguments) in [(Scope::System, &[][..]), (Scope::User, &["--user"][..])] {
            let units = units(scope, &softservices);
            let file = units.file(&folder);
            std::fs::create_dir_all(&units.folder).expect("a folder");
            std::fs::write(&file, units.text(purpose)).expect("a unit");
            let Some(said) = verify(arguments, &file) else { return };
            // Of other units of the machine it may say what it likes.
            let of_ours: Vec<&str> = said.lines().filter(|l| l.contains("softservice-")).collect();
            assert!(of_ours.is_empty(), "{home}: {of_ours:?}");
        }
    }
}

#[tokio::test]
async fn units_are_found_by_their_home_and_known_by_their_task() {
    let scratch = tempfile::tempdir().expect("a folder");
    let softservices = scratch.path().join("100%").join("softservices");
    let units = units(Scope::System, &softservices);
    let purpose = |folder: &Path| {
        let (task, words) = (folder.join("spec.json"), folder.join("keeper.log"));
        let of = Purpose {
            description: "softservice",
            command: &["/bin/true".into()],
            folder,
            task: &task,
            words: &words,
            grace: Duration::ZERO,
        };
        units.text(of)
    };
    let folder = softservices.join("book/run/3/web");
    std::fs::create_dir_all(&units.folder).expect("a folder");
    assert!(!units.has(&folder));
    std::fs::write(units.file(&folder), purpose(&folder)).expect("a unit");
    std::fs::write(units.folder.join("softservice-0000000-book.3.web.service"), "[Unit]\n").expect("another's");
    assert!(units.has(&folder));
    assert_eq!(units.all(), [(units.name(&folder), folder.join("spec.json"))]);
    units.enable(&folder).await.expect("enabled");
    units.enable(&folder).await.expect("enabled already");
    assert_eq!(std::fs::read_link(units.link(&folder)).expect("a link"), units.file(&folder));
    units.enable(&softservices.join("book/run/4/web")).await.expect("not a unit");
    assert!(!units.link(&softservices.join("book/run/4/web")).is_symlink());
}

#[test]
fn a_home_that_no_unit_can_name_is_told_apart() {
    assert!(is_plain(Path::new("/srv/with blank/100%")));
    assert!(!is_plain(Path::new("/srv/with\nline")) && !is_plain(Path::new("/srv/with\u{7f}delete")));
}
