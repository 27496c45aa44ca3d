//! Places that no distro may ask for: the node's own. Invariant: whatever a permission names, no program is shown the node's
//! home or a part of it, but for what the device itself put there for it; nor, in a throwaway place, the home for which that
//! was made.
//!
//! The home's path is known to everybody who guesses (`/var/lib/softservice`); its keys and books decide what runs as root.

use super::{
    Device,
    error::{DeviceError, Result},
    layout::Place,
};
use softservice_protocol::instance::{Closure, Sandbox};
use std::path::{Path, PathBuf};

impl Device {
    /// An error when a permission of these releases covers the home or something in it.
    ///
    /// # Errors
    /// The first such permission.
    pub(super) fn trespasses(&self, name: &str, closure: &Closure) -> Result<()> {
        let allowed = closure.values().flat_map(|r| &r.roles).flat_map(|r| r.allow.read.iter().chain(&r.allow.write));
        match allowed.filter(|entry| entry.starts_with('/')).find(|entry| self.guards(Path::new(entry))) {
            Some(path) => Err(DeviceError::Trespass { name: name.into(), path: path.into() }),
            None => Ok(()),
        }
    }

    /// An error when something that this sandbox shows leads elsewhere than its path says, and there into the home: since
    /// the plan, somebody may have put a link in its place.
    ///
    /// # Errors
    /// The first such path.
    pub(super) fn led_astray(&self, place: &Place, sandbox: &Sandbox) -> Result<()> {
        let shown = sandbox.read.iter().chain(&sandbox.write).map(|m| Path::new(&m.from));
        let astray = |path: &&Path| match path.strip_prefix(&self.0.home) {
            // Made by the device. A link on the way was made by somebody else.
            Ok(rest) => canonical(path) != canonical(&self.0.home).join(rest),
            Err(_) => self.guards(path),
        };
        match shown.filter(|path| path.exists()).find(astray) {
            Some(path) => Err(DeviceError::Trespass { name: place.name.clone(), path: path.into() }),
            None => Ok(()),
        }
    }
}

impl Device {
    fn guards(&self, path: &Path) -> bool {
        touches(path, &self.0.home) || self.0.others.get().into_iter().flatten().any(|home| touches(path, home))
    }
}

/// Whether a path is the home, in it or above it, links followed.
fn touches(path: &Path, home: &Path) -> bool {
    let home_too = canonical(home);
    let meets = |path: &Path, home: &Path| path.starts_with(home) || home.starts_with(path);
    meets(path, home) || meets(&canonical(path), &home_too)
}

/// Where a path leads, as far as it exists.
fn canonical(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| {
        let found = above.canonicalize().ok()?;
        Some(
            path.strip_prefix(above)
                .map_or(found.clone(), |rest| if rest.as_os_str().is_empty() { found } else { found.join(rest) }),
        )
    });
    known.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_is_met_from_above_from_within_and_through_links() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (home, link) = (scratch.path().join("home"), scratch.path().join("link"));
        std::fs::create_dir_all(home.join("softservices/shelf")).expect("folders");
        std::os::unix::fs::symlink(home.join("softservices"), &link).expect("a link");
        for path in [home.clone(), home.join("softservices"), home.join("not/there/yet"), "/".into(), link.clone()] {
            assert!(touches(&path, &home), "{path:?}");
        }
        assert!(touches(&link.join("shelf"), &home) && touches(scratch.path(), &home));
        for path in [scratch.path().join("homely"), scratch.path().join("other"), "/usr/share".into()] {
            assert!(!touches(&path, &home), "{path:?}");
        }
    }
}
