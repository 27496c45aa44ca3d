//! What people call things: publishers and releases by id, petname, name or prefix. Invariant: a text that could mean
//! two things is refused with both named, never guessed.

use super::{failure::Failure, subscriptions};
use crate::{
    context::Context,
    handle::{Catalogue, CommandError},
};
use serde_json::{Value, json};
use softservice_protocol::{
    definition::units::count,
    feed::Listing,
    id::PublisherId,
    io::Asked,
    reference::{self, Reference, ReferenceError, ResolveError, Shelf},
    release::ReleaseRef,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Fewer who tell what is newest, or all of them in fewer parts of the network, may be one liar's.
const ENOUGH_PEERS: u32 = 3;
const ENOUGH_GROUPS: u32 = 2;

/// How this home's own publisher is called; no petname may be this.
pub(super) const SELF: &str = "self";

/// A release that somebody known has published.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Whose it is.
    pub(super) publisher: PublisherId,
    /// What it is.
    pub(super) listing: Listing,
}

impl Found {
    /// Its distro and version.
    pub(super) fn called(&self) -> String {
        format!("{} {}", self.listing.distro, self.listing.version)
    }
    /// What a fetch needs.
    pub(super) fn release(&self) -> ReleaseRef {
        ReleaseRef { id: self.listing.release, size: self.listing.size }
    }
}

/// Names of publishers, for both directions.
#[derive(Debug, Clone)]
pub(super) struct Names {
    own: Option<PublisherId>,
    petnames: Vec<(PublisherId, String)>,
}

impl Names {
    /// As they are now.
    ///
    /// # Errors
    /// When the list of subscriptions cannot be read.
    pub(super) fn read(context: &Context) -> Result<Self, Failure> {
        let all = subscriptions::read(&context.home)?;
        Ok(Self {
            own: context.keys.publisher(),
            petnames: all.into_iter().map(|s| (s.publisher, s.petname)).collect(),
        })
    }
    /// What this publisher is called here.
    pub(super) fn of(&self, publisher: PublisherId) -> String {
        let petname = self.petnames.iter().find(|(id, _)| *id == publisher).map(|(_, name)| name.clone());
        petname.unwrap_or_else(|| if self.own == Some(publisher) { SELF.into() } else { publisher.short() })
    }
    #[cfg(test)]
    pub(super) fn of_these(own: Option<PublisherId>, petnames: Vec<(PublisherId, String)>) -> Self {
        Self { own, petnames }
    }
    /// Every petname.
    pub(super) fn petnames(&self) -> impl Iterator<Item = (PublisherId, &str)> {
        self.petnames.iter().map(|(id, name)| (*id, name.as_str()))
    }
    /// Who is called this: a petname, `self`, or an id.
    ///
    /// # Errors
    /// When nobody is.
    pub(super) fn publisher(&self, name: &str) -> Result<PublisherId, Failure> {
        if let Some((id, _)) = self.petnames.iter().find(|(_, petname)| petname == name) {
            return Ok(*id);
        }
        match (name, self.own) {
            (SELF, Some(own)) => return Ok(own),
            (SELF, None) => {
                return Err(Failure::not_found("this home publishes nothing yet").hint("`softservice publish` begins"));
            }
            _ => {}
        }
        name.parse().map_err(|_| {
            let known: Vec<&str> = self.petnames.iter().map(|(_, petname)| petname.as_str()).collect();
            let hint = if known.is_empty() {
                "`softservice subscribe TICKET` follows a publisher".into()
            } else {
                format!("known publishers: {}", known.join(", "))
            };
            Failure::not_found(format!("no publisher is called {name:?} here")).hint(hint)
        })
    }
}

/// The release that `text` means, see the contract's REF.
///
/// # Errors
/// When it is none, or more than one.
pub(super) async fn find(context: &Context, text: &str) -> Result<Found, Failure> {
    refresh(context).await?;
    find_in(&context.handle.catalogue(), &Names::read(context)?, text)
}

pub(super) fn find_in(catalogue: &Catalogue, names: &Names, text: &str) -> Result<Found, Failure> {
    let reference: Reference = text.parse().map_err(|e: ReferenceError| Failure::usage(e.to_string()))?;
    resolve(catalogue, names, &reference)
}

/// How many peers were asked last what is newest of each publisher, while this node has run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looks(Arc<Mutex<BTreeMap<PublisherId, Asked>>>);

impl Looks {
    fn last(&self, publisher: PublisherId) -> Option<Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&publisher).copied()
    }
    fn note(&self, publisher: PublisherId, asked: Asked) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(publisher, asked);
    }
}

/// Adds who was asked what is newest; nobody is asked of what this home itself publishes.
pub(super) fn add_asked(answer: &mut Value, context: &Context, publisher: PublisherId) {
    let asked = context.looks.last(publisher).filter(|_| context.keys.publisher() != Some(publisher));
    answer["asked"] = json!(asked.map(|a| json!({ "peers": a.peers, "groups": a.groups, "answered": a.answered })));
}

/// One line where so few told what is newest, or all from one place, that they could agree to keep news back.
pub(super) fn few(context: &Context, publisher: PublisherId, who: &str) -> Option<String> {
    let asked = context.looks.last(publisher).filter(|_| context.keys.publisher() != Some(publisher))?;
    too_few(asked).then(|| {
        let told = count(asked.answered.into(), "peer");
        let parts = count(asked.groups.into(), "part");
        format!("{told} in {parts} of the network told what is newest of {who}; so few could keep news back")
    })
}

fn too_few(asked: Asked) -> bool {
    asked.answered < ENOUGH_PEERS || asked.groups < ENOUGH_GROUPS
}

/// Asks connected peers what is newest of every known publisher, so that no verb answers from yesterday's catalogue.
/// Gossip alone was refused for this: it may still be on its way when somebody who was told of a release types.
///
/// # Errors
/// Only when the node stops.
pub(super) async fn refresh(context: &Context) -> Result<(), Failure> {
    let publishers: Vec<PublisherId> = context.handle.catalogue().into_keys().collect();
    let each = publishers.into_iter().map(async |publisher| {
        context.looks.note(publisher, context.handle.refresh(publisher).await?);
        Ok::<_, CommandError>(())
    });
    futures::future::try_join_all(each).await?;
    Ok(())
}

/// The release that a reference means.
///
/// # Errors
/// When it is none, more than one, or revoked.
pub(super) fn resolve(catalogue: &Catalogue, names: &Names, reference: &Reference) -> Result<Found, Failure> {
    let called: Vec<(PublisherId, String)> = catalogue.keys().map(|id| (*id, names.of(*id))).collect();
    let shelves: Vec<Shelf<'_>> = catalogue
        .iter()
        .zip(&called)
        .map(|((id, known), (_, name))| (*id, Some(name.as_str()), &known.feed.snapshot))
        .collect();
    match reference::resolve(reference, &shelves) {
        Ok((publisher, listing)) => Ok(Found { publisher, listing }),
        Err(error) => {
            let message = error.to_string();
            Err(match error {
                ResolveError::NotFound { .. } if catalogue.is_empty() => {
                    Failure::not_found(message).hint("nobody is followed yet: `softservice subscribe TICKET`")
                }
                ResolveError::NotFound { .. } => {
                    Failure::not_found(message).hint("`softservice search` lists what there is")
                }
                ResolveError::Ambiguous { .. } => Failure::usage(message),
                ResolveError::Revoked { .. } => Failure::refused(message)
                    .hint("its publisher took it back; `softservice show` with the version says why"),
            })
        }
    }
}

/// The newest release of a distro of this publisher that is not revoked, on the channel that is named, else on those that
/// are meant where none is.
pub(super) fn newest(
    catalogue: &Catalogue,
    publisher: PublisherId,
    distro: &str,
    channel: Option<&str>,
) -> Option<Listing> {
    let known = catalogue.get(&publisher)?;
    let channel = channel.map(str::to_owned);
    let wanted = Reference::Distro { publisher: None, distro: distro.into(), channel, version: None };
    reference::resolve(&wanted, &[(publisher, None, &known.feed.snapshot)]).ok().map(|(_, listing)| listing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Known;
    use crate::verbs::failure::Kind;
    use softservice_protocol::{
        feed::{FeedState, Snapshot},
        id::{Digest, ReleaseId},
    };

    fn listing(distro: &str, version: &str, id: u8) -> Listing {
        Listing {
            distro: distro.into(),
            version: version.into(),
            revision: 0,
            channel: "stable".into(),
            release: ReleaseId([id; 32]),
            size: 1,
            summary: String::new(),
            parents: Vec::new(),
            revoked: None,
        }
    }
    fn known(listings: Vec<Listing>) -> Known {
        Known {
            root_version: 1,
            root_digest: Digest::ZERO,
            feed: FeedState { snapshot: Snapshot { listings, ..Snapshot::default() }, ..FeedState::default() }.into(),
            term: None,
            own: false,
            signed: true,
            behind: None,
            needs: None,
            frozen: false,
            difference: None,
            unstated: false,
            promised: None,
            addresses: Vec::new(),
        }
    }
    fn world() -> (Catalogue, Names) {
        let (alice, bob) = (PublisherId([1; 32]), PublisherId([2; 32]));
        let mut catalogue = Catalogue::new();
        catalogue.insert(
            alice,
            known(vec![
                listing("shelf", "1.9.0", 0xa1),
                listing("shelf", "1.10.0", 0xa2),
                listing("book", "1.0.0", 0xa3),
            ]),
        );
        catalogue.insert(bob, known(vec![listing("shelf", "3.0.0", 0xb1)]));
        (catalogue, Names { own: Some(bob), petnames: vec![(alice, "alice".into())] })
    }

    #[test]
    fn three_in_two_parts_of_the_network_are_enough_to_believe_that_nothing_is_newer() {
        let asked = |answered, groups| too_few(Asked { peers: 8, groups, answered });
        assert!(asked(0, 0) && asked(2, 2) && asked(8, 1));
        assert!(!asked(3, 2) && !asked(8, 8));
    }

    #[test]
    fn newest_is_by_number_not_by_letters() {
        let (catalogue, names) = world();
        assert_eq!(find_in(&catalogue, &names, "alice/shelf").unwrap().listing.version, "1.10.0");
        assert_eq!(find_in(&catalogue, &names, "alice/shelf@1.9.0").unwrap().listing.release, ReleaseId([0xa1; 32]));
        assert_eq!(find_in(&catalogue, &names, "self/shelf").unwrap().listing.version, "3.0.0");
        assert_eq!(find_in(&catalogue, &names, "book").unwrap().listing.version, "1.0.0");
    }

    #[test]
    fn what_could_mean_two_things_is_refused_with_both() {
        let (catalogue, names) = world();
        let failure = find_in(&catalogue, &names, "shelf").unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.message.contains("alice/shelf") && failure.message.contains("self/shelf"), "{failure}");
    }

    #[test]
    fn ids_may_be_cut_to_eight_digits() {
        let (catalogue, names) = world();
        assert_eq!(find_in(&catalogue, &names, "a3a3a3a3").unwrap().listing.distro, "book");
        assert_eq!(find_in(&catalogue, &names, "a3a3a3a").unwrap_err().kind, Kind::NotFound);
        assert_eq!(find_in(&catalogue, &names, "alice/book@newest").unwrap_err().kind, Kind::Usage);
        assert_eq!(find_in(&catalogue, &names, "carol/book").unwrap_err().kind, Kind::NotFound);
        assert_eq!(find_in(&catalogue, &names, "alice/book@9.9.9").unwrap_err().kind, Kind::NotFound);
        assert_eq!(find_in(&catalogue, &names, "alice/").unwrap_err().kind, Kind::Usage);
    }
}
