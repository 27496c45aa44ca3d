//! Keepers as systemd units, where systemd runs the machine. Invariant: a unit says nothing about a service that its keeper
//! does not know: it starts the very keeper that would run detached, so that restarts, grace, logs and sandbox mean the
//! same everywhere; systemd adds what only it can: a start at boot, and a keeper that comes back without a node.
//!
//! A detached keeper would be in the cgroup of whoever started the node: stopping the node's own unit, or the end of a
//! session, would take every service with it. To give systemd the service itself was refused: restarts would be counted
//! twice, readiness and the stop signal would mean something else, and logs would be in two places. Limits are kept in
//! groups that the keeper makes, as everywhere, not in the unit's.
//!
//! A unit is enabled when its generation is confirmed, not before: what a power cut leaves in the middle of a switch is for
//! the node to bring to its end, and must not start by itself. Enabling is a link of ours, as `systemctl enable` would
//! make it, without its reload of every unit of the machine in the middle of a switch. Errands - migrations, hooks - are no
//! units: they may end with the node that sent them, which goes back then.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// The folder that is there exactly when systemd runs the machine (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// Beyond the grace of its service, a keeper may take so long to end: see [`super::control`].
const MARGIN: Duration = Duration::from_secs(15);
/// How long systemd may take for an answer that includes no start and no stop.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a keeper's start may take: systemd itself gives up after 90 s.
const BIRTH: Duration = Duration::from_secs(100);

/// Which systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The machine's: the node is root.
    System,
    /// The user's own.
    User,
}

/// A systemd that takes units of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Units {
    scope: Scope,
    /// Where unit files go.
    folder: PathBuf,
    /// All softservices of the home: part of every unit's name, for one machine may have many homes.
    softservices: PathBuf,
}

impl Scope {
    /// What tells `systemctl` which.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::System => &["--no-ask-password"],
            Self::User => &["--user", "--no-ask-password"],
        }
    }

    /// The target that a boot, or a login, brings up.
    fn target(self) -> &'static str {
        match self {
            Self::System => "multi-user.target",
            Self::User => "default.target",
        }
    }
}

/// What a unit is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    /// For people.
    pub(super) description: &'a str,
    /// Program and first arguments of a keeper.
    pub(super) command: &'a [String],
    /// The keeper's folder.
    pub(super) folder: &'a Path,
    /// The task, in that folder.
    pub(super) task: &'a Path,
    /// Where the keeper's own words go.
    pub(super) words: &'a Path,
    /// How long what it keeps may take to end.
    pub(super) grace: Duration,
}

impl Units {
    /// The systemd of this machine and user, if there is one that answers; else why services run without.
    pub(super) fn find(softservices: &Path, program: &str) -> Result<Self, String> {
        if !Path::new(BOOTED).is_dir() {
            return Err("systemd does not run this machine".into());
        }
        let units = Self::located(softservices, program)?;
        // The one of the machine is always there; that of a user may have no manager to talk to.
        let arguments = [units.scope.arguments(), &["show", "--property=Version"]].concat();
        let asked = std::process::Command::new("systemctl").args(&arguments).stdin(Stdio::null()).output();
        match asked {
            Ok(answer) if answer.status.success() => Ok(units),
            Ok(answer) => Err(format!("systemctl: {}", String::from_utf8_lossy(&answer.stderr).trim())),
            Err(e) => Err(format!("systemctl: {e}")),
        }
    }

    fn located(softservices: &Path, program: &str) -> Result<Self, String> {
        let softservices = softservices.to_owned();
        if !is_plain(&softservices) {
            return Err(format!("{softservices:?} has characters that a unit cannot name"));
        }
        if !is_plain(Path::new(program)) || program.contains(['"', '\'', '\\']) {
            return Err(format!("{program:?} has characters that systemd takes in no program's path"));
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self { scope: Scope::System, folder: "/etc/systemd/system".into(), softservices });
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
        let config = config.ok_or("neither XDG_CONFIG_HOME nor HOME is set")?;
        Ok(Self { scope: Scope::User, folder: config.join("systemd/user"), softservices })
    }

    /// The unit's name: `softservice-HOME-NAME.GENERATION.SERVICE.service`. Names of softservices have no dots, so two
    /// folders never share one.
    fn name(&self, folder: &Path) -> String {
        let home = blake3::hash(self.softservices.as_os_str().as_encoded_bytes()).to_hex();
        let below = folder.strip_prefix(&self.softservices).unwrap_or(folder);
        let parts: Vec<String> =
            below.iter().map(|p| p.to_string_lossy().into_owned()).filter(|p| p != "run").collect();
        let name = format!("softservice-{}-{}", home.get(..8).unwrap_or_default(), parts.join("."));
        // systemd takes 255 characters; includes of includes may have longer names.
        match name.get(..200) {
            Some(start) => {
                let hash = blake3::hash(name.as_bytes()).to_hex();
                format!("{start}-{}.service", hash.get(..16).unwrap_or_default())
            }
            None => format!("{name}.service"),
        }
    }

    fn file(&self, folder: &Path) -> PathBuf {
        self.folder.join(self.name(folder))
    }

    /// The unit's text.
    fn text(&self, of: Purpose<'_>) -> String {
        let softservice = of.folder.strip_prefix(&self.softservices).ok().and_then(|p| p.iter().next());
        let softservice = softservice.map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let words = of.command.iter().map(String::as_str);
        let task = of.task.to_string_lossy();
        let command: Vec<String> = words.chain([&*task]).map(quoted).collect();
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        };
        line(format_args!("# Made by softservice, and removed by it with what it is for. Changes do not last."));
        line(format_args!("[Unit]\nDescription={}", literal(of.description)));
        line(format_args!("RequiresMountsFor={}", quoted(&of.folder.to_string_lossy())));
        line(format_args!("ConditionPathExists={}", literal(&task)));
        if self.scope == Scope::System {
            line(format_args!("After=network.target"));
        }
        // Giving up is the keeper's to decide, which knows the service's own policy.
        line(format_args!("StartLimitIntervalSec=0\n\n[Service]\nType=notify"));
        // The colon: no variable is put in.
        line(format_args!("ExecStart=:{}", command.join(" ")));
        line(format_args!("WorkingDirectory=/\nStandardInput=null\nStandardOutput=null"));
        line(format_args!("StandardError=append:{}", literal(&of.words.to_string_lossy())));
        // A stop asks the keeper alone, which asks the service as its definition says.
        line(format_args!("KillMode=mixed\nTimeoutStopSec={}", (of.grace + MARGIN).as_secs()));
        // A keeper that was told to stop ends with 0. The service's own ends never reach systemd.
        line(format_args!("Restart=on-failure\nRestartSec=200ms\nOOMPolicy=continue"));
        line(format_args!("Slice=softservice-{}.slice", slice(&softservice)));
        line(format_args!("\n[Install]\nWantedBy={}", self.scope.target()));
        text
    }

    /// Starts a keeper's unit, unless it is active; when this returns `Ok`, the keeper can be talked to.
    pub(super) async fn start(&self, of: Purpose<'_>) -> Result<(), String> {
        let (file, name) = (self.file(of.folder), self.name(of.folder));
        let text = self.text(of);
        let say = |what: &str, e: &dyn std::fmt::Display| format!("could not {what} {}: {e}", file.display());
        std::fs::create_dir_all(&self.folder).map_err(|e| say("get a folder for", &e))?;
        let before = std::fs::read_to_string(&file).ok();
        if before.as_ref() != Some(&text) {
            super::durable::write(&file, text.as_bytes(), 0o644).map_err(|e| say("write", &e))?;
        }
        if before.is_some_and(|before| before != text) {
            self.ask(&["daemon-reload"], ANSWER).await?;
        }
        if self.ask(&["start", &name], BIRTH).await.is_ok() {
            return Ok(());
        }
        // One that systemd has not seen yet, or of which it remembers another text.
        self.ask(&["daemon-reload"], ANSWER).await?;
        let Err(why) = self.ask(&["start", &name], BIRTH).await else { return Ok(()) };
        // systemd would try for ever; when to try again is for whoever asked.
        let _ = self.ask(&["stop", &name], of.grace + MARGIN + ANSWER).await;
        let words = std::fs::read_to_string(of.words).unwrap_or_default();
        Err(format!("did not start: {}: {why}", words.trim().lines().last().unwrap_or("it said nothing")))
    }

    /// Starts a unit anew, whose keeper hangs.
    pub(super) async fn restart(&self, of: Purpose<'_>) -> Result<(), String> {
        self.ask(&["restart", &self.name(of.folder)], of.grace + MARGIN + BIRTH).await
    }

    /// Lets a unit come back at boot; a keeper that is no unit does not.
    pub(super) async fn enable(&self, folder: &Path) -> Result<(), String> {
        let link = self.link(folder);
        if !self.has(folder) || link.is_symlink() {
            return Ok(());
        }
        self.tell_of_lingering();
        let say = |e: &dyn std::fmt::Display| format!("could not make {}: {e}", link.display());
        std::fs::create_dir_all(link.parent().unwrap_or(&self.folder)).map_err(|e| say(&e))?;
        super::durable::point(&link, &self.file(folder)).map_err(|e| say(&e))
    }

    /// Whether the keeper of this folder is a unit.
    pub(super) fn has(&self, folder: &Path) -> bool {
        self.file(folder).exists()
    }

    /// Stops a unit, which ends its keeper and all that it keeps, and removes it.
    pub(super) async fn remove(&self, folder: &Path, grace: Duration) -> Result<(), String> {
        self.drop_unit(&self.name(folder), grace).await
    }

    async fn drop_unit(&self, name: &str, grace: Duration) -> Result<(), String> {
        // First: it must not come back at boot, whatever happens now.
        let link = self.wants().join(name);
        super::durable::remove(&link).map_err(|e| e.to_string())?;
        self.ask(&["stop", name], grace + MARGIN + ANSWER).await?;
        super::durable::remove(&self.folder.join(name)).map_err(|e| e.to_string())?;
        // One that was killed stays in the list of failed units, and only then is there something to reset.
        let _ = self.ask(&["reset-failed", name], ANSWER).await;
        Ok(())
    }

    /// Removes units of this home whose task is gone: left by a removal that was cut off.
    pub(super) async fn sweep(&self) {
        for (name, task) in self.all() {
            if !task.exists()
                && let Err(why) = self.drop_unit(&name, Duration::ZERO).await
            {
                tracing::warn!(unit = name, why, "it is of no use any more and could not be removed");
            }
        }
    }

    /// Units of this home, each with its task.
    fn all(&self) -> Vec<(String, PathBuf)> {
        let home = self.name(&self.softservices);
        let prefix = home.strip_suffix(".service").unwrap_or(&home).to_owned();
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        let ours = names.filter(|n| n.starts_with(&prefix) && n.ends_with(".service"));
        let task = |name: &String| {
            let text = std::fs::read_to_string(self.folder.join(name)).ok()?;
            let path = text.lines().find_map(|l| l.strip_prefix("ConditionPathExists="))?;
            Some(PathBuf::from(path.replace("%%", "%")))
        };
        ours.filter_map(|name| task(&name).map(|task| (name, task))).collect()
    }

    fn wants(&self) -> PathBuf {
        self.folder.join(format!("{}.wants", self.scope.target()))
    }

    fn link(&self, folder: &Path) -> PathBuf {
        self.wants().join(self.name(folder))
    }

    /// An ordinary user's services outlive the session, and come back at boot, only when the user lingers. That is for the
    /// owner of the machine to say, not for us.
    fn tell_of_lingering(&self) {
        let lingers =
            || std::env::var_os("USER").is_some_and(|u| Path::new("/var/lib/systemd/linger").join(u).exists());
        if self.scope == Scope::User && !lingers() {
            tracing::warn!("services of this user end with the last session; `loginctl enable-linger` lets them stay");
        }
    }

    async fn ask(&self, arguments: &[&str], patience: Duration) -> Result<(), String> {
        run("systemctl", &[self.scope.arguments(), arguments].concat(), patience).await
    }
}

async fn run(program: &str, arguments: &[&str], patience: Duration) -> Result<(), String> {
    let what = || format!("{program} {}", arguments.join(" "));
    let asked = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        timeout(patience, asked).await.map_err(|_| format!("{}: no answer in {} s", what(), patience.as_secs()))?;
    let output = output.map_err(|e| format!("{}: {e}", what()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Whether a path can stand in a unit at all.
fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|p| !p.chars().any(char::is_control))
}

/// Text that is taken as it is, but for specifiers.
fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// One word of a line that is split into words.
fn quoted(word: &str) -> String {
    format!("\"{}\"", literal(word).replace('\\', "\\\\").replace('"', "\\\""))
}

/// A name as one level of a slice: a dash would begin another.
fn slice(name: &str) -> String {
    name.replace('-', "\\x2d")
}

#[cfg(test)]
mod tests;
