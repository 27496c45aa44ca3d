//! Flags of the verbs about an owner's own: data in backups, and changes that updates keep.

use clap::Args;
use std::path::PathBuf;

/// `overlay`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Without a change it shows what is there. A change is a generation of its own: it is planned, tried, and taken back when it
does not hold. Updates keep it: where the author changed the same file, both are merged line by line; where that cannot be,
the update is refused and `ps` shows what is to be done.

  softservice overlay shelf --print web/shelf.toml > mine.toml      the author's text, to begin with
  softservice overlay shelf --set-file web/shelf.toml=mine.toml     your own in its place
  softservice overlay shelf --set-file web/extra.toml=extra.toml    a file of your own beside it
  softservice overlay shelf --set-env app.CACHE=200                 a variable of a service
  softservice overlay shelf --drop web/shelf.toml --drop app.CACHE  the author's again

After an update was refused:

  softservice overlay shelf --next --print web/shelf.toml > mine.toml   both texts between markers, to be edited
  softservice overlay shelf --next --set-file web/shelf.toml=mine.toml  your decision, and the update with it
  softservice overlay shelf --next --drop web/shelf.toml                or the author's new text

Texts and values are templates as in distro.toml: ${param.NAME}, ${port.NAME}, ${volume.NAME} and the like are filled in;
$${ stands for a plain ${. Secrets do not belong here: they are made on the device, see [secret] of the distro.")]
pub(crate) struct OverlayArgs {
    /// Which softservice
    pub(crate) name: String,
    /// Put your own text in place of the author's, or add a file; may be repeated
    #[arg(long, value_name = "ROLE/PATH=FILE", value_parser = super::answer)]
    pub(crate) set_file: Vec<(String, String)>,
    /// Permission bits of the files that are set, in octal [default: the author's, else 0640]
    #[arg(long, value_name = "MODE", value_parser = octal, requires = "set_file")]
    pub(crate) mode: Option<u32>,
    /// Set a variable of a service; may be repeated
    #[arg(long, value_name = "SERVICE.NAME=VALUE", value_parser = variable)]
    pub(crate) set_env: Vec<(String, String, String)>,
    /// Give up an own file or variable; may be repeated
    #[arg(long, value_name = "ROLE/PATH|SERVICE.NAME")]
    pub(crate) drop: Vec<String>,
    /// Print a file's template: your own, else the author's; with --next, both between markers where they do not go
    /// together
    #[arg(long, value_name = "ROLE/PATH", conflicts_with_all = ["set_file", "set_env", "drop"])]
    pub(crate) print: Option<String>,
    /// Against the newest release instead of the one that runs; a change brings the update with it
    #[arg(long)]
    pub(crate) next: bool,
    /// Do only the plan of this hash
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Agree to the plan without being asked
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Accept promises of the sandbox that this machine cannot keep; the plan names them
    #[arg(long)]
    pub(crate) accept_reduced: bool,
    /// With --next: take it also when nothing has been heard of its publisher for so long that its word expired
    #[arg(long)]
    pub(crate) accept_expired: bool,
    /// Change also what its publisher called unsafe, which starts it anew
    #[arg(long)]
    pub(crate) accept_revoked: bool,
}

/// `backup`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
The file holds all that is needed to live again: data, answers, secrets, your own changes, and which release they belong to.
It is an age file: without --recipient and --passphrase-file only the key of this home opens it. Keep a copy of that key file
elsewhere: with the home alone, the backups are lost as well. `age -d -i KEYFILE FILE` opens it without this program.

Services of a role whose volumes are copied are stopped for as long as that takes; a role with a backup program of its own
(`hook.backup` of its distro) is backed up while it runs. The file is read back before it gets its name.")]
pub(crate) struct BackupArgs {
    /// Which softservice
    pub(crate) name: String,
    /// The file [default: NAME-DATE.softbackup in this folder]
    pub(crate) file: Option<PathBuf>,
    /// Only for this key, age1...; may be repeated
    #[arg(long, value_name = "AGE1...")]
    pub(crate) recipient: Vec<String>,
    /// For the passphrase in the first line of this file instead of keys
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// List the backups that were made instead
    #[arg(long, conflicts_with_all = ["file", "recipient", "passphrase_file"])]
    pub(crate) list: bool,
}

/// `restore`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
The whole file is verified before anything is changed. What comes back is a generation of its own: the release of the backup
(fetched from peers if it is not here), its answers, your own changes, its secrets and its data. It is confirmed by health and
by the distro's tests, those for `restore` among them; if it does not hold, everything that was there returns, data too.

A release that this softservice had comes back in any case, unless its publisher called it unsafe. One that is new to this
device needs --accept-expired when its publisher has fallen silent, and --accept-frozen when its publisher signed two
histories: the backup says which release ran, but whoever has its key can write another.")]
pub(crate) struct RestoreArgs {
    /// As which softservice
    pub(crate) name: String,
    /// The backup
    pub(crate) file: PathBuf,
    /// Put the data that is there away; it returns if the restore does not hold, and goes when it is confirmed
    #[arg(long)]
    pub(crate) replace: bool,
    /// Age keys that open it [default: the key of this home]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// The passphrase that opens it, in the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Do only the plan of this hash
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Agree to the plan without being asked
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Accept what this machine cannot enforce of the sandbox
    #[arg(long)]
    pub(crate) accept_reduced: bool,
    /// Take its release also when nothing has been heard of its publisher for so long that its word expired
    #[arg(long)]
    pub(crate) accept_expired: bool,
    /// Take its release also when its publisher signed two different histories: what you know to have run before
    #[arg(long)]
    pub(crate) accept_frozen: bool,
}

impl OverlayArgs {
    /// What is to be changed, as the API takes it; texts still as paths of files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.set_file.iter().map(|(key, file)| (key.as_str(), PathBuf::from(file)))
    }
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777).ok_or("expected permission bits, for example 0640".into())
}

/// `SERVICE.NAME=VALUE`; services may have dots themselves.
fn variable(text: &str) -> Result<(String, String, String), String> {
    let (key, value) = super::answer(text)?;
    let (service, name) = key.rsplit_once('.').ok_or("expected SERVICE.NAME=VALUE")?;
    Ok((service.into(), name.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_their_service() {
        let wanted = ("pg.server".to_owned(), "SLOW".to_owned(), "a=b.c".to_owned());
        assert_eq!(variable("pg.server.SLOW=a=b.c"), Ok(wanted));
        assert!(variable("SLOW=1").is_err() && variable("app.SLOW").is_err());
        assert_eq!(octal("0640"), Ok(0o640));
        assert!(octal("4755").is_err() && octal("9").is_err());
    }
}
