//! Where a node lives. Invariant: one home, one node; the answer never depends on anything but the flag and three
//! variables of the environment.

use crate::{args::Global, error::CliError};
use softservice_node::verbs::failure::Kind;
use std::path::{Path, PathBuf};

/// The home that the flags mean, as an absolute path.
pub(crate) fn of(global: &Global) -> Result<PathBuf, CliError> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = global
        .home
        .clone()
        .or_else(|| variable("SOFTSERVICE_HOME"))
        .or_else(|| rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/lib/softservice")))
        .or_else(|| variable("XDG_DATA_HOME").map(|data| data.join("softservice")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/share/softservice")))
        .ok_or_else(|| CliError::new(Kind::Usage, "no home is known").hint("say one with --home DIR"))?;
    absolute(&home)
}

/// A path that means the same to a node in another folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|e| CliError::new(Kind::Usage, format!("{}: {e}", path.display())))
}
