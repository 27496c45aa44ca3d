//! A machine that systemd runs, made of namespaces: systemd as process 1 of a process namespace, with its own cgroups, and
//! nothing to start but what a test gives it. Invariant: it sees no unit of the real machine, writes into no folder of it
//! but the test's, and is gone when dropped.

use crate::process::{PATIENCE, eventually};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Targets that services hang on by default, without what a distribution hangs on them.
const TARGETS: [&str; 6] =
    ["sysinit.target", "basic.target", "network.target", "multi-user.target", "shutdown.target", "sockets.target"];

/// What process 1 becomes, in namespaces of its own: `$1` units, `$2` targets.
const BECOME: &str = r#"set -e
mount -t proc proc /proc
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
# Another boot, as far as anybody can tell.
cat /proc/sys/kernel/random/uuid > /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
mkdir -p /run/systemd/system
mount --bind "$1" /etc/systemd/system
mount --bind "$2" /usr/lib/systemd/system
for generators in /usr/lib/systemd/system-generators /etc/systemd/system-generators; do
    if [ -d "$generators" ]; then mount -t tmpfs tmpfs "$generators"; fi
done
exec env -i container=softservice-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --log-level=notice --show-status=no
"#;

/// The machine.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    cgroup: PathBuf,
    process: Option<Child>,
    /// Process 1, as seen from outside.
    first: i32,
}

impl Machine {
    /// Boots one, with its files below `folder`; none, said loudly, where that cannot be.
    pub fn boot_or_skip(folder: &Path, what: &str) -> Option<Self> {
        match Self::boot(folder) {
            Ok(machine) => Some(machine),
            Err(why) => {
                eprintln!("SKIPPED, needs root, namespaces, cgroup 2 and systemd ({why}): {what}");
                None
            }
        }
    }

    fn boot(folder: &Path) -> Result<Self, String> {
        let say = |e: std::io::Error| e.to_string();
        if !rustix::process::geteuid().is_root() {
            return Err("this is not root".into());
        }
        if !Path::new(SYSTEMD).exists() {
            return Err(format!("there is no {SYSTEMD}"));
        }
        for part in ["units", "targets"] {
            fs::create_dir_all(folder.join(part)).map_err(say)?;
        }
        for target in TARGETS {
            let text = format!("[Unit]\nDescription={target}\nDefaultDependencies=no\n");
            fs::write(folder.join("targets").join(target), text).map_err(say)?;
        }
        let mounts = fs::read_to_string("/proc/mounts").map_err(say)?;
        let root = mounts.lines().find_map(|l| match l.split(' ').collect::<Vec<_>>()[..] {
            [_, path, "cgroup2", ..] => Some(path.to_owned()),
            _ => None,
        });
        let root = root.ok_or("cgroup 2 is not mounted")?;
        let cgroup = Path::new(&root).join(format!("softservice-test-{}", std::process::id()));
        fs::create_dir_all(&cgroup).map_err(say)?;
        let mut machine = Self { folder: folder.to_owned(), cgroup, process: None, first: 0 };
        machine.start()?;
        Ok(machine)
    }

    /// Switches it on.
    fn start(&mut self) -> Result<(), String> {
        let log = fs::File::create(self.folder.join("console")).map_err(|e| e.to_string())?;
        let again = log.try_clone().map_err(|e| e.to_string())?;
        let enter = "echo $$ > \"$1/cgroup.procs\"; shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-ec", enter, "sh"]).arg(&self.cgroup);
        command.args(["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup"]);
        command.args(["--propagation", "private", "sh", "-c", BECOME, "sh"]);
        command.arg(self.folder.join("units")).arg(self.folder.join("targets"));
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(again).spawn();
        let process = spawned.map_err(|e| format!("unshare: {e}"))?;
        let (end, unshare) = (Instant::now() + PATIENCE, process.id());
        self.process = Some(process);
        loop {
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                return Err(format!("{status}: {}", self.console().trim()));
            }
            let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap_or_default();
            self.first = children.split(' ').next().and_then(|c| c.parse().ok()).unwrap_or(0);
            if self.first != 0 && self.systemctl(&["is-system-running"]).1.trim() == "running" {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("it does not come up: {}", self.console()));
            }
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// Pulls the plug and switches it on again: every process is gone, units that are enabled start.
    pub fn reboot(&mut self) {
        self.halt();
        self.start().expect("what came up once comes up again");
    }

    fn halt(&mut self) {
        if let Some(mut process) = self.process.take() {
            // With its first process a namespace ends.
            if let Some(first) = rustix::process::Pid::from_raw(self.first) {
                let _ = rustix::process::kill_process(first, rustix::process::Signal::KILL);
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        let end = Instant::now() + PATIENCE;
        eventually("the machine's processes are gone", end, || {
            let events = fs::read_to_string(self.cgroup.join("cgroup.events")).unwrap_or_default();
            !events.contains("populated 1")
        });
    }

    /// What it said on its console.
    pub fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    /// The folder that is its `/etc/systemd/system`.
    pub fn units(&self) -> PathBuf {
        self.folder.join("units")
    }

    /// A program in it: whether it succeeded, and what it said.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first.to_string(), "-a"]).args(arguments).current_dir("/").stdin(Stdio::null());
        let output = command.output().expect("nsenter runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// `systemctl`: whether it succeeded, and what it said.
    pub fn systemctl(&self, arguments: &[&str]) -> (bool, String) {
        self.run(&[&["systemctl"], arguments].concat())
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", "--value", "--property", name, unit]).1.trim().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.halt();
        let mut folders = vec![self.cgroup.clone()];
        let mut all = Vec::new();
        while let Some(folder) = folders.pop() {
            let below = fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir());
            folders.extend(below);
            all.push(folder);
        }
        for folder in all.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}
