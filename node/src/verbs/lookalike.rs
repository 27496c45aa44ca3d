//! Names that eyes take for each other. Invariant: a followed publisher, or a distro of it, whose name looks like
//! another publisher's here is told with both names and both publishers' key words; nothing is refused for its looks.

use super::{failure::Failure, freshness, reference::Names, subscriptions};
use crate::{api::talk::Talk, context::Context, handle::Catalogue};
use serde_json::{Value, json};
use softservice_protocol::{id::PublisherId, name::skeleton, words};
use std::collections::{BTreeMap, BTreeSet};

/// Distros of one publisher that are told of: whoever has more of them means to bury something.
const TOLD: usize = 8;

/// What looks like something of somebody else: this publisher's petname, and its distros, or the one that is asked for.
/// An equal name is no deception: improvements keep their distro's name, and a petname means one publisher.
pub(super) fn of(catalogue: &Catalogue, names: &Names, publisher: PublisherId, distro: Option<&str>) -> Vec<String> {
    let mut told = Vec::new();
    let petname = names.of(publisher);
    for (other, theirs) in names.petnames() {
        if other != publisher && theirs != petname && skeleton(theirs) == skeleton(&petname) {
            told.push(told_of("publisher", (publisher, &petname), (other, theirs)));
        }
    }
    let of = |id: &PublisherId| -> BTreeSet<&str> {
        let listings = catalogue.get(id).map(|known| known.feed.snapshot.listings.as_slice());
        listings.unwrap_or_default().iter().map(|l| l.distro.as_str()).collect()
    };
    let mut looks: BTreeMap<String, Vec<(PublisherId, &str)>> = BTreeMap::new();
    for other in catalogue.keys().filter(|id| **id != publisher) {
        for theirs in of(other) {
            looks.entry(skeleton(theirs)).or_default().push((*other, theirs));
        }
    }
    let ours = of(&publisher).into_iter().filter(|ours| distro.is_none_or(|wanted| wanted == *ours));
    let alike = ours.flat_map(|ours| {
        let alike = looks.get(&skeleton(ours)).into_iter().flatten();
        alike.filter(move |(_, theirs)| *theirs != ours).map(move |(other, theirs)| (ours, *other, *theirs))
    });
    for (ours, other, theirs) in alike.take(TOLD) {
        let (ours, theirs) = (format!("{petname}/{ours}"), format!("{}/{theirs}", names.of(other)));
        told.push(told_of("distro", (publisher, &ours), (other, &theirs)));
    }
    told
}

/// Adds `warnings` to rows that name their `publisher`: of names, and of a ticket that nobody made true.
///
/// # Errors
/// When the list of subscriptions cannot be read.
pub(super) fn describe(context: &Context, rows: &mut [Value]) -> Result<(), Failure> {
    let (catalogue, names) = (context.handle.catalogue(), Names::read(context)?);
    for row in rows {
        let publisher = row["publisher"].as_str().and_then(|id| id.parse().ok());
        let mut told = publisher.map(|id| of(&catalogue, &names, id, None)).unwrap_or_default();
        told.extend(publisher.and_then(|id| freshness::promised(catalogue.get(&id)?, &names.of(id))));
        let conflict = match publisher.and_then(|id| Some((id, catalogue.get(&id)?))) {
            Some((id, known)) => subscriptions::told(&context.home, id, known)?.map(|c| (id, c)),
            None => None,
        };
        told.extend(conflict.map(|(id, conflict)| freshness::two_histories(&conflict, &names.of(id))));
        row["warnings"] = json!(told);
    }
    Ok(())
}

fn told_of(what: &str, one: (PublisherId, &str), other: (PublisherId, &str)) -> String {
    let said = |(id, name): (PublisherId, &str)| format!("{name:?} of {}", words::of(id));
    format!("the {what} {} looks like {}: is it the one that is meant?", said(one), said(other))
}

/// Tells whoever is about to plan or install something of it.
///
/// # Errors
/// When the list of subscriptions cannot be read.
pub(super) async fn warn(context: &Context, publisher: PublisherId, distro: &str, talk: &Talk) -> Result<(), Failure> {
    for told in of(&context.handle.catalogue(), &Names::read(context)?, publisher, Some(distro)) {
        talk.note(format!("warning: {told}")).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Known;
    use softservice_protocol::{
        feed::{FeedState, Listing, Snapshot},
        id::{Digest, ReleaseId},
    };

    fn known(distros: &[&str]) -> Known {
        let listing = |distro: &&str| Listing {
            distro: (*distro).into(),
            version: "1.0.0".into(),
            revision: 0,
            channel: "stable".into(),
            release: ReleaseId([1; 32]),
            size: 1,
            summary: String::new(),
            parents: Vec::new(),
            revoked: None,
        };
        let snapshot = Snapshot { listings: distros.iter().map(listing).collect(), ..Snapshot::default() };
        Known {
            root_version: 1,
            root_digest: Digest::ZERO,
            feed: FeedState { snapshot, ..FeedState::default() }.into(),
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

    #[test]
    fn what_looks_like_somebody_elses_is_told_with_both_names_and_key_words() {
        let (alice, mallory, own) = (PublisherId([1; 32]), PublisherId([2; 32]), PublisherId([3; 32]));
        let names = Names::of_these(Some(own), vec![(alice, "alice".into()), (mallory, "a1ice".into())]);
        let catalogue = Catalogue::from([
            (alice, known(&["mail", "wiki"])),
            (mallory, known(&["rnail", "wiki", "w1ki", "b00k"])),
            (own, known(&["book"])),
        ]);
        let told = of(&catalogue, &names, mallory, None);
        let has = |parts: &[&str]| told.iter().any(|t| parts.iter().all(|p| t.contains(p)));
        let words = [words::of(alice), words::of(mallory), words::of(own)];
        assert!(has(&["\"a1ice\"", "\"alice\"", &words[0], &words[1]]), "{told:#?}");
        assert!(has(&["\"a1ice/rnail\"", "\"alice/mail\"", &words[0], &words[1]]), "{told:#?}");
        assert!(has(&["\"a1ice/b00k\"", "\"self/book\"", &words[2]]), "{told:#?}");
        assert_eq!(told.len(), 3, "an equal name, and one that only resembles, are no deception: {told:#?}");
        assert_eq!(
            of(&catalogue, &names, mallory, Some("rnail")).len(),
            2,
            "the publisher, and the one that is asked for"
        );
        assert!(of(&catalogue, &names, mallory, Some("wiki")).iter().all(|t| t.contains("publisher")));
        let many: Vec<String> = (0..40).map(|n| format!("m0re-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let originals: Vec<String> = many.iter().map(|m| m.replacen('0', "o", 1)).collect();
        let originals: Vec<&str> = originals.iter().map(String::as_str).collect();
        let catalogue = Catalogue::from([(alice, known(&originals)), (mallory, known(&many))]);
        let names = Names::of_these(None, Vec::new());
        assert_eq!(of(&catalogue, &names, mallory, None).len(), TOLD);
    }
}
