//! Numbers of users that softservices have on this device, where the node is root. Invariant: none of them is anybody
//! else's: people, containers and systemd use other ranges.

use std::ops::Range;

/// Numbers of softservices' own users and groups.
pub(crate) const USERS: Range<u32> = 1_900_000_000..2_000_000_000;
/// The user of trials.
pub(super) const TRIAL: u32 = USERS.start - 1;

/// Whether this process may become any of them: it is root, and they exist where it lives.
pub(super) fn can_be_given() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.lines().any(|line| maps(line) == Some(true))
}

/// Whether a line of the map of users, "inside outside count", has all of them.
fn maps(line: &str) -> Option<bool> {
    let mut fields = line.split_whitespace().map_while(|f| f.parse::<u64>().ok());
    let (inside, _outside, count) = (fields.next()?, fields.next()?, fields.next()?);
    Some(inside <= u64::from(TRIAL) && u64::from(USERS.end) <= inside.saturating_add(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_all_or_not() {
        assert_eq!(maps("         0          0 4294967295"), Some(true));
        assert_eq!(maps("0 100000 65536"), Some(false), "a container");
        assert_eq!(maps("nonsense"), None);
    }
}
