//! `new`: a distro to start from. Invariant: what it writes passes `check` and `test` on this machine, and nothing
//! that exists is overwritten.

use crate::{error::CliError, home, ui::Ui};
use serde_json::json;
use softservice_node::verbs::failure::Kind;
use softservice_protocol::definition::scaffold;
use std::{os::unix::fs::PermissionsExt as _, path::Path};

/// Writes the files.
pub(super) fn run(ui: &mut Ui, dir: &Path, template: &str) -> Result<(), CliError> {
    if !scaffold::TEMPLATES.iter().any(|(name, _)| *name == template) {
        let known: Vec<&str> = scaffold::TEMPLATES.iter().map(|(name, _)| *name).collect();
        return Err(CliError::new(Kind::NotFound, format!("there is no template {template:?}"))
            .hint(format!("known templates: {}", known.join(", "))));
    }
    let dir = home::absolute(dir)?;
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let parts = scaffold::files(template, name)
        .map_err(|why| CliError::new(Kind::Usage, why).hint("the folder's name becomes the distro's name"))?;
    let taken = dir.symlink_metadata().is_ok() && std::fs::read_dir(&dir).map_or(true, |mut d| d.next().is_some());
    if taken {
        return Err(CliError::new(Kind::Refused, format!("{} exists and is not an empty folder", dir.display()))
            .hint("choose another folder"));
    }
    for part in &parts {
        let path = dir.join(part.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| failed(parent, &e))?;
        }
        std::fs::write(&path, &part.text).map_err(|e| failed(&path, &e))?;
        let mode = if part.executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(|e| failed(&path, &e))?;
    }
    let files: Vec<&str> = parts.iter().map(|part| part.path).collect();
    ui.document(&json!({ "dir": dir, "distro": name, "files": files }));
    for file in files {
        ui.data(format!("wrote {file}"));
    }
    ui.note(format!("next: softservice test {0} && softservice publish {0}", dir.display()));
    Ok(())
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Kind::Failed, format!("write {}: {error}", path.display()))
}
