//! Who runs for a home. Invariant: a process is found by any of its command line, its program and its folder, so that one
//! which renamed itself is found as well.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A living process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its command line.
    pub line: Vec<String>,
}

impl Process {
    /// Whether this is a keeper or a front.
    pub fn helps(&self, program: &Path) -> bool {
        self.line.first().is_some_and(|p| Path::new(p) == program) && self.line.iter().any(|w| w == "keeper")
    }
    /// Whether this is a front.
    pub fn leads(&self, program: &Path) -> bool {
        self.helps(program) && self.line.last().is_some_and(|task| Path::new(task).ends_with("front/front-task.json"))
    }
    /// The service's folder, when this is the keeper or front of one: `softservice keeper FOLDER/TASK`.
    pub fn kept(&self, program: &Path) -> Option<PathBuf> {
        let task = Path::new(self.line.last()?);
        // What a keeper has become on its way to a service is the same program with another task.
        (self.helps(program) && task.file_name()? == "spec.json").then(|| task.parent().map(Path::to_owned)).flatten()
    }
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Every process that lives; the dead whom nobody has collected are left out.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| read(e.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = line.split(|b| *b == 0).filter(|w| !w.is_empty()).map(|w| String::from_utf8_lossy(w).into_owned());
    Some(Process { pid, parent, line: line.collect() })
}

/// Processes that have to do with `home`, this one aside.
pub fn of(home: &Path) -> Vec<Process> {
    let own = std::process::id() as i32;
    let name = home.to_string_lossy();
    let inside = |pid: i32, link: &str| fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|p| p.starts_with(home));
    let mut found = all();
    found.retain(|p| {
        p.pid != own && (p.line.iter().any(|w| w.contains(&*name)) || inside(p.pid, "exe") || inside(p.pid, "cwd"))
    });
    found
}

/// Processes below `root`, itself left out.
pub fn below(root: i32) -> Vec<Process> {
    let all = all();
    let (mut found, mut parents) = (Vec::new(), vec![root]);
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|p| p.parent == parent) {
            parents.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}
