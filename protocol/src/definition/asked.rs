//! Whom health checks and tests ask, as far as the text alone tells. Invariant: what is complained of here every device would
//! refuse in its plan, where all numbers and answers are known; what only a device can know is left to it.

use super::{
    Fault,
    substitution::{self, Part, Reference},
};
use crate::{
    instance::{
        HOST,
        destination::{self, Host},
        sandbox::{Listen, Network, Reach, Transport},
    },
    release::{Probe, Release, Role},
};

/// Stands for a `${…}`: no definition may hold this character.
const FILLED: char = '\u{1}';

/// Questions that would leave the softservice's own ports without a permission.
pub(super) fn faults(release: &Release) -> Vec<Fault> {
    let mut f = Vec::new();
    for role in &release.roles {
        for service in &role.services {
            let at = format!("role.{}.service.{}.healthcheck", role.name, service.name);
            f.extend(service.healthcheck.iter().filter_map(|h| probe(role, &at, &h.probe)));
        }
    }
    for test in &release.tests {
        let role = release.roles.iter().find(|r| r.name == test.role);
        f.extend(role.and_then(|role| probe(role, &format!("test.{}", test.name), &test.probe)));
    }
    f
}

/// An address as it stands in a definition.
struct Written<'t> {
    /// Without what is to be filled in.
    text: String,
    filled: Vec<Reference>,
    role: &'t Role,
}

fn probe(role: &Role, at: &str, probe: &Probe) -> Option<Fault> {
    let (at, text) = match probe {
        Probe::Http { url, .. } => (format!("{at}.http"), url),
        Probe::Tcp { address } => (format!("{at}.tcp"), address),
        Probe::Exec { .. } => return None,
    };
    let parts = substitution::parse(text).ok()?;
    let plain = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Reference(_) => FILLED.to_string(),
    };
    let reference = |part: Part| match part {
        Part::Reference(reference) => Some(reference),
        Part::Text(_) => None,
    };
    let shape: String = parts.iter().map(plain).collect();
    let filled: Vec<Reference> = parts.into_iter().filter_map(reference).collect();
    let http = matches!(probe, Probe::Http { .. });
    let (rest, port) = match (shape.strip_prefix("http://"), shape.strip_prefix("https://")) {
        (Some(rest), _) if http => (rest, Some(80)),
        (_, Some(rest)) if http => (rest, Some(443)),
        // Others are no addresses at all, which is told elsewhere.
        _ if http && (!shape.starts_with([':', FILLED]) || shape.contains("://")) => return None,
        _ => (shape.as_str(), None),
    };
    let text = if http { destination::authority(rest) } else { rest };
    Written { text: text.to_owned(), filled, role }.fault(port).map(|(message, hint)| {
        let token = text.split(FILLED).next().unwrap_or_default();
        Fault::new(at, message).token(token).hint(hint)
    })
}

/// A port as it stands there.
enum Port {
    /// Filled in.
    Filled,
    Number(u16),
}

type Verdict = Option<(String, Option<String>)>;

impl Written<'_> {
    /// What is wrong. `port` is the one that is meant where none is written.
    fn fault(&self, port: Option<u16>) -> Verdict {
        // A whole address that is filled in: only a device knows it, but nothing may be glued to it.
        if self.text.starts_with(FILLED) && !self.text.contains(':') {
            let glued = self.text.chars().count() > 1;
            return glued.then(|| (format!("{:?} runs on after its address", self.shown()), None));
        }
        let scheme = port.is_some();
        let brackets = self.text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, after) = match brackets {
            Some((inside, after)) => (inside, after),
            None => self.text.split_at(self.text.find(':').unwrap_or(self.text.len())),
        };
        let port = match (after.strip_prefix(':'), port) {
            (Some(number), _) if number.chars().eq([FILLED]) => Port::Filled,
            (Some(number), _) => match destination::number(number).filter(|n| *n > 0) {
                Some(number) => Port::Number(number),
                None => return Some((format!("{:?} ends in no port", self.shown()), Some(self.own_port(None)))),
            },
            (None, Some(port)) if after.is_empty() => Port::Number(port),
            (None, _) => return None,
        };
        let host = match (host, brackets) {
            ("", None) if !scheme => Host::of(HOST),
            (host, None) if host.chars().eq([FILLED]) && self.names_host() => Host::of(HOST),
            (host, _) if host.contains(FILLED) => return None,
            (host, None) => Host::of(host),
            (host, Some(_)) => Host::of_brackets(host),
        };
        match host {
            Ok(host) => self.unreachable(&host, &port),
            Err(why) => Some((why, Some(self.own_port(None)))),
        }
    }

    /// Whether the first reference is the host of a binding, which is always this device.
    fn names_host(&self) -> bool {
        let field = match self.filled.first() {
            Some(Reference::Import { field, .. } | Reference::Export { field, .. }) => field,
            _ => return false,
        };
        field == "host"
    }

    fn unreachable(&self, host: &Host, port: &Port) -> Verdict {
        let chosen = |port| {
            let own = Some(Listen { transport: Transport::Tcp, port });
            self.role.allow.listen.iter().any(|entry| Listen::of(entry) == own)
        };
        match port {
            Port::Filled if host.is_own() => return None,
            Port::Number(number) if host.is_own() && chosen(*number) => return None,
            _ => {}
        }
        let networks = match host {
            Host::Address(address) => Network::of(*address).into_iter().collect(),
            Host::Name(_) => vec![Network::Internet, Network::Lan, Network::Device],
        };
        let allowed: Vec<Reach> = self.role.allow.connect.iter().filter_map(|entry| Reach::of(entry)).collect();
        let open = |to: Network| match port {
            Port::Filled => allowed.iter().any(|reach| reach.to == to),
            Port::Number(number) => to.is_open(*number, &allowed),
        };
        if networks.iter().any(|to| open(*to)) {
            return None;
        }
        let message = format!("{:?} is no port of this softservice, and its role may not connect there", self.shown());
        let number = match port {
            Port::Number(number) => Some(*number),
            Port::Filled => None,
        };
        let ask = networks.first().map(|to| {
            let word = match to {
                Network::Internet => "internet",
                Network::Lan => "lan",
                Network::Device | Network::Import => "device",
            };
            let port = number.map_or("PORT".into(), |n| n.to_string());
            format!("\"{word}:{port}\" in `connect` of [role.{}.allow] asks the owner", self.role.name)
        });
        let own = if host.is_own() { Some(self.own_port(number)) } else { None };
        let hints: Vec<String> = own.into_iter().chain(ask).collect();
        Some((message, (!hints.is_empty()).then(|| hints.join("; "))))
    }

    /// How an own port is written; the one that wishes `number`, if there is one.
    fn own_port(&self, number: Option<u16>) -> String {
        let ports = &self.role.ports;
        let meant = ports.iter().find(|p| p.wish.is_some() && p.wish == number).or(ports.first());
        format!("\":${{port.{}}}\" asks this softservice", meant.map_or("NAME", |p| p.name.as_str()))
    }

    /// As it was written.
    fn shown(&self) -> String {
        let mut filled = self.filled.iter();
        let one = |c: char| match c {
            FILLED => filled.next().map_or_else(String::new, ToString::to_string),
            c => c.to_string(),
        };
        self.text.chars().map(one).collect()
    }
}
