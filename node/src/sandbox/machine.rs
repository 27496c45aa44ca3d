//! What this machine can keep, found out by trying. Invariant: a means counts only when a program was held by it; nothing
//! is believed because of a version number or a file that is there.

use super::{
    cgroup::{Cgroups, Controller},
    confinement::{Confinement, Keeps, Means, device_programs},
    once::Once,
    rules, users,
    variables::carried,
};
use softservice_protocol::instance::{
    Sandbox,
    sandbox::{Listen, Mount, Transport},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where `bwrap` is looked for.
const PROGRAMS: &[&str] = &["/usr/local/bin/bwrap", "/usr/bin/bwrap", "/bin/bwrap"];

/// What this machine can keep. Found out once for each node; what changes later is seen by the next.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The command that runs a keeper.
    pub(super) keeper: Vec<String>,
    /// The node's home.
    pub(super) home: PathBuf,
    pub(super) means: Means,
    /// Why there is nothing better, for people, with what would help.
    pub(super) lack: Option<String>,
    pub(super) keeps: Keeps,
    /// System calls can be filtered.
    pub(super) syscalls: bool,
    pub(super) cgroups: Cgroups,
    /// Softservices can have users of their own.
    pub(super) users: bool,
    /// Processes can be counted by the user namespace.
    pub(super) counts: bool,
    pub(super) root: bool,
}

/// Whose program it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// Names its cgroup: softservice, and what of it.
    pub(crate) label: String,
    /// Its softservice's own user and group; none = the node's.
    pub(crate) user: Option<u32>,
    /// `$HOME` and working folder. In a sandbox it is private, empty at each start and gone afterwards.
    pub(crate) home: PathBuf,
}

impl Machine {
    /// Finds out. `keeper` is the command that runs a keeper, `home` that of the node. Blocks for the time of a few
    /// program starts.
    pub(crate) fn tried(keeper: &[String], home: &Path) -> Self {
        let mut machine = Self {
            keeper: keeper.to_vec(),
            home: home.to_owned(),
            means: Means::None,
            lack: None,
            keeps: rules::tried(),
            syscalls: true,
            cgroups: Cgroups::tried(),
            users: users::can_be_given(),
            counts: false,
            root: rustix::process::geteuid().is_root(),
        };
        machine.try_members();
        machine.try_means();
        let unfiltered = Self { syscalls: false, ..machine.clone() };
        if let Err(why) = machine.hold() {
            // Where it is not for the filter, the real start says the same again.
            tracing::warn!(why, "programs cannot be held as they should");
            machine.syscalls = unfiltered.hold().is_err();
        }
        machine.counts = !machine.cgroups.has(Controller::Pids) && machine.counts();
        tracing::debug!(?machine, "what this machine can keep");
        machine
    }

    /// Groups that can be made but not joined are of no use.
    fn try_members(&mut self) {
        let bare = Self { syscalls: false, keeps: Keeps::default(), users: false, ..self.clone() };
        if bare.hold().is_err() {
            self.cgroups = Cgroups::default();
        }
    }

    fn try_means(&mut self) {
        let Some(bwrap) = PROGRAMS.iter().map(PathBuf::from).find(|p| p.is_file()) else {
            self.lack = Some("bubblewrap is not installed; install it (package bubblewrap)".into());
            return;
        };
        let mut ways = vec![Means::Namespaces { bwrap: bwrap.clone() }];
        if self.root {
            ways.push(Means::RootNamespaces { bwrap });
        }
        let mut first = None;
        for means in ways {
            let tried = Self { means, ..self.clone() };
            match tried.hold() {
                Ok(()) => {
                    self.means = tried.means;
                    break;
                }
                // The first way is the one to be mended.
                Err(why) => drop(first.get_or_insert(why)),
            }
        }
        self.lack =
            first.map(|why| format!("bubblewrap cannot make namespaces ({why}); allow unprivileged user namespaces"));
    }

    /// Runs a program that does nothing, with everything that this machine is thought to keep.
    fn hold(&self) -> Result<(), String> {
        let sandbox = Sandbox {
            read: vec![Mount::here("/usr/bin")],
            listen: vec![Listen { transport: Transport::Tcp, port: 1 }],
            ..Sandbox::default()
        };
        self.try_one(sandbox, &["/bin/true"])
    }

    /// Whether a program that may be one process cannot start another, and one that may be more can.
    fn counts(&self) -> bool {
        let two = |processes: u32| {
            let sandbox = Sandbox { processes: Some(processes), ..Sandbox::default() };
            self.try_one(sandbox, &["/bin/sh", "-c", "/bin/true; exit 0"]).is_ok()
        };
        matches!(self.means, Means::Namespaces { .. }) && two(16) && !two(1)
    }

    fn try_one(&self, sandbox: Sandbox, program: &[&str]) -> Result<(), String> {
        let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
        let who =
            Who { label: "trial".into(), user: self.users.then_some(users::TRIAL), home: scratch.path().to_owned() };
        let argv: Vec<String> = program.iter().map(|w| (*w).to_owned()).collect();
        let mut command = self.once(&sandbox, &who, &argv, &BTreeMap::new());
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
        let ended = ended.map_err(|e| format!("{}: {e}", self.keeper.join(" ")))?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        Err(said.trim().lines().last().unwrap_or("it said nothing").to_owned())
    }

    /// How a program is held here.
    pub(crate) fn confinement(&self, sandbox: &Sandbox, who: &Who) -> Confinement {
        let lacks = |c: Controller| !self.cgroups.has(c);
        Confinement {
            sandbox: sandbox.clone(),
            means: self.means.clone(),
            keeps: self.keeps,
            syscalls: self.syscalls,
            user: who.user,
            home: who.home.clone(),
            group: self.cgroups.group(&group_name(who), sandbox),
            most_memory: sandbox.memory.filter(|_| lacks(Controller::Memory)),
            most_processes: sandbox.processes.filter(|_| lacks(Controller::Pids)),
        }
    }

    /// Whether softservices get users of their own. Without a view of their own they must reach their folders as they are.
    pub(crate) fn own_users(&self) -> bool {
        self.users && (self.means != Means::None || open_to_all(&self.home))
    }

    /// Whether programs find their folders where they are, below the node's home.
    pub(crate) fn shares_folders(&self) -> bool {
        self.means == Means::None
    }

    /// Why programs cannot have roots of their own; none = they can.
    pub(crate) fn no_roots(&self) -> Option<&str> {
        let lack = || self.lack.as_deref().unwrap_or("bubblewrap does not work here");
        (self.means == Means::None).then(lack)
    }

    /// Why this program cannot run here at all; none = it can.
    pub(crate) fn refuses(&self, sandbox: &Sandbox) -> Option<String> {
        match &self.means {
            Means::None if sandbox.root.is_some() => self.no_roots().map(str::to_owned),
            Means::RootNamespaces { .. } if self.users && !device_programs(sandbox) => {
                let lack = self.lack.as_deref().unwrap_or("only root gets namespaces here");
                Some(format!("its user is set by a program in /usr, which must be the device's own: {lack}"))
            }
            _ => None,
        }
    }

    /// A command that runs a program once; see [`super::command`].
    pub(super) fn once(
        &self,
        sandbox: &Sandbox,
        who: &Who,
        argv: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Command {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let once = Once {
            command: argv.to_vec(),
            confinement: self.confinement(sandbox, who),
            asker: (me, crate::device::started(me).unwrap_or(0)),
        };
        let (program, arguments) = self.keeper.split_first().map_or(("softservice", &[][..]), |(p, a)| (p.as_str(), a));
        let mut command = Command::new(program);
        command.args(arguments).arg(crate::device::once_task(once)).env_clear().envs(carried(environment));
        let folder = if self.means == Means::None && who.home.is_dir() { who.home.as_path() } else { Path::new("/") };
        command.current_dir(folder);
        command
    }
}

/// Whether everybody may pass through all folders above a path.
fn open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors().skip(1).all(|above| above.metadata().is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

/// Names are the same for two homes of one device, groups are not.
fn group_name(who: &Who) -> String {
    let home = blake3::hash(who.home.as_os_str().as_encoded_bytes()).to_hex();
    format!("{}-{}", who.label, home.get(..8).unwrap_or_default())
}
