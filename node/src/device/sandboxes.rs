//! How programs of softservices are held on this device. Invariant: whatever runs for a softservice gets its user, its
//! confinement and its folders from here, services and everything that runs once alike.

use super::{
    Device,
    error::{DeviceError, Result, io},
    layout::Place,
    users,
};
use crate::sandbox::{self, Confinement, Machine, Who};
use softservice_protocol::instance::{Instance, Isolation, ProbeSpec, Sandbox, sandbox::Reduced};
use std::{
    collections::BTreeMap,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

impl Device {
    /// What this machine can keep. The first call tries it out, for the time of a few program starts.
    pub(super) fn machine(&self) -> &Machine {
        self.0.machine.get_or_init(|| Machine::tried(&self.0.keepers.command, &self.0.home))
    }

    /// Tries out what this machine can keep, unless that is known: beside something else, so that nobody waits for it later.
    pub(crate) fn try_machine(&self) {
        self.machine();
    }

    /// What this machine keeps of what an instance promises its owner.
    ///
    /// # Errors
    /// It cannot run here at all.
    pub(super) fn isolation(&self, name: &str, instance: &Instance) -> Result<Isolation> {
        let services = instance.services.iter().map(|s| &s.sandbox);
        let tests = instance.tests.iter().filter(|t| matches!(t.probe, ProbeSpec::Exec { .. })).map(|t| &t.sandbox);
        let hooks = instance.hooks.iter().map(|h| &h.sandbox);
        let all: Vec<&Sandbox> =
            services.chain(tests).chain(hooks).chain(instance.migrate.iter().map(|m| &m.sandbox)).collect();
        if all.is_empty() {
            // Nothing runs: there is nothing to try out.
            return Ok(Isolation::default());
        }
        let machine = self.machine();
        if let Some(why) = all.iter().find_map(|sandbox| machine.refuses(sandbox)) {
            return Err(DeviceError::NoRoots { name: name.into(), why });
        }
        Ok(machine.isolation(all.into_iter()))
    }

    /// What the owner of a softservice gave up when its current generation was agreed to; nothing while there is none.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub fn accepted(&self, name: &str) -> Result<Vec<Reduced>> {
        let place = Place::new(&self.0.softservices, name)?;
        match place.current_number()? {
            Some(number) => Ok(place.record(number)?.reduced),
            None => Ok(Vec::new()),
        }
    }

    /// An error when this machine keeps less of a promise than the generation's owner agreed to: it has lost a measure
    /// since.
    pub(super) fn still_kept(&self, place: &Place, number: u32, sandbox: &Sandbox) -> Result<()> {
        let accepted = place.record(number)?.reduced;
        let now = self.machine().isolation([sandbox].into_iter()).reduced;
        match now.into_iter().find(|r| accepted.iter().all(|a| a.measure != r.measure)) {
            None => Ok(()),
            Some(Reduced { measure, why }) => {
                Err(DeviceError::LessKept { name: place.name.clone(), number, measure, why })
            }
        }
    }

    /// How the service `what` is held; its folders are given to its user.
    pub(super) fn confinement(&self, place: &Place, what: &str, sandbox: &Sandbox) -> Result<Confinement> {
        Ok(self.machine().confinement(sandbox, &self.who(place, what, sandbox)?))
    }

    /// A command that runs `argv` once for a softservice, in `sandbox`: for questions, tests, hooks and migrations. `what`
    /// names it for people; see [`sandbox::command`]. Folders of the softservice that the sandbox names are given to its
    /// user; others that it may write are for the caller to give, with [`Device::give`].
    pub(super) fn command(
        &self,
        place: &Place,
        what: &str,
        sandbox: &Sandbox,
        argv: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Result<tokio::process::Command> {
        let who = self.who(place, what, sandbox)?;
        Ok(sandbox::command(self.machine(), sandbox, &who, argv, environment))
    }

    /// The softservice's own user and group, where this machine gives it one; none = the node's.
    pub(super) fn user(&self, place: &Place) -> Result<Option<u32>> {
        match self.machine().own_users() {
            true => self.0.users.of(&place.name).map(Some),
            false => Ok(None),
        }
    }

    /// Gives a file or folder of a softservice, with all that is in it, to its user. What a backup brought back belongs to
    /// whatever user the softservice had where it was made.
    pub(super) fn give(&self, place: &Place, path: &Path) -> Result<()> {
        match self.user(place)? {
            Some(user) => users::give(path, user, users::Depth::All),
            None => Ok(()),
        }
    }

    fn who(&self, place: &Place, what: &str, sandbox: &Sandbox) -> Result<Who> {
        self.led_astray(place, sandbox)?;
        let user = self.user(place)?;
        if let Some(user) = user {
            users::give(&place.home(), user, users::Depth::Top)?;
            for (path, depth) in owned(place, sandbox) {
                users::give(&path, user, depth)?;
            }
            if self.machine().shares_folders() {
                self.open_way(place, sandbox)?;
            }
        }
        Ok(Who { label: format!("{}.{what}", place.name), user, home: place.home() })
    }

    /// Without a view of its own, a program of another user needs a way to its folders. It may pass, not look around.
    fn open_way(&self, place: &Place, sandbox: &Sandbox) -> Result<()> {
        let mounts = sandbox.read.iter().chain(&sandbox.write).map(|m| PathBuf::from(&m.from));
        for path in mounts.chain([place.home()]).filter(|p| p.starts_with(&self.0.home)) {
            for folder in path.ancestors().skip(1).take_while(|p| p.starts_with(&self.0.home)) {
                let mode = folder.metadata().map_err(io("look at", folder))?.permissions().mode();
                if mode & 0o001 == 0 {
                    std::fs::set_permissions(folder, Permissions::from_mode(mode | 0o011))
                        .map_err(io("open the way through", folder))?;
                }
            }
        }
        Ok(())
    }
}

/// What of a softservice's folders belongs to its user, so that it can be read: volumes, files written for it, and the
/// secrets that it lists. Everything else stays the node's. Volumes are large and stay given; files are written anew each time.
fn owned(place: &Place, sandbox: &Sandbox) -> Vec<(PathBuf, users::Depth)> {
    let (volumes, secrets, generations) = (place.volumes(), place.secrets(), place.generations());
    let written = |path: &Path| {
        let below = path.strip_prefix(&generations).ok();
        below.and_then(|p| p.components().nth(1)).is_some_and(|folder| folder.as_os_str() == "files")
    };
    let writable = sandbox.write.iter().map(|m| PathBuf::from(&m.from)).filter(|p| p.starts_with(&volumes));
    let readable =
        sandbox.read.iter().map(|m| PathBuf::from(&m.from)).filter(|p| p.starts_with(&secrets) || written(p));
    writable.map(|p| (p, users::Depth::Top)).chain(readable.map(|p| (p, users::Depth::All))).collect()
}
