//! `new`: a distro to start from. Invariant: what it writes passes `check` and `test` on this machine, and nothing
//! that exists is overwritten.

use crate::{error::CliError, home, ui::Ui};
use serde_json::json;
use softservice_node::verbs::failure::Kind;
use std::{os::unix::fs::PermissionsExt as _, path::Path};

/// One file of a template: path, text, executable.
type Part = (&'static str, &'static str, bool);

const TEMPLATES: [(&str, &[Part]); 1] = [(
    "web",
    &[
        ("distro.toml", include_str!("../../templates/web/distro.toml"), false),
        ("templates/index.html", include_str!("../../templates/web/templates/index.html"), false),
        ("bin/serve", include_str!("../../templates/web/bin/serve"), true),
    ],
)];

/// Writes the files.
pub(super) fn run(ui: &mut Ui, dir: &Path, template: &str) -> Result<(), CliError> {
    let known: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
    let Some((_, parts)) = TEMPLATES.iter().find(|(name, _)| *name == template) else {
        return Err(CliError::new(Kind::NotFound, format!("no template {template:?}"))
            .hint(format!("known templates: {}", known.join(", "))));
    };
    let dir = home::absolute(dir)?;
    let name = name_of(&dir)?;
    let taken = dir.symlink_metadata().is_ok() && std::fs::read_dir(&dir).map_or(true, |mut d| d.next().is_some());
    if taken {
        return Err(CliError::new(Kind::Refused, format!("{} exists and is not an empty folder", dir.display()))
            .hint("choose another folder"));
    }
    for (path, content, executable) in *parts {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| failed(parent, &e))?;
        }
        std::fs::write(&path, content.replace("@NAME@", &name)).map_err(|e| failed(&path, &e))?;
        let mode = if *executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(|e| failed(&path, &e))?;
    }
    let files: Vec<&str> = parts.iter().map(|(path, ..)| *path).collect();
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

fn name_of(dir: &Path) -> Result<String, CliError> {
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || name.starts_with('-') || !name.chars().all(good) {
        return Err(CliError::new(Kind::Usage, format!("{name:?} cannot be a distro's name"))
            .hint("names have 1 to 63 characters of a-z, 0-9 and -; the folder's name becomes the distro's"));
    }
    Ok(name.to_owned())
}
