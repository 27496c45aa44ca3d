//! Landlock: which ports a program may use, and, where nothing can be mounted, which files. Invariant: what the machine is
//! known to keep is required, so that a program never starts with less than the plan said.
//!
//! In front of bubblewrap only ports, signals and abstract sockets are ruled: a process under rules about files may not
//! mount any more.

use super::confinement::{Confinement, Keeps};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use softservice_protocol::instance::{
    Sandbox,
    sandbox::{Network, Transport},
};
use std::path::Path;

/// What the running kernel keeps, found out by making a set of rules that asks for it.
pub(super) fn tried() -> Keeps {
    let made = |ruleset: Result<Ruleset, landlock::RulesetError>| ruleset.and_then(Ruleset::create).is_ok();
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    Keeps {
        files: made(strict().handle_access(AccessFs::from_all(ABI::V3))),
        ports: made(strict().handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)),
        scopes: made(strict().scope(Scope::AbstractUnixSocket | Scope::Signal)),
    }
}

/// Ports that a program may connect to; none = it may connect to any.
pub(super) fn connects(sandbox: &Sandbox) -> Option<Vec<u16>> {
    sandbox.connect.iter().map(|reach| reach.port).collect()
}

/// Whether a program may speak UDP: it listens so, or asks names of the network.
pub(super) fn udp(sandbox: &Sandbox) -> bool {
    let far = |n: Network| matches!(n, Network::Lan | Network::Internet);
    sandbox.listen.iter().any(|l| l.transport == Transport::Udp) || sandbox.connect.iter().any(|r| far(r.to))
}

/// Binds this process, and whatever it becomes, to the rules.
pub(super) fn bind(confinement: &Confinement, files: bool) -> Result<(), String> {
    let Confinement { keeps, sandbox, .. } = confinement;
    if !(keeps.ports || keeps.scopes || (files && keeps.files)) {
        return Ok(());
    }
    let made = || -> Result<(), Box<dyn std::error::Error>> {
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let connects = connects(sandbox);
        if keeps.ports {
            ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
            if connects.is_some() {
                ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
            }
        }
        if keeps.scopes {
            ruleset = ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal)?;
        }
        if files && keeps.files {
            ruleset = ruleset.handle_access(AccessFs::from_all(ABI::V3))?;
        }
        let mut rules = ruleset.create()?;
        if keeps.ports {
            let tcp = sandbox.listen.iter().filter(|l| l.transport == Transport::Tcp);
            rules = rules.add_rules(tcp.map(|l| allowed(l.port, AccessNet::BindTcp)))?;
            rules = rules.add_rules(connects.into_iter().flatten().map(|port| allowed(port, AccessNet::ConnectTcp)))?;
        }
        if files && keeps.files {
            rules = see(rules, confinement)?;
        }
        rules.restrict_self()?;
        Ok(())
    };
    made().map_err(|e| format!("bind it to Landlock's rules: {e}"))
}

fn allowed(port: u16, access: AccessNet) -> Result<NetPort, landlock::RulesetError> {
    Ok(NetPort::new(port, access))
}

/// What programs of the device itself need to run, read only.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/proc", "/run/systemd/resolve"];
/// Devices that are no device, and places for what need not last; others see them too.
const SHARED: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/shm", "/tmp"];

fn see(mut rules: RulesetCreated, confinement: &Confinement) -> Result<RulesetCreated, Box<dyn std::error::Error>> {
    let all = AccessFs::from_all(ABI::V3);
    let read = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let sandbox = &confinement.sandbox;
    let there = |p: &&&str| Path::new(p).exists();
    for path in SYSTEM.iter().filter(there) {
        rules = rules.add_rule(beneath(Path::new(path), read)?)?;
    }
    for path in SHARED.iter().filter(there) {
        rules = rules.add_rule(beneath(Path::new(path), all)?)?;
    }
    for mount in &sandbox.read {
        rules = rules.add_rule(beneath(Path::new(&mount.from), read)?)?;
    }
    for mount in &sandbox.write {
        rules = rules.add_rule(beneath(Path::new(&mount.from), all)?)?;
    }
    Ok(rules.add_rule(beneath(&confinement.home, all)?)?)
}

/// Rules about a file may only name what can be done with a file.
fn beneath(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, Box<dyn std::error::Error>> {
    let fits = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V3) };
    Ok(PathBeneath::new(PathFd::new(path).map_err(|e| format!("{}: {e}", path.display()))?, fits))
}
