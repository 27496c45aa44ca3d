//! A home on a disk of its own whose power can be cut: an ext4 file system in an image file. Invariant: after a cut the file
//! system is exactly what its device had been given at one instant; whatever only the page cache knew is lost.
//!
//! The kernel's own file system decides what was durable, not a model of it. What the model leaves out: a device that
//! loses or reorders writes which it acknowledged without a flush; the image keeps every write that reached it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Room for a home; sparse.
const BYTES: u64 = 512 << 20;

/// The disk, mounted.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    cuts: u32,
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    let said = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(said()) }
}

impl Disk {
    /// A new disk, mounted at `mount`.
    ///
    /// # Errors
    /// This machine cannot: it takes root, loop devices and ext4.
    pub fn new(mount: &Path) -> Result<Self, String> {
        let image = mount.with_extension("0.img");
        fs::create_dir_all(mount).map_err(|e| e.to_string())?;
        fs::File::create(&image).and_then(|f| f.set_len(BYTES)).map_err(|e| e.to_string())?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_ref()])?;
        let disk = Self { image, mount: mount.to_owned(), cuts: 0 };
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&self) -> Result<(), String> {
        // Nothing is written because time passes: what is on the device was asked for.
        run("mount", &["-o".as_ref(), "loop,commit=300".as_ref(), self.image.as_ref(), self.mount.as_ref()])
    }

    /// Puts everything on the device.
    pub fn sync(&self) {
        let folder = fs::File::open(&self.mount).expect("it is mounted");
        rustix::fs::syncfs(&folder).expect("it can be synced");
    }

    /// What would be there if the power went now. Nobody may be writing files; the kernel may be.
    pub fn cut(&mut self) -> Cut {
        self.cuts += 1;
        let image = self.mount.with_extension(format!("{}.img", self.cuts));
        loop {
            let before = self.writes();
            run("cp", &["--sparse=always".as_ref(), self.image.as_ref(), image.as_ref()]).expect("it can be copied");
            // A copy during which the device was written to is none of an instant.
            if before == self.writes() {
                return Cut(image);
            }
        }
    }

    /// Lets the power come again: the disk is what it was at the cut. Nobody may have a file of it open.
    pub fn restore(&mut self, cut: Cut) {
        self.detach().expect("nobody uses the disk");
        fs::remove_file(&self.image).expect("the old image can go");
        self.image = cut.0;
        self.attach().expect("a disk that was mounted once can be mounted again");
    }

    fn detach(&self) -> Result<(), String> {
        run("umount", &[self.mount.as_ref()])
    }

    /// Writes that the device has begun and ended, and that it is at.
    fn writes(&self) -> Option<(u64, u64)> {
        let mounts = fs::read_to_string("/proc/mounts").ok()?;
        let of_ours = |l: &&str| l.split(' ').nth(1).is_some_and(|m| Path::new(m) == self.mount);
        let device = mounts.lines().find(of_ours)?.split(' ').next()?.strip_prefix("/dev/")?;
        let stat = fs::read_to_string(format!("/sys/block/{device}/stat")).ok()?;
        let fields: Vec<u64> = stat.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        Some((*fields.get(4)?, *fields.get(8)?))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still runs in it is killed with its world; the file system goes when the last has gone.
        let _ = run("umount", &["--lazy".as_ref(), self.mount.as_ref()]);
    }
}

/// A disk at one instant.
#[derive(Debug)]
pub struct Cut(PathBuf);

/// Whether disks can be had here; otherwise says loudly what is skipped.
pub fn disk_or_skip(what: &str) -> bool {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    match Disk::new(&scratch.path().join("try")) {
        Ok(_) => true,
        Err(why) => {
            eprintln!("SKIPPED, needs root, loop devices and ext4 ({why}): {what}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_a_cut_and_what_was_not_is_lost() {
        if !disk_or_skip("a power cut loses what was not synced") {
            return;
        }
        let scratch = tempfile::tempdir().expect("a folder");
        let mount = scratch.path().join("home");
        let mut disk = Disk::new(&mount).expect("a disk");
        fs::write(mount.join("synced"), "on the disk").expect("a file");
        disk.sync();
        fs::write(mount.join("later"), "in the cache").expect("a file");
        let cut = disk.cut();
        fs::write(mount.join("synced"), "changed after the cut").expect("a file");
        disk.sync();
        disk.restore(cut);
        assert_eq!(fs::read_to_string(mount.join("synced")).expect("it was synced"), "on the disk");
        assert!(!mount.join("later").exists());
    }
}
