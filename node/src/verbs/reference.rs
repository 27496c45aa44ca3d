//! What people call things: publishers and releases by id, petname, name or prefix. Invariant: a text that could mean
//! two things is refused with both named, never guessed.

use super::{failure::Failure, subscriptions};
use crate::{context::Context, handle::Catalogue};
use semver::Version;
use softservice_protocol::{
    feed::Listing,
    id::{PublisherId, ReleaseId},
    release::ReleaseRef,
};

/// How this home's own publisher is called; no petname may be this.
pub const SELF: &str = "self";
/// Fewest digits of a release id that are looked up.
const PREFIX_DIGITS: usize = 8;

/// A release that somebody known has published.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whose it is.
    pub publisher: PublisherId,
    /// What it is.
    pub listing: Listing,
}

impl Found {
    /// What a fetch needs.
    pub fn release(&self) -> ReleaseRef {
        ReleaseRef { id: self.listing.release, size: self.listing.size }
    }
}

/// Names of publishers, for both directions.
#[derive(Debug, Clone)]
pub struct Names {
    own: Option<PublisherId>,
    petnames: Vec<(PublisherId, String)>,
}

impl Names {
    /// As they are now.
    ///
    /// # Errors
    /// When the list of subscriptions cannot be read.
    pub fn read(context: &Context) -> Result<Self, Failure> {
        let all = subscriptions::read(&context.home)?;
        Ok(Self {
            own: context.keys.publisher(),
            petnames: all.into_iter().map(|s| (s.publisher, s.petname)).collect(),
        })
    }
    /// What this publisher is called here.
    pub fn of(&self, publisher: PublisherId) -> String {
        let petname = self.petnames.iter().find(|(id, _)| *id == publisher).map(|(_, name)| name.clone());
        petname.unwrap_or_else(|| if self.own == Some(publisher) { SELF.into() } else { publisher.short() })
    }
    /// Who is called this: a petname, `self`, or an id.
    ///
    /// # Errors
    /// When nobody is.
    pub fn publisher(&self, name: &str) -> Result<PublisherId, Failure> {
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
pub fn find(context: &Context, text: &str) -> Result<Found, Failure> {
    find_in(&context.handle.catalogue(), &Names::read(context)?, text)
}

fn find_in(catalogue: &Catalogue, names: &Names, text: &str) -> Result<Found, Failure> {
    if let Some(found) = by_id(catalogue, names, text)? {
        return Ok(found);
    }
    let (path, version) = match text.split_once('@') {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    let (publisher, distro) = match path.split_once('/') {
        Some((publisher, distro)) => (Some(names.publisher(publisher)?), distro),
        None => (None, path),
    };
    if distro.is_empty() {
        return Err(Failure::usage(format!("{text:?} names no distro")).hint("write publisher/distro[@version]"));
    }
    let holders: Vec<PublisherId> = catalogue
        .iter()
        .filter(|(id, _)| publisher.is_none_or(|wanted| wanted == **id))
        .filter(|(_, known)| known.feed.snapshot.listings.iter().any(|l| l.distro == distro))
        .map(|(id, _)| *id)
        .collect();
    match holders.as_slice() {
        [] => Err(Failure::not_found(format!("no known publisher has a distro {distro:?}"))
            .hint("`softservice search` lists what there is")),
        [one] => choose(catalogue, *one, distro, version),
        many => {
            let choices: Vec<String> = many.iter().map(|id| format!("{}/{distro}", names.of(*id))).collect();
            Err(Failure::usage(format!("{} publishers have a distro {distro:?}", many.len()))
                .hint(format!("say which: {}", choices.join(" or "))))
        }
    }
}

fn by_id(catalogue: &Catalogue, names: &Names, text: &str) -> Result<Option<Found>, Failure> {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if text.len() < PREFIX_DIGITS || text.len() > 64 || !text.chars().all(hex) {
        return Ok(None);
    }
    let mut found: Vec<Found> = Vec::new();
    for (publisher, known) in catalogue {
        let hits = known.feed.snapshot.listings.iter().filter(|l| l.release.to_string().starts_with(text));
        for listing in hits {
            // Two publishers may list one release; that is still one release.
            if found.iter().all(|f| f.listing.release != listing.release) {
                found.push(Found { publisher: *publisher, listing: listing.clone() });
            }
        }
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        n => {
            let all: Vec<String> = found
                .iter()
                .map(|f| format!("{} ({}/{} {})", short(f.listing.release), names.of(f.publisher), f.listing.distro, f.listing.version))
                .collect();
            Err(Failure::usage(format!("{n} releases begin with {text}")).hint(all.join(", ")))
        }
    }
}

fn short(release: ReleaseId) -> String {
    release.to_string().chars().take(16).collect()
}

fn choose(catalogue: &Catalogue, publisher: PublisherId, distro: &str, version: Option<&str>) -> Result<Found, Failure> {
    let listings = catalogue.get(&publisher).map(|k| k.feed.snapshot.listings.as_slice()).unwrap_or_default();
    let of_distro = listings.iter().filter(|l| l.distro == distro);
    let chosen = match version {
        Some(version) => of_distro.filter(|l| l.version == version).max_by_key(|l| l.revision),
        None => newest(of_distro),
    };
    match chosen {
        Some(listing) => Ok(Found { publisher, listing: listing.clone() }),
        None => {
            let have: Vec<&str> =
                listings.iter().filter(|l| l.distro == distro).map(|l| l.version.as_str()).collect();
            let what = version.map_or_else(|| "release that is not revoked".into(), |v| format!("version {v}"));
            Err(Failure::not_found(format!("{distro} has no {what}")).hint(format!("published: {}", have.join(", "))))
        }
    }
}

/// The newest listing that is not revoked: of channel `stable` when there is one there, else of any channel.
pub fn newest<'a>(listings: impl Iterator<Item = &'a Listing>) -> Option<&'a Listing> {
    let order = |l: &Listing| (l.channel == "stable", Version::parse(&l.version).ok(), l.revision);
    listings.filter(|l| l.revoked.is_none()).max_by_key(|l| order(l))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Known;
    use crate::verbs::failure::Kind;
    use softservice_protocol::{
        feed::{FeedState, Freshness, Head, Snapshot},
        id::Digest,
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
            feed: FeedState { head: Head::START, snapshot: Snapshot { listings } },
            freshness: Freshness::Fresh,
            frozen: false,
            addresses: Vec::new(),
        }
    }
    fn world() -> (Catalogue, Names) {
        let (alice, bob) = (PublisherId([1; 32]), PublisherId([2; 32]));
        let mut catalogue = Catalogue::new();
        catalogue.insert(alice, known(vec![listing("shelf", "1.9.0", 0xa1), listing("shelf", "1.10.0", 0xa2), listing("book", "1.0.0", 0xa3)]));
        catalogue.insert(bob, known(vec![listing("shelf", "3.0.0", 0xb1)]));
        (catalogue, Names { own: Some(bob), petnames: vec![(alice, "alice".into())] })
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
        let hint = failure.hint.unwrap();
        assert!(hint.contains("alice/shelf") && hint.contains("self/shelf"), "{hint}");
    }

    #[test]
    fn ids_may_be_cut_to_eight_digits() {
        let (catalogue, names) = world();
        assert_eq!(find_in(&catalogue, &names, "a3a3a3a3").unwrap().listing.distro, "book");
        assert_eq!(find_in(&catalogue, &names, "a3a3a3a").unwrap_err().kind, Kind::NotFound);
        assert_eq!(find_in(&catalogue, &names, "carol/book").unwrap_err().kind, Kind::NotFound);
        assert_eq!(find_in(&catalogue, &names, "alice/book@9.9.9").unwrap_err().kind, Kind::NotFound);
        assert_eq!(find_in(&catalogue, &names, "alice/").unwrap_err().kind, Kind::Usage);
    }
}
