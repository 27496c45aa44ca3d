//! A workshop for device tests: a home with a store, distros written as text, and a device that is told each step by
//! hand, in the order in which the core would tell it. The keepers are this very test program, started again.
#![allow(dead_code, reason = "each story uses a part of the workshop")]

use softservice_node::device::{Device, PlanRequest, keeper_main, serve_static};
use softservice_protocol::{
    codec,
    definition::{self, Lock, Materials, Sources},
    id::{PublisherId, ReleaseId},
    io::{Effect, Generation, ProvisionStep},
};
use softservice_store::{DiskStore, Store};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Whose releases are, unless a story says otherwise.
pub(crate) const PUBLISHER: PublisherId = PublisherId([7; 32]);
/// No step of any story takes so long on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Arguments of this program when it was started again to play a part, as `PART --exact --nocapture ARGUMENTS`.
pub(crate) fn part(name: &str) -> Option<Vec<OsString>> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    (first == name && rest.len() > 2).then(|| rest.into_iter().skip(2).collect())
}

/// Plays a keeper, and ends, if this process was started to be one.
pub(crate) fn play_keeper() {
    if let Some(arguments) = part("keeper_part") {
        let code = keeper_main(arguments);
        let number = (0..=u8::MAX).find(|n| std::process::ExitCode::from(*n) == code);
        std::process::exit(number.map_or(1, i32::from));
    }
}

/// Plays a web server, and ends, if this process was started to be one.
pub(crate) fn play_server() {
    if let Some(arguments) = part("server_part") {
        let [folder, port] = &arguments[..] else { std::process::exit(2) };
        let port = port.to_str().and_then(|p| p.parse().ok()).unwrap_or(0);
        serve_static(Path::new(folder), port);
        std::process::exit(1);
    }
}

fn this_program() -> String {
    std::env::current_exe().expect("this program").display().to_string()
}

/// The command of a keeper.
pub(crate) fn keeper() -> Vec<String> {
    vec![this_program(), "keeper_part".into(), "--exact".into(), "--nocapture".into()]
}

/// The command of a web server in a definition: a folder and a port follow.
pub(crate) const SERVER: &str = r#""${softservice}", "server_part", "--exact", "--nocapture""#;

/// A home.
pub(crate) struct Workshop {
    pub(crate) device: Device,
    pub(crate) store: Arc<DiskStore>,
    home: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        // Longer than a socket's address may be.
        let home = scratch.path().join("a-home-with-a-name-that-goes-on-and-on").join("x".repeat(100));
        std::fs::create_dir_all(&home).expect("a home");
        let store = Arc::new(softservice_store::open(&home.join("store")).expect("a store"));
        let device = Device::open(home.clone(), store.clone(), keeper()).expect("a device");
        Self { device, store, home, _scratch: scratch }
    }
    pub(crate) fn softservice(&self, name: &str) -> PathBuf {
        self.home.join("softservices").join(name)
    }
    /// The device of the next life of the node: nothing in memory is left.
    pub(crate) fn restart(&mut self) {
        let next = Device::open(self.home.clone(), self.store.clone(), keeper()).expect("a device");
        self.device = next;
    }
    /// Compiles a definition with files and puts its release into the store.
    pub(crate) fn release(&self, toml: &str, files: &[(&str, &str)]) -> ReleaseId {
        release(&*self.store, toml, files)
    }
    /// The same, of another publisher.
    pub(crate) fn release_of(&self, publisher: PublisherId, toml: &str, files: &[(&str, &str)]) -> ReleaseId {
        release_of(&*self.store, publisher, toml, files)
    }
    /// Plans and prepares.
    pub(crate) async fn prepare(&self, name: &str, release: ReleaseId) -> (Generation, Option<u32>) {
        let request = PlanRequest::new(name, release);
        let plan = self.device.plan(&request).await.expect("a plan");
        self.device.prepare(&request, Some(&plan.hash)).await.expect("a generation")
    }
    /// A whole life: to the commit, or back. The error is that of the step that failed.
    pub(crate) async fn live(&self, generation: &Generation, previous: Option<u32>) -> Result<(), (Effect, String)> {
        for effect in forward(previous) {
            if let Err(why) = self.perform(generation, previous, effect).await {
                self.go_back(generation, previous, effect).await;
                return Err((effect, why));
            }
        }
        Ok(())
    }
    pub(crate) async fn perform(&self, of: &Generation, previous: Option<u32>, effect: Effect) -> Result<(), String> {
        let step = ProvisionStep { generation: of.clone(), previous, effect };
        tokio::time::timeout(DEADLINE, self.device.perform(step)).await.unwrap_or_else(|_| panic!("{effect:?} hangs"))
    }
    /// The way back after a step that failed or was cut off; none of it may fail.
    pub(crate) async fn go_back(&self, generation: &Generation, previous: Option<u32>, after: Effect) {
        use Effect::*;
        let way = [HandBack, StopNew, RestoreData, PointBack, StartPrevious, MarkFailed].into_iter();
        let way = way.filter(|e| previous.is_some() || !matches!(e, RestoreData | StartPrevious));
        // Nothing was touched yet, or the way back itself was cut off.
        let from = if after == Stage { MarkFailed } else { after.max(HandBack) };
        for effect in way.filter(|e| *e >= from) {
            self.perform(generation, previous, effect).await.unwrap_or_else(|e| panic!("{effect:?}: {e}"));
        }
    }
    pub(crate) async fn up(&self, name: &str, release: ReleaseId) -> Result<(), (Effect, String)> {
        let (generation, previous) = self.prepare(name, release).await;
        self.live(&generation, previous).await
    }
    /// The first endpoint's address.
    pub(crate) async fn url(&self, name: &str) -> String {
        self.device.info(name).await.expect("a softservice").endpoints[0].url.clone()
    }
    pub(crate) async fn pid(&self, name: &str) -> i32 {
        self.device.info(name).await.expect("a softservice").services[0].pid.expect("a process")
    }
}

impl Drop for Workshop {
    /// A failed story must not leave processes behind.
    fn drop(&mut self) {
        let device = self.device.clone();
        let clear = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(device.clear())
        };
        let cleared = std::thread::spawn(clear).join().expect("clearing");
        if !std::thread::panicking() {
            cleared.expect("nothing is left");
        }
    }
}

/// The order of a good life.
pub(crate) fn forward(previous: Option<u32>) -> impl Iterator<Item = Effect> {
    use Effect::*;
    let all = [Stage, Beside, StopPrevious, Snapshot, Migrate, Point, Start, HandOver, Confirm, Commit];
    all.into_iter().filter(move |e| previous.is_some() || !matches!(e, Beside | StopPrevious | Snapshot | Migrate))
}

struct Folder(PathBuf);
impl Sources for Folder {
    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(path)).ok()
    }
    fn is_dir(&self, path: &str) -> bool {
        self.0.join(path).is_dir()
    }
    fn is_file(&self, path: &str) -> bool {
        self.0.join(path).is_file()
    }
}

/// Compiles a definition with files; those that begin with `#!` are executable.
pub(crate) fn release(store: &dyn Store, toml: &str, files: &[(&str, &str)]) -> ReleaseId {
    release_of(store, PUBLISHER, toml, files)
}

fn release_of(store: &dyn Store, publisher: PublisherId, toml: &str, files: &[(&str, &str)]) -> ReleaseId {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("distro.toml"), toml).expect("write");
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("write");
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let definition = definition::read(toml).unwrap_or_else(|p| panic!("{p:?}"));
    let ingest = |path: &Path| store.ingest(path, &[], &|_| true).expect("ingest").tree;
    let trees: BTreeMap<_, _> = definition::trees(&definition)
        .into_iter()
        .map(|t| ((t.role, t.artifact, t.platform), ingest(&dir.path().join(t.dir))))
        .collect();
    let materials = Materials {
        publisher,
        lock: &Lock::default(),
        releases: &BTreeMap::new(),
        trees: &trees,
        source: ingest(dir.path()),
        templates: &Folder(dir.path().into()),
        parents: vec![],
    };
    let release = definition::compile(&definition, &materials).unwrap_or_else(|p| panic!("{p:?}"));
    let bytes = codec::encode(&release).expect("encode");
    let id = ReleaseId::of(&bytes);
    assert_eq!(store.add(&bytes).expect("add"), id.object());
    id
}

/// GET; status and body, or why nobody answered.
pub(crate) fn get(url: &str) -> std::io::Result<(u16, String)> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}

/// Tells of files of a folder that are made, renamed into it or written, by whomever.
#[allow(dead_code, reason = "not every story asks")]
pub(crate) struct Watched(tokio::sync::mpsc::UnboundedReceiver<()>);

#[allow(dead_code, reason = "not every story asks")]
impl Watched {
    pub(crate) fn new(folder: &Path) -> Self {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let told = init(CreateFlags::CLOEXEC).expect("a queue");
        add_watch(&told, folder, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO).expect("a watch");
        let (tell, hear) = tokio::sync::mpsc::unbounded_channel();
        // Ends with this process, or with the next event after nobody listens.
        std::thread::spawn(move || {
            let mut events = [0; 4096];
            while matches!(rustix::io::read(&told, &mut events), Ok(1..)) && tell.send(()).is_ok() {}
        });
        Self(hear)
    }

    /// The first answer that `look` gives, asked at every change.
    pub(crate) async fn until<T>(&mut self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let seen = async {
            loop {
                if let Some(seen) = look().await {
                    return seen;
                }
                self.0.recv().await.expect("the watch goes on");
            }
        };
        tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("never saw {what}"))
    }
}

/// The text of a file that a service writes whole by a rename or in one piece, once it is there.
#[allow(dead_code, reason = "not every story asks")]
pub(crate) async fn written(path: &Path) -> String {
    let mut watched = Watched::new(path.parent().expect("a folder"));
    watched
        .until(&path.display().to_string(), async || std::fs::read_to_string(path).ok().filter(|t| !t.is_empty()))
        .await
}

/// Everything of a folder that a program could see, by path.
pub(crate) fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt;
    let (mut seen, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("list") {
            let path = entry.expect("an entry").path();
            let about = path.symlink_metadata().expect("it is there");
            let content = match () {
                () if about.is_dir() => {
                    folders.push(path.clone());
                    String::new()
                }
                () if about.is_symlink() => format!("{:?}", std::fs::read_link(&path).expect("a link")),
                () => blake3::hash(&std::fs::read(&path).expect("a file")).to_hex().to_string(),
            };
            let (mode, owner, time) = (about.mode(), (about.uid(), about.gid()), (about.mtime(), about.mtime_nsec()));
            seen.insert(path, format!("{mode:o} {owner:?} {time:?} {} {content}", about.nlink()));
        }
    }
    seen
}

/// Whether a process lives; zombies do not.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The process that one in the same sandbox as `beside` knows by a number.
pub(crate) fn outside(beside: i32, number: i32) -> i32 {
    let space = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inner = |pid: i32| -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_ascii_whitespace().last()?.parse().ok()
    };
    let all = std::fs::read_dir("/proc").expect("proc").filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let mut same = all.filter(|pid| space(*pid) == space(beside) && inner(*pid) == Some(number));
    same.next().unwrap_or_else(|| panic!("process {number} of the sandbox is not there"))
}

/// Kills a process at once.
pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}
