//! Release documents as simulations publish them: one role with one artifact, and what it includes. Invariant: every
//! document passes the checks that a device makes of a closure.

use softservice_protocol::{
    feed::Listing,
    id::PublisherId,
    release::{Allow, Artifact, Include, Release, ReleaseRef, Role, Update},
    time::Span,
    tree::TreeRef,
};

/// What differs between releases.
pub(crate) struct Document<'a> {
    pub(crate) publisher: PublisherId,
    pub(crate) distro: &'a str,
    pub(crate) version: &'a str,
    pub(crate) tree: TreeRef,
    pub(crate) source: TreeRef,
    pub(crate) includes: Vec<Include>,
}

impl Document<'_> {
    pub(crate) fn release(mut self) -> Release {
        self.includes.sort_by(|a, b| a.name.cmp(&b.name));
        let role = Role {
            name: "main".into(),
            devices_min: 1,
            devices_max: None,
            needs_memory: None,
            needs_disk: None,
            imports: Vec::new(),
            exports: Vec::new(),
            artifacts: vec![Artifact { name: "site".into(), trees: vec![("any".into(), self.tree)] }],
            volumes: Vec::new(),
            ports: Vec::new(),
            files: Vec::new(),
            services: Vec::new(),
            allow: Allow::default(),
            hooks: Vec::new(),
        };
        Release {
            publisher: self.publisher,
            distro: self.distro.into(),
            version: self.version.into(),
            revision: 1,
            summary: "a simulated distro".into(),
            platforms: Vec::new(),
            epoch: 1,
            parents: Vec::new(),
            includes: self.includes,
            params: Vec::new(),
            secrets: Vec::new(),
            roles: vec![role],
            tests: Vec::new(),
            update: Update { order: Vec::new(), settle: Span::seconds(1), migrate: None },
            source: self.source,
        }
    }
}

/// Pins a release of another distro.
pub(crate) fn include(publisher: PublisherId, distro: &str, version: &str, release: ReleaseRef) -> Include {
    Include {
        name: distro.into(),
        publisher,
        distro: distro.into(),
        version: version.into(),
        release,
        role: "main".into(),
        with: Vec::new(),
        bind: Vec::new(),
    }
}

/// How a publisher lists a release.
pub(crate) fn listing(distro: &str, version: &str, release: ReleaseRef) -> Listing {
    Listing {
        distro: distro.into(),
        version: version.into(),
        revision: 1,
        channel: "stable".into(),
        release: release.id,
        size: release.size,
        summary: "a simulated distro of distros".into(),
        parents: Vec::new(),
        revoked: None,
    }
}
