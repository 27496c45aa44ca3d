//! `backup` and `restore`.

use super::{count, instances, list, text};
use crate::{
    args::{BackupArgs, RestoreArgs},
    client::Client,
    error::CliError,
    home,
    ui::{self, Ui},
};
use serde_json::{Value, json};
use softservice_node::verbs::failure::Kind;
use softservice_protocol::time::calendar;
use std::path::{Path, PathBuf};

/// Writes one.
pub(super) async fn backup(client: &Client, ui: &mut Ui, args: &BackupArgs) -> Result<(), CliError> {
    if args.list {
        return made(client, ui, &args.name).await;
    }
    let file = match &args.file {
        Some(file) => file.clone(),
        None => default_name(&args.name),
    };
    let wanted = json!({
        "name": args.name,
        "file": home::absolute(&file)?,
        "recipients": args.recipient,
        "passphrase_file": optional(args.passphrase_file.as_deref())?,
    });
    let done = client.call(ui, "backup", wanted).await?;
    ui.document(&done);
    ui.data(text(&done, "file"));
    ui.data(format!("  {} {}, {}", text(&done, "distro"), text(&done, "version"), ui::size(count(&done, "bytes"))));
    for volume in list(&done, "volumes").iter().filter_map(Value::as_str) {
        ui.data(format!("  volume   {volume}"));
    }
    for role in list(&done, "hooks").iter().filter_map(Value::as_str) {
        ui.data(format!("  program  of role {role}"));
    }
    let verified = match text(&done, "verified") {
        "opened" => "decrypted and read to its end",
        _ => "compared with what was written: its key is not here",
    };
    ui.data(format!("  verified {verified}"));
    ui.data(format!("  blake3   {}", text(&done, "blake3")));
    Ok(())
}

async fn made(client: &Client, ui: &mut Ui, name: &str) -> Result<(), CliError> {
    let all = client.call(ui, "backups", json!({ "name": name })).await?;
    ui.document(&all);
    let all = all.as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        ui.note(format!("no backup was made of {name}"));
        return Ok(());
    }
    let row = |b: &Value| {
        vec![
            calendar(count(b, "made_at")),
            text(b, "version").into(),
            ui::size(count(b, "bytes")),
            text(b, "file").into(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    ui.data(ui::table(&["WHEN", "VERSION", "SIZE", "FILE"], &rows));
    Ok(())
}

/// NAME-DATE.softbackup, the time in UTC so that names sort.
fn default_name(name: &str) -> PathBuf {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let date: String = calendar(now).chars().map(|c| if c.is_ascii_digit() { c } else { '-' }).collect();
    format!("{name}-{date}.softbackup").into()
}

/// Takes one back.
pub(super) async fn restore(client: &Client, ui: &mut Ui, args: &RestoreArgs) -> Result<(), CliError> {
    if !args.file.exists() {
        return Err(CliError::new(Kind::NotFound, format!("there is no file {}", args.file.display())));
    }
    let wanted = json!({
        "name": args.name,
        "file": home::absolute(&args.file)?,
        "identity_file": optional(args.identity.as_deref())?,
        "passphrase_file": optional(args.passphrase_file.as_deref())?,
        "replace": args.replace,
        "accept_reduced": args.accept_reduced,
        "accept_expired": args.accept_expired,
        "accept_frozen": args.accept_frozen,
    });
    instances::agreed(client, ui, "plan_restore", "restore", wanted, args.plan.as_deref(), args.yes).await
}

fn optional(path: Option<&Path>) -> Result<Option<PathBuf>, CliError> {
    path.map(home::absolute).transpose()
}
