//! The example as files: what `examples/guestbook` holds, inside this binary.
//! Invariant: the files are those of the example, version numbers aside.

use super::DemoError;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

const DATA_SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guestbook-data"));
const WEB_SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guestbook-web"));
const DATA: &str = include_str!("../../../examples/guestbook/data/distro.toml");
const WEB: &str = include_str!("../../../examples/guestbook/web/distro.toml");
const WHOLE: &str = include_str!("../../../examples/guestbook/distro.toml");
const PAGES: [&str; 3] = [
    include_str!("../../../examples/guestbook/web/site/page.html"),
    include_str!("../../../examples/guestbook/updates/2/page.html"),
    include_str!("../../../examples/guestbook/updates/3/page.html"),
];

/// The three distros as folders.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) data: PathBuf,
    pub(super) web: PathBuf,
    pub(super) whole: PathBuf,
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DemoError> {
    let failed = |source| DemoError::Io { action: "write", path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, bytes).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

impl Sources {
    /// Writes version 1 below `folder`.
    pub(super) fn write(folder: &Path) -> Result<Self, DemoError> {
        let sources = Self {
            data: folder.join("guestbook-data"),
            web: folder.join("guestbook-web"),
            whole: folder.join("guestbook"),
        };
        write(&sources.data.join("distro.toml"), DATA.as_bytes(), 0o644)?;
        write(&sources.data.join("bin/guestbook-data"), DATA_SERVER, 0o755)?;
        write(&sources.web.join("bin/guestbook-web"), WEB_SERVER, 0o755)?;
        sources.set_version(1)?;
        Ok(sources)
    }

    /// Edits web part and whole to version 1, 2 or 3, as a publisher would.
    pub(super) fn set_version(&self, version: usize) -> Result<(), DemoError> {
        let page = PAGES.get(version - 1).ok_or_else(|| DemoError::Story(format!("there is no page {version}")))?;
        let number = format!("version = \"{version}.0.0\"");
        let web = WEB.replace("version = \"1.0.0\"", &number);
        let front = format!("distro = \"guestbook-web\"\nversion = \"^{version}\"");
        let whole = WHOLE
            .replace("version = \"1.0.0\"", &number)
            .replace("distro = \"guestbook-web\"\nversion = \"^1\"", &front);
        write(&self.web.join("site/page.html"), page.as_bytes(), 0o644)?;
        write(&self.web.join("distro.toml"), web.as_bytes(), 0o644)?;
        write(&self.whole.join("distro.toml"), whole.as_bytes(), 0o644)?;
        let lock = self.whole.join("distro.lock");
        match std::fs::remove_file(&lock) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(DemoError::Io { action: "remove", path: lock, source })
            }
            _ => Ok(()),
        }
    }
}
