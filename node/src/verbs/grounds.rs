//! Whether what was chosen may begin here: asked when it is chosen, and once more when all of it is here. Invariant: between the last
//! question and the first step of a generation no peer is waited for.
//!
//! A fetch may take hours, and the word that takes a release back comes while it lasts: asking before it alone was refused.
//! What comes in the seconds in which trees are laid out is told like what comes right after the switch.

use super::{
    auto,
    failure::Failure,
    freshness::{self, Wish},
    reference::{Found, Names},
    revocation,
};
use crate::context::Context;
use softservice_protocol::id::{PublisherId, ReleaseId};

/// On what a generation stands.
#[derive(Debug, Clone)]
pub(super) enum Grounds {
    /// On the word of a publisher that lists it.
    Listed {
        /// Whose it is.
        publisher: PublisherId,
        /// For people.
        called: String,
        /// Who wants it.
        wish: Wish,
        /// This softservice has been confirmed with it: it is nothing new.
        here: bool,
    },
    /// On its own past: this softservice had it.
    Had {
        /// Its owner takes it also when it was called unsafe.
        accept_revoked: bool,
    },
    /// On nobody's word: its owner changes what runs, or it is tried in a place that is thrown away, and was asked about before.
    Free,
}

impl Grounds {
    /// What was found in a catalogue.
    pub(super) fn listed(found: &Found, wish: Wish, here: bool) -> Self {
        Self::Listed { publisher: found.publisher, called: found.called(), wish, here }
    }

    /// Whether it may begin as softservice `name`, as far as is known now.
    ///
    /// # Errors
    /// Why not, with what to do about it.
    pub(super) async fn ask(&self, context: &Context, name: &str, release: ReleaseId) -> Result<(), Failure> {
        let (publisher, called, wish, here) = match self {
            Self::Free => return Ok(()),
            Self::Had { accept_revoked } => {
                return revocation::refuse_start(context, name, release, *accept_revoked).await;
            }
            Self::Listed { publisher, called, wish, here } => (*publisher, called, *wish, *here),
        };
        let catalogue = context.handle.catalogue();
        // Whoever follows it no more has forgotten nothing that was known when it was chosen.
        let Some(known) = catalogue.get(&publisher) else { return Ok(()) };
        match known.feed.snapshot.listings.iter().find(|l| l.release == release) {
            Some(listing) => {
                let found = Found { publisher, listing: listing.clone() };
                revocation::refuse_install(context, &found, here)?;
                if wish == Wish::Policy {
                    auto::refuse_other(context, name, found).await?;
                }
            }
            None if here => {}
            None => {
                let who = Names::read(context)?.of(publisher);
                return Err(Failure::refused(format!("{who} gave up the entry that listed {called}"))
                    .hint("`softservice show` lists the versions that stand"));
            }
        }
        if here { Ok(()) } else { freshness::refuse_new(context, publisher, called, wish) }
    }
}
