//! `pin`, `unpin`: releases that `gc` never touches. Invariant: the file is whole or absent.

use super::{
    closure,
    failure::{Failure, Kind},
    reference,
};
use crate::context::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use softservice_protocol::id::ReleaseId;
use std::{collections::BTreeSet, path::Path};
use tokio::sync::Mutex;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    release: Vec<String>,
}

/// One change of the file at a time in this process; other processes are kept out by the home's lock.
static CHANGING: Mutex<()> = Mutex::const_new(());

/// All pinned releases.
///
/// # Errors
/// When the file is there and not what was written: then nothing may be collected.
pub(super) fn read(home: &Path) -> Result<BTreeSet<ReleaseId>, Failure> {
    let path = home.join("pins.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(Failure::failed(format!("read {}: {error}", path.display()))),
    };
    let damaged = |why: String| Failure::new(Kind::Damaged, format!("{} is damaged: {why}", path.display()));
    let document: Document = toml::from_str(&text).map_err(|e| damaged(e.message().to_owned()))?;
    document.release.iter().map(|id| id.parse().map_err(|_| damaged(format!("{id:?} is no release")))).collect()
}

async fn change(context: &Context, apply: impl FnOnce(&mut BTreeSet<ReleaseId>)) -> Result<(), Failure> {
    let _changing = CHANGING.lock().await;
    let mut pins = read(&context.home)?;
    apply(&mut pins);
    let document = Document { release: pins.iter().map(ToString::to_string).collect() };
    let text = toml::to_string(&document).map_err(|e| Failure::new(Kind::Bug, e.to_string()))?;
    let path = context.home.join("pins.toml");
    let write = move || {
        crate::home::write_private(&path, text.as_bytes())
            .map_err(|e| Failure::failed(format!("write {}: {e}", path.display())))
    };
    closure::blocking(write).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    reference: String,
}

pub(super) async fn pin(context: &Context, args: &Pin) -> Result<Value, Failure> {
    let release = reference::find(context, &args.reference).await?.listing.release;
    // A sweep that goes on has read the pins.
    let _held = context.holds.keep(release);
    change(context, |pins| {
        pins.insert(release);
    })
    .await?;
    Ok(json!({ "release": release.to_string(), "pinned": true }))
}

pub(super) async fn unpin(context: &Context, args: &Pin) -> Result<Value, Failure> {
    // A pin may outlive the subscription that the reference needs: whole ids and prefixes of pins work without.
    let pinned = read(&context.home)?;
    let by_id: Vec<ReleaseId> = pinned
        .iter()
        .filter(|id| args.reference.len() >= 8 && id.to_string().starts_with(&args.reference))
        .copied()
        .collect();
    let release = match by_id.as_slice() {
        [one] => *one,
        _ => reference::find(context, &args.reference).await?.listing.release,
    };
    if !pinned.contains(&release) {
        return Err(Failure::not_found(format!("{} is not pinned", args.reference)));
    }
    change(context, |pins| {
        pins.remove(&release);
    })
    .await?;
    Ok(json!({ "release": release.to_string(), "pinned": false }))
}
