//! The row that kills. Invariant: the node is a process of its own, as on any device, and is killed with its keepers in the
//! middle of a switch; whatever the moment, the next node finds one whole generation and brings it up.

use super::Bench;
use crate::{
    device::PlanRequest,
    verbs::{
        failure::{Failure, Kind},
        trial::NAME,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use softservice_protocol::instance::overlay::Edit;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep, timeout},
};

/// Steps in whose middle it is killed.
const MOMENTS: [&str; 4] = ["stage", "point", "start", "confirm"];
/// No step of a sound distro takes so long.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a file or a node of another process, which nobody announces to us.
const LOOK: Duration = Duration::from_millis(2);

/// A node in a process of its own.
struct Killable {
    program: String,
    home: PathBuf,
    node: Child,
    /// Its standard input, whose end ends it: this process may be killed as well, and then nobody else would.
    _owner: ChildStdin,
}

impl Bench<'_> {
    pub(super) async fn crash(&self) -> Result<String, Failure> {
        let [program, verb] = self.config.keeper.as_slice() else { return Err(no_program()) };
        if verb != "keeper" {
            return Err(no_program());
        }
        self.place(&[self.release], async |place| {
            self.install_at(place).await?;
            // A second generation in which every service is another, so that going from one to the other is a whole switch.
            let context = place.context()?;
            let services = context.device.info(NAME).await?.services;
            let mark = |service: String| Edit::SetVariable {
                service,
                name: "SOFTSERVICE_TRIAL".into(),
                value: "crash".into(),
            };
            let edits = services.into_iter().map(|s| mark(s.name)).collect();
            let overlay = context.device.edited_overlay(NAME, self.release.id, edits).await?;
            drop(context);
            self.up(place, PlanRequest { overlay: Some(overlay), ..self.request(NAME) }, self.release).await?;
            place.stop().await;
            let mut node = Killable::start(program, place.home()).await?;
            let mut seen = Vec::new();
            for moment in MOMENTS {
                seen.push(node.switch_and_kill(moment).await?);
                node = node.again().await?;
                node.whole(moment).await?;
            }
            node.node.kill().await?;
            Ok(format!("killed {}: each time one whole generation ran on", seen.join(", ")))
        })
        .await
    }
}

fn no_program() -> Failure {
    Failure::failed("this node's program cannot be started as a node of its own")
}

impl Killable {
    async fn start(program: &str, home: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.arg("--home").arg(home).args(["--json", "node", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(["--no-mdns", "--no-dht", "--owned"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut node = command.stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let _owner = node.stdin.take().ok_or_else(no_program)?;
        let output = node.stdout.take().ok_or_else(no_program)?;
        let mut lines = BufReader::new(output).lines();
        let ready = timeout(PATIENCE, lines.next_line()).await;
        if !matches!(&ready, Ok(Ok(Some(line))) if line.contains("\"ready\"")) {
            return Err(Failure::failed("the node did not become ready after it was killed"));
        }
        // Its later lines are nobody's, but a closed pipe would end it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { program: program.into(), home: home.into(), node, _owner })
    }

    async fn again(self) -> Result<Self, Failure> {
        Self::start(&self.program, &self.home).await
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(&self.home).arg("--json").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What a verb answers.
    async fn verb(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let slow = || Failure::failed(format!("`{}` does not end", arguments.join(" ")));
        let output = timeout(PATIENCE, self.command(arguments).output()).await.map_err(|_| slow())??;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match answer["error"]["message"].as_str() {
            Some(why) => Err(Failure::failed(why)),
            None => Ok(answer),
        }
    }

    fn journal(&self) -> PathBuf {
        self.home.join("softservices").join(NAME).join("journal")
    }

    /// Begins a switch and kills the node and all keepers once the step has begun; what was done, for people.
    async fn switch_and_kill(&mut self, moment: &str) -> Result<String, Failure> {
        let before = std::fs::read(self.journal())?.len();
        let mut switch = self.command(&["rollback", NAME]).spawn()?;
        let end = Instant::now() + PATIENCE;
        let hit = loop {
            let journal = std::fs::read(self.journal())?;
            if begun(journal.get(before..).unwrap_or_default(), moment) {
                break true;
            }
            // Over before it was seen: it is killed all the same.
            if switch.try_wait()?.is_some() {
                break false;
            }
            if Instant::now() > end {
                return Err(Failure::failed(format!("a switch did not come to {moment}")));
            }
            sleep(LOOK).await;
        };
        self.node.kill().await?;
        self.kill_keepers()?;
        let _ = switch.kill().await;
        Ok(if hit { format!("during {moment}") } else { "after the switch".into() })
    }

    /// Every process whose command line names this home: nobody else's do.
    fn kill_keepers(&self) -> Result<(), Failure> {
        let home = self.home.display().to_string();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let keeper = line.contains("keeper") && line.contains(&home);
            if let Some(pid) = Pid::from_raw(pid).filter(|_| keeper && pid != std::process::id() as i32) {
                // It may have ended by itself meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(())
    }

    /// Waits until the unfinished life is over, and sees that what is current runs and is healthy.
    async fn whole(&self, moment: &str) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let shown = self.verb(&["ps", NAME]).await?;
            let state = shown[0]["state"].as_str().unwrap_or_default().to_owned();
            match state.as_str() {
                "running" => break,
                "provisioning" | "degraded" if Instant::now() < end => sleep(10 * LOOK).await,
                other => {
                    let what = format!("killed during {moment}, it is {other} afterwards");
                    return Err(Failure::new(Kind::Failed, what));
                }
            }
        }
        // Returns when every service is healthy.
        self.verb(&["start", NAME]).await.map(drop)
    }
}

/// Whether a journal's new lines say that a step has begun.
fn begun(journal: &[u8], effect: &str) -> bool {
    let lines = journal.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n"));
    let entries = lines.filter_map(|l| serde_json::from_slice::<Value>(l.get(17..)?).ok());
    entries.into_iter().any(|e| e["step"]["effect"] == effect && e["mark"] == "begun")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_begun_when_its_line_is_whole() {
        let line = |effect: &str, mark: &str| {
            format!("0123456789abcdef {{\"step\":{{\"effect\":\"{effect}\"}},\"mark\":\"{mark}\"}}\n")
        };
        let journal = line("stage", "begun") + &line("stage", "done") + &line("point", "begun");
        assert!(begun(journal.as_bytes(), "point") && begun(journal.as_bytes(), "stage"));
        assert!(!begun(journal.as_bytes(), "start"));
        assert!(!begun(&journal.as_bytes()[..journal.len() - 1], "point"), "a torn line says nothing");
        assert!(!begun(line("start", "done").as_bytes(), "start"));
    }
}
