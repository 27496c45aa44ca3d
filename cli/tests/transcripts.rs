//! Plays the transcripts of `docs/cli/`: the manual is the test. Invariant: every `console` block is executed, in a
//! sealed environment, with the real binary; what a reader sees there is what the program prints.
//!
//! A block is lines `$ COMMAND`, then what it prints (stdout, then stderr), then `? N` when it exits with N ≠ 0.
//! `[..]` stands for any text within a line, a line `...` for any number of lines. `NAME=$(COMMAND)` keeps stdout for
//! later commands as `$NAME`. `COMMAND &` runs a node until the end of the file, waiting for its first line. Plain
//! `cat`, `echo TEXT > FILE`, `mkdir` and `sed` are the shell's. `faketime -f +8d COMMAND` is the well-known program's, as far as it
//! goes: eight days ahead. Blocks of a file run in order, in one folder.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
    time::Duration,
};

/// How long one command may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// One command with what is expected of it.
#[derive(Debug, Default)]
struct Act {
    line: usize,
    command: String,
    output: Vec<String>,
    exit: i32,
}

/// Where the stage's own tools are: `faketime`, as few machines have it. The compiler that links Rust makes what it loads.
static TOOLS: LazyLock<PathBuf> = LazyLock::new(|| {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transcript-tools");
    std::fs::create_dir_all(&tools).expect("a folder");
    let put = |name: &str, make: &dyn Fn(&Path)| {
        // Another run may use them at this moment: they are replaced whole.
        let beside = tools.join(format!(".{name}.{}", std::process::id()));
        make(&beside);
        std::fs::rename(&beside, tools.join(name)).expect("a rename");
    };
    put("faketime.so", &|path| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faketime.c");
        let cc = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(path).arg(source).status();
        assert!(cc.expect("cc, which links Rust programs").success());
    });
    put("faketime", &|path| {
        let library = tools.join("faketime.so");
        let days = "days=${2#+}; export FAKETIME_DAYS=${days%d}";
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = -f ] || exit 2\n{days} LD_PRELOAD={}\nshift 2\nexec \"$@\"\n",
            library.display()
        );
        std::fs::write(path, text).expect("a script");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    });
    tools
});

/// A sealed place: own folder, own home, no variable of ours.
struct Stage {
    folder: tempfile::TempDir,
    kept: BTreeMap<String, String>,
    nodes: Vec<Child>,
}

/// Processes of services that were started below a folder: number and command line.
fn services(folder: &Path) -> Vec<(u32, String)> {
    let of = |number: u32| {
        let line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(" keeper ") && line.contains(folder.to_str()?)).then_some((number, line))
    };
    let all = std::fs::read_dir("/proc").expect("processes");
    all.filter_map(|entry| of(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A transcript that broke off leaves what it started.
        for (number, _) in services(self.folder.path()) {
            let _ = Command::new("kill").args(["-9", &number.to_string()]).status();
        }
        for node in &mut self.nodes {
            // A node that was stopped by its transcript is gone already.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("transcript-").tempdir().expect("a folder");
        Self { folder, kept: BTreeMap::new(), nodes: Vec::new() }
    }
    fn shell(&self, command: &str) -> Command {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_softservice"));
        let bin = binary.parent().expect("the binary's folder");
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(command)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", format!("{}:{}:/usr/bin:/bin", bin.display(), TOOLS.display()))
            .env("HOME", self.folder.path())
            .env("SOFTSERVICE_HOME", self.folder.path().join("home"))
            .env("SOFTSERVICE_UNITS", "off")
            .env("LC_ALL", "C")
            .envs(&self.kept)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        shell
    }
    /// What the command printed, its folder's name taken out, and how it ended.
    fn run(&self, command: &str) -> (String, String, i32) {
        let child = self.shell(command).spawn().expect("a shell");
        let (id, (done, ended)) = (child.id(), mpsc::channel());
        std::thread::spawn(move || done.send(child.wait_with_output()));
        let Ok(output) = ended.recv_timeout(PATIENCE) else {
            let _ = Command::new("/bin/kill").args(["-9", &id.to_string()]).status();
            panic!("`{command}` did not end within {PATIENCE:?}");
        };
        let output = output.expect("the command's output");
        let text = |bytes: &[u8]| self.placeless(&String::from_utf8_lossy(bytes));
        (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
    }
    /// The same text wherever the stage stands.
    fn placeless(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "/home/you")
    }
    /// Starts a node and waits for its first line.
    fn start(&mut self, command: &str) -> String {
        let mut child = self.shell(&format!("exec {command}")).spawn().expect("a node");
        let stdout = child.stdout.take().expect("its output");
        let mut errors = child.stderr.take().expect("its errors");
        self.nodes.push(child);
        // Read to its end, so that it never waits for us; kept for whoever reads a failure.
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            eprint!("{text}");
        });
        let (said, first) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        self.placeless(&first.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("`{command}` said nothing")))
    }
    /// Plays one act; what is wrong with it, if anything.
    fn play(&mut self, act: &Act) -> Option<String> {
        let (printed, exit) = if let Some(node) = act.command.strip_suffix('&') {
            (self.start(node.trim()) + "\n", 0)
        } else if let Some((name, command)) = assignment(&act.command) {
            let (stdout, stderr, exit) = self.run(command);
            self.kept.insert(name.into(), stdout.trim().to_owned());
            (if exit == 0 { String::new() } else { stderr }, exit)
        } else {
            let (stdout, stderr, exit) = self.run(&act.command);
            (stdout + &stderr, exit)
        };
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        if exit == act.exit && fits(&act.output, &lines) {
            return None;
        }
        let mut report = format!("line {}: $ {}\n", act.line, act.command);
        let _ = writeln!(report, "--- expected, exit {}\n{}", act.exit, act.output.join("\n"));
        let _ = writeln!(report, "--- printed, exit {exit}\n{}", lines.join("\n"));
        Some(report)
    }
}

fn assignment(command: &str) -> Option<(&str, &str)> {
    let (name, rest) = command.split_once("=$(")?;
    let good = name.chars().all(|c| c.is_ascii_uppercase() || c == '_') && !name.is_empty();
    Some((name, rest.strip_suffix(')')?)).filter(|_| good)
}

/// Whether lines are what a transcript expects.
fn fits(expected: &[String], lines: &[&str]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((wish, rest)), _) if wish == "..." => (0..=lines.len()).any(|n| fits(rest, &lines[n..])),
        (Some((wish, rest)), Some((line, more))) => line_fits(wish, line) && fits(rest, more),
        _ => false,
    }
}

fn line_fits(wish: &str, line: &str) -> bool {
    let Some((before, rest)) = wish.split_once("[..]") else { return wish == line };
    let Some(line) = line.strip_prefix(before) else { return false };
    (0..=line.len()).filter(|n| line.is_char_boundary(*n)).any(|n| line_fits(rest, &line[n..]))
}

fn acts(text: &str) -> Vec<Act> {
    let mut acts: Vec<Act> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => {
                if let Some(command) = line.strip_prefix("$ ") {
                    acts.push(Act { line: number + 1, command: command.into(), ..Act::default() });
                } else if let Some(act) = acts.last_mut() {
                    match line.strip_prefix("? ").and_then(|n| n.parse().ok()) {
                        Some(exit) => act.exit = exit,
                        None => act.output.push(line.trim_end().into()),
                    }
                }
            }
            (false, _) => {}
        }
    }
    assert!(!inside, "a console block without an end");
    acts
}

fn transcripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli")
}

/// Plays a file to its end; a broken act does not hide those after it.
fn play(file: &str) {
    let path = transcripts().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let acts = acts(&text);
    assert!(!acts.is_empty(), "{file} has no console block");
    let mut stage = Stage::new();
    let wrong: Vec<String> = acts.iter().filter_map(|act| stage.play(act)).collect();
    assert!(wrong.is_empty(), "{file}: {} of {} commands differ\n{}", wrong.len(), acts.len(), wrong.join("\n"));
    // A reader who follows it is left with nothing, either.
    assert_eq!(services(stage.folder.path()), [], "{file} leaves services behind");
}

/// One test for each file, so that they run beside each other; the last test finds a file that was forgotten.
macro_rules! transcripts {
    ($($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { play(concat!(stringify!($name), ".md")); })+
        const PLAYED: &[&str] = &[$(concat!(stringify!($name), ".md")),+];
    };
}

transcripts!(
    author,
    backup,
    drill,
    errors,
    freshness,
    keys,
    lookalikes,
    matrix,
    overlay,
    provisioning,
    revoke,
    secrets,
    sharing
);

#[test]
fn no_transcript_is_forgotten() {
    let mut files: Vec<String> = std::fs::read_dir(transcripts())
        .expect("docs/cli")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md"))
        .collect();
    files.sort();
    let mut played = PLAYED.to_vec();
    played.sort_unstable();
    assert_eq!(files, played);
}

#[test]
fn the_runner_can_fail() {
    assert!(fits(&["a [..] c".into()], &["a b c"]));
    assert!(fits(&["...".into(), "z".into()], &["x", "y", "z"]));
    assert!(!fits(&["a".into()], &["a", "b"]));
    assert!(!fits(&["a [..] d".into()], &["a b c"]));
    let mut stage = Stage::new();
    let act =
        |output: &str, exit| Act { line: 1, command: "echo hi; exit 3".into(), output: vec![output.into()], exit };
    assert!(stage.play(&act("hi", 3)).is_none());
    assert!(stage.play(&act("ho", 3)).is_some());
    assert!(stage.play(&act("hi", 0)).is_some());
}
