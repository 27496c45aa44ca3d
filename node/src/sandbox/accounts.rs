//! Who there is in a sandbox: the few accounts that programs look up. Invariant: the service's own user has a name and a
//! home, and nobody else of the device is named.

use std::path::Path;

/// The name of every service's user: the same everywhere, so that a program may be configured with it.
pub(super) const NAME: &str = "softservice";

/// Texts of the files that name users and hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accounts {
    /// `/etc/passwd`.
    pub(super) passwd: String,
    /// `/etc/group`.
    pub(super) group: String,
}

impl Accounts {
    /// For a user of this number, over what a root tree brings of its own.
    pub(super) fn of(user: u32, group: u32, home: &Path, passwd: Option<&str>, groups: Option<&str>) -> Self {
        const PASSWD: &str =
            "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
        const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
        let own = format!("{NAME}:x:{user}:{group}:{NAME}:{}:/bin/sh", home.display());
        Self {
            passwd: over(passwd.unwrap_or(PASSWD), &own, user),
            group: over(groups.unwrap_or(GROUP), &format!("{NAME}:x:{group}:"), group),
        }
    }
}

/// The file with this line in the place of all others of its name or number.
fn over(file: &str, line: &str, number: u32) -> String {
    let other = |l: &&str| {
        let mut fields = l.split(':');
        fields.next() != Some(NAME) && fields.nth(1) != Some(number.to_string().as_str())
    };
    let mut lines: Vec<&str> = file.lines().filter(other).collect();
    // First: a lookup by number takes the first that fits.
    lines.insert(0, line);
    lines.join("\n") + "\n"
}

/// `/etc/nsswitch.conf`: nothing but these files, and the network's names.
pub(super) const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n";
/// `/etc/hosts`.
pub(super) const HOSTS: &str = "127.0.0.1 localhost softservice\n::1 localhost\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_takes_the_place_of_whoever_had_its_number() {
        let tree = "root:x:0:0::/root:/bin/sh\npostgres:x:105:109::/var/lib/postgresql:/bin/sh\nold:x:7:7::/:\n";
        let accounts = Accounts::of(7, 9, Path::new("/home/it"), Some(tree), None);
        let lines: Vec<&str> = accounts.passwd.lines().collect();
        assert_eq!(lines[0], "softservice:x:7:9:softservice:/home/it:/bin/sh");
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(accounts.group.starts_with("softservice:x:9:\n"));
        let again = Accounts::of(7, 9, Path::new("/home/it"), Some(&accounts.passwd), None);
        assert_eq!(again.passwd, accounts.passwd);
    }
}
