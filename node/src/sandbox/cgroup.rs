//! Control groups: what limits memory, processor time and processes of a service, whatever it starts. Invariant: a group
//! has one service, and is removed when nothing of that service lives; groups of others are never touched.
//!
//! Version 1 is used where a controller is mounted so (as root), version 2 where the kernel lets us divide our own part
//! of the tree. What works is found out by making a group.

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use softservice_protocol::instance::Sandbox;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Error},
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder of all our groups, below the group that the node is in.
const OURS: &str = "softservice";
/// The period over which processor time is shared out, in microseconds.
const PERIOD: u64 = 100_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Controller {
    /// Bytes.
    Memory,
    /// Processor time.
    Cpu,
    /// Processes and threads.
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// Where groups can be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cgroups {
    /// The folder of our groups for each controller that works.
    parents: BTreeMap<Controller, PathBuf>,
    /// They are of version 2.
    unified: bool,
}

/// The group of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Its folder for each controller; one folder for all in version 2.
    folders: BTreeMap<Controller, PathBuf>,
    unified: bool,
}

impl Cgroups {
    /// Finds out by trying.
    pub(super) fn tried() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let old = Self::separate(&mounts, &own);
        if !old.parents.is_empty() {
            return old;
        }
        Self::unified(&mounts, &own)
    }

    /// Version 1: each controller has a tree of its own.
    fn separate(mounts: &str, own: &str) -> Self {
        let mut found = Self::default();
        for controller in Controller::ALL {
            if let Some((_, own)) = separate(mounts, own, controller) {
                found.parents.insert(controller, own.join(OURS));
            }
        }
        found.working()
    }

    /// Version 2: one tree, in which a group either has processes or is divided. We look upward from our own group for
    /// the highest that is ours to divide; root divides the top.
    fn unified(mounts: &str, own: &str) -> Self {
        let Some((at, lowest)) = unified(mounts, own) else { return Self::default() };
        let ours = |p: &&Path| rustix::fs::access(p.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok();
        let delegated = lowest.ancestors().take_while(|p| p.starts_with(&at)).take_while(ours).last();
        let Some(top) = delegated else { return Self::default() };
        let parent = top.join(OURS);
        if fs::create_dir(&parent).is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists) {
            return Self::default();
        }
        share(top);
        share(&parent);
        let parents = Controller::ALL.into_iter().map(|c| (c, parent.clone())).collect();
        Self { parents, unified: true }.working()
    }

    /// Those in which a group can be made and limited.
    fn working(self) -> Self {
        let name = format!("trial-{}", rustix::process::getpid().as_raw_nonzero());
        let asked = Sandbox { memory: Some(1 << 30), cpu: Some(1000), processes: Some(64), ..Sandbox::default() };
        let works = |(controller, parent): (Controller, PathBuf)| {
            let alone = Self { parents: BTreeMap::from([(controller, parent.clone())]), unified: self.unified };
            let group = alone.group(&name, &asked)?;
            let made = group.make(&asked);
            group.remove();
            made.ok().map(|()| (controller, parent))
        };
        Self { parents: self.parents.into_iter().filter_map(works).collect(), unified: self.unified }
    }

    pub(super) fn has(&self, controller: Controller) -> bool {
        self.parents.contains_key(&controller)
    }

    /// The group of this name; none where no controller works. Nothing is made yet.
    pub(super) fn group(&self, name: &str, sandbox: &Sandbox) -> Option<Group> {
        let wanted = |c: &Controller| match c {
            Controller::Memory => sandbox.memory.is_some(),
            Controller::Cpu => sandbox.cpu.is_some(),
            // Its members can be listed, whatever they do to their sessions and parents.
            Controller::Pids => true,
        };
        let wanted = self.parents.iter().filter(|(c, _)| wanted(c));
        let folders: BTreeMap<_, _> = wanted.map(|(c, parent)| (*c, parent.join(name))).collect();
        (!folders.is_empty()).then_some(Group { folders, unified: self.unified })
    }
}

/// The mount of a controller's own tree (version 1), and the group in it that this process is in.
fn separate(mounts: &str, own: &str, controller: Controller) -> Option<(PathBuf, PathBuf)> {
    let (root, at) =
        mounted(mounts, |kind, options| kind == "cgroup" && options.split(',').any(|o| o == controller.name()))?;
    let ours = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|c| c == controller.name()).then_some(path)
    });
    let group = below(&at, &root, ours.unwrap_or("/"));
    Some((at, group))
}

/// The mount of the one tree (version 2), and the group in it that this process is in.
fn unified(mounts: &str, own: &str) -> Option<(PathBuf, PathBuf)> {
    let (root, at) = mounted(mounts, |kind, _| kind == "cgroup2")?;
    let group = below(&at, &root, own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/"));
    Some((at, group))
}

/// Bytes of memory that programs started from here can have together: those of the machine, or fewer where a container
/// limits them; none = the kernel does not say.
pub(crate) fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = machine.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let machine = 1024u64.checked_mul(machine?)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let old = separate(&mounts, &own, Controller::Memory).map(|of| (of, "memory.limit_in_bytes"));
    let new = unified(&mounts, &own).map(|of| (of, "memory.max"));
    let limits = [old, new].into_iter().flatten().filter_map(|((at, group), file)| least(&at, &group, file));
    Some(limits.fold(machine, u64::min))
}

/// The least limit from a group up to the mount that shows it. A group without one has no number in its file.
fn least(at: &Path, group: &Path, file: &str) -> Option<u64> {
    let groups = group.ancestors().take_while(|g| g.starts_with(at));
    groups.filter_map(|g| fs::read_to_string(g.join(file)).ok()?.trim().parse().ok()).min()
}

/// The root and the place of the first mount of this kind with these options.
fn mounted(mounts: &str, fits: impl Fn(&str, &str) -> bool) -> Option<(String, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let mut place = place.split(' ').skip(3);
        let (root, at) = (place.next()?, place.next()?);
        fits(name, options).then(|| (root.to_owned(), PathBuf::from(at)))
    })
}

/// The folder of group `path`, where the mount shows the tree from `root` on.
fn below(at: &Path, root: &str, path: &str) -> PathBuf {
    let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    at.join(inside)
}

impl Group {
    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        let mut all: Vec<&PathBuf> = self.folders.values().collect();
        all.dedup();
        all.into_iter()
    }

    /// The group of the same kind that this process makes and removes.
    pub(crate) fn of_process(&self, pid: Pid) -> Self {
        let own = |folder: &PathBuf| PathBuf::from(format!("{}.{}", folder.display(), pid.as_raw_nonzero()));
        let folders = self.folders.iter().map(|(c, folder)| (*c, own(folder))).collect();
        Self { folders, unified: self.unified }
    }

    /// Removes groups of processes that were killed before they could. Only their own makers remove living ones.
    pub(crate) fn sweep(&self) {
        for parent in self.folders().filter_map(|f| f.parent()) {
            let Ok(groups) = fs::read_dir(parent) else { continue };
            for group in groups.filter_map(|g| Some(g.ok()?.path())) {
                let maker = group.extension().and_then(|e| e.to_str()).and_then(|e| e.parse::<u32>().ok());
                if maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                    // Refused by the kernel while somebody is in it.
                    let _ = fs::remove_dir(group);
                }
            }
        }
    }

    /// Makes the group and sets its limits; one that is there gets the limits anew.
    pub(crate) fn make(&self, sandbox: &Sandbox) -> io::Result<()> {
        for folder in self.folders() {
            if self.unified {
                divide(folder);
            }
            // Whoever removes the last group of all removes the folder above it, maybe between two looks of ours.
            let mut made = fs::create_dir_all(folder);
            for _ in 0..3 {
                if made.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                    made = fs::create_dir_all(folder);
                }
            }
            made.map_err(|e| named(folder, &e))?;
        }
        for (controller, folder) in &self.folders {
            let set = |file: &str, value: String| fs::write(folder.join(file), value).map_err(|e| named(folder, &e));
            // Swap counts as memory; a kernel that does not count it has no such file.
            let set_swap = |file: &str, value: String| match folder.join(file).exists() {
                true => set(file, value),
                false => Ok(()),
            };
            match (controller, self.unified) {
                (Controller::Memory, false) => {
                    let Some(bytes) = sandbox.memory else { continue };
                    // The limit with swap may not be below the one without, whichever way both change.
                    let lifted = set_swap("memory.memsw.limit_in_bytes", "-1".into());
                    set("memory.limit_in_bytes", bytes.to_string())?;
                    lifted.and_then(|()| set_swap("memory.memsw.limit_in_bytes", bytes.to_string()))?;
                }
                (Controller::Memory, true) => {
                    let Some(bytes) = sandbox.memory else { continue };
                    set("memory.max", bytes.to_string())?;
                    set_swap("memory.swap.max", "0".into())?;
                }
                (Controller::Cpu, unified) => {
                    let Some(thousandths) = sandbox.cpu else { continue };
                    // The kernel's least is a millisecond.
                    let quota = (u64::from(thousandths) * PERIOD / 1000).max(1000);
                    if unified {
                        set("cpu.max", format!("{quota} {PERIOD}"))?;
                    } else {
                        set("cpu.cfs_period_us", PERIOD.to_string())?;
                        set("cpu.cfs_quota_us", quota.to_string())?;
                    }
                }
                (Controller::Pids, _) => {
                    let most = sandbox.processes.map_or("max".into(), |n| (u64::from(n) + OVERHEAD).to_string());
                    set("pids.max", most)?;
                }
            }
        }
        Ok(())
    }

    /// Moves this process, and all that it will start, into the group.
    pub(super) fn join(&self) -> io::Result<()> {
        self.folders().try_for_each(|f| fs::write(f.join("cgroup.procs"), "0").map_err(|e| named(f, &e)))
    }

    /// How often the kernel killed a process of the group because its memory was used up.
    pub(crate) fn memory_kills(&self) -> u64 {
        let Some(folder) = self.folders.get(&Controller::Memory) else { return 0 };
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// Kills every member.
    pub(crate) fn kill(&self) {
        for folder in self.folders() {
            let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines().filter_map(|l| Pid::from_raw(l.trim().parse().ok()?)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Removes the group if nobody is in it, and the folder of all groups if this was the last. Answers whether it is gone.
    pub(crate) fn remove(&self) -> bool {
        self.folders().fold(true, |gone, folder| {
            let removed = fs::remove_dir(folder);
            if let Some(parent) = folder.parent() {
                // Refused by the kernel while another group is in it.
                let _ = fs::remove_dir(parent);
            }
            gone && removed.map_or_else(|e| e.kind() == io::ErrorKind::NotFound, |()| true)
        })
    }

    /// Removes the group once its last process is dead. The kernel tells nobody when that is.
    pub(crate) async fn removed(&self) {
        for _ in 0..PATIENCE {
            if self.remove() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Lets a group have limits of its own, by asking for every controller in those above it: after a boot nobody has tried yet
/// what works here. What is refused shows when the limit is set.
fn divide(folder: &Path) {
    let Some(parent) = folder.parent().filter(|p| !p.exists()) else { return };
    let _ = fs::create_dir(parent);
    parent.parent().into_iter().chain([parent]).for_each(share);
}

/// Lets what is below a group be limited. One after the other: a controller that is missing must not take the others with it.
fn share(group: &Path) {
    for controller in Controller::ALL {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{}", controller.name()));
    }
}

/// Looks at a group whose processes are dying, and the time between them.
const PATIENCE: u32 = 200;
const LOOK: Duration = Duration::from_millis(5);

/// Processes of the sandbox itself: bubblewrap's own and the first in its namespace.
const OVERHEAD: u64 = 2;

fn named(path: &Path, e: &Error) -> Error {
    Error::new(e.kind(), format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_above_a_group_is_its_own() {
        let tree = tempfile::tempdir().expect("a folder");
        let (at, group) = (tree.path().join("mount"), tree.path().join("mount/a/b"));
        fs::create_dir_all(&group).expect("folders");
        let limit = |of: &Path, text: &str| fs::write(of.join("memory.max"), text).expect("write");
        assert_eq!(least(&at, &group, "memory.max"), None);
        limit(tree.path(), "1\n");
        limit(&group, "max\n");
        assert_eq!(least(&at, &group, "memory.max"), None, "what is above the mount is of something else");
        limit(&at, "4096\n");
        limit(&at.join("a"), "2048\n");
        assert_eq!(least(&at, &group, "memory.max"), Some(2048));
        assert!(memory().expect("this machine has some") >= 1 << 20);
    }

    #[test]
    fn mounts_are_found_and_paths_are_below_them() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      36 31 0:33 /docker/x /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let of = |name: &'static str| mounted(mounts, |k, o| k == "cgroup" && o.split(',').any(|o| o == name));
        assert_eq!(of("memory"), Some(("/".into(), "/sys/fs/cgroup/memory".into())));
        let (root, at) = of("cpu").expect("mounted");
        assert_eq!(below(&at, &root, "/docker/x/y"), Path::new("/sys/fs/cgroup/cpu,cpuacct/y"));
        assert_eq!(below(&at, &root, "/elsewhere"), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(of("pids"), None);
        assert_eq!(mounted(mounts, |k, _| k == "cgroup2").expect("mounted").1, Path::new("/sys/fs/cgroup/unified"));
    }
}
