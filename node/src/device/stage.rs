//! Staging: everything that a generation needs, made without touching what runs. Invariant: repeating it is harmless: trees
//! appear whole by a rename, files are written anew, secrets and ports stay once they exist.

use super::{
    durable,
    error::{DeviceError, Result, io},
    layout::{Folder, Kind, Place},
    overlay,
    ports::{self, Assigned},
    secrets,
};
use crate::sandbox;
use softservice_protocol::{
    codec,
    id::ReleaseId,
    instance::{self, Answers, Closure, Instance, Needs, ServiceSpec},
    limits,
    tree::Manifest,
};
use softservice_store::Store;
use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where programs without a slash are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What staging works on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staging<'a> {
    pub(super) softservices: &'a Path,
    pub(super) store: &'a dyn Store,
    pub(super) place: &'a Place,
    pub(super) softservice: &'a str,
}

/// What staging made.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) instance: Instance,
    pub(super) assigned: Assigned,
}

/// Every release that `top` needs, out of the store.
pub(super) fn closure(store: &dyn Store, name: &str, top: ReleaseId) -> Result<Closure> {
    let failed = |source| DeviceError::Store { name: name.to_owned(), source: Box::new(source) };
    Ok(softservice_store::closure::closure(store, top).map_err(failed)?.into_iter().collect())
}

impl Staging<'_> {
    fn instance_error(&self) -> impl Fn(instance::InstanceError) -> DeviceError + '_ {
        |source| DeviceError::Instance { name: self.place.name.clone(), source: Box::new(source) }
    }

    pub(super) fn needs(&self, closure: &Closure, top: ReleaseId, answers: &Answers) -> Result<Needs> {
        instance::needs(closure, top, answers, &super::layout::platform()).map_err(self.instance_error())
    }

    /// Makes a generation's trees, secrets, ports, volumes and files. `running`: keys of ports that services of ours
    /// listen on now.
    pub(super) fn stage(&self, folder: &Folder, running: &BTreeSet<String>) -> Result<Staged> {
        let (top, answers, closure) = overlay::inputs(self.store, self.place, folder.number)?;
        let needs = self.needs(&closure, top, &answers)?;
        self.trees(folder, &needs)?;
        let made = secrets::make(self.place, &needs.secrets)?;
        let shown = needs.secrets.iter().filter(|s| s.show_once && made.contains(&s.key));
        let shown: Vec<String> = shown.map(|s| s.key.clone()).collect();
        if !shown.is_empty() {
            self.place.change_record(folder.number, |r| r.shown_once.extend(shown))?;
        }
        for volume in &needs.volumes {
            durable::folder(&self.place.volumes().join(&volume.key), 0o700)?;
        }
        let assigned = ports::assign(self.softservices, self.place, &needs.ports, running)?;
        let instance = self.render(folder, Kind::Live, &closure, top, &answers, assigned.numbers.clone())?;
        for service in &instance.services {
            self.runnable(folder.number, service)?;
        }
        durable::folder(&folder.logs(), 0o700)?;
        durable::write_json(&folder.instance(), &instance)?;
        Ok(Staged { instance, assigned })
    }

    fn trees(&self, folder: &Folder, needs: &Needs) -> Result<()> {
        let failed = |source| DeviceError::Store { name: self.place.name.clone(), source: Box::new(source) };
        durable::folder(&folder.trees(), 0o755)?;
        for need in &needs.trees {
            let target = folder.trees().join(&need.key);
            if target.exists() {
                continue;
            }
            let bytes = self.store.object(need.tree.manifest, limits::MANIFEST_BYTES).map_err(failed)?;
            let manifest: Manifest = codec::decode(&bytes).map_err(|e| failed(e.into()))?;
            manifest.check().map_err(|e| failed(e.into()))?;
            let made = self.store.materialise(&manifest, &target).map_err(failed)?;
            tracing::debug!(tree = need.key, ?made, "materialised");
        }
        Ok(())
    }

    /// Resolves the instance for these ports and writes its files.
    pub(super) fn render(
        &self,
        folder: &Folder,
        kind: Kind,
        closure: &Closure,
        top: ReleaseId,
        answers: &Answers,
        ports: std::collections::BTreeMap<String, u16>,
    ) -> Result<Instance> {
        let assignment = self.place.assignment(folder, kind, ports, self.softservice);
        let instance = instance::resolve(closure, top, answers, &assignment).map_err(self.instance_error())?;
        let files = folder.files(kind);
        durable::folder(&files, 0o700)?;
        for role in &instance.roles {
            durable::folder(&files.join(&role.key), 0o700)?;
        }
        for file in &instance.files {
            let path = files.join(&file.path);
            if let Some(parent) = path.parent() {
                durable::folder(parent, 0o700)?;
            }
            durable::write(&path, file.text.as_bytes(), file.mode)?;
        }
        Ok(instance)
    }

    /// The dry check: the program is there and may be run.
    fn runnable(&self, number: u32, service: &ServiceSpec) -> Result<()> {
        let program = service.command.first().map_or("", String::as_str);
        let wrong = |why: &str| DeviceError::Command {
            name: self.place.name.clone(),
            number,
            service: service.name.clone(),
            program: program.into(),
            why: why.into(),
        };
        let candidates: Vec<PathBuf> = if program.contains('/') {
            vec![PathBuf::from(program)]
        } else {
            PATH.split(':').map(|dir| Path::new(dir).join(program)).collect()
        };
        // In a root tree of its own a path means the tree's file, but for what is brought into it from outside.
        let brought = |path: &Path| service.sandbox.read.iter().any(|m| path.starts_with(&m.at));
        let mut found = candidates.into_iter().filter_map(|path| match &service.sandbox.root {
            Some(tree) if !brought(&path) => sandbox::in_tree(Path::new(tree), &path),
            _ => Some(path),
        });
        let Some(first) = found.find(|p| p.is_file()) else {
            return Err(wrong(if program.starts_with('/') {
                "there is no such file"
            } else {
                "no such program in /usr/local/bin, /usr/bin, /bin"
            }));
        };
        let bits = first.metadata().map_err(io("look at", &first))?.permissions().mode();
        if bits & 0o111 == 0 {
            return Err(wrong("it is not executable; `chmod +x` it and publish again"));
        }
        Ok(())
    }
}
