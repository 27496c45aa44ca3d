//! Whether what stands is one edition and nothing else. Invariant: every claim of the node is held against something that
//! the node does not say itself: the page that answers, the program that runs, the files that are there.

use super::{
    deed::Deed,
    example::Edition,
    imprint::Imprint,
    processes::{self, Process},
    scene::Scene,
    watch,
};
use crate::{api::Failure, process::binary};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What stands.
#[derive(Debug)]
pub struct Judgement {
    /// The edition that the node says stands; none when it says that nothing does.
    pub stands: Option<Edition>,
    /// What does not fit; with any, it is a mixture.
    pub faults: Vec<String>,
    /// What is not as it was in the data, where it must be: nobody was to touch it, or it was to come back.
    pub differences: Vec<String>,
}

/// Names that the folder of a softservice has when nothing is on its way.
const NAMES: [&str; 14] = [
    "current",
    "generations",
    "home",
    "inner.json",
    "journal",
    "ports.json",
    "room",
    "run",
    "secrets",
    "snapshots",
    "state.json",
    "trees",
    "volumes",
    "volumes.json",
];

/// Judges what stands after `deed`, before which the data was `before`. `result` is what its caller was told, if anything.
pub(super) fn judge(scene: &Scene, deed: Deed, before: &Imprint, result: Option<&Result<Value, Failure>>) -> Judgement {
    let mut faults = Vec::new();
    let info = scene.ps().filter(|i| i["state"] != "failed");
    let stands = info.as_ref().and_then(|i| Edition::of(i["version"].as_str()?));
    if stands != deed.before() && stands != deed.after() {
        faults.push(format!("{stands:?} stands: neither what was nor what was to be"));
    }
    match result {
        Some(Ok(_)) if stands != deed.after() => faults.push("it was acknowledged, and is not so".into()),
        Some(Err(Failure::Refused(why))) if stands != deed.before() => {
            faults.push(format!("it was refused, and is so all the same: {why}"));
        }
        _ => {}
    }
    match (&info, stands) {
        (Some(info), Some(edition)) => {
            present(scene, info, edition, &mut faults);
        }
        (Some(info), None) => faults.push(format!("no edition can be told from {info}")),
        (None, _) => absent(scene, &mut faults),
    }
    files(scene, &mut faults);
    // Only what was confirmed may have written.
    let written = match (deed.before(), stands) {
        (Some(from), Some(to)) if Some(to) == deed.after() => scene.example.rewrites(from, to),
        _ => false,
    };
    let after = scene.example.data(&scene.softservice);
    let differences = if written { Vec::new() } else { after.differences(before) };
    Judgement { stands, faults, differences }
}

fn present(scene: &Scene, info: &Value, edition: Edition, faults: &mut Vec<String>) {
    if info["state"] != "running" {
        faults.push(format!("it is {}", info["state"]));
        return;
    }
    let number = info["generation"].as_u64().unwrap_or(0);
    let current = fs::read_link(scene.softservice.join("current")).unwrap_or_default();
    if current != Path::new("generations").join(number.to_string()) {
        faults.push(format!("generation {number} runs, current is {}", current.display()));
    }
    let record = fs::read_to_string(scene.softservice.join(format!("generations/{number}/record.json")));
    let record: Value = record.ok().and_then(|r| serde_json::from_str(&r).ok()).unwrap_or_default();
    if record["state"] != "committed" || record["version"] != info["version"] {
        faults.push(format!("generation {number} runs, its record is {record}"));
    }
    match scene.example.read(&scene.softservice, info) {
        Ok((page, _)) if page != edition => faults.push(format!("{edition:?} stands, {page:?} answers")),
        Ok((_, entries)) if entries != scene.entries => {
            let lost: Vec<_> = scene.entries.iter().filter(|e| !entries.contains(e)).collect();
            faults.push(format!("acknowledged entries are lost: {lost:?}, {} are there", entries.len()));
        }
        Ok(_) => {}
        Err(why) => faults.push(format!("it does not answer: {why}")),
    }
    running(scene, info, edition, faults);
}

/// Holds the processes that are there against those that should be.
fn running(scene: &Scene, info: &Value, edition: Edition, faults: &mut Vec<String>) {
    let program = binary();
    let all = processes::of(&scene.node.home);
    let keepers: Vec<(&Process, PathBuf)> = all.iter().filter_map(|p| Some((p, p.kept(program)?))).collect();
    let services = info["services"].as_array().cloned().unwrap_or_default();
    if services.len() != scene.example.services(edition).len() {
        faults.push(format!("it has {} services", services.len()));
    }
    let mut legitimate = BTreeSet::from([scene.node.pid() as i32]);
    let fronts: Vec<&Process> = all.iter().filter(|p| p.leads(program)).collect();
    for front in &fronts {
        legitimate.insert(front.pid);
    }
    let wanted = usize::from(scene.example.has_front());
    if fronts.len() != wanted {
        faults.push(format!("fronts that are to stand before it: {wanted}; found {fronts:?}"));
    }
    for (helper, folder) in &keepers {
        legitimate.insert(helper.pid);
        legitimate.extend(processes::below(helper.pid).iter().map(|p| p.pid));
        let service = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !folder.is_dir() || !services.iter().any(|s| s["name"] == *service) {
            faults.push(format!("a keeper of {} lives", folder.display()));
        }
    }
    for service in &services {
        let name = service["name"].as_str().unwrap_or_default();
        let of_it = keepers.iter().filter(|(_, folder)| folder.ends_with(name)).count();
        let pid = service["pid"].as_i64().unwrap_or(0) as i32;
        if of_it != 1 || !legitimate.contains(&pid) {
            faults.push(format!("{name} has {of_it} keepers, its process is {pid}"));
        }
    }
    for (service, of) in scene.example.services(edition) {
        let found = scene.example.running(service, &all);
        if found != [Ok(of)] {
            faults.push(format!("{service} is to run once, of {of:?}; found {found:?}"));
        }
    }
    let strays: Vec<&Process> = all.iter().filter(|p| !legitimate.contains(&p.pid)).collect();
    if !strays.is_empty() {
        faults.push(format!("strays: {strays:?}"));
    }
}

fn absent(scene: &Scene, faults: &mut Vec<String>) {
    let node = scene.node.pid() as i32;
    let strays: Vec<Process> = processes::of(&scene.node.home).into_iter().filter(|p| p.pid != node).collect();
    if !strays.is_empty() {
        faults.push(format!("nothing is to run; found {strays:?}"));
    }
    if fs::symlink_metadata(scene.softservice.join("current")).is_ok() {
        faults.push("nothing is to run, and something is current".into());
    }
}

/// Folders below a home whose content is somebody else's: volumes, trees and files of distros, and what living keepers write.
/// Lengths are those of paths below the home.
fn foreign(path: &Path) -> bool {
    let names: Vec<_> = path.iter().map(|n| n.to_string_lossy()).collect();
    let names: Vec<&str> = names.iter().map(|n| &**n).collect();
    matches!(
        names[..],
        ["store"]
            | ["softservices", _, "home"]
            | ["softservices", _, "volumes", _]
            | ["softservices", _, "run", "front"]
            | ["softservices", _, "run", _, _]
            | ["softservices", _, "generations", _, "files"]
            | ["softservices", _, "trees", _]
    )
}

/// Hidden names below a home: by that, what is not whole yet can be told.
fn hidden(home: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(home.join(&folder)).into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                found.push(path);
            } else if entry.file_type().is_ok_and(|t| t.is_dir()) && !foreign(&path) {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Looks for what a cut-off step left behind.
fn files(scene: &Scene, faults: &mut Vec<String>) {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let root = &scene.softservice;
    for name in names(root).into_iter().filter(|n| !NAMES.contains(&n.as_str())) {
        faults.push(format!("a file is left behind: {name}"));
    }
    for name in names(&root.join("snapshots")) {
        faults.push(format!("a snapshot is left behind: {name}"));
    }
    for name in hidden(&scene.node.home) {
        faults.push(format!("a file is left behind: {}", name.display()));
    }
    for number in names(&root.join("generations")) {
        let record = fs::read_to_string(root.join("generations").join(&number).join("record.json"));
        let record: Value = record.ok().and_then(|r| serde_json::from_str(&r).ok()).unwrap_or_default();
        if !["committed", "superseded", "failed"].iter().any(|s| record["state"] == *s) {
            faults.push(format!("generation {number} is neither good nor failed: {}", record["state"]));
        }
    }
    let program = binary();
    let kept: BTreeSet<PathBuf> = processes::of(&scene.node.home).iter().filter_map(|p| p.kept(program)).collect();
    for run in names(&root.join("run")) {
        if run == "front" {
            if !processes::of(&scene.node.home).iter().any(|p| p.leads(program)) {
                faults.push("nobody is the front of run/front".into());
            }
            continue;
        }
        let folder = root.join("run").join(&run);
        // An empty one is nothing.
        let services = names(&folder);
        for service in services.into_iter().filter(|s| !kept.contains(&folder.join(s))) {
            faults.push(format!("nobody keeps run/{run}/{service}"));
        }
    }
    if let Some(line) = watch::journal(root, 0).last().filter(|l| !l.is_end()) {
        faults.push(format!("the journal ends with {} {}", line.mark, line.effect));
    }
}
