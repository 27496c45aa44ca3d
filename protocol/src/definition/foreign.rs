//! A release that somebody else made. Invariant: nothing that a peer sent is used before [`Release::check`] passes: then
//! names, counts, paths, sizes and references are what the rest of the program relies on.

use super::{Fault, roles, rules};
use crate::{limits, release::Release, text::Foreign, tree::TreeRef};

/// The first rule that a release or its closure breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("release {} breaks a rule at {}: {}", shown(.release), shown(.at), shown(.message))]
pub struct ReleaseFault {
    /// Distro and version.
    pub release: String,
    /// The place, as a dotted path of a definition.
    pub at: String,
    /// The rule.
    pub message: String,
}

/// A stranger's text on our screen: no control characters, not too long.
fn shown(text: &str) -> String {
    Foreign(text.chars().take(200).collect::<String>()).to_string()
}

impl Release {
    /// Checks every rule that needs nothing but this release. Nothing that a peer sent may be used before it passes.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), ReleaseFault> {
        match rules::faults(self).into_iter().chain(complete(self)).next() {
            Some(fault) => Err(self.fault(fault)),
            None => Ok(()),
        }
    }

    /// Distro, version and revision, for people.
    pub fn label(&self) -> String {
        format!("{} {}-{}", self.distro, self.version, self.revision)
    }

    pub(super) fn fault(&self, fault: Fault) -> ReleaseFault {
        ReleaseFault { release: self.label(), at: fault.at, message: fault.message }
    }
}

/// What a draft may leave open and a release may not.
fn complete(r: &Release) -> Vec<Fault> {
    let mut f = Vec::new();
    let mut sorted = r.clone();
    roles::canonical(&mut sorted);
    // An order of roles may be partial or empty: it then means "as listed".
    sorted.update.order.clone_from(&r.update.order);
    if sorted != *r {
        f.push(Fault::new("the whole", "its lists are not in canonical order"));
    }
    for i in &r.includes {
        let at = format!("include.{}", i.name);
        if i.role.is_empty() {
            f.push(Fault::new(&at, "it does not say beside which role it runs"));
        }
        if i.release.size == 0 || i.release.size as usize > limits::RELEASE_BYTES {
            f.push(Fault::new(&at, format!("a release of {} bytes cannot be", i.release.size)));
        }
        if i.publisher == r.publisher && i.distro == r.distro {
            f.push(Fault::new(format!("{at}.distro"), format!("the distro includes itself: {0} -> {0}", r.distro)));
        }
    }
    for t in r.tests.iter().filter(|t| t.role.is_empty()) {
        f.push(Fault::new(format!("test.{}", t.name), "it does not say on which role it runs"));
    }
    for (role, a) in r.roles.iter().flat_map(|role| role.artifacts.iter().map(move |a| (role, a))) {
        let at = format!("role.{}.artifact.{}", role.name, a.name);
        if a.trees.is_empty() {
            f.push(Fault::new(&at, "it has no tree"));
        }
        f.extend(a.trees.iter().filter_map(|(_, t)| tree(&at, t)));
    }
    f.extend(tree("source", &r.source));
    f
}

fn tree(at: &str, t: &TreeRef) -> Option<Fault> {
    let chunks = !t.chunks.is_empty() && t.chunks.iter().all(|c| (1..=limits::CHUNK_MAX).contains(&(c.len as usize)));
    let sizes = t.manifest_bytes() <= limits::MANIFEST_BYTES as u64 && t.bytes <= limits::TREE_BYTES;
    (!chunks || !sizes || t.files as usize > limits::TREE_ENTRIES)
        .then(|| Fault::new(at, "its tree has impossible sizes"))
}
