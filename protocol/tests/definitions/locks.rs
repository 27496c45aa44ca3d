//! `distro.lock`: what is chosen, written and read.

use crate::shelf::{changed, shelf, shown};
use softservice_protocol::{
    definition::{self, Lock},
    feed::{Listing, Revocation, RevokeLevel},
    id::{ObjectId, ReleaseId},
};

fn listing(version: &str, revision: u32, revoked: Option<RevokeLevel>) -> Listing {
    Listing {
        distro: "d".into(),
        version: version.into(),
        revision,
        channel: "stable".into(),
        release: ReleaseId(ObjectId::of(format!("{version}~{revision}").as_bytes()).0),
        size: 1,
        summary: String::new(),
        parents: vec![],
        revoked: revoked.map(|level| Revocation { level, replaced_by: None, reason: String::new() }),
    }
}

#[test]
fn a_lock_takes_the_newest_that_fits_and_was_not_revoked() {
    let listings = [
        listing("1.9.0", 1, None),
        listing("1.10.0", 1, None),
        listing("1.10.0", 2, None),
        listing("1.11.0", 1, Some(RevokeLevel::Withdraw)),
        listing("1.12.0-rc.1", 1, None),
        listing("2.0.0", 1, None),
        listing("not a version", 1, None),
    ];
    let choose = |range: &str| {
        let found = definition::lock::choose(&range.parse().unwrap(), "d", &listings);
        found.map(|l| format!("{}~{}", l.version, l.revision))
    };
    assert_eq!(choose("^1.9").as_deref(), Some("1.10.0~2"));
    assert_eq!(choose("~1.9").as_deref(), Some("1.9.0~1"));
    assert_eq!(choose("*").as_deref(), Some("2.0.0~1"));
    assert_eq!(choose("=1.12.0-rc.1").as_deref(), Some("1.12.0-rc.1~1"));
    assert_eq!(choose("^3"), None);
}

#[test]
fn a_lock_takes_nothing_of_a_channel_that_a_build_machine_may_fill() {
    let nightly =
        |version: &str, revision: u32| Listing { channel: "nightly".into(), ..listing(version, revision, None) };
    let choose = |listings: &[Listing]| {
        let found = definition::lock::choose(&"^1".parse().unwrap(), "d", listings);
        found.map(|l| format!("{}~{}", l.version, l.revision))
    };
    let foreign = [nightly("1.99.0", 1), nightly("1.0.0", u32::MAX)];
    let stable = listing("1.0.0", 1, None);
    assert_eq!(choose(&[&foreign[..], &[stable]].concat()).as_deref(), Some("1.0.0~1"));
    let gone = listing("1.0.0", 1, Some(RevokeLevel::Withdraw));
    assert_eq!(choose(&[&foreign[..], &[gone]].concat()), None);
    assert_eq!(choose(&foreign).as_deref(), Some("1.99.0~1"), "nothing of it was ever stable");
}

#[test]
fn a_lock_survives_its_text_and_says_what_is_wrong_with_another() {
    let mut lock = Lock { includes: shelf().pins.into_values().collect() };
    lock.includes.iter_mut().enumerate().for_each(|(n, l)| l.name = format!("include-{n}"));
    let text = lock.write();
    assert_eq!(Lock::read(&text).unwrap(), lock);
    assert_eq!(Lock::read(&text).unwrap().write(), text);
    lock.includes.reverse();
    assert_eq!(lock.write(), text, "the order of a lock is its names'");
    let problems = |text: &str| shown(&Lock::read(text).unwrap_err());
    assert!(problems("").contains("lacks `format`"));
    assert!(problems("format = 2").contains("needs softservice that reads format 2"));
    assert!(problems(&changed(&text, "include-1", "include-0")).contains("pinned twice"));
    assert!(
        problems(&changed(&text, "release = \"", "release = \"zz"))
            .contains("distro.lock:10:11: error: expected 64 hex")
    );
    assert!(problems(&changed(&text, "size", "sise")).contains("did you mean `size`?"));
}
