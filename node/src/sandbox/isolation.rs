//! What this machine keeps of what a softservice was promised, in words for its owner. Invariant: nothing is called kept
//! that was not tried, nothing that nobody asked for is missed, and the same promise on the same machine has the same words.

use super::{
    cgroup::Controller,
    confinement::{Means, device_programs},
    launch::sockets,
    machine::Machine,
    rules,
    syscalls::Sockets,
};
use softservice_protocol::instance::{
    Isolation, Sandbox,
    sandbox::{Network, Reduced, Transport},
};
use std::collections::BTreeSet;

const NO_CGROUP: &str =
    "no cgroup of this device can be divided by the node; run it as root, or as a unit with Delegate=yes";
const NO_PORTS: &str = "the kernel cannot rule TCP ports; Linux 6.7 or newer with Landlock can";

/// What is kept and what is not.
#[derive(Debug, Default)]
struct Words {
    enforced: BTreeSet<String>,
    reduced: BTreeSet<Reduced>,
}

impl Words {
    fn kept(&mut self, measure: &str, how: impl AsRef<str>) {
        self.enforced.insert(format!("{measure}: {}", how.as_ref()));
    }
    fn lost(&mut self, measure: &str, why: impl AsRef<str>) {
        self.reduced.insert(Reduced { measure: measure.into(), why: why.as_ref().into() });
    }
}

impl Machine {
    /// What is kept of all these promises together.
    pub(crate) fn isolation<'a>(&self, promises: impl Iterator<Item = &'a Sandbox>) -> Isolation {
        let promises: Vec<&Sandbox> = promises.collect();
        let mut words = Words::default();
        if !promises.is_empty() {
            self.files_and_processes(&mut words);
            self.user(&mut words);
            self.syscalls(&mut words);
            self.network(&promises, &mut words);
            self.limits(&promises, &mut words);
        }
        Isolation { enforced: words.enforced.into_iter().collect(), reduced: words.reduced.into_iter().collect() }
    }

    fn files_and_processes(&self, words: &mut Words) {
        let Some(lack) = self.no_roots() else {
            words.kept("files", "it sees its own trees, files, secrets and volumes, the device's programs read only, a private /tmp, and nothing else");
            words.kept("processes", "it sees and signals its own only");
            return;
        };
        let files = match self.keeps.files {
            true => "it can read the device's programs, /etc and /proc, and shares /tmp; Landlock hides the rest",
            false => "it sees what its user may read",
        };
        words.lost("files", format!("{files}; {lack}"));
        let signals = if self.keeps.scopes { "it can see, but not signal, others" } else { "it can see others" };
        words.lost("processes", format!("{signals}; {lack}"));
    }

    fn user(&self, words: &mut Words) {
        match (&self.means, self.root, self.users) {
            (Means::None, true, true) if !self.own_users() => words.lost(
                "user",
                "its services run as root: other users cannot reach this home without bubblewrap; install bubblewrap, or use a home below /var/lib",
            ),
            (_, true, true) => words.kept("user", "each softservice has a user and group of its own"),
            (_, true, false) => words.lost(
                "user",
                "its services run as the node's user: the container that the node runs in has no further ones",
            ),
            (Means::None, false, _) => words.lost(
                "user",
                "its services run as the node's user; run the node as root, or install bubblewrap",
            ),
            (_, false, _) => words.kept("user", "a user namespace: nothing of the node's user but what is shown to it"),
        }
        words.kept("user", "no capabilities and no way to new privileges");
    }

    fn syscalls(&self, words: &mut Words) {
        match self.syscalls {
            true => words.kept(
                "syscalls",
                "tracing, mounts, namespaces, modules, keys, clocks, raw and unusual sockets are refused",
            ),
            false => words.lost("syscalls", "the kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)"),
        }
    }

    fn network(&self, promises: &[&Sandbox], words: &mut Words) {
        for promise in promises {
            let sockets = sockets(promise);
            if sockets == Sockets::Local && self.syscalls {
                words.kept("network", "those without ports can make no internet socket at all");
                continue;
            }
            self.ports(promise, words);
            if sockets == Sockets::TcpUdp {
                let listens = promise.listen.iter().any(|l| l.transport == Transport::Udp);
                let why = if listens { "it listens on UDP" } else { "it looks up names" };
                words.lost("udp", format!("{why}: UDP is open to it as a whole, the kernel rules TCP ports only"));
            } else if self.syscalls {
                words.kept("udp", "none for those that reach this device only");
            } else {
                words.lost("udp", "without filters of system calls UDP stays open");
            }
        }
        if self.keeps.scopes {
            words.kept("connect", "no abstract sockets of other programs");
        } else {
            words.lost(
                "connect-abstract",
                "abstract sockets of other programs can be reached; Linux 6.12 or newer with Landlock hides them",
            );
        }
    }

    fn ports(&self, promise: &Sandbox, words: &mut Words) {
        if !self.keeps.ports {
            words.lost("listen", NO_PORTS);
            words.lost("connect", NO_PORTS);
            return;
        }
        words.kept("listen", "TCP on its own ports only; what it listens on without choosing gets a random number");
        match rules::connects(promise) {
            Some(_) => words.kept("connect", "TCP to the ports of its permissions only"),
            None => words.kept("connect", "TCP to any port where its permissions say so"),
        }
        let far = |n: Network| matches!(n, Network::Lan | Network::Internet);
        if promise.connect.iter().any(|r| far(r.to) || r.port.is_none()) {
            words.lost(
                "connect-address",
                "the kernel rules ports, not addresses: what may be reached on the network is reachable on this device, too, and the other way round",
            );
        }
    }

    fn limits(&self, promises: &[&Sandbox], words: &mut Words) {
        let asks = |what: fn(&Sandbox) -> bool| promises.iter().any(|p| what(p));
        if asks(|p| p.memory.is_some()) {
            match self.cgroups.has(Controller::Memory) {
                true => words.kept("memory", "by cgroup"),
                false => words.lost("memory", format!("each process is limited, all together are not: {NO_CGROUP}")),
            }
        }
        if asks(|p| p.cpu.is_some()) {
            match self.cgroups.has(Controller::Cpu) {
                true => words.kept("cpu", "by cgroup"),
                false => words.lost("cpu", NO_CGROUP),
            }
        }
        for promise in promises.iter().filter(|p| p.processes.is_some()) {
            match (self.cgroups.has(Controller::Pids), self.counts && device_programs(promise)) {
                (true, _) => words.kept("process-count", "by cgroup"),
                (false, true) => words.kept("process-count", "by user namespace"),
                (false, false) => words.lost("process-count", NO_CGROUP),
            }
        }
    }
}
