//! A service that tries to get out of its sandbox, as root's node has it and as an ordinary user's. Every attempt that is
//! harmless is made without a sandbox first, where it must succeed: so it is the sandbox that makes it fail.

use serde_json::Value;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, binary, eventually},
    root_or_skip,
    sources::{put, text},
    visit,
};
use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// The interpreter of the attacker.
const PYTHON: &str = "/usr/bin/python3";
/// An ordinary user: nobody that this machine knows.
const ORDINARY: &str = "47114";

/// When an attempt succeeds without a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    /// For everybody.
    Everybody,
    /// For root.
    Root,
    /// Not tried: it depends on the machine, or cannot be undone.
    Untried,
}
use Without::{Everybody, Root, Untried};

/// Somebody's node, with a victim and an attacker on it.
struct Stage {
    world: World,
    node: Node,
    /// Who runs the node; none = root.
    user: Option<&'static str>,
    attacker: String,
    script: PathBuf,
    /// Measures that this machine does not enforce.
    reduced: Vec<String>,
}

impl Stage {
    fn set(user: Option<&'static str>) -> Self {
        // Not below /tmp, which is another place inside: what is written there would look like an escape.
        let world = World::below(Path::new("/var/lib"));
        let folder = world.path("");
        // Everybody may look in: the ordinary user lives here.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a folder of ours");
        let mut node = world.home("home");
        let home = node.home.clone();
        for made in [&home, &world.path("victim"), &world.path("attacker")] {
            fs::create_dir_all(made).expect("a folder");
        }
        let script = world.path("attacker/app/attacker.py");
        put(&script, include_str!("escape/attacker.py"));
        put(&world.path("attacker/distro.toml"), &attacker_toml());
        put(&world.path("victim/distro.toml"), VICTIM);
        put(&world.path("victim/site/index.html"), "private");
        if let Some(user) = user {
            // The build's folder may be closed to others.
            let program = world.path("softservice");
            fs::copy(binary(), &program).expect("a copy of the program");
            let wrapper = world.path("as-user");
            let line = format!("#!/bin/sh\nexec {} {} \"$@\"\n", becoming(user).join(" "), program.display());
            put(&wrapper, &line);
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a file of ours");
            run("chown", &["-R", &format!("{user}:{user}"), text(&folder)]);
            node.program = Some(wrapper);
        }
        node.start();
        for distro in ["victim", "attacker"] {
            node.ok(&["publish", text(&world.path(distro))]);
        }
        let plan = node.ok(&["plan", "self/attacker"]);
        let mut reduced = measures(&plan["isolation"]["reduced"]);
        for lost in &reduced {
            eprintln!(
                "SKIPPED IN PART, this machine cannot enforce {lost} for this user; attempts against it are not made"
            );
        }
        println!("enforced: {}\nreduced: {}", plan["isolation"]["enforced"], plan["isolation"]["reduced"]);
        refused_unless_accepted(&node, &reduced);
        // Where nothing can be mounted, Landlock still keeps what is not named from being read.
        if reduced.iter().any(|r| r == "files") && !plan["isolation"].to_string().contains("Landlock hides the rest") {
            reduced.push("reading".into());
        }
        node.ok(&["up", "self/victim", "--yes", "--accept-reduced"]);
        let up = node.ok(&["up", "self/attacker", "--yes", "--accept-reduced"]);
        Self { attacker: visit::url(&up), world, node, user, script, reduced }
    }

    fn softservice(&self, path: &str) -> String {
        self.node.home.join("softservices").join(path).display().to_string()
    }

    /// Where a tree really is: generations link to it.
    fn tree(&self, softservice: &str, key: &str) -> String {
        let link = self.softservice(&format!("{softservice}/generations/1/tree/{key}"));
        fs::canonicalize(link).expect("a tree").display().to_string()
    }

    /// Makes an attempt without a sandbox, as whoever runs the node.
    fn without(&self, attempt: &str, arguments: &[&str]) -> String {
        let mut words: Vec<&str> = self.user.map(becoming).unwrap_or_default();
        words.extend([PYTHON, text(&self.script), "once", attempt]);
        words.extend(arguments);
        let done = Command::new(words[0]).args(&words[1..]).output().expect("it runs");
        String::from_utf8_lossy(&done.stdout).trim().to_owned() + String::from_utf8_lossy(&done.stderr).trim()
    }

    /// Makes an attempt in the sandbox. A service that dies of it comes again.
    fn within(&self, attempt: &str, arguments: &[&str]) -> String {
        let asked = || visit::ask(&self.attacker, "POST", &format!("/{attempt}"), &arguments.join("\n"));
        match asked() {
            Ok((200, answer)) => answer,
            other => {
                eventually("the attacker comes again", Instant::now() + PATIENCE, || {
                    visit::ask(&self.attacker, "GET", "/", "").is_ok()
                });
                format!("failed, it died: {other:?}")
            }
        }
    }

    /// An attempt that a measure is to prevent; `reading` is part of `files`.
    fn attempt(&self, measure: &str, without: Without, attempt: &str, arguments: &[&str]) {
        let possible = without == Everybody || (without == Root && self.user.is_none());
        if possible {
            let outcome = self.without(attempt, arguments);
            assert!(outcome.starts_with("done"), "{attempt} {arguments:?} without a sandbox: {outcome}");
        }
        if self.reduced.iter().any(|r| r == measure) {
            println!("NOT PREVENTED here, as the plan says ({measure}): {attempt} {arguments:?}");
            return;
        }
        let outcome = self.within(attempt, arguments);
        println!("{measure:13} {attempt} {arguments:?}: {outcome}");
        assert!(outcome.starts_with("failed"), "{attempt} {arguments:?}: {outcome}");
    }
}

/// The words that run a program as somebody else.
fn becoming(user: &'static str) -> Vec<&'static str> {
    vec!["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"]
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("it runs");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

fn measures(reduced: &Value) -> Vec<String> {
    let list = reduced.as_array().expect("a plan lists what is reduced");
    list.iter().map(|r| r["measure"].as_str().expect("a measure has a name").to_owned()).collect()
}

/// Less than was promised runs only when the owner says so, and is told by name.
fn refused_unless_accepted(node: &Node, reduced: &[String]) {
    if reduced.is_empty() {
        return;
    }
    let (code, answer) = node.verb(&["up", "self/attacker", "--yes"]);
    assert_eq!((code, answer["error"]["kind"].as_str()), (4, Some("refused")), "{answer}");
    assert_eq!(measures(&answer["reduced"]), reduced, "{answer}");
    let told = answer["error"].to_string();
    assert!(reduced.iter().all(|m| told.contains(m)) && told.contains("--accept-reduced"), "{told}");
}

const VICTIM: &str = r#"format = 1
[distro]
name = "victim"
version = "1.0.0"
summary = "Has something to hide"
[secret]
key = { generate = "bytes:32", for = ["main"] }
[role.main.artifact]
site = { tree = "site" }
[role.main.volume]
data = { backup = "none" }
[role.main.service.web]
command = ["${softservice}", "serve-static", "${artifact.site}", "${port.http}"]
secrets = ["key"]
healthcheck = { http = ":${port.http}/" }
[role.main]
export.page = { type = "http/1", port = "http" }
[update]
settle = "100ms"
"#;

fn attacker_toml() -> String {
    format!(
        r#"format = 1
[distro]
name = "attacker"
version = "1.0.0"
summary = "Tries to get out"
[role.main.artifact]
app = {{ tree = "app" }}
[role.main.volume]
data = {{ backup = "none" }}
[role.main.service.attacker]
command = ["{PYTHON}", "${{artifact.app}}/attacker.py", "serve", "${{port.http}}"]
restart = "always"
healthcheck = {{ http = ":${{port.http}}/" }}
[role.main.allow]
write = ["data"]
memory = "192MiB"
cpu = 1
processes = 24
[role.main]
export.page = {{ type = "http/1", port = "http" }}
[update]
settle = "100ms"
"#
    )
}

/// The first file below a folder.
fn first_file(folder: &Path) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    entries.sort();
    entries.into_iter().find_map(|p| if p.is_dir() { first_file(&p) } else { Some(p).filter(|p| p.is_file()) })
}

/// The object of the store that is the same file as this one.
fn same_file(folder: &Path, inode: u64) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    let mut found = entries.filter_map(|p| {
        if p.is_dir() { same_file(&p, inode) } else { fs::metadata(&p).ok().filter(|m| m.ino() == inode).map(|_| p) }
    });
    found.next()
}

fn files(stage: &Stage) {
    let home = stage.node.home.display().to_string();
    stage.attempt("reading", Everybody, "read", &[&stage.softservice("victim/secrets/key")]);
    stage.attempt("reading", Everybody, "listing", &[&stage.softservice("victim/volumes/main.data")]);
    stage.attempt("reading", Everybody, "listing", &[&stage.softservice("victim")]);
    stage.attempt("reading", Everybody, "read", &[&format!("{home}/node.key")]);
    stage.attempt("reading", Everybody, "listing", &[&format!("{home}/publisher")]);
    stage.attempt("reading", Everybody, "listing", &[&stage.softservice("attacker/secrets")]);
    stage.attempt("reading", Everybody, "write", &[&format!("{home}/store")]);
    stage.attempt("reading", Everybody, "write", &[&stage.softservice("attacker/generations/1")]);
    let own = format!("{}/attacker.py", stage.tree("attacker", "main.app"));
    stage.attempt("files", Root, "write", &[&own]);
    stage.attempt("files", Everybody, "chmod", &[&own]);
    stage.attempt("files", Everybody, "write", &[&stage.tree("attacker", "main.app")]);
    let store = stage.node.home.join("store");
    let object = same_file(&store, fs::metadata(&own).expect("it is there").ino());
    match &object {
        Some(object) => stage.attempt("files", Everybody, "chmod", &[text(object)]),
        None => println!("trees are copies on this disk: there is no object that is the same file"),
    }
    let object = object.or_else(|| first_file(&store)).expect("the store has files");
    stage.attempt("reading", Everybody, "read", &[text(&object)]);
    stage.attempt("reading", Everybody, "read", &[text(&stage.script)]);
    stage.attempt("files", Root, "read", &["/etc/shadow"]);
    stage.attempt("files", Root, "write", &["/usr"]);
    stage.attempt("files", Root, "write", &["/etc"]);
    stage.attempt("files", Root, "write", &["/proc/sys/kernel/core_pattern"]);
    stage.attempt("files", Untried, "write", &["/proc/sysrq-trigger"]);
    stage.attempt("files", Everybody, "listing", &["/sys/fs/cgroup"]);
}

fn processes(stage: &Stage) {
    let victim = stage.node.ok(&["ps", "victim"])[0]["services"][0]["pid"].to_string();
    stage.attempt("processes", Everybody, "processes", &[&stage.tree("victim", "main.site")]);
    stage.attempt("processes", Everybody, "send_signal", &[&victim]);
    stage.attempt("processes", Everybody, "send_signal", &[&stage.node.pid().to_string()]);
    stage.attempt("syscalls", Everybody, "trace", &[]);
    // Namespaces: of users, mounts, processes, networks.
    let users = Command::new("unshare").args(["--user", "true"]).status().is_ok_and(|s| s.success());
    let users = if users { Everybody } else { Untried };
    for (flag, without) in [("10000000", users), ("20000", Root), ("20000000", Root), ("40000000", Root)] {
        stage.attempt("syscalls", without, "namespace", &[flag]);
    }
    let volume = stage.softservice("attacker/volumes/main.data");
    stage.attempt("syscalls", Root, "mount", &[&volume]);
    stage.attempt("user", Root, "become", &["0"]);
    stage.attempt("user", Root, "become", &["1"]);
    // The device that is nothing, and the disk that the home is on, which may be closed to this machine's root, too.
    let disk = fs::metadata(&volume).expect("it is there").dev().to_string();
    stage.attempt("user", Root, "node", &[&volume, "c", &rustix::fs::makedev(1, 3).to_string()]);
    stage.attempt("user", Untried, "node", &[&volume, "b", &disk]);
    let program = Path::new(&volume).join("id-as-root");
    fs::copy("/usr/bin/id", &program).expect("a copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("a file of ours");
    stage.attempt("user", Everybody, "setuid", &[text(&program)]);
    fs::remove_file(&program).expect("it was made");
    stage.attempt("syscalls", Root, "hostname", &[]);
    for call in ["keyctl", "bpf", "perf_event_open", "fsopen", "kexec_load", "init_module", "swapon", "settimeofday"] {
        // A kernel without the call refuses it to everybody.
        stage.attempt("syscalls", Untried, "reached", &[call]);
    }
    for call in ["process_vm_readv", "setns", "pidfd_getfd", "clone3"] {
        stage.attempt("syscalls", Everybody, "reached", &[call]);
    }
    for call in ["open_by_handle_at", "userfaultfd", "io_uring_setup"] {
        stage.attempt("syscalls", Untried, "reached", &[call]);
    }
}

fn network(stage: &Stage) {
    let victim = visit::url(&stage.node.ok(&["ps", "victim"])[0]);
    let victim = victim.rsplit(':').next().expect("a port").trim_end_matches('/').to_owned();
    stage.attempt("connect", Everybody, "connect", &[&victim]);
    stage.attempt("connect", Everybody, "connect_by_sending", &[&victim]);
    stage.attempt("connect", Untried, "connect_multipath", &[&victim]);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port().to_string();
    stage.attempt("listen", Everybody, "listen", &[&free]);
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    receiver.set_nonblocking(true).expect("a socket of ours");
    let port = receiver.local_addr().expect("an address").port().to_string();
    stage.attempt("udp", Everybody, "udp", &[&port]);
    let mut datagrams = 0;
    while receiver.recv(&mut [0; 8]).is_ok() {
        datagrams += 1;
    }
    assert_eq!(datagrams, 1, "only that of the attempt without a sandbox");
    stage.attempt("syscalls", Root, "raw", &[]);
    stage.attempt("syscalls", Root, "packets", &[]);
    stage.attempt("syscalls", Untried, "vsock", &[]);
    let name = format!("softservice-escape-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = UnixListener::bind_addr(&address).expect("an abstract socket");
    stage.attempt("connect", Everybody, "unix", &[&format!("@{name}")]);
    stage.attempt("files", Everybody, "unix", &[&stage.node.home.join("run/api.sock").display().to_string()]);
    // Keepers' sockets have paths that are too long for an address: the way there is what counts.
    stage.attempt("files", Everybody, "listing", &[&stage.softservice("victim/run/1/web")]);
}

fn limits(stage: &Stage) {
    stage.attempt("process-count", Everybody, "fork_bomb", &["200"]);
    // One process alone is limited with and without cgroups.
    stage.attempt("memory of a process", Everybody, "memory", &["512"]);
    let own = stage.node.ok(&["ps", "attacker"]);
    assert_eq!(own[0]["state"], "running", "it may do what it is allowed to: {own}");
    assert_eq!(stage.within("fork_bomb", &["8"]), "done");
    assert_eq!(stage.within("memory", &["32"]), "done");
}

fn play(user: Option<&'static str>) {
    if !root_or_skip("escape attempts are made as root and as another user") {
        return;
    }
    if !Path::new(PYTHON).exists() {
        eprintln!("SKIPPED, needs {PYTHON}: the attacker is a Python program");
        return;
    }
    let stage = Stage::set(user);
    assert_eq!(stage.within("write", &[&stage.softservice("attacker/volumes/main.data")]), "done", "its own");
    files(&stage);
    processes(&stage);
    network(&stage);
    limits(&stage);
    let pid = stage.node.ok(&["ps", "attacker"])[0]["services"][0]["pid"].to_string();
    assert!(Path::new("/proc").join(&pid).exists(), "{pid} is a process of this machine");
    for name in ["attacker", "victim"] {
        stage.node.ok(&["remove", name, "--data"]);
    }
    assert!(!Path::new("/proc").join(&pid).exists(), "nothing is left");
    let home = stage.world.path("home/softservices");
    assert_eq!(fs::read_dir(home).expect("it is there").count(), 0, "no folder is left");
}

#[test]
fn a_service_of_roots_node_stays_in() {
    play(None);
}

#[test]
fn a_service_of_an_ordinary_users_node_stays_in() {
    play(Some(ORDINARY));
}
