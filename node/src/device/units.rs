//! Keepers as systemd units, where systemd runs the machine. Invariant: a unit says nothing about a service that its keeper
//! does not know: it starts the very keeper that would run detached, so that restarts, grace, logs and sandbox mean the
//! same everywhere; systemd adds what only it can: a cgroup, an order at boot, and a keeper that comes back without a node.
//!
//! A detached keeper would be in the cgroup of whoever started the node: stopping the node's own unit, or the end of a
//! session, would take every service with it. To give systemd the service itself was refused: restarts would be counted
//! twice, readiness and the stop signal would mean something else, and logs would be in two places.
//!
//! A unit is enabled when its generation is confirmed, not before: what a power cut leaves in the middle of a switch is for
//! the node to bring to its end, and must not start by itself.

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
    /// The systemd of this machine and user, if there is one that can be asked; else why services run without.
    pub(super) fn find(softservices: &Path, program: &str) -> Result<Self, String> {
        if !Path::new(BOOTED).is_dir() {
            return Err("systemd does not run this machine".into());
        }
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
        let runtime = absolute("XDG_RUNTIME_DIR").ok_or("XDG_RUNTIME_DIR is not set: this is no session of systemd")?;
        if !runtime.join("systemd/private").exists() {
            return Err("this user has no systemd of its own".into());
        }
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
        line(format_args!("Delegate=yes\nSlice=softservice-{}.slice", slice(&softservice)));
        let target = match self.scope {
            Scope::System => "multi-user.target",
            Scope::User => "default.target",
        };
        line(format_args!("\n[Install]\nWantedBy={target}"));
        text
    }

    /// Starts a keeper's unit; when this returns `Ok`, the keeper can be talked to.
    pub(super) async fn start(&self, of: Purpose<'_>) -> Result<(), String> {
        let file = self.file(of.folder);
        let text = self.text(of);
        let say = |what: &str, e: &dyn std::fmt::Display| format!("could not {what} {}: {e}", file.display());
        std::fs::create_dir_all(&self.folder).map_err(|e| say("get a folder for", &e))?;
        if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
            return self.ask(&["start", &self.name(of.folder)], ANSWER).await;
        }
        super::durable::write(&file, text.as_bytes(), 0o644).map_err(|e| say("write", &e))?;
        self.ask(&["daemon-reload"], ANSWER).await?;
        self.ask(&["start", &self.name(of.folder)], ANSWER).await
    }

    /// Lets a unit that runs come back at boot.
    pub(super) async fn enable(&self, folder: &Path) -> Result<(), String> {
        let target = match self.scope {
            Scope::System => "multi-user.target.wants",
            Scope::User => "default.target.wants",
        };
        if !self.has(folder) || self.folder.join(target).join(self.name(folder)).is_symlink() {
            return Ok(());
        }
        self.linger().await;
        self.ask(&["enable", "--quiet", &self.name(folder)], ANSWER).await
    }

    /// Whether the keeper of this folder is a unit.
    pub(super) fn has(&self, folder: &Path) -> bool {
        self.file(folder).exists()
    }

    /// Stops a unit, which ends its keeper and all that it keeps, and removes it.
    pub(super) async fn remove(&self, folder: &Path, grace: Duration) -> Result<(), String> {
        let name = self.name(folder);
        self.ask(&["disable", "--quiet", "--now", &name], grace + MARGIN + ANSWER).await?;
        let file = self.file(folder);
        super::durable::remove(&file).map_err(|e| e.to_string())?;
        // One that was killed stays in the list of failed units, and only then is there something to reset.
        let _ = self.ask(&["reset-failed", &name], ANSWER).await;
        self.ask(&["daemon-reload"], ANSWER).await
    }

    /// Units of softservices of this home, whose folders are gone: left by a removal that was cut off.
    pub(super) fn strays(&self) -> Vec<PathBuf> {
        let home = self.name(&self.softservices);
        let Some(prefix) = home.strip_suffix(".service") else { return Vec::new() };
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
        ours.map(|e| e.path()).collect()
    }

    /// An ordinary user's services outlive the session, and come back at boot, only when the user lingers.
    async fn linger(&self) {
        if self.scope == Scope::System {
            return;
        }
        let lingers = std::env::var_os("USER").is_some_and(|u| Path::new("/var/lib/systemd/linger").join(u).exists());
        if lingers {
            return;
        }
        if let Err(why) = run("loginctl", &["enable-linger"], ANSWER).await {
            tracing::warn!(
                why,
                "services of this user end with the last session; `loginctl enable-linger`, perhaps as root, lets them stay"
            );
        }
    }

    async fn ask(&self, arguments: &[&str], patience: Duration) -> Result<(), String> {
        let scope: &[&str] = match self.scope {
            Scope::System => &[],
            Scope::User => &["--user"],
        };
        run("systemctl", &[scope, &["--no-ask-password"], arguments].concat(), patience).await
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
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn units(scope: Scope, softservices: &Path) -> Units {
        Units { scope, folder: softservices.with_file_name("units"), softservices: softservices.into() }
    }

    #[test]
    fn a_unit_starts_the_keeper_and_leaves_everything_else_to_it() {
        let units = units(Scope::System, Path::new("/var/lib/softservice/softservices"));
        let folder = Path::new("/var/lib/softservice/softservices/photo-shelf/run/3/front.web");
        let text = units.text(Purpose {
            description: "softservice photo-shelf/front.web",
            command: &["/usr/bin/softservice".into(), "keeper".into()],
            folder,
            task: &folder.join("spec.json"),
            words: &folder.join("keeper.log"),
            grace: Duration::from_secs(20),
        });
        let expected = r#"# Made by softservice, and removed by it with what it is for. Changes do not last.
[Unit]
Description=softservice photo-shelf/front.web
RequiresMountsFor="/var/lib/softservice/softservices/photo-shelf/run/3/front.web"
ConditionPathExists=/var/lib/softservice/softservices/photo-shelf/run/3/front.web/spec.json
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=:"/usr/bin/softservice" "keeper" "/var/lib/softservice/softservices/photo-shelf/run/3/front.web/spec.json"
WorkingDirectory=/
StandardInput=null
StandardOutput=null
StandardError=append:/var/lib/softservice/softservices/photo-shelf/run/3/front.web/keeper.log
KillMode=mixed
TimeoutStopSec=35
Restart=on-failure
RestartSec=200ms
OOMPolicy=continue
Delegate=yes
Slice=softservice-photo\x2dshelf.slice

[Install]
WantedBy=multi-user.target
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn every_keeper_has_a_name_of_its_own() {
        let units = units(Scope::System, Path::new("/srv/a/softservices"));
        let name = |folder: &str| units.name(&units.softservices.join(folder));
        assert!(name("book/run/3/web").ends_with("-book.3.web.service"), "{}", name("book/run/3/web"));
        assert_ne!(name("book/run/3/web"), name("book-3/run/3/web"));
        assert_ne!(name("a-b/run/1/c"), name("a/run/1/b-c"));
        let other = Units { softservices: "/srv/b/softservices".into(), ..units.clone() };
        assert_ne!(name("book/run/3/web"), other.name(&other.softservices.join("book/run/3/web")), "another home");
        let long = |end: &str| name(&format!("book/run/3/{}{end}", "x".repeat(250)));
        assert!(long("a").len() < 256 && long("a") != long("b"));
    }

    /// Says loudly when nothing was verified.
    fn verify(scope: &[&str], file: &Path) -> Option<String> {
        let runtime = file.parent().expect("a folder");
        let verify = std::process::Command::new("systemd-analyze")
            .args(scope)
            .args(["verify", "--man=no"])
            .arg(file)
            .env("XDG_RUNTIME_DIR", runtime)
            .output();
        match verify {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{said}\n{}", std::fs::read_to_string(file).expect("a unit"));
                Some(said)
            }
            Err(e) => {
                eprintln!("SKIPPED, needs systemd-analyze: generated units are verified: {e}");
                None
            }
        }
    }

    #[test]
    fn systemd_takes_our_units_whatever_a_home_is_called() {
        let scratch = tempfile::tempdir().expect("a folder");
        for home in ["plain", "with blank", "100%h $HOME", "it's \"quoted\"", "back\\slash", "grün;#", "'"] {
            let softservices = scratch.path().join(home).join("softservices");
            let folder = softservices.join("photo-shelf/run/3/front.web");
            std::fs::create_dir_all(&folder).expect("folders");
            // systemd itself takes no quotes in a program's path.
            let program = scratch.path().join("soft 100% $service");
            std::fs::write(&program, "#!/bin/sh\n").expect("a program");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
            let task = folder.join("spec.json");
            let purpose = Purpose {
                description: "softservice photo-shelf/front.web",
                command: &[program.display().to_string(), "keeper".into()],
                folder: &folder,
                task: &task,
                words: &folder.join("keeper.log"),
                grace: Duration::from_secs(20),
            };
            for (scope, arguments) in [(Scope::System, &[][..]), (Scope::User, &["--user"][..])] {
                let units = units(scope, &softservices);
                let file = units.file(&folder);
                std::fs::create_dir_all(&units.folder).expect("a folder");
                std::fs::write(&file, units.text(purpose)).expect("a unit");
                let Some(said) = verify(arguments, &file) else { return };
                // Of other units of the machine it may say what it likes.
                let of_ours: Vec<&str> = said.lines().filter(|l| l.contains("softservice-")).collect();
                assert!(of_ours.is_empty(), "{home}: {of_ours:?}");
            }
        }
    }

    #[test]
    fn a_home_that_no_unit_can_name_is_told_apart() {
        assert!(is_plain(Path::new("/srv/with blank/100%")));
        assert!(!is_plain(Path::new("/srv/with\nline")) && !is_plain(Path::new("/srv/with\u{7f}delete")));
    }
}
