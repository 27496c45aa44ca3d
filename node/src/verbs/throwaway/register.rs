//! The register of throwaway folders, in the home for which they were made. Invariant: a folder is written down before it is
//! there and struck out when it is gone; one whose owner is gone is cleared by whoever starts next in that home, one whose
//! owner lives is never touched.
//!
//! Keepers outlive their node, those of a throwaway node as well. That they end with it was refused: the matrix kills such
//! nodes to see what outlives them.

use crate::{
    Config,
    device::{self, Device},
    home::{self, Home, HomeError, freed},
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Mutex, time::timeout};

/// Names of entries in a home begin so.
const ENTRY: &str = "throwaway-";
/// Names of folders begin so; others are not ours, whatever an entry says.
const FOLDER: &str = "softservice-test-";
/// The part of a folder that is a home, where there is one.
pub(super) const HOME: &str = "home";

/// How long a sweep waits for a home whose owner is gone and which somebody has: a node that the owner had started ends when
/// that is gone.
const ENDING: Duration = Duration::from_secs(15);

/// One sweep at a time, of this process and so of any home: a second one would make a folder again, by taking the home in it,
/// while the first removes it.
static SWEEPING: Mutex<()> = Mutex::const_new(());

/// A folder and who made it.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    folder: PathBuf,
    owner: Owner,
}

/// A process: numbers alone are given again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    pid: i32,
    /// Ticks since boot.
    start: u64,
    /// The boot's id.
    boot: String,
}

impl Owner {
    fn this() -> io::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let start = device::started(pid).ok_or_else(|| io::Error::other("/proc does not tell of this process"))?;
        Ok(Self { pid, start, boot: device::boot() })
    }
    fn lives(&self) -> bool {
        self.boot == device::boot() && device::started(self.pid) == Some(self.start)
    }
}

/// A folder that is registered. Dropped without [`Folder::remove`] it stays, with its entry, for the next start.
#[derive(Debug)]
pub(in crate::verbs) struct Folder {
    path: PathBuf,
    entry: PathBuf,
}

impl Folder {
    /// Makes one for a home.
    ///
    /// # Errors
    /// It cannot be written down or made.
    pub(in crate::verbs) fn make(home: &Path) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let name = u64::from_le_bytes(random);
        let path = std::path::absolute(std::env::temp_dir())?.join(format!("{FOLDER}{name:016x}"));
        let entry = home.join(format!("{ENTRY}{name:016x}.json"));
        let text = serde_json::to_vec(&Entry { folder: path.clone(), owner: Owner::this()? })?;
        home::write_private(&entry, &text)?;
        let made = Self { path, entry };
        if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&made.path) {
            std::fs::remove_file(&made.entry)?;
            return Err(error);
        }
        Ok(made)
    }

    pub(in crate::verbs) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, and strikes it out.
    ///
    /// # Errors
    /// Something of it cannot be removed; it stays written down.
    pub(in crate::verbs) fn remove(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.path)?;
        std::fs::remove_file(&self.entry)
    }
}

/// Ends what runs in the throwaway folders of this home whose owners are gone, and removes them. What cannot be cleared is
/// logged and stays written down.
pub(crate) async fn sweep(config: &Config) {
    sweep_within(config, ENDING).await;
}

async fn sweep_within(config: &Config, ending: Duration) {
    let (home, keeper) = (config.home.clone(), config.keeper.clone());
    let _alone = SWEEPING.lock().await;
    let orphans = tokio::task::spawn_blocking(move || orphans(&home)).await.unwrap_or_default();
    for (entry, folder) in orphans {
        match clear(&folder, &keeper, ending).await {
            Ok(true) => {
                tracing::info!(folder = %folder.display(), "what a killed trial left was cleared");
                if let Err(error) = std::fs::remove_file(&entry) {
                    tracing::warn!(entry = %entry.display(), %error, "a cleared trial could not be struck out");
                }
            }
            // Somebody else is about it.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "what a killed trial left could not be cleared");
            }
        }
    }
}

/// Entries whose owners are gone, with their folders.
fn orphans(home: &Path) -> Vec<(PathBuf, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(home) else { return Vec::new() };
    let ours = |e: io::Result<std::fs::DirEntry>| {
        let e = e.ok()?;
        e.file_name().to_str()?.starts_with(ENTRY).then(|| e.path())
    };
    let orphan = |path: PathBuf| {
        // One that cannot be read names nothing that could be cleared.
        let entry: Entry = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        (!entry.owner.lives()).then_some((path, entry.folder))
    };
    entries.filter_map(ours).filter_map(orphan).collect()
}

/// Whether a folder is gone in the end, or never was ours.
async fn clear(folder: &Path, keeper: &[String], ending: Duration) -> io::Result<bool> {
    if !is_ours(folder)? {
        return Ok(true);
    }
    let home = folder.join(HOME);
    let mut taken = home.is_dir().then(|| Home::open(&home));
    if let Some(Err(HomeError::InUse(_))) = taken
        && timeout(ending, freed(&home)).await.is_ok()
    {
        taken = Some(Home::open(&home));
    }
    let _lock = match taken {
        None => None,
        Some(Ok(lock)) => {
            end(&home, keeper).await?;
            Some(lock)
        }
        Some(Err(HomeError::InUse(_))) => return Ok(false),
        Some(Err(error)) => return Err(io::Error::other(error)),
    };
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await.map_err(io::Error::other)??;
    Ok(true)
}

/// Whether a folder is there, of the right name, and nobody else's: where everybody may write, a name that was free for a
/// while may be anybody's.
fn is_ours(folder: &Path) -> io::Result<bool> {
    let named = folder.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(FOLDER));
    match folder.symlink_metadata() {
        Ok(meta) => Ok(named && meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Stops and removes every softservice of a home. Nothing is brought back before: what was under way ends where it is.
async fn end(home: &Path, keeper: &[String]) -> io::Result<()> {
    // The home's own store may be torn, and its disk full; to stop and remove takes none of it.
    let store = Arc::new(softservice_store::MemoryStore::default());
    let device = Device::open(home.to_owned(), store, keeper.to_vec())?;
    device.clear().await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(home: &Path) -> Config {
        Config { home: home.to_owned(), ..Config::default() }
    }
    /// The entry of a folder, as if this process had written it as another.
    fn disown(folder: &Folder, change: impl Fn(&mut Owner)) {
        let mut entry: Entry = serde_json::from_slice(&std::fs::read(&folder.entry).expect("read")).expect("an entry");
        change(&mut entry.owner);
        home::write_private(&folder.entry, &serde_json::to_vec(&entry).expect("json")).expect("written");
    }

    #[tokio::test]
    async fn what_has_an_owner_stays_and_what_has_none_goes() {
        let scratch = tempfile::tempdir().expect("a folder");
        let changes: [fn(&mut Owner); 4] = [|_| {}, |o| o.start += 1, |o| o.boot.push('x'), |o| o.pid = i32::MAX];
        for (which, change) in changes.into_iter().enumerate() {
            let folder = Folder::make(scratch.path()).expect("made");
            std::fs::create_dir_all(folder.path().join("home/store")).expect("a folder");
            disown(&folder, change);
            sweep(&config(scratch.path())).await;
            assert_eq!((folder.path.exists(), folder.entry.exists()), (which == 0, which == 0), "change {which}");
            if which == 0 {
                folder.remove().expect("removed");
            }
        }
        assert_eq!(std::fs::read_dir(scratch.path()).expect("listed").count(), 0, "nothing stays written down");
    }

    #[tokio::test]
    async fn an_entry_removes_nothing_that_is_not_a_throwaway_folder() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (home, kept) = (scratch.path().join("home"), scratch.path().join("kept"));
        for folder in [&home, &kept] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let link = scratch.path().join(format!("{FOLDER}link"));
        std::os::unix::fs::symlink(&kept, &link).expect("a link");
        for (n, folder) in [kept.clone(), link].into_iter().enumerate() {
            let owner = Owner { pid: 1, start: 0, boot: String::new() };
            let text = serde_json::to_vec(&Entry { folder, owner }).expect("json");
            home::write_private(&home.join(format!("{ENTRY}{n}.json")), &text).expect("written");
        }
        sweep(&config(&home)).await;
        assert!(kept.is_dir());
        assert_eq!(std::fs::read_dir(&home).expect("listed").count(), 0, "they are struck out");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn sweeps_at_the_same_time_leave_nothing() {
        let scratch = tempfile::tempdir().expect("a folder");
        // Each may meet the other at another moment.
        for round in 0..10 {
            let folders: Vec<Folder> = (0..8).map(|_| Folder::make(scratch.path()).expect("made")).collect();
            for folder in &folders {
                for part in 0..8 {
                    std::fs::create_dir_all(folder.path().join(HOME).join(part.to_string())).expect("a folder");
                }
                disown(folder, |o| o.start += 1);
            }
            let sweeping = || {
                let home = scratch.path().to_owned();
                tokio::spawn(async move { sweep(&config(&home)).await })
            };
            let (one, other) = (sweeping(), sweeping());
            one.await.expect("no panic");
            other.await.expect("no panic");
            let left: Vec<_> = folders.iter().filter(|f| f.path.exists() || f.entry.exists()).collect();
            assert!(left.is_empty(), "round {round}: {:?}", left.first());
        }
    }

    #[tokio::test]
    async fn a_home_is_waited_for_whose_node_is_about_to_end() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = Folder::make(scratch.path()).expect("made");
        let taken = Home::open(&folder.path().join(HOME)).expect("taken");
        disown(&folder, |o| o.start += 1);
        let settings = config(scratch.path());
        let sweeping = sweep(&settings);
        tokio::pin!(sweeping);
        let lock = std::fs::metadata(folder.path().join(HOME).join("lock")).expect("a lock").ino();
        // Nobody tells when somebody waits for a lock; the kernel lists who does.
        let waits = |l: &str| l.contains("->") && l.contains(&format!(":{lock} "));
        let met = async {
            while !std::fs::read_to_string("/proc/locks").expect("locks").lines().any(waits) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { () = &mut sweeping => panic!("it waits for nobody"), () = met => {} }
        drop(taken);
        sweeping.await;
        assert!(!folder.path.exists() && !folder.entry.exists());
    }

    #[tokio::test]
    async fn a_home_that_somebody_has_is_left_to_them() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = Folder::make(scratch.path()).expect("made");
        let taken = Home::open(&folder.path().join(HOME)).expect("taken");
        disown(&folder, |o| o.start += 1);
        sweep_within(&config(scratch.path()), Duration::ZERO).await;
        assert!(folder.path.exists() && folder.entry.exists());
        drop(taken);
        sweep(&config(scratch.path())).await;
        assert!(!folder.path.exists() && !folder.entry.exists());
    }
}
