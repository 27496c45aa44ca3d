//! A backup as a file: written and read back, or read into a folder. Invariant: [`write`] answers when the file is whole,
//! was read back and has its name; [`read`] answers when everything of it is in the folder, and otherwise leaves the
//! folder away.

use super::{
    error::{BackupError, Result, io},
    pack::{self, ServiceUser, Sink, Source},
    seal::{self, Keys, Lock, Sealing, Target},
    unpack::{self, Unpacking, Watch},
};
use crate::device::durable;
use softservice_protocol::archive::{Header, Item};
use std::path::Path;

/// Told how far it is, of how much; false calls it off. `of` is 0 while it is unknown.
pub(super) type Progress<'a> = &'a (dyn Fn(&'static str, u64, u64) -> bool + Sync);

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// What it says of itself.
    pub(super) header: Header,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// BLAKE3 of the file, as hex.
    pub(super) blake3: String,
    /// Who can open it.
    pub(super) recipients: Vec<String>,
    /// It was decrypted and read whole, not only compared with what was written: the key is here.
    pub(super) opened: bool,
    /// It is for this home's own key.
    pub(super) own: bool,
}

struct Output<'a> {
    sealing: &'a mut Sealing,
    progress: Progress<'a>,
}

impl Sink for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sealing.write(bytes)
    }
    fn told(&mut self, bytes: u64) -> bool {
        (self.progress)("backup", bytes, 0)
    }
}

/// Writes a backup to a new file.
pub(super) fn write(
    target: &Target,
    home: &Path,
    lock: &Lock,
    header: Header,
    sources: &[Source],
    user: ServiceUser,
    progress: Progress<'_>,
) -> Result<Written> {
    let mut sealing = Sealing::begin(target, home, lock)?;
    let recipients = sealing.recipients.clone();
    let header = pack::pack(header, sources, user, &mut Output { sealing: &mut sealing, progress })?;
    let sealed = sealing.finish()?;
    // What cannot be opened here is compared with what was written; what can is read as a restore would read it.
    let keys = lock.keys(home)?;
    match &keys {
        Some(keys) => {
            if check(sealed.draft(), home, keys, progress)? != header {
                let why = "it does not say what was written".into();
                return Err(BackupError::Damaged { path: target.path.clone(), why });
            }
        }
        None => sealed.same()?,
    }
    let (bytes, blake3) = (sealed.bytes, sealed.blake3.clone());
    sealed.keep()?;
    let own = lock.recipients.is_empty() && lock.passphrase_file.is_none();
    Ok(Written { header, bytes, blake3, recipients, opened: keys.is_some(), own })
}

/// Reads a backup to its end and changes nothing.
pub(super) fn check(path: &Path, home: &Path, keys: &Keys, progress: Progress<'_>) -> Result<Header> {
    let (mut header, mut bytes) = (None::<Header>, 0);
    unpack::read(path, seal::open(path, home, keys)?, &mut |item| {
        match item {
            Item::Header(found) => header = Some(found),
            Item::Data(piece) => {
                bytes += piece.len() as u64;
                if !progress("verify", bytes, header.as_ref().map_or(0, |h| h.bytes)) {
                    return Err(BackupError::CalledOff);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    header.ok_or_else(|| BackupError::Damaged { path: path.into(), why: "it has no header".into() })
}

struct Looking<'a> {
    admit: &'a mut dyn FnMut(&Header) -> Result<()>,
    progress: Progress<'a>,
}

impl Watch for Looking<'_> {
    fn header(&mut self, header: &Header) -> Result<()> {
        (self.admit)(header)
    }
    fn told(&mut self, bytes: u64, of: u64) -> bool {
        (self.progress)("restore", bytes, of)
    }
}

/// Reads a backup into the folder `at`, which must not be there. `admit` looks at the header before anything is written.
pub(super) fn read(
    path: &Path,
    home: &Path,
    keys: &Keys,
    at: &Path,
    user: ServiceUser,
    admit: &mut dyn FnMut(&Header) -> Result<()>,
    progress: Progress<'_>,
) -> Result<Header> {
    let stream = seal::open(path, home, keys)?;
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(at)
        .map_err(io("create folder", at))?;
    let mut watch = Looking { admit, progress };
    let unpacked = Unpacking::new(path, at, user, &mut watch).and_then(|mut unpacking| {
        unpack::read(path, stream, &mut |item| unpacking.take(item))?;
        unpacking.finish()
    });
    if unpacked.is_err()
        && let Err(error) = durable::clear(at)
    {
        tracing::warn!(folder = %at.display(), %error, "the rest of a backup that was refused could not be removed");
    }
    unpacked
}

#[cfg(test)]
mod tests;
