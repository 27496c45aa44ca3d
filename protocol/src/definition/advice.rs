//! Advice about a definition that is sound: what its users, or its author in a year, will wish had been done. Invariant:
//! every piece is a warning at its line, says what to do instead, and is given for what the text says, never for taste.

mod secrets;
mod unused;

pub(crate) use secrets::{findings, secretive};

use super::{Definition, Fault, Problem};
use crate::{
    release::{Probe, Role},
    time::Span,
};
use std::collections::BTreeMap;

/// The texts of a definition's templates by role and path.
pub(crate) type Texts = BTreeMap<(String, String), String>;

/// All of it.
pub(crate) fn of(d: &Definition, texts: &Texts) -> Vec<Problem> {
    let faults = unverified(d)
        .into_iter()
        .chain(hasty(d))
        .chain(floating(d))
        .chain(permissions(d))
        .chain(secrets::literal(d))
        .chain(unused::of(d, texts))
        .chain(fixed_ports(d));
    let mut problems: Vec<Problem> = faults.map(|f| d.warning(f)).collect();
    problems.extend(secrets::in_templates(d, texts));
    problems
}

fn unverified(d: &Definition) -> Vec<Fault> {
    let mut f = Vec::new();
    if d.draft.tests.is_empty() {
        let hint = Some("add a [test]: it decides whether an update stays".to_owned());
        f.push(Fault::new("distro", "the distro has no test: devices will show it as \"unverified\"").hint(hint));
    } else if !d.draft.tests.iter().any(|t| t.when.iter().any(|w| w == "update" || w == "always")) {
        let hint = Some("add \"update\" to the `when` of one".to_owned());
        f.push(Fault::new("test", "no test runs on an update: only health decides whether it stays").hint(hint));
    }
    for (role, s) in d.draft.roles.iter().flat_map(|r| r.services.iter().map(move |s| (r, s))) {
        if s.healthcheck.is_none() {
            let hint = Some("add `healthcheck = { http = \":${port.NAME}/\" }`, or tcp, or exec".to_owned());
            let message = format!("the service {:?} has no healthcheck: started will count as healthy", s.name);
            f.push(Fault::new(format!("role.{}.service.{}", role.name, s.name), message).hint(hint));
        }
    }
    f
}

/// Updates that count before anything could show.
fn hasty(d: &Definition) -> Option<Fault> {
    if d.draft.roles.iter().all(|r| r.services.is_empty()) && d.includes.is_empty() {
        return None;
    }
    let said = d.places.has("update.settle");
    let fault = match d.draft.update.settle {
        Span(0) => {
            Fault::new("update.settle", "an update counts as soon as it is healthy once: nothing can show in time")
        }
        Span(n) if !said => {
            let at = if d.places.has("update") { "update" } else { "distro" };
            Fault::new(at, format!("no `settle` is declared: an update counts after {} s", n.div_ceil(1000)))
        }
        _ => return None,
    };
    let hint =
        "write `settle` in [update]: how long an update must stay healthy, as long as a slow failure takes to show";
    Some(fault.hint(Some(hint.into())))
}

/// Ranges of versions without an end: a lock pins them, but the next lock may bring anything.
fn floating(d: &Definition) -> Vec<Fault> {
    let wide = |range: &semver::VersionReq| {
        use semver::Op::{Greater, GreaterEq, Less, LessEq};
        let above = |c: &semver::Comparator| matches!(c.op, Greater | GreaterEq);
        let below = |c: &semver::Comparator| matches!(c.op, Less | LessEq);
        let bounded = range.comparators.iter().any(|c| !above(c) && !below(c));
        range.comparators.is_empty() || (!bounded && !range.comparators.iter().any(below))
    };
    let one = |i: &super::IncludeSource| {
        let message =
            format!("the range {:?} has no end: the next lock may bring a version that breaks this one", i.written);
        Fault::new(format!("include.{}.version", i.name), message)
            .hint(Some("name the versions that will do, such as \"^1.4\"".into()))
    };
    d.includes.iter().filter(|i| wide(&i.range)).map(one).collect()
}

/// Folders that nobody should read or write whole.
const WHOLE: [&str; 5] = ["/home", "/root", "/run", "/srv", "/var"];
/// Folders of the system: the same, and nothing in them is a service's to write.
const SYSTEM: [&str; 9] = ["/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/sbin", "/sys", "/usr"];

fn permissions(d: &Definition) -> Vec<Fault> {
    let mut f = Vec::new();
    let mut wide = |at: String, entry: &str, why: &str, hint: &str| {
        f.push(Fault::new(at, format!("{entry:?} {why}")).token(format!("{entry:?}")).hint(Some(hint.into())));
    };
    for role in &d.draft.roles {
        let at = format!("role.{}.allow", role.name);
        for entry in &role.allow.connect {
            if let Some((whom, "*")) = entry.split_once(':') {
                let hint = format!("name the ports that are needed, such as \"{whom}:443\"");
                wide(format!("{at}.connect"), entry, "allows every port: owners will ask why", &hint);
            }
        }
        for entry in &role.allow.listen {
            let port = entry.split_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_some_and(|p| p < 1024) {
                let hint = "an ordinary user cannot do that everywhere: use `${port.NAME}`, and let the node assign it";
                wide(format!("{at}.listen"), entry, "is a port below 1024", hint);
            }
        }
        for entry in role.allow.read.iter().filter(|e| WHOLE.iter().chain(&SYSTEM).any(|w| w == e)) {
            wide(format!("{at}.read"), entry, "is wide", "name the files that are needed");
        }
        for entry in role.allow.write.iter().filter(|e| e.starts_with('/')) {
            let system = WHOLE.contains(&entry.as_str()) || SYSTEM.iter().any(|s| below(entry, s));
            let why = if system { "belongs to the system, not to the service" } else { "is outside of the service" };
            wide(format!("{at}.write"), entry, why, "a volume keeps data, with snapshots and backups");
        }
        for file in role.files.iter().filter(|f| f.mode & 0o002 != 0) {
            let at = format!("role.{}.file.{}.mode", role.name, file.path);
            wide(at, &format!("{:04o}", file.mode), "lets everybody write the file", "write \"0640\"");
        }
    }
    f
}

/// Whether a path is a folder or stands in it.
fn below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A wished number that is written out where the node may have assigned another.
fn fixed_ports(d: &Definition) -> Vec<Fault> {
    let mut f = Vec::new();
    let mut look = |role: &Role, at: String, text: &str| {
        for port in &role.ports {
            let Some(wish) = port.wish.map(|w| w.to_string()) else { continue };
            let after = text.split_once(&format!(":{wish}")).map(|(_, rest)| rest);
            if text == wish || after.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())) {
                let hint = Some(format!("write ${{port.{}}}", port.name));
                f.push(
                    Fault::new(&at, format!("{wish} is only a wish: the node may assign another port"))
                        .token(wish)
                        .hint(hint),
                );
            }
        }
    };
    for role in &d.draft.roles {
        for s in &role.services {
            let at = format!("role.{}.service.{}", role.name, s.name);
            s.command.iter().enumerate().for_each(|(n, t)| look(role, format!("{at}.command[{n}]"), t));
            s.environment.iter().for_each(|(n, t)| look(role, format!("{at}.environment.{n}"), t));
            match s.healthcheck.as_ref().map(|h| &h.probe) {
                Some(Probe::Http { url, .. }) => look(role, format!("{at}.healthcheck.http"), url),
                Some(Probe::Tcp { address }) => look(role, format!("{at}.healthcheck.tcp"), address),
                _ => {}
            }
        }
    }
    f
}
