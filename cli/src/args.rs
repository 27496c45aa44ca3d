//! Everything that can be typed. Invariant: verbs, flags and their meaning are those of `docs/cli/`; nothing is read
//! from the environment but the home, and whether systemd is to be left alone (see `session`).

mod data;
mod publisher;

pub(crate) use data::{BackupArgs, OverlayArgs, RestoreArgs};
pub(crate) use publisher::{Delegate, Hands, NewKey, PublisherVerb, Recover, Rotate, Sign, Signing};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Share, provision, test and improve whole services, from device to device, without a server.
#[derive(Debug, Parser)]
#[command(name = "softservice", version, propagate_version = true, subcommand_required = true, max_term_width = 100)]
#[command(
    after_help = "REF is publisher/distro[@version], distro when one subscription has it, or a release id (8 or more hex digits).\n\
PUBLISHER is an id, or the petname given at subscription.\n\
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused by trust or policy, 5 no node or no peer, 6 damaged store, 70 a bug."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Folder of this node's keys, store and services [default: $SOFTSERVICE_HOME, else
    /// $XDG_DATA_HOME/softservice, for root /var/lib/softservice]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) home: Option<PathBuf>,
    /// Print exactly one JSON document on stdout (streams: one per line), also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Log more to stderr; may be repeated
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the node in the foreground; SIGTERM or Ctrl-C stops it in order
    Node(NodeArgs),
    /// Show the node, its peers, subscriptions, softservices and transfers
    Status,
    /// List connected peers
    Peers,
    /// Stop the running node of this home and wait until it is gone
    Stop,

    /// Write a new distro that passes `softservice test`
    New {
        /// Folder to create; its name becomes the distro's name
        dir: PathBuf,
        /// What to start from
        #[arg(long, value_name = "T", default_value = "hello")]
        template: String,
    },
    /// Check a definition: file, line, what is wrong and what was meant
    ///
    /// Also names every likely secret in the folder, FILE:LINE each, that `publish` would refuse; distro.allow lists those that
    /// are let through.
    Check {
        /// Folder with distro.toml
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Provision every role in a throwaway place on this machine and run the tests
    Test {
        /// Folder with distro.toml, or a REF
        #[arg(default_value = ".", value_name = "DIR|REF")]
        what: String,
        /// Do all that owners do with it: install, reinstall, remove, upgrade, backup and restore, two at once, ports taken,
        /// other answers, a crash during a switch
        #[arg(long)]
        matrix: bool,
        /// Back it up, remove it with its home, bring it back in another, and compare
        #[arg(long, conflicts_with = "matrix")]
        restore: bool,
        /// Try upgrades from so many earlier published releases [default: 3]
        #[arg(long, value_name = "N", requires = "matrix")]
        releases: Option<usize>,
        /// Test a REF also when nothing has been heard of its publisher for so long that its word expired
        #[arg(long)]
        accept_expired: bool,
        /// Agree to what a REF of somebody else may do, without being asked
        #[arg(long, short)]
        yes: bool,
        /// Accept promises of the sandbox that this machine cannot keep for it
        #[arg(long)]
        accept_reduced: bool,
        /// Test also what its publisher took back
        #[arg(long)]
        accept_revoked: bool,
    },
    /// Compile, sign and announce a release
    Publish {
        /// Folder with distro.toml
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Channel that the release appears in
        #[arg(long, value_name = "C", default_value = "stable")]
        channel: String,
        /// Read every file again, also those that look as they did when they were read last
        #[arg(long)]
        reread: bool,
        /// Publish this likely secret on purpose, as the refusal names it, or FILE:LINE:N for the Nth of a line; written down in
        /// distro.allow beside distro.toml, bound to the secret; may be repeated
        #[arg(long = "allow-secret", value_name = "FILE:LINE[:N]")]
        allow_secrets: Vec<String>,
        #[command(flatten)]
        hands: Hands,
    },
    /// Take a release back: nothing new is installed from it, and who runs it is told
    Revoke {
        /// Which; a distro alone means its newest release that stands
        #[arg(value_name = "REF")]
        reference: String,
        /// How hard
        #[arg(long, value_enum)]
        level: Level,
        /// What users are told, one line
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// What to take instead
        #[arg(long, value_name = "REF")]
        replaced_by: Option<String>,
        #[command(flatten)]
        hands: Hands,
    },
    /// Print a ticket that others can subscribe with (and a QR code on a terminal)
    Ticket {
        /// Whose; this home's own publisher when not given
        publisher: Option<String>,
        /// Others may begin with it for so long, for example 7d or 12h
        #[arg(long, value_name = "DURATION", value_parser = softservice_protocol::definition::units::duration)]
        expires: Option<softservice_protocol::time::Span>,
    },
    /// The publisher identity of this home
    #[command(subcommand)]
    Publisher(PublisherVerb),

    /// Follow the publisher of a ticket
    Subscribe {
        /// The ticket, one line
        ticket: String,
        /// Local name of the publisher
        #[arg(long = "as", value_name = "PETNAME")]
        petname: Option<String>,
        /// What to do about new releases of provisioned softservices
        #[arg(long, value_enum, default_value_t = Policy::Notify)]
        policy: Policy,
        /// Let its content take at most so much here, for example 20GiB, or none for no limit
        #[arg(long, value_name = "SIZE|none", value_parser = Quota::parse)]
        quota: Option<Quota>,
    },
    /// Follow a publisher no more; what runs keeps running
    Unsubscribe {
        /// Id or petname
        publisher: String,
    },
    /// List followed publishers
    Subscriptions,
    /// Search the catalogue of followed publishers
    Search {
        /// Text in name or summary; everything when not given
        text: Option<String>,
    },
    /// Show one distro: versions, size, permissions, parameters, includes, lineage
    Show {
        /// Which
        #[arg(value_name = "REF")]
        reference: String,
    },

    /// Show every effect that `up` would have, and do nothing
    Plan(Target),
    /// Provision a softservice; returns when it is confirmed or reverted
    Up {
        #[command(flatten)]
        target: Target,
        /// Do only the plan of this hash
        #[arg(long, value_name = "HASH")]
        plan: Option<String>,
        /// Agree to the plan without being asked
        #[arg(long, short)]
        yes: bool,
        /// Accept promises of the sandbox that this machine cannot keep; the plan names them
        #[arg(long)]
        accept_reduced: bool,
    },
    /// Move softservices to the newest release
    Update {
        /// Which; all when not given
        name: Option<String>,
        #[command(flatten)]
        answers: Answers,
        /// Agree to the plans without being asked
        #[arg(long, short)]
        yes: bool,
        /// Accept promises of the sandbox that this machine cannot keep; the plans name them
        #[arg(long)]
        accept_reduced: bool,
        /// Take what is newest also where nothing has been heard of its publisher for so long that its word expired
        #[arg(long)]
        accept_expired: bool,
    },
    /// Go back to an earlier generation; data stays as it is, unless its layout has changed since: then it comes back, too
    Rollback {
        /// Which softservice
        name: String,
        /// Generation to go back to; the one before when not given
        #[arg(long, value_name = "N")]
        to: Option<u32>,
        /// Agree to leave data behind that was written since its layout changed, and to what it may do that it may not now
        #[arg(long)]
        yes: bool,
        /// Accept promises of the sandbox that this machine cannot keep
        #[arg(long)]
        accept_reduced: bool,
        /// Go back also to what its publisher called unsafe
        #[arg(long)]
        accept_revoked: bool,
    },
    /// Keep a softservice at its generation: no update, neither by hand nor by policy
    Hold {
        /// Which softservice
        name: String,
    },
    /// Let a held softservice be updated again
    Unhold {
        /// Which softservice
        name: String,
    },
    /// Write everything of a softservice into one encrypted, verified file
    Backup(BackupArgs),
    /// Bring a softservice back out of a backup, on this device or a new one
    Restore(RestoreArgs),
    /// Show or change your own files and variables of a softservice; updates keep them
    Overlay(OverlayArgs),
    /// List the generations of a softservice
    Generations {
        /// Which softservice
        name: String,
    },
    /// List softservices with their services and endpoints
    Ps {
        /// Which; all when not given
        name: Option<String>,
    },
    /// Show the logs of a softservice
    Logs {
        /// Which, NAME or NAME/SERVICE
        #[arg(value_name = "NAME[/SERVICE]")]
        name: String,
        /// Go on with what is written from now on
        #[arg(long, short)]
        follow: bool,
    },
    /// Stop the services of a softservice; nothing is removed
    Down {
        /// Which softservice
        name: String,
    },
    /// Start the services of a softservice that is down
    Start {
        /// Which softservice
        name: String,
        /// Start also what its publisher called unsafe
        #[arg(long)]
        accept_revoked: bool,
    },
    /// Remove a softservice; its data stays unless asked
    Remove {
        /// Which softservice
        name: String,
        /// Remove its data and secrets as well
        #[arg(long)]
        data: bool,
    },

    /// Make a working copy of a distro's source, with its lineage recorded
    Improve {
        /// What to improve
        #[arg(value_name = "REF")]
        reference: String,
        /// Folder to create
        dir: PathBuf,
    },
    /// Show the parents and the known children of a release
    Lineage {
        /// Which
        #[arg(value_name = "REF")]
        reference: String,
    },

    /// Bring the whole content of a release here
    Fetch {
        /// Which
        #[arg(value_name = "REF")]
        reference: String,
    },
    /// Never let `gc` remove the content of a release
    Pin {
        /// Which
        #[arg(value_name = "REF")]
        reference: String,
    },
    /// Let `gc` remove the content of a release again
    Unpin {
        /// Which
        #[arg(value_name = "REF")]
        reference: String,
    },
    /// Show or set how much of a publisher's content may be here, and how much in all
    Quota {
        /// Id or petname; all when not given
        publisher: Option<String>,
        /// The publisher's new limit, for example 20GiB, or none for no limit
        #[arg(value_name = "SIZE|none", value_parser = Quota::parse)]
        size: Option<Quota>,
        /// The new limit of everything here together
        #[arg(long, value_name = "SIZE|none", value_parser = Quota::parse)]
        total: Option<Quota>,
    },
    /// Remove content that nothing needs any more
    Gc,
    /// Read and hash everything stored, rebuild the index
    Fsck {
        /// Fetch damaged objects again from peers
        #[arg(long)]
        repair: bool,
    },

    /// Play the whole story with three real nodes on this machine
    Demo(DemoArgs),
    /// Print shell completions
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },

    /// Runs one service; started by the node, never by hand
    #[command(hide = true)]
    Keeper {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Serves a folder over HTTP, read only; for small distros and tests
    #[command(hide = true)]
    ServeStatic {
        /// The folder
        dir: PathBuf,
        /// The port of 127.0.0.1 to listen on
        port: u16,
    },
}

/// How the node runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// Listen here, IP:PORT or a multiaddress; may be repeated [default: all interfaces, any port]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Connect to this peer, a multiaddress with /p2p/; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer: Vec<String>,
    /// Do not look for peers on the local network
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Do not take part in the distributed hash table
    #[arg(long)]
    pub(crate) no_dht: bool,
    /// Read-only web page; only off in this version
    #[arg(long, value_name = "ADDR|off", default_value = "off")]
    pub(crate) web: String,
    /// Only speak to nodes that have this key
    #[arg(long, value_name = "FILE")]
    pub(crate) swarm_key: Option<PathBuf>,
    /// Send at most so many bytes of content a second, counted as they cross the link, for example 10MiB [default: no limit]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) limit_up: Option<u64>,
    /// Receive at most so many, counted in the same way [default: no limit]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) limit_down: Option<u64>,
    /// Stop when standard input, a pipe, ends: for a process that starts a node of its own and may be killed
    #[arg(long, hide = true)]
    pub(crate) owned: bool,
}

/// What `plan` and `up` are about.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Which distro
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// Name of the softservice [default: the distro's name]
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) answers: Answers,
    /// Play only this role here; may be repeated [default: all]
    #[arg(long = "role", value_name = "R")]
    pub(crate) roles: Vec<String>,
    /// Take it also when nothing has been heard of its publisher for so long that its word expired
    #[arg(long)]
    pub(crate) accept_expired: bool,
}

/// What a distro asks, answered on the command line.
#[derive(Debug, Clone, Args)]
pub(crate) struct Answers {
    /// Answer a question; may be repeated
    #[arg(long = "set", value_name = "K=V", value_parser = answer)]
    pub(crate) set: Vec<(String, String)>,
    /// Answers as TOML, one NAME = VALUE a line; --set goes before it
    #[arg(long = "answers", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How the story is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
}

/// How hard a release is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// No new installs; what runs may run on
    Withdraw,
    /// And nothing of it is started any more, unless an owner insists
    Unsafe,
}

impl Level {
    /// As the API spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Withdraw => "withdraw",
            Self::Unsafe => "unsafe",
        }
    }
}

/// What happens when a followed publisher has something newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Say so in `status`
    Notify,
    /// Update provisioned softservices, unless that needs more permissions
    Auto,
}

impl Policy {
    /// As the API spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Auto => "auto",
        }
    }
}

/// How much may be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    /// As much as there is room for.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

impl Quota {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Unlimited),
            size => softservice_protocol::definition::units::size(size).map(Self::Bytes),
        }
    }
    /// As the API spells it.
    pub(crate) fn value(self) -> serde_json::Value {
        match self {
            Self::Unlimited => "none".into(),
            Self::Bytes(bytes) => bytes.into(),
        }
    }
}

fn answer(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key before = is empty".into());
    }
    Ok((key.into(), value.into()))
}

/// A chunk of usual size would take minutes below this, and whoever waits for it takes us for dead.
const SLOWEST: u64 = 1024;

/// Bytes a second: a number with an optional unit.
fn rate(text: &str) -> Result<u64, String> {
    let text = text.trim().trim_end_matches("/s");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "expected a number and a unit, for example 10MiB")?;
    let factor = match unit.trim() {
        "" | "B" => 1.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "K" => 1024.0,
        "MiB" | "M" => 1024.0 * 1024.0,
        "GiB" | "G" => 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("unknown unit {other:?}; known are KB, MB, GB, KiB, MiB, GiB")),
    };
    let rate = (number * factor) as u64;
    if rate < SLOWEST {
        return Err("less than 1KiB a second lets no content through; leave it out for no limit".into());
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_of_the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rates_have_units() {
        assert_eq!(rate("10MiB"), Ok(10 << 20));
        assert_eq!(rate("1.5KB/s"), Ok(1500));
        assert_eq!(rate("5120"), Ok(5120));
        assert!(rate("0").is_err_and(|e| e.contains("no limit")));
        assert!(rate("512").is_err());
        assert!(rate("fast").is_err());
        assert!(rate("3 parsecs").is_err());
    }

    #[test]
    fn quotas_are_sizes_or_none() {
        assert_eq!(Quota::parse("20GiB"), Ok(Quota::Bytes(20 << 30)));
        assert_eq!(Quota::parse("none"), Ok(Quota::Unlimited));
        assert!(Quota::parse("20").is_err() && Quota::parse("much").is_err());
    }

    #[test]
    fn answers_are_key_and_value() {
        assert_eq!(answer("domain=a=b"), Ok(("domain".into(), "a=b".into())));
        assert!(answer("domain").is_err());
        assert!(answer("=x").is_err());
    }
}
