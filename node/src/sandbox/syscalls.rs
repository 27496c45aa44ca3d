//! System calls that no service needs, denied by a filter in the kernel. Invariant: what the other measures rest on cannot
//! be undone from inside: no namespaces, no mounts, no other process's memory, no socket that the port rules do not see.
//!
//! A deny-list, as container engines began with, and not a list of what is allowed: services are whole distributions'
//! programs, and a call that is missing from a list of the allowed breaks them on the next release of their C library.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};
use std::collections::BTreeMap;

/// Which sockets a program may make beside those of its own machine's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sockets {
    /// None of the internet's families.
    Local,
    /// TCP.
    Tcp,
    /// TCP and UDP.
    TcpUdp,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters for one program, each with its own answer to a denied call; all of them apply.
pub(super) fn filters(sockets: Sockets) -> Result<Vec<BpfProgram>, String> {
    let all = || -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        Ok(vec![
            compile(refused(sockets)?, libc::EPERM)?,
            // Callers ask for these and have another way when the kernel is too old to know them.
            compile(unknown(), libc::ENOSYS)?,
            compile(no_protocol()?, libc::EPROTONOSUPPORT)?,
        ])
    };
    let mut filters = all().map_err(|e| e.to_string())?;
    if let Some(first) = filters.first_mut().filter(|_| cfg!(target_arch = "x86_64")) {
        *first = without_x32(std::mem::take(first));
    }
    Ok(filters)
}

/// The bytes of a filter as the kernel, and bubblewrap, reads them.
pub(super) fn bytes(filter: &BpfProgram) -> Vec<u8> {
    let instruction = |i: &sock_filter| {
        let [a, b] = i.code.to_ne_bytes();
        let [c, d, e, f] = i.k.to_ne_bytes();
        [a, b, i.jt, i.jf, c, d, e, f]
    };
    filter.iter().flat_map(instruction).collect()
}

fn compile(rules: Rules, answer: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(answer as u32), arch)?.try_into()
}

/// Puts a refusal of the x32 calls before a filter: they reach the same code under other numbers.
fn without_x32(filter: BpfProgram) -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const AT_LEAST: u16 = 0x35;
    const ANSWER: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    const ERRNO: u32 = 0x0005_0000;
    let step = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    let mut all = vec![step(LOAD_NUMBER, 0, 0), step(AT_LEAST, 1, X32), step(ANSWER, 0, ERRNO | libc::ENOSYS as u32)];
    all.extend(filter);
    all
}

/// Numbers that are the same on every architecture and too young for some C libraries.
mod young {
    pub(super) const PIDFD_GETFD: i64 = 438;
    pub(super) const MOUNT_SETATTR: i64 = 442;
    pub(super) const OPEN_TREE_ATTR: i64 = 467;
}

/// Refused whatever their arguments.
const ALWAYS: &[i64] = &[
    // Other processes' memory, descriptors and state.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    young::PIDFD_GETFD,
    // Mounts, roots and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    young::MOUNT_SETATTR,
    young::OPEN_TREE_ATTR,
    libc::SYS_setns,
    // Files by handle pass by every folder's permissions.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_nfsservctl,
    libc::SYS_syslog,
    libc::SYS_lookup_dcookie,
    // Keys are kept by user, not by namespace.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Everybody's clock and name.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];

/// Flags of `clone` and `unshare` that make a namespace.
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// Only `unshare` takes it: `clone` has the signal there.
const CLONE_NEWTIME: i32 = 0x80;

fn condition(argument: u8, how: SeccompCmpOp, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Dword, how, u64::from(value as u32))
}

fn is(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

fn none_of(argument: u8, values: &[i32]) -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    values.iter().map(|v| condition(argument, SeccompCmpOp::Ne, *v)).collect()
}

/// `argument & mask == value`.
fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(u64::from(mask as u32)), value)
}

fn refused(sockets: Sockets) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = ALWAYS.iter().map(|number| (*number, vec![])).collect();
    let flag = |bit: &i32| SeccompRule::new(vec![masked(0, *bit, *bit)?]);
    let mut namespaces: Vec<SeccompRule> = NAMESPACES.iter().map(flag).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, namespaces.clone());
    namespaces.push(flag(&CLONE_NEWTIME)?);
    rules.insert(libc::SYS_unshare, namespaces);
    // Everyday ones: 64 and 32 bits, each also without random addresses, and "which one is it?".
    let everyday = none_of(0, &[0, 0x0004_0000, 0x8, 0x0004_0008, -1])?;
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(everyday)?]);
    // Typing into somebody's terminal.
    let terminal = [libc::TIOCSTI as i32, libc::TIOCLINUX as i32];
    let terminal = terminal.iter().map(|request| SeccompRule::new(vec![is(1, *request)?]));
    rules.insert(libc::SYS_ioctl, terminal.collect::<Result<_, _>>()?);
    // A connection made by sending is not seen by the port rules.
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        let fast_open = masked(flags, libc::MSG_FASTOPEN, libc::MSG_FASTOPEN)?;
        rules.insert(call, vec![SeccompRule::new(vec![fast_open])?]);
    }
    rules.insert(libc::SYS_socket, families(sockets)?);
    Ok(rules)
}

/// Raw packets, as they were asked for before there was a family for them.
const SOCK_PACKET: i32 = 10;

/// Sockets that are refused.
fn families(sockets: Sockets) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const KIND: i32 = 0xf;
    let mut known = vec![libc::AF_UNIX, libc::AF_NETLINK];
    if sockets != Sockets::Local {
        known.extend([libc::AF_INET, libc::AF_INET6]);
    }
    let mut rules = vec![SeccompRule::new(none_of(0, &known)?)?];
    // Interfaces and addresses are asked through it; its other protocols are for administrators.
    rules.push(SeccompRule::new(vec![is(0, libc::AF_NETLINK)?, condition(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE)?])?);
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut kinds = vec![libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP, SOCK_PACKET];
        if sockets != Sockets::TcpUdp {
            kinds.push(libc::SOCK_DGRAM);
        }
        for kind in kinds {
            rules.push(SeccompRule::new(vec![is(0, family)?, masked(1, KIND, kind)?])?);
        }
        let mut other = vec![is(0, family)?, masked(1, KIND, libc::SOCK_DGRAM)?];
        other.extend(none_of(2, &[0, libc::IPPROTO_UDP])?);
        rules.push(SeccompRule::new(other)?);
    }
    Ok(rules)
}

/// Streams that are not TCP: the port rules do not see them, and programs fall back to TCP by themselves.
fn no_protocol() -> Result<Rules, seccompiler::BackendError> {
    let stream = |family: i32| {
        let mut conditions = vec![is(0, family)?, masked(1, 0xf, libc::SOCK_STREAM)?];
        conditions.extend(none_of(2, &[0, libc::IPPROTO_TCP])?);
        SeccompRule::new(conditions)
    };
    Ok(Rules::from([(libc::SYS_socket, vec![stream(libc::AF_INET)?, stream(libc::AF_INET6)?])]))
}

/// Calls whose arguments a filter cannot read, or that do anything on request; without them programs use the plain ones.
fn unknown() -> Rules {
    let numbers = [libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    numbers.into_iter().map(|number| (number, vec![])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_and_fit_into_the_kernel() {
        for sockets in [Sockets::Local, Sockets::Tcp, Sockets::TcpUdp] {
            let filters = filters(sockets).expect("they compile");
            assert_eq!(filters.len(), 3);
            assert!(filters.iter().all(|f| f.len() < 1000), "{:?}", filters.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(bytes(&filters[0]).len(), filters[0].len() * 8);
        }
    }

    #[test]
    fn no_call_has_two_answers() {
        let (refused, unknown) = (refused(Sockets::Tcp).expect("rules"), unknown());
        assert!(unknown.keys().all(|n| !refused.contains_key(n)));
    }
}
