//! One `softservice` binary, many homes: start nodes, run verbs, kill.
//! Invariant: the binary under test is the one of this build.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant, SystemTime},
};

/// How long anything may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The binary, built if it is not there yet or older than its sources.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        // Tests run from target/PROFILE/deps, programs from target/PROFILE.
        let profile = test.ancestors().skip(1).find(|p| !p.ends_with("deps")).expect("a program stands in a folder");
        let binary = profile.join("softservice");
        // `cargo test --workspace` has built it. Building it again would resolve features for one package, not for all,
        // and so compile half of the dependencies a second time.
        let repository = crate::sources::repository();
        let sources =
            ["protocol", "store", "node", "cli", "examples", "Cargo.lock"].map(|f| newest(&repository.join(f)));
        if modified(&binary).is_some_and(|built| sources.iter().all(|s| s.is_none_or(|s| s <= built))) {
            return binary;
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--package", "softservice", "--bin", "softservice", "--target-dir"]);
        cargo.arg(profile.parent().expect("a profile's folder stands in target"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let status = cargo.args(["--manifest-path", manifest]).status().expect("cargo runs");
        assert!(status.success(), "the binary under test does not build");
        binary
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

/// When the newest source below a folder of the repository was changed.
pub(crate) fn newest_source(folder: &str) -> Option<SystemTime> {
    newest(&crate::sources::repository().join(folder))
}

/// When the newest source below `path` was changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(path).map(|e| e.flatten().map(|e| e.path()).collect::<Vec<_>>());
    let Ok(entries) = entries else { return modified(path) };
    let relevant = |p: &PathBuf| p.is_dir() || p.extension().is_some_and(|e| e == "rs" || e == "toml" || e == "html");
    entries.iter().filter(|p| relevant(p)).filter_map(|p| newest(p)).max()
}

/// A folder with homes in it.
#[derive(Debug)]
pub struct World {
    folder: tempfile::TempDir,
}

/// A home, perhaps with a running node, perhaps in a network namespace.
#[derive(Debug)]
pub struct Node {
    /// Its home.
    pub home: PathBuf,
    /// The namespace it lives in.
    pub namespace: Option<String>,
    /// Another program than the one of this build.
    pub program: Option<PathBuf>,
    /// What it logs; warnings unless asked.
    pub log_level: &'static str,
    process: Option<Child>,
    /// What it said when it was ready.
    pub ready: Value,
}

impl World {
    /// An empty one.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }
    /// An empty one in this folder.
    pub fn below(folder: &Path) -> Self {
        let made = tempfile::Builder::new().prefix("ss-").tempdir_in(folder);
        Self { folder: made.expect("a temporary folder can be made") }
    }
    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    /// A home without a running node.
    pub fn home(&self, name: &str) -> Node {
        Node {
            home: self.path(name),
            namespace: None,
            program: None,
            log_level: "warn",
            process: None,
            ready: Value::Null,
        }
    }
    /// A home with a node on loopback, found by nobody who was not told.
    pub fn node(&self, name: &str) -> Node {
        let mut node = self.home(name);
        node.start();
        node
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        kill_all_naming(&self.folder.path().display().to_string());
    }
}

/// Kills every process whose command line names `text`; gives how many those were.
pub fn kill_all_naming(text: &str) -> usize {
    let pids = processes_naming(text);
    for pid in &pids {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
            // It may have ended by itself meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    pids.len()
}

/// Processes, this one aside, whose command line names `text`.
pub fn processes_naming(text: &str) -> Vec<i32> {
    let own = std::process::id() as i32;
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

impl Node {
    fn command(&self) -> Command {
        let program = self.program.as_deref().unwrap_or_else(|| binary());
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut c = Command::new("ip");
                c.args(["netns", "exec", namespace]).arg(program);
                c
            }
            None => Command::new(program),
        };
        command.arg("--home").arg(&self.home).arg("--json").stdin(Stdio::null());
        // What a test starts is to end with it, also on a machine that systemd runs.
        command.env("SOFTSERVICE_UNITS", "off");
        command
    }

    /// Starts the node on loopback.
    pub fn start(&mut self) {
        self.start_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht"]);
    }

    /// Starts the node and waits until it says that it is ready.
    pub fn start_with(&mut self, arguments: &[&str]) {
        let mut command = self.command();
        command.arg("node").args(arguments).args(["--web", "off"]).env("SOFTSERVICE_LOG", self.log_level);
        let log = std::fs::File::create(self.home.with_extension("log")).expect("a log can be written");
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the node starts");
        let stdout = process.stdout.take().expect("its output is ours");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            let mut first = String::new();
            let _ = lines.read_line(&mut first);
            let _ = sender.send(first);
            // Keep the pipe open and empty for as long as the node lives.
            let _ = lines.read_to_end(&mut Vec::new());
        });
        let first = receiver.recv_timeout(PATIENCE).expect("the node becomes ready in time");
        self.process = Some(process);
        self.ready = serde_json::from_str(&first)
            .unwrap_or_else(|e| panic!("the first line of a node is JSON: {e}: {first:?}; {}", self.log()));
        assert_eq!(self.ready["event"], "ready", "{}", self.ready);
    }

    /// What it wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.with_extension("log")).unwrap_or_default()
    }

    /// Its id.
    pub fn device(&self) -> &str {
        self.ready["device"].as_str().expect("a ready line names the device")
    }

    /// The node's process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the node runs").id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // In a namespace the child is `ip`, which has become the program by exec: the pid is the node's.
            process.kill().expect("it can be killed");
            process.wait().expect("it ends");
        }
    }

    /// Stops it in order and waits for the end.
    pub fn stop(&mut self) {
        self.end(true);
    }

    /// The same; one that is not `asked` was told by a signal.
    pub fn end(&mut self, asked: bool) {
        if asked {
            self.ok(&["stop"]);
        }
        if let Some(mut process) = self.process.take() {
            wait(&mut process);
        }
        let log = self.log();
        assert!(!log.contains("still in use"), "whoever holds the store keeps the node from ending: {log}");
    }

    /// Runs a verb; stdout, stderr and code as they come.
    pub fn output(&self, arguments: &[&str]) -> Output {
        let child = self.command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        bounded(child.expect("the verb starts"), &arguments.join(" "))
    }

    /// Starts a verb and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the verb starts")
    }

    /// Runs a verb; its exit code and JSON.
    pub fn verb(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.output(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text)
                .unwrap_or_else(|e| panic!("{arguments:?} prints one JSON document: {e}\n{text}"))
        };
        (output.status.code().unwrap_or(-1), value)
    }

    /// Runs a verb that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let (code, value) = self.verb(arguments);
        assert_eq!(code, 0, "{arguments:?} in {}: {value}\n{}", self.home.display(), self.log());
        value
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Sends a signal to a process of ours.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it lives");
}

/// Waits for a process, or fails loudly.
pub fn wait(process: &mut Child) {
    let end = Instant::now() + PATIENCE;
    eventually("the process ends", end, || process.try_wait().expect("it can be asked").is_some());
}

/// The output of a process that must end in good time.
pub fn bounded(child: Child, what: &str) -> Output {
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(PATIENCE * 3) {
        Ok(output) => output.expect("its output can be read"),
        Err(_) => {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            panic!("`{what}` hangs")
        }
    }
}

/// Asks until it is so, or fails at `end`. For facts outside our processes that nobody announces.
pub fn eventually(what: &str, end: Instant, mut so: impl FnMut() -> bool) {
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
