//! Flags of `publisher`: who this home publishes as, and how its keys change hands.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `publisher` verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum PublisherVerb {
    /// Show it: roles, keys, what waits for signatures; made when there is none yet
    Show,
    /// Make a key in a new file and print its public half
    NewKey(NewKey),
    /// Change keys, thresholds and dates: the next root document
    Rotate(Rotate),
    /// Sign a request with keys that are here; needs no node and no home
    Sign(Sign),
    /// Bring signed copies of a request back: what they asked for is adopted or appended
    Assemble {
        /// Copies of one request
        #[arg(required = true, value_name = "REQUEST")]
        requests: Vec<PathBuf>,
        /// Go on although no peer could be asked whether another home of this publisher spoke already
        #[arg(long, short, visible_alias = "alone")]
        yes: bool,
    },
    /// State now that the newest entry is the newest; the fresh role alone does it, and a running node by itself
    Freshen {
        /// Sign with these key files as well, beside the keys of this home
        #[arg(long, value_name = "KEYFILE,...", value_delimiter = ',')]
        keys: Vec<PathBuf>,
    },
    /// Have the newest entry signed anew by the release keys of now, so that newcomers can begin with it
    SignHead(Signing),
    /// Give up the requests that wait: nobody will sign them any more
    #[command(
        after_long_help = "Every copy must be destroyed first. A root document or an entry that is signed all the same, beside another one in \
its place, forks the publisher or its feed."
    )]
    Withdraw {
        /// Give up what is shown without being asked
        #[arg(long, short)]
        yes: bool,
    },
    /// Give up every entry behind a named one and go on from there, in a new epoch
    Recover(Recover),
    /// Let a build machine's key publish some distros, on some channels, for some time
    Delegate(Delegate),
    /// Take part in a publisher that exists, with a key that it gave a right
    Join {
        /// The key
        #[arg(value_name = "KEYFILE")]
        key: PathBuf,
        /// The publisher's ticket
        ticket: String,
    },
}

/// Where signatures come from and go to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Signing {
    /// Sign with these key files as well, beside the keys of this home
    #[arg(long, value_name = "KEYFILE,...", value_delimiter = ',')]
    pub(crate) keys: Vec<PathBuf>,
    /// Where signatures are lacking, write a request for them here
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Where the signatures of an entry come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Hands {
    /// Sign with these key files as well, beside the keys of this home
    #[arg(long, value_name = "KEYFILE,...", value_delimiter = ',')]
    pub(crate) keys: Vec<PathBuf>,
    /// Where signatures are lacking, write a request for `publisher sign` here
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    /// Go on although no peer could be asked whether another home of this publisher published already
    #[arg(long)]
    pub(crate) alone: bool,
}

/// `publisher new-key`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
The file is for its owner's eyes only (mode 0600), and nothing is overwritten. Make it where the key is to live: a stick in a
drawer, a build machine. A key has no role until a root document gives it one.

  softservice publisher new-key /media/stick/release.key
  softservice publisher rotate --role release=/media/stick/release.key")]
pub(crate) struct NewKey {
    /// The file to make
    pub(crate) file: PathBuf,
    /// What it is for: the next command is printed
    #[arg(long, value_enum)]
    pub(crate) role: Option<RoleArg>,
}

/// `publisher rotate`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Without flags, the keys of this home for release, fresh and revoke are replaced by new ones; ROLE names those to replace. What
is not named stays. The next root document must be signed by the root role of the one before and by its own: where the keys
are not at hand, --out writes a request, `publisher sign` signs it wherever the keys are, `publisher assemble` ends it.

  softservice publisher rotate                                        a release key may have been seen
  softservice publisher rotate root                                   a new root key as well
  softservice publisher rotate --role root=/media/stick/root.key     the root key leaves this machine
  softservice publisher rotate --role release=a.key,b.key,9f3c... --threshold release=2
                                                                      two of three people release
  softservice publisher rotate --keys /media/stick/root.key --out next.request

Role root in --role takes part in the new document, so its secrets (or their signatures) are needed too. Keys given in files
stay where they are: only their public halves enter the document. Old key files stay in this home and can say nothing any more;
remove them when you like. A key file that is put into HOME/publisher/keys is used from then on.

--commit promises the root role of the document after this one: whoever steals all root keys of today still cannot make it. The
promise binds that very document, so keep those keys elsewhere, and name them with --role root=... then.")]
pub(crate) struct Rotate {
    /// Roles whose keys of this home are replaced by new ones [default: release fresh revoke]
    #[arg(value_enum, value_name = "ROLE")]
    pub(crate) renew: Vec<RoleArg>,
    /// The keys of a role from now on, public (64 hex digits) or in files; may be repeated
    #[arg(long = "role", value_name = "ROLE=KEY,...", value_parser = super::answer)]
    pub(crate) roles: Vec<(String, String)>,
    /// How many keys of a role must sign; ROLE next is that of --commit; may be repeated
    #[arg(long = "threshold", value_name = "ROLE=N", value_parser = threshold)]
    pub(crate) thresholds: Vec<(String, u8)>,
    /// Promise the root role of the document after this one
    #[arg(long, value_name = "KEY,...", value_delimiter = ',')]
    pub(crate) commit: Vec<String>,
    /// The lowest protocol that may read what this publisher says; it never falls
    #[arg(long, value_name = "N")]
    pub(crate) min_protocol: Option<u16>,
    /// How long the document holds [default: 400]
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires: Option<u32>,
    /// Go on although no peer could be asked whether another home changed the keys already
    #[arg(long, short, visible_alias = "alone")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// `publisher sign`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Shows what the signatures will say and asks. Signs nothing else, and speaks to nobody: meant for a machine without a network.
What changes is told against the root document that came with the request. Whoever made the request chose that one: compare the
number and digest behind `follows` with what `softservice publisher show` prints at home.

  softservice publisher sign /media/stick/next.request --keys root-1.key")]
pub(crate) struct Sign {
    /// The request; signatures are added to this file
    pub(crate) request: PathBuf,
    /// Keys to sign with
    #[arg(long, value_name = "KEYFILE,...", value_delimiter = ',', required = true)]
    pub(crate) keys: Vec<PathBuf>,
    /// Sign without being asked
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `publisher recover`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
For a feed that speaks with two tongues, or whose release keys were stolen: the root role names the last good entry, everything
behind it is given up, and devices go on from there. It cannot be undone. Change the stolen keys first (`publisher rotate`).

  softservice publisher recover --from 41")]
pub(crate) struct Recover {
    /// The last entry that still counts; 0 for none
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: u64,
    /// Its hash, when this home does not have it, or has two
    #[arg(long, value_name = "HASH")]
    pub(crate) hash: Option<String>,
    /// Give up what is shown without being asked, also when no peer could be asked for newer keys
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// `publisher delegate`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
  softservice publisher new-key ci.key                                 on the build machine
  softservice publisher delegate --key 9f3c... --channel nightly --distro shop --days 90 --entries 500
  softservice publisher join ci.key SOFTDIST:1/...                     on the build machine
  softservice publisher delegate --remove 9f3c...                      and it ends")]
pub(crate) struct Delegate {
    /// The machine's key, public or in a file
    #[arg(long, value_name = "KEY", required_unless_present = "remove")]
    pub(crate) key: Option<String>,
    /// Channels that begin so
    #[arg(long, value_name = "PREFIX", requires = "key")]
    pub(crate) channel: Option<String>,
    /// A distro that it may release; may be repeated
    #[arg(long = "distro", value_name = "NAME", requires = "key")]
    pub(crate) distros: Vec<String>,
    /// For how long
    #[arg(long, value_name = "N", requires = "key")]
    pub(crate) days: Option<u32>,
    /// How many entries
    #[arg(long, value_name = "N", requires = "key")]
    pub(crate) entries: Option<u32>,
    /// Take a machine's right away
    #[arg(long, value_name = "KEY", conflicts_with = "key")]
    pub(crate) remove: Option<String>,
    /// Go on although no peer could be asked whether another home changed the keys already
    #[arg(long, short, visible_alias = "alone")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// The roles of a root document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Changes keys and reopens feeds
    Root,
    /// Appends releases
    Release,
    /// Restates that the head is current
    Fresh,
    /// Stops a release
    Revoke,
}

impl RoleArg {
    /// As the API spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Fresh => "fresh",
            Self::Revoke => "revoke",
        }
    }
}

fn threshold(text: &str) -> Result<(String, u8), String> {
    let (role, n) = super::answer(text)?;
    let n = n.parse().map_err(|_| format!("{n:?} is no number of signatures"))?;
    Ok((role, n))
}
