//! The program asks on a real terminal, a pseudo one, and only there. Invariant: nothing is waited for but what the
//! program prints, with a deadline.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How long one thing that the program should print may take.
const PATIENCE: Duration = Duration::from_secs(120);

const DISTRO: &str = r#"format = 1
[distro]
name = "asker"
version = "1.0.0"
[param]
domain = { type = "hostname", ask = "Name people will type" }
signup = { type = "enum", of = ["closed", "open"], default = "closed" }
upload = { type = "size", default = "200MiB", max = "2GiB", ask = "Largest upload" }
[role.main]
export.page = { type = "http/1", port = "http" }
[role.main.artifact]
site = { tree = "site" }
[role.main.file]
"answers" = { template = "answers" }
[role.main.service.web]
command = ["${softservice}", "serve-static", "${artifact.site}", "${port.http}"]
healthcheck = { http = ":${port.http}/", interval = "1s" }
[test]
greets = { http = "${main.page.url}/", within = "60s" }
[update]
settle = "100ms"
"#;
const ANSWERS: &str = "domain=${param.domain} signup=${param.signup} upload=${param.upload}\n";

/// A home with a node, and a distro published in it.
struct Place {
    folder: tempfile::TempDir,
    node: Child,
}

impl Drop for Place {
    fn drop(&mut self) {
        // In order, so that the services of what was provisioned end as well.
        let _ = self.command(&["remove", "asker", "--data"]).output();
        let _ = self.command(&["stop"]).output();
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("questions-").tempdir().expect("a folder");
        let source = folder.path().join("asker");
        std::fs::create_dir_all(source.join("site")).expect("a folder");
        std::fs::write(source.join("answers"), ANSWERS).expect("written");
        std::fs::write(source.join("site/index.html"), "hello\n").expect("written");
        let mut node = program(folder.path(), &["node", "--listen", "127.0.0.1:0", "--no-mdns", "--no-dht"]);
        let mut node = node.stdout(Stdio::piped()).spawn().expect("a node");
        let mut ready = String::new();
        BufReader::new(node.stdout.take().expect("its output")).read_line(&mut ready).expect("its first line");
        assert!(ready.contains("ready"), "{ready}");
        let place = Self { folder, node };
        place.publish("1.0.0", "", "");
        place
    }
    /// The distro as this version, with one text of it replaced.
    fn publish(&self, version: &str, old: &str, new: &str) {
        let text = DISTRO.replace("1.0.0", version).replacen(old, new, 1);
        std::fs::write(self.folder.path().join("asker/distro.toml"), text).expect("written");
        let (_, errors, code) = self.plainly(&["--quiet", "publish", "asker"]);
        assert_eq!(code, 0, "{errors}");
    }
    fn command(&self, arguments: &[&str]) -> Command {
        program(self.folder.path(), arguments)
    }
    /// Standard output and error, and the exit code, without a terminal.
    fn plainly(&self, arguments: &[&str]) -> (String, String, i32) {
        let output = self.command(arguments).stdin(Stdio::null()).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
    }
    fn on_a_terminal(&self, arguments: &[&str]) -> Terminal {
        Terminal::with(self.command(arguments))
    }
    fn answered(&self) -> String {
        let file = self.folder.path().join("home/softservices/asker/current/files/main/answers");
        std::fs::read_to_string(file).expect("rendered")
    }
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softservice"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        .env("SOFTSERVICE_HOME", folder.join("home"))
        .env("SOFTSERVICE_UNITS", "off")
        .env("LC_ALL", "C");
    command
}

/// A program on a pseudo terminal, and everything it printed there.
struct Terminal {
    child: Child,
    keyboard: File,
    printed: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn with(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("its name").into_string().expect("UTF-8");
        let end = File::options().read(true).write(true).open(name).expect("its other end");
        let stdio = || Stdio::from(end.try_clone().expect("a copy"));
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("it runs");
        // The command holds the terminal open as long as it lives; reading must end with the program.
        drop((command, end));
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().expect("a copy");
        let (said, printed) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut buffer) {
                if said.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, printed, seen: String::new() }
    }
    /// Waits until a text was printed; what was printed up to its end is taken away.
    fn shows(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(wanted) {
                self.seen.drain(..at + wanted.len());
                return;
            }
            match self.printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("{wanted:?} did not appear; on the screen: {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without {wanted:?}; on the screen: {:?}", self.seen)
                }
            }
        }
    }
    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typed");
    }
    /// Everything else that it prints, and how it ends.
    fn ends(mut self) -> (String, ExitStatus) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; on the screen: {:?}", self.seen),
            }
        }
        (self.seen, self.child.wait().expect("its end"))
    }
}

#[test]
fn a_terminal_is_asked_until_the_answers_fit() {
    let place = Place::new();
    let mut terminal = place.on_a_terminal(&["up", "asker", "--accept-reduced"]);
    terminal.shows("Name people will type (hostname): ");
    terminal.types("not a host\n");
    terminal.shows("expected a host name like shelf.example.org, found \"not a host\"");
    terminal.shows("Name people will type (hostname): ");
    terminal.types("\n");
    terminal.shows("it has no default: an answer is needed");
    terminal.types("Shelf.Example\n");
    terminal.shows("Largest upload (size, up to 2GiB) [200MiB]: ");
    terminal.types("3GiB\n");
    terminal.shows("is above the most allowed");
    terminal.shows("[200MiB]: ");
    terminal.types("\n");
    // A parameter without a question keeps its default unasked; the plan is next.
    terminal.shows("go ahead? [y/N] ");
    terminal.types("y\n");
    let (screen, status) = terminal.ends();
    assert!(status.success(), "{screen}");
    assert_eq!(place.answered(), "domain=shelf.example signup=closed upload=209715200\n");

    // Once answered, nothing is asked again; only the plan is.
    let mut terminal = place.on_a_terminal(&["up", "asker", "--accept-reduced", "--set", "signup=open"]);
    terminal.shows("asker 1.0.0 as asker");
    terminal.shows("go ahead? [y/N] ");
    terminal.types("n\n");
    let (screen, status) = terminal.ends();
    assert!(screen.contains("not agreed to") && status.code() == Some(4), "{screen}");
}

#[test]
fn nobody_is_asked_who_cannot_answer() {
    let place = Place::new();
    let (_, errors, code) = place.plainly(&["up", "asker", "--accept-reduced", "--yes"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("asker asks for domain, which has no default"), "{errors}");
    assert!(errors.contains("hint: --set domain=…"), "{errors}");
    let (screen, status) = place.on_a_terminal(&["--json", "up", "asker", "--accept-reduced"]).ends();
    assert_eq!(status.code(), Some(2), "{screen}");
    let document: serde_json::Value = serde_json::from_str(screen.trim()).expect("one document");
    assert_eq!(document["questions"][0]["name"], "domain");
    assert_eq!(document["questions"].as_array().map(Vec::len), Some(1), "what has a default needs no answer");
    // The end of input is no answer.
    let mut terminal = place.on_a_terminal(&["up", "asker", "--accept-reduced", "--yes"]);
    terminal.shows("(hostname): ");
    terminal.types("\u{4}");
    let (screen, status) = terminal.ends();
    assert!(screen.contains("asks for domain") && status.code() == Some(2), "{screen}");
    // And nobody has to answer at all.
    let mut terminal = place.on_a_terminal(&["up", "asker", "--accept-reduced"]);
    terminal.shows("(hostname): ");
    let program = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(program, rustix::process::Signal::INT).expect("told");
    let (screen, status) = terminal.ends();
    assert!(screen.contains("interrupted") && status.code() == Some(1), "{screen}");
}

#[test]
fn a_file_answers_in_scripts_and_set_goes_before_it() {
    let place = Place::new();
    let file = place.file("answers.toml", "domain = \"one.example\"\nupload = 4096\nsignup = \"open\"\n");
    let file = file.to_str().expect("UTF-8");
    let up = ["--quiet", "up", "asker", "--accept-reduced", "--yes", "--answers", file, "--set", "domain=two.example"];
    let (_, errors, code) = place.plainly(&up);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(place.answered(), "domain=two.example signup=open upload=4096\n");
    for (text, wanted) in [
        ("domain = [1]", "domain: expected a text, a number, true or false, found a list"),
        ("domain = ", "TOML parse error at line 1"),
        ("domian = \"x.y\"", "there is no parameter \"domian\""),
        ("domain = \"x y\"", "expected a host name"),
    ] {
        let file = place.file("wrong.toml", text);
        let (_, errors, code) = place.plainly(&["plan", "asker", "--answers", file.to_str().expect("UTF-8")]);
        assert!(errors.contains(wanted) && code == 2, "{text}: {errors}");
    }
    let (_, errors, code) = place.plainly(&["plan", "asker", "--answers", "nowhere.toml"]);
    assert!(errors.contains("nowhere.toml: cannot be read") && code == 2, "{errors}");
}

#[test]
fn an_update_takes_answers_also_to_what_is_at_its_newest() {
    let place = Place::new();
    let (_, errors, code) = place.plainly(&["up", "asker", "--accept-reduced", "--yes", "--set", "domain=one.example"]);
    assert_eq!(code, 0, "{errors}");
    let file = place.file("answers.toml", "signup = \"open\"\n");
    let update = ["update", "asker", "--yes", "--accept-reduced", "--answers", file.to_str().expect("UTF-8")];
    let generation =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("one document")["generation"].clone();
    for _ in 0..2 {
        let (document, errors, code) = place.plainly(&[&["--json"], &update[..]].concat());
        assert_eq!(code, 0, "{errors}");
        assert_eq!(generation(&document), 2, "the second time there is nothing to do");
        assert_eq!(place.answered(), "domain=one.example signup=open upload=209715200\n");
    }
    place.publish("2.0.0", "signup = {", "admin = { type = \"text\" }\nsignup = {");
    let (_, errors, code) = place.plainly(&["update", "asker", "--yes", "--accept-reduced"]);
    assert!(code == 2 && errors.contains("hint: --set admin=…"), "{errors}");
    let (document, errors, code) = place.plainly(&[
        "--json",
        "update",
        "asker",
        "--yes",
        "--accept-reduced",
        "--set",
        "admin=me",
        "--set",
        "signup=closed",
    ]);
    assert_eq!((code, generation(&document)), (0, 3.into()), "{errors}");
    assert_eq!(place.answered(), "domain=one.example signup=closed upload=209715200\n");
    let (_, errors, code) = place.plainly(&["update", "--set", "signup=open"]);
    assert!(code == 2 && errors.contains("answers are for one softservice; name it"), "{errors}");
}

#[test]
fn what_a_device_cannot_have_is_refused_before_anything_is_made() {
    let place = Place::new();
    place.publish("1.1.0", "[role.main]", "[role.main]\nneeds = { memory = \"1024TiB\" }");
    let wanted = ["asker", "--set", "domain=one.example"];
    let (plan, errors, code) = place.plainly(&[&["--json", "plan"], &wanted[..]].concat());
    assert_eq!(code, 0, "{errors}");
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("one document");
    assert_eq!((&plan["lacks"][0]["what"], &plan["lacks"][0]["needed"]), (&"memory".into(), &(1u64 << 50).into()));
    let (shown, _, _) = place.plainly(&[&["plan"], &wanted[..]].concat());
    assert!(shown.contains("! lacks   memory: 1.0 PiB are needed, this device has "), "{shown}");
    let (document, errors, code) =
        place.plainly(&[&["--json", "up", "--yes", "--accept-reduced"], &wanted[..]].concat());
    assert_eq!(code, 4, "{errors}");
    let document: serde_json::Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(document["error"]["kind"], "refused", "{document}");
    assert!(document["error"]["message"].to_string().contains("this device has too little for asker"), "{document}");
    assert_eq!(document["lacks"], plan["lacks"]);
    assert!(!place.folder.path().join("home/softservices/asker/generations/1").exists());
}
