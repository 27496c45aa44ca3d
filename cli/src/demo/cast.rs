//! Who plays: node processes, each with a home, and verbs run against them by the same binary.
//! Invariant: a node that was started is stopped by [`Stage::clear`], also when the story broke off.

use super::DemoError;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// How long one verb may take before the story calls it stuck.
const PATIENCE: Duration = Duration::from_secs(180);

/// All nodes.
pub(super) struct Stage {
    pub(super) folder: PathBuf,
    program: PathBuf,
    nodes: Vec<Player>,
}

struct Player {
    name: String,
    home: PathBuf,
    process: Option<Child>,
}

/// A node by its place on the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Who(usize);

impl Stage {
    pub(super) fn new(folder: PathBuf) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(|source| DemoError::Io {
            action: "find",
            path: "this program".into(),
            source,
        })?;
        Ok(Self { folder, program, nodes: Vec::new() })
    }

    fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(home).arg("--json").stdin(Stdio::null()).kill_on_drop(true);
        // What a terminal signals to its group is for the one who directs: the others are stopped in order.
        command.process_group(0);
        command.env(crate::session::UNITS, "off");
        command
    }

    /// Starts a node and waits until it is ready; gives its device id.
    pub(super) async fn enter(&mut self, name: &str) -> Result<(Who, String), DemoError> {
        let home = self.folder.join(name);
        let log = self.folder.join(format!("{name}.log"));
        let file =
            std::fs::File::create(&log).map_err(|source| DemoError::Io { action: "write", path: log, source })?;
        let failed = |why: String| DemoError::Verb { who: name.into(), command: "node".into(), why };
        let mut process = self
            .command(&home)
            .args(["node", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht", "--web", "off"])
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let stdout = process.stdout.take().ok_or_else(|| failed("it has no output".into()))?;
        self.nodes.push(Player { name: name.into(), home, process: Some(process) });
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let first = first.map_err(|_| failed("it did not become ready".into()))?.map_err(|e| failed(e.to_string()))?;
        let ready: Value = serde_json::from_str(&first.unwrap_or_default()).map_err(|e| failed(e.to_string()))?;
        if ready["event"] != "ready" {
            return Err(failed(ready.to_string()));
        }
        let device = ready["device"].as_str().unwrap_or_default().to_owned();
        Ok((Who(self.nodes.len() - 1), device))
    }

    fn player(&self, who: Who) -> Result<&Player, DemoError> {
        self.nodes.get(who.0).ok_or_else(|| DemoError::Story("nobody by that number".into()))
    }

    /// Runs a verb; gives its JSON, also when it is an error, and whether it succeeded.
    pub(super) async fn attempt(&self, who: Who, arguments: &[&str]) -> Result<(bool, Value), DemoError> {
        let player = self.player(who)?;
        let failed = |why: String| DemoError::Verb { who: player.name.clone(), command: arguments.join(" "), why };
        let running = self.command(&player.home).args(arguments).stderr(Stdio::piped()).output();
        let output = tokio::time::timeout(PATIENCE, running).await;
        let output = output.map_err(|_| failed("it took too long".into()))?.map_err(|e| failed(e.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = serde_json::from_str(if text.trim().is_empty() { "null" } else { &text })
            .map_err(|e| failed(format!("{e} in {text:?}: {}", String::from_utf8_lossy(&output.stderr))))?;
        Ok((output.status.success(), value))
    }

    /// Runs a verb that must succeed.
    pub(super) async fn ask(&self, who: Who, arguments: &[&str]) -> Result<Value, DemoError> {
        let (good, value) = self.attempt(who, arguments).await?;
        if good {
            return Ok(value);
        }
        let name = self.player(who)?.name.clone();
        Err(DemoError::Verb { who: name, command: arguments.join(" "), why: value.to_string() })
    }

    /// Stops a node in order and waits for its process.
    pub(super) async fn leave(&mut self, who: Who) -> Result<(), DemoError> {
        self.attempt(who, &["stop"]).await?;
        let player = self.nodes.get_mut(who.0).ok_or_else(|| DemoError::Story("nobody by that number".into()))?;
        if let Some(mut process) = player.process.take() {
            let name = player.name.clone();
            let failed = move |why: String| DemoError::Verb { who: name.clone(), command: "node".into(), why };
            let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
            ended.map_err(|_| failed("it did not stop".into()))?.map_err(|e| failed(e.to_string()))?;
        }
        Ok(())
    }

    /// Removes every softservice, stops every node; kills what is left and says how many that were.
    pub(super) async fn clear(&mut self) -> usize {
        for index in 0..self.nodes.len() {
            let who = Who(index);
            if self.nodes.get(index).is_none_or(|p| p.process.is_none()) {
                continue;
            }
            if let Ok((true, Value::Array(list))) = self.attempt(who, &["ps"]).await {
                for name in list.iter().filter_map(|s| s["name"].as_str()) {
                    let _ = self.attempt(who, &["remove", name, "--data"]).await;
                }
            }
            let _ = self.leave(who).await;
        }
        self.kill_rest()
    }

    /// Whoever still names our folder on its command line is ours.
    fn kill_rest(&self) -> usize {
        let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
        let folder = self.folder.display().to_string();
        let ours = processes.flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&folder).then_some(pid)
        });
        ours.filter_map(rustix::process::Pid::from_raw)
            .filter(|pid| rustix::process::kill_process(*pid, rustix::process::Signal::KILL).is_ok())
            .count()
    }
}
