//! What strangers write, on its way to a terminal: the real binary prints definitions, programs' output and logs that
//! hold control characters, escape sequences, bidi and zero-width characters. Invariant: nothing hidden comes out, on
//! either output, with `--json` or without, and programs read in JSON exactly what was written.

use softservice_protocol::text::is_hidden;
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Clears a screen, changes a title and a colour, turns a line around, joins letters invisibly, rings.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;root\u{7}\u{9b}31m\u{202e}drow\u{200b}ssap\u{2066}\u{feff}\u{7f}\u{e0041}";

const DISTRO: &str = r#"format = 1
[distro]
name = "evil"
version = "1.0.0"
[role.main]
export.page = { type = "http/1", port = "http" }
[role.main.artifact]
site = { tree = "site" }
[role.main.service.web]
command = ["${artifact.site}/serve.sh", "${softservice}", "${artifact.site}", "${port.http}"]
healthcheck = { http = ":${port.http}/", interval = "1s" }
[test]
speaks = { on = "main", exec = ["${artifact.site}/speak.sh"], within = "5s" }
[update]
settle = "100ms"
"#;

fn softservice(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_softservice"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        .env("SOFTSERVICE_HOME", folder.join("home"))
        .env("SOFTSERVICE_UNITS", "off")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>, of: &str| {
        let text = String::from_utf8(bytes).expect("UTF-8");
        let hidden: Vec<char> = text.chars().filter(|c| is_hidden(*c) && !matches!(c, '\n' | '\t')).collect();
        assert!(hidden.is_empty(), "{of} of {arguments:?} holds {hidden:?}:\n{text:?}");
        text
    };
    (text(output.stdout, "output"), text(output.stderr, "errors"), output.status.code().unwrap_or(-1))
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

#[test]
fn hostile_text_reaches_no_terminal_as_it_is() {
    let folder = tempfile::Builder::new().prefix("hostile-").tempdir().expect("a folder");
    let at = folder.path();
    std::fs::create_dir_all(at.join("evil/site")).expect("a folder");
    script(&at.join("evil/site/serve.sh"), &format!("echo '{EVIL} said'; exec \"$1\" serve-static \"$2\" \"$3\""));
    script(&at.join("evil/site/speak.sh"), &format!("echo '{EVIL} tested'; exit 1"));
    std::fs::write(at.join("evil/site/index.html"), "hello\n").expect("written");
    let definition = |text: &str| std::fs::write(at.join("evil/distro.toml"), text).expect("written");

    // A definition that somebody hands over: names, values and keys that are refused are quoted in the refusal.
    for (old, new) in [
        ("name = \"evil\"", format!("name = \"evil{}\"", EVIL.escape_unicode().to_string().replace("\\u{", "\\U{"))),
        ("version = \"1.0.0\"", format!("version = \"1.0.0\"\n\"su{EVIL}mmary\" = 1")),
        ("/serve.sh", format!("/{EVIL}")),
        ("[test]", format!("[test{EVIL}]")),
    ] {
        assert!(DISTRO.contains(old));
        definition(&DISTRO.replacen(old, &new, 1));
        for arguments in [&["check", "evil"][..], &["--json", "check", "evil"], &["-vvv", "check", "evil"]] {
            assert_eq!(softservice(at, arguments).2, 1, "{arguments:?} with {new:?}");
        }
    }
    definition(DISTRO);

    // What somebody sent to be typed.
    for arguments in [["subscribe", EVIL], ["show", EVIL], ["unsubscribe", EVIL], ["ps", EVIL], ["ticket", EVIL]] {
        let (_, errors, code) = softservice(at, &arguments);
        assert!(code != 0 && errors.contains("error"), "{arguments:?}: {errors}");
        let (json, ..) = softservice(at, &[&["--json"], &arguments[..]].concat());
        assert!(serde_json::from_str::<serde_json::Value>(json.trim()).expect("JSON")["error"].is_object());
    }

    // What a program prints: in a test's outcome, and in the log of a service.
    let (output, _, code) = softservice(at, &["test", "evil"]);
    assert_eq!(code, 1, "its test fails: {output}");
    let (json, ..) = softservice(at, &["--json", "test", "evil"]);
    let json: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    let said = json["tests"][0]["output"].as_str().expect("the test's output");
    assert!(said.contains(&format!("{EVIL} tested")), "a program reads what was written: {said:?}");

    definition(&DISTRO.replace(
        "speaks = { on = \"main\", exec = [\"${artifact.site}/speak.sh\"]",
        "greets = { http = \"${main.page.url}/\"",
    ));
    let (_, errors, code) = softservice(at, &["publish", "evil"]);
    assert_eq!(code, 0, "{errors}");
    let (_, errors, code) = softservice(at, &["up", "self/evil", "--yes", "--accept-reduced"]);
    assert_eq!(code, 0, "{errors}");
    let (log, ..) = softservice(at, &["logs", "evil"]);
    assert!(log.contains("\\u{1b}[2J") && log.contains("said"), "{log}");
    let (log, ..) = softservice(at, &["--json", "logs", "evil"]);
    let lines: Vec<serde_json::Value> = log.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert!(lines.iter().any(|l| l["line"].as_str().is_some_and(|l| l.contains(EVIL))), "{lines:?}");
    let (_, errors, code) = softservice(at, &["-vvv", "remove", "evil", "--data"]);
    assert_eq!(code, 0, "{errors}");
}
