//! How people name a release: `publisher/distro[:channel][@version]`, the same without a publisher, or the beginning of its
//! id.
//! Invariant: a reference means one release or is refused with what it may have meant; nothing is looked up anywhere
//! but in the catalogues that were handed in.

use crate::{
    feed::{Listing, Snapshot},
    id::{PublisherId, ReleaseId},
    name::{self, NameError},
    text::Foreign,
};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Hex digits that name a release: fewer are too easily somebody else's.
pub const PREFIX_DIGITS: usize = 8;

/// A publisher as people write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Publisher {
    /// Its id.
    Id(PublisherId),
    /// The local petname given at subscription.
    Petname(String),
}

/// What a person typed for a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A distro by name.
    Distro {
        /// Whose; none = whoever has one.
        publisher: Option<Publisher>,
        /// Its name.
        distro: String,
        /// On which channel; none = `stable`, or any while nothing of the distro was ever stable.
        channel: Option<String>,
        /// Which; none = the newest that is not revoked.
        version: Option<Wanted>,
    },
    /// At least [`PREFIX_DIGITS`] hex digits at the beginning of a release's id. Up to 63 digits may also be a
    /// distro's name; a catalogue that knows both makes it ambiguous.
    Id(String),
}

/// A version as people write it: `1.4.0`, or `1.4.0~2` for its second packaging revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The semantic version.
    pub version: String,
    /// The packaging revision; none = the newest.
    pub revision: Option<u32>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing stands there.
    #[error("reference is empty: write `distro`, `publisher/distro@version` or a release id")]
    Empty,
    /// The distro's part is not a name.
    #[error("distro's {0}")]
    Distro(NameError),
    /// The part after `:` is not a name.
    #[error("channel's {0}")]
    Channel(NameError),
    /// The part before `/` is neither an id nor a petname.
    #[error("publisher {:?} is neither an id (64 hex digits) nor a petname", Foreign(.found))]
    Publisher {
        /// What stood there, cut to 80 characters.
        found: String,
    },
    /// The part after `@` is no version.
    #[error("version {:?} is not semantic: write it like 1.4.0, or 1.4.0~2 for a packaging revision", Foreign(.found))]
    Version {
        /// What stood there, cut to 80 characters.
        found: String,
    },
}

/// Why a reference means no single release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing like it.
    #[error("no subscription has {reference}{}", hint(.similar))]
    NotFound {
        /// What was asked for.
        reference: Box<Reference>,
        /// Names and versions that it may have meant, at most 5.
        similar: Vec<String>,
    },
    /// Several fit.
    #[error("{reference} may be {}: name one of them", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        reference: Box<Reference>,
        /// What fits, each as a reference that means only it; at most 8.
        candidates: Vec<String>,
    },
    /// All that fit are revoked, and none was named exactly.
    #[error("every version of {reference} is revoked; the newest was {newest}")]
    Revoked {
        /// What was asked for.
        reference: Box<Reference>,
        /// The newest, as a reference that means it all the same.
        newest: String,
    },
}

fn hint(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; similar: {}", similar.join(", ")) }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Publisher {
    type Err = ReferenceError;
    /// 64 hex digits are an id; anything else of 1 to 63 bytes without `/`, `@`, space and hidden characters is a petname.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Ok(id) = text.to_ascii_lowercase().parse() {
            return Ok(Self::Id(id));
        }
        let odd = |c: char| c == '/' || c == '@' || c.is_whitespace() || crate::text::is_hidden(c);
        if text.is_empty() || text.len() > crate::limits::NAME_BYTES || text.chars().any(odd) {
            return Err(ReferenceError::Publisher { found: cut(text) });
        }
        Ok(Self::Petname(text.into()))
    }
}
impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Petname(name) => f.write_str(name),
        }
    }
}

impl Wanted {
    fn is(&self, listing: &Listing) -> bool {
        listing.version == self.version && self.revision.is_none_or(|r| listing.revision == r)
    }
}
impl FromStr for Wanted {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = || ReferenceError::Version { found: cut(text) };
        let (version, revision) = match text.split_once('~') {
            Some((version, revision)) => (version, Some(revision.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        // Kept as written: versions are compared by their text where they must be equal.
        semver::Version::parse(version).map_err(|_| bad())?;
        Ok(Self { version: version.into(), revision })
    }
}
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)?;
        self.revision.map_or(Ok(()), |revision| write!(f, "~{revision}"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if (PREFIX_DIGITS..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Id(text.to_ascii_lowercase()));
        }
        let (publisher, rest) = match text.split_once('/') {
            Some((publisher, rest)) => (Some(publisher.parse()?), rest),
            None => (None, text),
        };
        let (distro, version) = match rest.split_once('@') {
            Some((distro, version)) => (distro, Some(version.parse()?)),
            None => (rest, None),
        };
        let (distro, channel) = match distro.split_once(':') {
            Some((distro, channel)) => (distro, Some(channel.to_owned())),
            None => (distro, None),
        };
        name::check(distro).map_err(ReferenceError::Distro)?;
        channel.as_deref().map_or(Ok(()), name::check).map_err(ReferenceError::Channel)?;
        Ok(Self::Distro { publisher, distro: distro.into(), channel, version })
    }
}
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(prefix) => f.write_str(prefix),
            Self::Distro { publisher, distro, channel, version } => {
                if let Some(publisher) = publisher {
                    write!(f, "{publisher}/")?;
                }
                f.write_str(distro)?;
                channel.as_ref().map_or(Ok(()), |channel| write!(f, ":{channel}"))?;
                version.as_ref().map_or(Ok(()), |version| write!(f, "@{version}"))
            }
        }
    }
}

/// A catalogue to look in: the publisher, its petname here, its releases.
pub type Shelf<'a> = (PublisherId, Option<&'a str>, &'a Snapshot);

/// The reference that means this listing and nothing else.
pub fn label((publisher, petname, snapshot): Shelf<'_>, listing: &Listing) -> String {
    let publisher = petname.map_or_else(|| publisher.to_string(), |p| Foreign(p).to_string());
    let unnamed = snapshot.offered(&listing.distro, None).any(|l| l.release == listing.release);
    let channel = (!unnamed).then_some(listing.channel.as_str());
    let place = channel.map_or_else(String::new, |channel| format!(":{}", Foreign(channel)));
    let label = format!("{publisher}/{}{place}@{}", Foreign(&listing.distro), Foreign(&listing.version));
    let mut same = snapshot.offered(&listing.distro, channel).filter(|l| l.version == listing.version);
    if same.all(|l| l.revision == listing.revision) { label } else { format!("{label}~{}", listing.revision) }
}

/// Finds the one release that is meant: of a distro the newest by version, then packaging revision, of those that are
/// [offered](Snapshot::offered). Revoked releases are passed over unless version or id name them exactly; whoever
/// installs looks at [`Listing::revoked`].
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve(reference: &Reference, shelves: &[Shelf<'_>]) -> Result<(PublisherId, Listing), ResolveError> {
    let found: Vec<(Shelf<'_>, &Listing)> = match reference {
        Reference::Id(prefix) => by_id(prefix, shelves),
        Reference::Distro { publisher, distro, channel, version } => shelves
            .iter()
            .filter(|shelf| publisher.as_ref().is_none_or(|p| is_of(**shelf, p)))
            .filter_map(|shelf| Some((*shelf, pick(shelf.2, distro, channel.as_deref(), version.as_ref())?)))
            .collect(),
    };
    let exact = !matches!(reference, Reference::Distro { version: None, .. });
    let standing: Vec<_> = found.iter().filter(|(_, l)| exact || l.revoked.is_none()).collect();
    match standing.as_slice() {
        [] => Err(match found.first() {
            Some((shelf, newest)) => {
                ResolveError::Revoked { reference: Box::new(reference.clone()), newest: label(*shelf, newest) }
            }
            None => {
                ResolveError::NotFound { reference: Box::new(reference.clone()), similar: similar(reference, shelves) }
            }
        }),
        // The same bytes on two shelves are one release.
        [(shelf, first), rest @ ..] if rest.iter().all(|(_, l)| l.release == first.release) => {
            Ok((shelf.0, (*first).clone()))
        }
        several => Err(ResolveError::Ambiguous {
            reference: Box::new(reference.clone()),
            candidates: several.iter().take(8).map(|(shelf, l)| label(*shelf, l)).collect(),
        }),
    }
}

fn is_of(shelf: Shelf<'_>, publisher: &Publisher) -> bool {
    match publisher {
        Publisher::Id(id) => shelf.0 == *id,
        Publisher::Petname(petname) => shelf.1 == Some(petname),
    }
}

fn by_id<'a>(prefix: &str, shelves: &[Shelf<'a>]) -> Vec<(Shelf<'a>, &'a Listing)> {
    let begins = |id: ReleaseId| id.to_string().starts_with(prefix);
    let ids = shelves.iter().flat_map(|s| s.2.listings.iter().filter(|l| begins(l.release)).map(|l| (*s, l)));
    let names = shelves.iter().filter_map(|s| Some((*s, pick(s.2, prefix, None, None)?)));
    ids.chain(names).collect()
}

/// The best listing of a distro; a revoked one only when no other fits. Another channel's never takes the place of what was
/// revoked or is not there: a delegated key would choose what its channel does not reach.
fn pick<'a>(
    snapshot: &'a Snapshot,
    distro: &str,
    channel: Option<&str>,
    wanted: Option<&Wanted>,
) -> Option<&'a Listing> {
    let fits = snapshot.offered(distro, channel).filter(|l| wanted.is_none_or(|w| w.is(l)));
    fits.max_by_key(|l| (l.revoked.is_none(), semver::Version::parse(&l.version).ok(), l.revision))
}

/// Names close to the one asked for; versions, when only the version is unknown.
fn similar(reference: &Reference, shelves: &[Shelf<'_>]) -> Vec<String> {
    let Reference::Distro { distro: wanted, version, .. } = reference else { return Vec::new() };
    let mut near = BTreeSet::new();
    for shelf in shelves {
        let names: BTreeSet<&str> = shelf.2.listings.iter().map(|l| l.distro.as_str()).collect();
        for name in names {
            let distance = distance(wanted, name);
            let part = wanted.len() >= 3 && (name.contains(wanted.as_str()) || wanted.contains(name));
            if distance > 1 + wanted.len() / 4 && !part {
                continue;
            }
            if let Some(version) = version.as_ref().filter(|_| name == wanted) {
                let elsewhere = shelf.2.listings.iter().filter(|l| l.distro == name && version.is(l));
                near.extend(elsewhere.map(|l| (distance, label(*shelf, l))));
            }
            match pick(shelf.2, name, None, None) {
                Some(listing) if version.is_some() => near.insert((distance, label(*shelf, listing))),
                Some(_) => {
                    let publisher = shelf.1.map_or_else(|| shelf.0.to_string(), |p| Foreign(p).to_string());
                    near.insert((distance, format!("{publisher}/{}", Foreign(name))))
                }
                None => false,
            };
        }
    }
    near.into_iter().take(5).map(|(_, text)| text).collect()
}

/// Insertions, deletions and replacements between two names.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(x != *y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
