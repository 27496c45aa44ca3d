//! Backups: one encrypted, verified file that holds all that a softservice needs to live again: its data, answers,
//! secrets and overlay, and the release that they belong to. Invariant: a file that bears the name of a backup is whole, and
//! was read back; nothing of a softservice is changed by a file that was not verified to its end.
//!
//! [`act`] makes one, [`restore`] takes one back into the life of a generation. [`seal`] is the encryption (an age file, which
//! other programs read too), [`pack`] makes the stream inside it of folders, [`unpack`] makes folders of the stream. What the
//! stream says is `softservice_protocol::archive`. [`digest`] says whether data is what it was, [`leftovers`] clears away
//! what was cut off.

mod act;
mod digest;
mod error;
mod file;
mod leftovers;
mod pack;
mod record;
mod restore;
mod seal;
mod unpack;

pub use act::{BackupRequest, Tell};
pub use digest::VolumeSum;
pub use error::BackupError;
pub use record::BackupRecord;
pub use restore::{Restore, Unpacked};
pub use seal::{Keys, Lock};

pub(super) use leftovers::sweep;
pub use restore::FromBackup;
pub(super) use restore::{check_hooks, done, put_away, put_in, take_back};
