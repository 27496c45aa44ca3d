//! Encryption, by age: the file can be opened without this program too (`age -d -i KEY FILE`). Invariant: a file appears
//! under its name when it is whole and on the disk, never over another; keys are in files that only their owner reads.
//!
//! By default a home encrypts to a key of its own, made on first use. Without a copy of that key elsewhere, a backup is
//! lost with the home: whoever makes the first one is told so.

use super::error::{BackupError, Result, io};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, secrecy::SecretString, x25519};
use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The home's own key, in the form of age's identity files.
const KEY_FILE: &str = "backup-key.txt";
/// Bytes in which an age header must end: a hundred recipients, and no hostile file that is all header.
const HEADER_BYTES: usize = 64 << 10;
/// Bytes of a key or passphrase file.
const SECRET_BYTES: u64 = 64 << 10;

/// Where a backup goes, and where it is made: a hidden name in the same folder, chosen before it is used, so that whoever is
/// cut off can be cleared away after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) draft: PathBuf,
}

impl Target {
    /// How the names of drafts begin.
    pub(super) const DRAFT: &str = ".softbackup-";

    pub(super) fn new(path: &Path) -> Result<Self> {
        let mut random = [0; 8];
        let drawn = getrandom::fill(&mut random).map_err(std::io::Error::other);
        drawn.map_err(io("draw randomness for", path))?;
        let name = format!("{}{:016x}", Self::DRAFT, u64::from_be_bytes(random));
        Ok(Self { path: path.into(), draft: path.with_file_name(name) })
    }
}

/// For whom a backup is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// `age1…`; none = the home's own key.
    pub recipients: Vec<String>,
    /// A passphrase instead of keys.
    pub passphrase_file: Option<PathBuf>,
}

/// What a backup is opened with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// A file of age identities; none = the home's own key.
    pub identity_file: Option<PathBuf>,
    /// A passphrase instead of keys.
    pub passphrase_file: Option<PathBuf>,
}

/// The file of the home's own key.
pub(crate) fn key_file(home: &Path) -> PathBuf {
    home.join(KEY_FILE)
}

/// The home's own key, made if there is none yet; and whether it was made now.
pub(crate) fn own_key(home: &Path) -> Result<(x25519::Identity, bool)> {
    use age::secrecy::ExposeSecret as _;
    let path = key_file(home);
    if let Some(key) = read_key(&path)? {
        return Ok((key, false));
    }
    let key = x25519::Identity::generate();
    let text = format!(
        "# The key of this device's backups. Keep a copy elsewhere: without it no backup can be opened.\n\
         # public key: {}\n{}\n",
        key.to_public(),
        key.to_string().expose_secret()
    );
    crate::home::write_private(&path, text.as_bytes()).map_err(io("write", &path))?;
    Ok((key, true))
}

/// The first key in a file; none when there is no file.
fn read_key(path: &Path) -> Result<Option<x25519::Identity>> {
    let text = match small(path) {
        Ok(text) => text,
        Err(BackupError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or_default();
    let key = line.parse().map_err(|why: &str| BackupError::Key { what: path.display().to_string(), why: why.into() });
    key.map(Some)
}

fn small(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(io("open", path))?;
    file.take(SECRET_BYTES).read_to_string(&mut text).map_err(io("read", path))?;
    Ok(text)
}

/// The first line of a passphrase file.
fn passphrase(path: &Path) -> Result<SecretString> {
    let text = small(path)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let what = path.display().to_string();
        return Err(BackupError::Key { what, why: "its first line, the passphrase, is empty".into() });
    }
    Ok(SecretString::from(line.to_owned()))
}

/// Who a file is encrypted for.
type Recipients = Vec<Box<dyn Recipient>>;

impl Lock {
    /// Who can open it, and how to lock it.
    fn recipients(&self, home: &Path) -> Result<(Vec<String>, Recipients)> {
        if let Some(file) = &self.passphrase_file {
            if !self.recipients.is_empty() {
                let what = "--passphrase-file and --recipient".into();
                return Err(BackupError::Key { what, why: "one excludes the other in an age file".into() });
            }
            let recipient = age::scrypt::Recipient::new(passphrase(file)?);
            return Ok((vec!["passphrase".into()], vec![Box::new(recipient)]));
        }
        let named = match self.recipients.as_slice() {
            [] => vec![own_key(home)?.0.to_public().to_string()],
            named => named.to_vec(),
        };
        let mut recipients: Vec<Box<dyn Recipient>> = Vec::new();
        for text in &named {
            let recipient = text.parse::<x25519::Recipient>();
            let bad = |why: &str| BackupError::Key { what: format!("recipient {text:?}"), why: why.to_owned() };
            recipients.push(Box::new(recipient.map_err(bad)?));
        }
        Ok((named, recipients))
    }

    /// The keys that open what this locks, if they are here: for reading back what was written.
    pub(super) fn keys(&self, home: &Path) -> Result<Option<Keys>> {
        if self.passphrase_file.is_some() {
            return Ok(Some(Keys { passphrase_file: self.passphrase_file.clone(), ..Keys::default() }));
        }
        let own = read_key(&key_file(home))?.map(|key| key.to_public().to_string());
        let ours = self.recipients.is_empty() || own.is_some_and(|own| self.recipients.contains(&own));
        Ok(ours.then(Keys::default))
    }
}

/// A file that is being encrypted. Dropped before [`Sealing::finish`] nothing of it stays.
pub(super) struct Sealing {
    stream: age::stream::StreamWriter<BufWriter<Summed>>,
    path: PathBuf,
    /// Who can open it.
    pub(super) recipients: Vec<String>,
}

/// Hashes what passes.
struct Summed {
    file: tempfile::NamedTempFile,
    sum: blake3::Hasher,
    bytes: u64,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A file that was encrypted: not under its name yet.
pub(super) struct Sealed {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    /// BLAKE3 of the file, as hex: what `b3sum` prints.
    pub(super) blake3: String,
    /// Its length.
    pub(super) bytes: u64,
}

impl Sealing {
    /// Begins a file.
    pub(super) fn begin(Target { path, draft }: &Target, home: &Path, lock: &Lock) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(path.into()));
        }
        let (names, recipients) = lock.recipients(home)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(draft.file_name().unwrap_or_default())
            .rand_bytes(0)
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(io("create a file in", folder))?;
        let failed = |e: age::EncryptError| BackupError::Key { what: names.join(", "), why: e.to_string() };
        let encryptor = Encryptor::with_recipients(recipients.iter().map(|r| &**r as _)).map_err(failed)?;
        let output = BufWriter::with_capacity(1 << 20, Summed { file, sum: blake3::Hasher::new(), bytes: 0 });
        let stream = encryptor.wrap_output(output).map_err(io("write", path))?;
        Ok(Self { stream, path: path.into(), recipients: names })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(io("write", &self.path))
    }

    /// Ends the stream; returns when all of it is on the disk.
    pub(super) fn finish(self) -> Result<Sealed> {
        let path = self.path;
        let buffered = self.stream.finish().map_err(io("write", &path))?;
        let summed = buffered.into_inner().map_err(|e| io("write", &path)(e.into_error()))?;
        summed.file.as_file().sync_all().map_err(io("sync", &path))?;
        let blake3 = summed.sum.finalize().to_hex().to_string();
        Ok(Sealed { file: summed.file, path, blake3, bytes: summed.bytes })
    }
}

impl Sealed {
    /// Where it is before it has its name.
    pub(super) fn draft(&self) -> &Path {
        self.file.path()
    }

    /// Whether the disk gives back what was written.
    pub(super) fn same(&self) -> Result<()> {
        let mut file = self.file.reopen().map_err(io("open", &self.path))?;
        file.rewind().map_err(io("read", &self.path))?;
        let mut sum = blake3::Hasher::new();
        sum.update_reader(BufReader::with_capacity(1 << 20, file)).map_err(io("read", &self.path))?;
        let found = sum.finalize().to_hex().to_string();
        if found == self.blake3 {
            return Ok(());
        }
        let why = format!("the disk gives back {found}, and {} was written", self.blake3);
        Err(BackupError::Damaged { path: self.path.clone(), why })
    }

    /// Gives it its name, durably.
    pub(super) fn keep(self) -> Result<()> {
        let path = self.path;
        self.file.persist_noclobber(&path).map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => BackupError::Exists(path.clone()),
            _ => io("rename to", &path)(e.error),
        })?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|f| f.sync_all()).map_err(io("sync", folder))
    }
}

/// What is inside a file, decrypted as it is read.
pub(super) type Opened = age::stream::StreamReader<BufReader<File>>;

/// Opens an encrypted file.
pub(super) fn open(path: &Path, home: &Path, keys: &Keys) -> Result<Opened> {
    let foreign = |why: &str| BackupError::Foreign { path: path.into(), why: why.into() };
    let mut file = File::open(path).map_err(io("open", path))?;
    if !file.metadata().map_err(io("look at", path))?.is_file() {
        return Err(foreign("it is no regular file"));
    }
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(io("read", path))?;
    if !head.starts_with(b"age-encryption.org/v1\n") {
        return Err(foreign("it is not encrypted by age"));
    }
    if !head.windows(5).any(|w| w == b"\n--- ") {
        return Err(BackupError::Damaged { path: path.into(), why: "its header has no end".into() });
    }
    file.rewind().map_err(io("read", path))?;
    let failed = |error: DecryptError, tried: &str| match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed => {
            BackupError::Locked { path: path.into(), tried: tried.into() }
        }
        // Without a number of the system's it is age itself that misses the rest of its header.
        DecryptError::Io(source) if source.raw_os_error().is_none() => {
            BackupError::Damaged { path: path.into(), why: source.to_string() }
        }
        DecryptError::Io(source) => io("read", path)(source),
        other => BackupError::Damaged { path: path.into(), why: other.to_string().trim().replace('\n', " ") },
    };
    let decryptor =
        Decryptor::new_buffered(BufReader::with_capacity(1 << 20, file)).map_err(|e| failed(e, "any key"))?;
    let (identities, tried): (Vec<Box<dyn Identity>>, String) = match (&keys.passphrase_file, &keys.identity_file) {
        (Some(file), _) => {
            if !decryptor.is_scrypt() {
                return Err(BackupError::Locked { path: path.into(), tried: "a passphrase: it has keys".into() });
            }
            (vec![Box::new(age::scrypt::Identity::new(passphrase(file)?))], "this passphrase".into())
        }
        _ if decryptor.is_scrypt() => {
            return Err(BackupError::Locked { path: path.into(), tried: "a key: it has a passphrase".into() });
        }
        (None, Some(file)) => (identities(file)?, file.display().to_string()),
        (None, None) => match read_key(&key_file(home))? {
            Some(key) => (vec![Box::new(key)], "this home's own key".into()),
            None => (Vec::new(), "the key of this home, which has none yet".into()),
        },
    };
    decryptor.decrypt(identities.iter().map(|i| &**i as _)).map_err(|e| failed(e, &tried))
}

/// All keys of an identity file.
fn identities(path: &Path) -> Result<Vec<Box<dyn Identity>>> {
    let text = small(path)?;
    let what = || path.display().to_string();
    let keys = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    // Never the line itself: it may be a key all but one letter.
    let keys: Vec<Box<dyn Identity>> = keys
        .map(|line| match line.parse::<x25519::Identity>() {
            Ok(key) => Ok(Box::new(key) as Box<dyn Identity>),
            Err(why) => Err(BackupError::Key { what: what(), why: format!("a line of it is no age key: {why}") }),
        })
        .collect::<Result<_>>()?;
    if keys.is_empty() {
        return Err(BackupError::Key { what: what(), why: "there is no key in it".into() });
    }
    Ok(keys)
}
