//! Bob follows Anna and a stranger, and names what he wants.

use super::*;
use crate::feed::{Revocation, RevokeLevel};
use proptest::prelude::*;

fn listing(distro: &str, version: &str, revision: u32, id: u8) -> Listing {
    Listing {
        distro: distro.into(),
        version: version.into(),
        revision,
        channel: "stable".into(),
        release: ReleaseId([id; 32]),
        size: 100,
        summary: String::new(),
        parents: vec![],
        revoked: None,
    }
}

fn revoked(level: RevokeLevel) -> Revocation {
    Revocation { level, replaced_by: None, reason: "leaks".into() }
}

const ANNA: PublisherId = PublisherId([0xaa; 32]);
const STRANGER: PublisherId = PublisherId([0xbb; 32]);

fn anna() -> Snapshot {
    let beta = Listing { channel: "beta".into(), ..listing("guestbook", "3.0.0", 0, 4) };
    let bad = Listing { revoked: Some(revoked(RevokeLevel::Unsafe)), ..listing("guestbook", "2.1.0", 0, 5) };
    let gone = Listing { revoked: Some(revoked(RevokeLevel::Withdraw)), ..listing("gone", "1.0.0", 0, 6) };
    let listings = vec![
        listing("guestbook", "10.0.0-rc.1", 0, 1),
        listing("guestbook", "2.0.0", 0, 2),
        listing("guestbook", "2.0.0", 1, 3),
        beta,
        bad,
        gone,
        listing("guestbook", "9.0.0", 0, 7),
        listing("guestbook", "10.0.0", 0, 8),
    ];
    Snapshot { listings, ..Snapshot::default() }
}
fn stranger() -> Snapshot {
    Snapshot {
        listings: vec![
            listing("guestbook", "1.0.0", 0, 20),
            listing("blog", "1.0.0", 0, 21),
            listing("0808080808", "1.0.0", 0, 22),
        ],
        ..Snapshot::default()
    }
}
fn ask(text: &str) -> Result<(PublisherId, u8), ResolveError> {
    let (a, s) = (anna(), stranger());
    let shelves = [(ANNA, Some("anna"), &a), (STRANGER, None, &s)];
    resolve(&text.parse().unwrap(), &shelves).map(|(p, l)| (p, l.release.0[0]))
}

#[test]
fn bob_gets_the_newest_stable_version_by_number_not_by_text() {
    assert_eq!(ask("anna/guestbook"), Ok((ANNA, 8)));
    assert_eq!(ask(&format!("{ANNA}/guestbook")), Ok((ANNA, 8)));
    assert_eq!(ask("blog"), Ok((STRANGER, 21)));
    assert_eq!(ask("anna/guestbook@2.0.0"), Ok((ANNA, 3)));
    assert_eq!(ask("guestbook@2.0.0~0"), Ok((ANNA, 2)));
    assert!(matches!(ask("guestbook@2.0.0~5"), Err(ResolveError::NotFound { .. })));
}

/// Anna's stable releases, and what a stolen key of her build machine puts beside them.
fn delegated(stable: &[(&str, u8, bool)]) -> Snapshot {
    let withdrawn = |gone: &bool| gone.then(|| revoked(RevokeLevel::Withdraw));
    let mut listings: Vec<Listing> = stable
        .iter()
        .map(|(version, id, gone)| Listing { revoked: withdrawn(gone), ..listing("hello", version, 0, *id) })
        .collect();
    let nightly = |version: &str, revision: u32, id: u8| Listing {
        channel: "nightly".into(),
        ..listing("hello", version, revision, id)
    };
    listings.extend([nightly("99.0.0", 0, 90), nightly("1.0.0", u32::MAX, 91), nightly("1.1.0", 0, 92)]);
    Snapshot { listings, ..Snapshot::default() }
}

#[test]
fn a_delegated_channel_is_not_chosen_unless_it_is_named() {
    let of = |snapshot: &Snapshot, text: &str| {
        resolve(&text.parse().unwrap(), &[(ANNA, Some("anna"), snapshot)]).map(|(_, l)| l.release.0[0])
    };
    let both = delegated(&[("1.0.0", 1, false)]);
    assert_eq!(of(&both, "hello"), Ok(1));
    assert_eq!(of(&both, "hello@1.0.0"), Ok(1), "a higher revision elsewhere is another release");
    let Err(ResolveError::NotFound { similar, .. }) = of(&both, "hello@1.1.0") else { panic!("taken") };
    assert_eq!(similar, ["anna/hello:nightly@1.1.0", "anna/hello@1.0.0"]);
    // Nothing takes the place of what was withdrawn.
    let gone = delegated(&[("1.0.0", 1, true)]);
    assert!(matches!(of(&gone, "hello"), Err(ResolveError::Revoked { .. })), "{:?}", of(&gone, "hello"));
    assert_eq!(of(&gone, "hello@1.0.0"), Ok(1));

    assert_eq!(of(&both, "anna/hello:nightly"), Ok(90));
    assert_eq!(of(&both, "hello:nightly@1.0.0"), Ok(91));
    assert_eq!(of(&both, "hello:stable"), Ok(1));
    assert_eq!(of(&both, "5a5a5a5a5a"), Ok(90), "an id is one release");
    let only = Snapshot { listings: both.listings.iter().skip(1).cloned().collect(), ..Snapshot::default() };
    assert_eq!(of(&only, "hello"), Ok(90), "nothing of it was ever stable");
    for listing in &both.listings {
        let label = label((ANNA, Some("anna"), &both), listing);
        assert_eq!(of(&both, &label), Ok(listing.release.0[0]), "{label}");
    }
}

#[test]
fn what_is_revoked_must_be_named_exactly() {
    assert_eq!(ask("guestbook@2.1.0"), Ok((ANNA, 5)));
    assert_eq!(ask("0505050505"), Ok((ANNA, 5)));
    assert_eq!(ask("gone@1.0.0"), Ok((ANNA, 6)));
    let error = ask("gone").unwrap_err();
    assert_eq!(error.to_string(), "every version of gone is revoked; the newest was anna/gone@1.0.0");
}

#[test]
fn two_publishers_of_one_name_are_told_apart() {
    let Err(ResolveError::Ambiguous { candidates, .. }) = ask("guestbook") else { panic!("not ambiguous") };
    assert_eq!(candidates, ["anna/guestbook@10.0.0".to_string(), format!("{STRANGER}/guestbook@1.0.0")]);
    for candidate in candidates {
        assert!(ask(&candidate).is_ok(), "{candidate}");
    }
    assert!(matches!(ask("0808080808"), Err(ResolveError::Ambiguous { .. })), "a name that looks like an id");
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    let Err(ResolveError::NotFound { similar, .. }) = ask("gestbook") else { panic!("found") };
    assert_eq!(similar, ["anna/guestbook".to_string(), format!("{STRANGER}/guestbook")]);
    let Err(ResolveError::NotFound { similar, .. }) = ask("blog@7.0.0") else { panic!("found") };
    assert_eq!(similar, [format!("{STRANGER}/blog@1.0.0")]);
    let Err(ResolveError::NotFound { similar, .. }) = ask("99999999") else { panic!("found") };
    assert!(similar.is_empty());
}

#[test]
fn the_same_release_on_two_shelves_is_one() {
    let (one, other) = (stranger(), stranger());
    let shelves = [(ANNA, None, &one), (STRANGER, None, &other)];
    assert_eq!(resolve(&"blog".parse().unwrap(), &shelves).map(|r| r.0), Ok(ANNA));
}

#[test]
fn what_is_no_reference_says_why() {
    let read = |text: &str| text.parse::<Reference>().unwrap_err();
    assert_eq!(read("  "), ReferenceError::Empty);
    assert!(matches!(read("anna/Guest"), ReferenceError::Distro(NameError::Character { character: 'G', .. })));
    assert!(matches!(read("anna/"), ReferenceError::Distro(NameError::Empty)));
    assert!(matches!(read("a/b/c"), ReferenceError::Distro(NameError::Character { character: '/', .. })));
    assert!(matches!(read("/b"), ReferenceError::Publisher { .. }));
    assert!(matches!(read("a\u{1b}/b"), ReferenceError::Publisher { .. }));
    assert!(matches!(read("b@1.0"), ReferenceError::Version { .. }));
    assert!(matches!(read("b@"), ReferenceError::Version { .. }));
    assert!(matches!(read("b@1.0.0~x"), ReferenceError::Version { .. }));
    assert!(matches!(read("b:"), ReferenceError::Channel(NameError::Empty)));
    assert!(matches!(read("b:Night@1.0.0"), ReferenceError::Channel(NameError::Character { character: 'N', .. })));
    assert_eq!("DEADBEEF".parse(), Ok(Reference::Id("deadbeef".into())));
    assert!(matches!("abcdef0".parse(), Ok(Reference::Distro { .. })), "seven digits are a name");
}

#[test]
fn distances() {
    assert_eq!(distance("guestbook", "guestbook"), 0);
    assert_eq!(distance("gestbook", "guestbook"), 1);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("kitten", "sitting"), 3);
}

proptest! {
    #[test]
    fn whatever_reads_prints_as_something_that_reads_the_same(text in "([a-z0-9]{1,9}/)?[a-z0-9-]{1,12}(:[a-z]{1,7})?(@[0-9]\\.[0-9]\\.[0-9](-rc)?(~[0-9])?)?") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }
    #[test]
    fn garbage_never_panics(text in "\\PC{0,60}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let (a, s) = (anna(), stranger());
            let _ = resolve(&reference, &[(ANNA, Some("anna"), &a), (STRANGER, None, &s)]);
        }
    }
}
