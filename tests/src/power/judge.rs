//! What a store is after a crash, held against what was acknowledged before. Invariant: what is expected comes from the
//! lines that were said, and from another store; never from what the store under judgement says of itself.

use super::{
    fixture::{Fixture, PUBLISHER, feed, head},
    work::{Kind, work},
};
use softservice_protocol::{id::ObjectId, io::Record, tree::Node};
use softservice_store::{DiskStore, Store, manifests, open};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, sync::Mutex};

/// What was promised.
#[derive(Debug, Default)]
struct Promised {
    releases: BTreeSet<String>,
    objects: BTreeSet<ObjectId>,
    records: u64,
    trees: BTreeSet<String>,
    /// Objects that were harmed before all this.
    harmed: BTreeSet<ObjectId>,
}

fn promised(said: &[String], fixture: &Fixture) -> Promised {
    let mut promised = Promised::default();
    for line in said {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            "release" => drop(promised.releases.insert(rest.to_owned())),
            "object" => drop(promised.objects.insert(rest.parse().expect("an id"))),
            "harmed" => drop(promised.harmed.insert(rest.parse().expect("an id"))),
            "record" => promised.records = promised.records.max(rest.parse().expect("a number")),
            "tree" => drop(promised.trees.insert(rest.to_owned())),
            // Only these from here on, and of single objects none that is not theirs.
            "sweep" => {
                let kept: Vec<&str> = rest.split(',').collect();
                promised.releases.retain(|name| kept.contains(&name.as_str()));
                let keep: BTreeSet<ObjectId> =
                    kept.iter().flat_map(|name| fixture.objects(name).expect("the peer has it")).collect();
                promised.objects.retain(|object| keep.contains(object));
            }
            _ => {}
        }
    }
    promised
}

/// Judges the store of a home. Answers faults, and what a check told that is none.
pub fn judge(kind: Kind, home: &Path, fixture: &Fixture, said: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut faults, mut told) = (Vec::new(), Vec::new());
    let before = promised(said, fixture);
    named_but_not_whole(home, &before, "before it is opened", &mut faults);
    let store = match open(&home.join("store")) {
        Ok(store) => store,
        Err(e) => return (vec![format!("it does not open: {e}")], told),
    };
    keeps(&store, home, fixture, &before, "after the crash", &mut faults);
    match store.fsck(&|_| true) {
        Ok(findings) => {
            // Who loses power loses nothing that was acknowledged, and must not be told so.
            faults.extend(findings.losses.iter().map(|loss| format!("a check tells of a loss: {}", loss.what)));
            if let Some(unheard) = &findings.unheard {
                told.push(format!("logs/records: {}", unheard.what));
            }
            for damage in &findings.damaged {
                let name = damage.file.strip_prefix(home.join("store")).unwrap_or(&damage.file).display();
                match damage.object {
                    Some(object) if !before.harmed.contains(&object) => {
                        faults.push(format!("a check finds {name} damaged: {}", damage.what));
                    }
                    Some(_) => {}
                    None => told.push(format!("{name}: {}", damage.what)),
                }
            }
        }
        Err(e) => faults.push(format!("it cannot be checked: {e}")),
    }
    keeps(&store, home, fixture, &before, "after a check", &mut faults);
    // What was interrupted can be finished.
    let more = Mutex::new(said.to_vec());
    if let Err(e) = work(kind, home, &store, fixture, &|line| more.lock().expect("no panic").push(line)) {
        faults.push(format!("the work cannot be finished: {e}"));
    }
    drop(store);
    let after = promised(&more.into_inner().expect("no panic"), fixture);
    match open(&home.join("store")) {
        Ok(store) => {
            keeps(&store, home, fixture, &after, "after the work was finished", &mut faults);
            match store.fsck(&|_| true) {
                Ok(findings) if !findings.damaged.is_empty() || findings.reindexed > 0 => {
                    faults.push(format!("a check after all was finished still finds {:?}", findings.damaged));
                }
                Ok(_) => {}
                Err(e) => faults.push(format!("it cannot be checked in the end: {e}")),
            }
        }
        Err(e) => faults.push(format!("it does not open again: {e}")),
    }
    let all_whole = Promised::default();
    named_but_not_whole(home, &all_whole, "in the end", &mut faults);
    (faults, told)
}

/// Every name of an object stands for these very bytes, whoever asks.
fn named_but_not_whole(home: &Path, promised: &Promised, when: &str, faults: &mut Vec<String>) {
    let shards = fs::read_dir(home.join("store/objects")).into_iter().flatten().flatten();
    for entry in shards.flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten()) {
        let name = entry.file_name().display().to_string();
        let Ok(object) = name.trim_end_matches(".x").parse::<ObjectId>() else {
            faults.push(format!("{when}: {name} stands among the objects"));
            continue;
        };
        if promised.harmed.contains(&object) {
            continue;
        }
        match fs::read(entry.path()) {
            Ok(bytes) if ObjectId::of(&bytes) == object => {}
            Ok(bytes) => faults.push(format!("{when}: {name} has a name and is not whole, {} bytes", bytes.len())),
            Err(e) => faults.push(format!("{when}: {name}: {e}")),
        }
    }
}

fn keeps(store: &DiskStore, home: &Path, fixture: &Fixture, promised: &Promised, when: &str, faults: &mut Vec<String>) {
    let mut objects = promised.objects.clone();
    for name in &promised.releases {
        objects.extend(fixture.objects(name).expect("the peer has it"));
    }
    for object in objects {
        match store.object(object, 64 << 20) {
            Ok(bytes) if ObjectId::of(&bytes) == object => {}
            Ok(_) => faults.push(format!("{when}: wrong bytes are given out for {object}")),
            Err(e) => faults.push(format!("{when}: {object} was acknowledged: {e}")),
        }
    }
    for name in &promised.releases {
        let read = softservice_store::closure::content_order(store, fixture.release(name).id).and_then(|order| {
            let order = order.unwrap_or_default();
            Ok((order.len(), store.read(&order)?.iter().filter(|chunk| chunk.is_none()).count()))
        });
        match read {
            Ok((chunks, 0)) if chunks > 0 => {}
            other => {
                faults.push(format!("{when}: of release {name}, which was acknowledged, cannot be read: {other:?}"))
            }
        }
    }
    match store.records() {
        Ok(records) => {
            let wanted: Vec<Record> = (1..=records.len() as u64)
                .map(|seq| Record::Reserved { publisher: PUBLISHER, head: head(seq) })
                .collect();
            if (records.len() as u64) < promised.records || records != wanted {
                faults.push(format!(
                    "{when}: {} records are here, {} were acknowledged",
                    records.len(),
                    promised.records
                ));
            }
        }
        Err(e) => faults.push(format!("{when}: no records: {e}")),
    }
    match store.mark(feed()) {
        Ok(Some(mark)) if mark.at.seq >= promised.records => {}
        other => faults.push(format!("{when}: the mark is {other:?}, {} were acknowledged", promised.records)),
    }
    for name in ["a", "b", "c", "d"] {
        let tree = home.join("trees").join(name);
        if tree.exists() {
            if let Err(why) = whole_tree(fixture, name, &tree) {
                faults.push(format!("{when}: the tree of {name} is not whole: {why}"));
            }
        } else if promised.trees.contains(name) {
            faults.push(format!("{when}: the tree of {name} was acknowledged and is gone"));
        }
    }
}

fn whole_tree(fixture: &Fixture, name: &str, tree: &Path) -> Result<(), String> {
    let reference = fixture.tree(name).map_err(|e| e.to_string())?;
    let peer = fixture.peer().map_err(|e| e.to_string())?;
    let manifest = manifests::of_tree(peer, &reference).map_err(|e| e.to_string())?;
    for entry in &manifest.entries {
        let path = tree.join(&entry.path);
        let meta = path.symlink_metadata().map_err(|e| format!("{}: {e}", entry.path))?;
        if let Node::File { object, executable, .. } = &entry.node {
            let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", entry.path))?;
            if ObjectId::of(&bytes) != *object {
                return Err(format!("{} holds other bytes", entry.path));
            }
            if (meta.permissions().mode() & 0o100 != 0) != *executable {
                return Err(format!("{} has mode {:o}", entry.path, meta.permissions().mode()));
            }
        }
    }
    Ok(())
}
