//! What backups and restores that were cut off left behind. Invariant: what is cleared away here belongs to nothing that is
//! under way and is no data of a softservice: whoever calls knows that neither a life nor a backup goes on.

use super::seal::Target;
use crate::device::{durable, error::Result, layout::Place, record::Standing};
use std::path::{Path, PathBuf};

/// Where a backup was being written, for whoever comes after it.
fn note(place: &Place) -> PathBuf {
    place.backup().join("draft.json")
}

/// Says where a backup is about to be written, in a folder that is its owner's and not ours.
pub(super) fn announce(place: &Place, draft: &Path) -> Result<()> {
    durable::write_json(&note(place), &draft)
}

/// Clears away what a backup that was cut off left: copies of volumes, and the half of its file.
pub(super) fn backup(place: &Place) -> Result<()> {
    if !place.backup().exists() {
        return Ok(());
    }
    // A note that cannot be read names nothing that could be removed.
    if let Ok(Some(draft)) = durable::read_json::<PathBuf>(&note(place)) {
        let name = draft.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(Target::DRAFT)
            && let Err(error) = durable::remove(&draft)
        {
            // Its folder may be on a disk that is not there any more; nothing else waits for that.
            tracing::warn!(file = %draft.display(), %error, "the half of a backup could not be removed");
        }
    }
    durable::let_go(&place.backup())
}

/// Clears away what is left when no generation is on its way: halves of backups, secrets that a confirmed restore
/// replaced, and generations that were prepared and never begun, with what they brought.
pub(in crate::device) fn sweep(place: &Place) -> Result<()> {
    backup(place)?;
    super::restore::forget_secrets(place)?;
    for number in place.numbers()? {
        // One without a record was not even prepared whole. One that cannot be read is its owner's to look at.
        let never = match place.generation(number).record().exists() {
            true => place.record(number).is_ok_and(|r| r.state == Standing::Pending),
            false => true,
        };
        if never && place.current_number()? != Some(number) {
            durable::let_go(&place.generation(number).path)?;
        }
    }
    Ok(())
}
