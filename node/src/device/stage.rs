//! Staging: everything that a generation needs, made without touching what runs. Invariant: repeating it is harmless: trees
//! appear whole by a rename, files are written anew, secrets and ports stay once they exist.

use super::{
    backup,
    course::{Before, Course, KeptFile},
    durable,
    error::{DeviceError, Result, io},
    layout::{Folder, Place},
    left, migrate, overlay,
    ports::{self, Numbers, Reserved},
    secrets,
    snapshot::Snapshots,
    trees::Trees,
};
use crate::sandbox;
use softservice_protocol::{
    id::ReleaseId,
    instance::{self, Answers, Closure, Instance, Needs, RenderedFile, ServiceSpec},
};
use softservice_store::Store;
use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// User and group that its programs run as.
    pub(super) user: (u32, u32),
}

/// What a generation is resolved from.
#[derive(Debug)]
pub(super) struct Inputs {
    closure: Closure,
    top: ReleaseId,
    answers: Answers,
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

    /// Makes a generation's trees, secrets, ports, volumes and files, and decides the course to it. `running`: keys of ports
    /// that services or a front of ours listen on now. Answers the listeners that keep its ports.
    pub(super) fn stage(
        &self,
        folder: &Folder,
        before: Option<&Before>,
        running: &BTreeSet<String>,
    ) -> Result<Reserved> {
        let from_backup = self.place.record(folder.number)?.from_backup.is_some();
        if from_backup && before.is_none() {
            // Nothing runs that could mind: the data is there before anything is made for want of it.
            let left = self.place.read_volume_facts()?.epochs;
            backup::put_away(self.place, folder.number, None, &left)?;
            backup::put_in(self.place, folder.number, self.user)?;
        }
        let (inputs, needs) = self.belongings(folder)?;
        let trees = needs.trees.iter().map(|need| (need.key.as_str(), need.tree.manifest));
        Trees { place: self.place, store: self.store }.make(folder, trees)?;

        let mut reserved = Reserved::new();
        let public = ports::assign(self.softservices, self.place, &needs.ports, running, &mut reserved)?;
        // Who runs on is decided by what everybody is told of ports; where nobody looks, inner numbers make no difference.
        let sketch = self.resolve(folder, &inputs, public.clone(), Numbers::new())?;
        let mut course = Course::decide(&sketch, before);
        course.restore = self.place.record(folder.number)?.restore;
        if from_backup {
            course.replace_all(&sketch);
        }
        course.removable = needs.volumes.iter().filter(|v| !v.keep_on_remove).map(|v| v.key.clone()).collect();
        let mut inner = course.kept_ports(before);
        let fresh = needs.ports.iter().filter(|p| p.fronted && !inner.contains_key(&p.key)).map(|p| p.key.as_str());
        let fresh: Vec<&str> = fresh.collect();
        let assigned = ports::assign_inner(self.softservices, self.place, folder.number, fresh, &mut reserved)?;
        inner.extend(assigned);
        let instance = self.resolve(folder, &inputs, public.clone(), inner.clone())?;
        self.render(folder, &instance)?;
        course.files = self.kept_files(&inputs, &course, &public, &inner)?;
        for service in &instance.services {
            self.runnable(folder.number, service)?;
        }
        self.data(folder.number, &instance, &course, before)?;
        durable::folder(&folder.logs(), 0o700)?;
        durable::write_json(&folder.instance(), &instance)?;
        durable::write_json(&folder.course(), &course)?;
        Ok(reserved)
    }

    /// What a generation is made from, with the secrets and folders for data that it needs and that are not there yet.
    pub(super) fn belongings(&self, folder: &Folder) -> Result<(Inputs, Needs)> {
        let (top, answers, closure) = overlay::inputs(self.store, self.place, folder.number)?;
        let inputs = Inputs { closure, top, answers };
        let needs = self.needs(&inputs.closure, top, &inputs.answers)?;
        let made = secrets::make(self.place, &needs.secrets)?;
        let owed = self.owed(folder.number)?;
        let due = |key: &String| made.contains(key) || owed.values().any(|keys| keys.contains(key));
        let shown = needs.secrets.iter().filter(|s| s.show_once && due(&s.key));
        let shown: BTreeSet<String> = shown.map(|s| s.key.clone()).collect();
        if !shown.is_empty() {
            self.place.change_record(folder.number, |r| {
                let all = std::mem::take(&mut r.shown_once).into_iter().chain(shown).collect::<BTreeSet<_>>();
                r.shown_once = all.into_iter().collect();
            })?;
        }
        // After: a crash in between shows one twice, never none.
        for number in owed.into_keys() {
            self.place.change_record(number, |r| r.shown_once.clear())?;
        }
        self.volumes(&needs)?;
        Ok((inputs, needs))
    }

    /// Secrets that earlier generations made and nobody was shown: they failed, or whoever asked had gone.
    fn owed(&self, number: u32) -> Result<BTreeMap<u32, Vec<String>>> {
        let earlier = self.place.numbers()?.into_iter().filter(|n| *n != number);
        let records = earlier.filter_map(|n| Some((n, self.place.record(n).ok()?.shown_once)));
        Ok(records.filter(|(_, keys)| !keys.is_empty()).collect())
    }

    /// Folders for data, and what is remembered of them.
    fn volumes(&self, needs: &Needs) -> Result<()> {
        let new: Vec<_> = needs.volumes.iter().filter(|v| !self.place.volume(&v.key).exists()).collect();
        // Before there is a folder it is known whether it goes with a removal.
        let go: Vec<String> = new.iter().filter(|v| !v.keep_on_remove).map(|v| v.key.clone()).collect();
        if !go.is_empty() {
            self.place.change_volume_facts(|f| f.removable.extend(go))?;
        }
        for volume in new {
            durable::folder(&self.place.volume(&volume.key), 0o700)?;
        }
        Ok(())
    }

    /// Whether the data that is here can go the way of this course; an error before anything is touched.
    fn data(&self, number: u32, instance: &Instance, course: &Course, before: Option<&Before>) -> Result<()> {
        let name = &self.place.name;
        if course.from_backup {
            return Ok(());
        }
        // What a removed softservice left comes back like data of a generation before.
        let Some(before) = before else { return left::keep(self.place, number, instance) };
        if course.restore.is_none() {
            migrate::due(name, number, instance, &before.instance)?;
        }
        let snapshots = Snapshots { place: self.place };
        let touched = snapshots.touched(course.replaced_volumes(instance), course.restore)?;
        snapshots.check(&snapshots.means(&touched)?, course.restore)
    }

    /// Files of roles that run on, as they are to be where those roles' services read them.
    fn kept_files(&self, inputs: &Inputs, course: &Course, public: &Numbers, inner: &Numbers) -> Result<Vec<KeptFile>> {
        let mut files = Vec::new();
        for number in course.runs.values().copied().collect::<BTreeSet<u32>>() {
            let folder = self.place.generation(number);
            // Paths in a file are those of the folder out of which its role runs.
            let instance = self.resolve(&folder, inputs, public.clone(), inner.clone())?;
            let of_role =
                |f: &RenderedFile| f.path.split('/').next().and_then(|role| course.runs.get(role)) == Some(&number);
            for new in instance.files.into_iter().filter(of_role) {
                let old = read_file(&folder.files(), &new.path)?;
                if old.as_ref() != Some(&new) {
                    files.push(KeptFile { generation: number, new, old });
                }
            }
        }
        Ok(files)
    }

    fn resolve(&self, folder: &Folder, inputs: &Inputs, public: Numbers, inner: Numbers) -> Result<Instance> {
        let assignment = self.place.assignment(folder, public, inner, self.softservice);
        instance::resolve(&inputs.closure, inputs.top, &inputs.answers, &assignment).map_err(self.instance_error())
    }

    /// Writes an instance's files.
    fn render(&self, folder: &Folder, instance: &Instance) -> Result<()> {
        let files = folder.files();
        durable::folder(&files, 0o700)?;
        for role in &instance.roles {
            durable::folder(&files.join(&role.key), 0o700)?;
        }
        for file in &instance.files {
            let path = files.join(&file.path);
            if let Some(parent) = path.parent() {
                durable::folder(parent, 0o700)?;
            }
            durable::write_from(&folder.path, &path, file.text.as_bytes(), file.mode)?;
        }
        Ok(())
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

/// A rendered file as it is on the disk, if it is there.
fn read_file(files: &Path, path: &str) -> Result<Option<RenderedFile>> {
    let at = files.join(path);
    match std::fs::read(&at) {
        Ok(bytes) => {
            let mode = at.metadata().map_err(io("look at", &at))?.permissions().mode() & 0o777;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(Some(RenderedFile { path: path.to_owned(), text, mode }))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io("read", &at)(e)),
    }
}
