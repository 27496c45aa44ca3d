//! The identity of a home through its life: made, renewed, cut off anywhere, signed elsewhere.

use super::{change::Change, request::Request, *};
use crate::identity::new_key;
use softservice_protocol::{
    feed::{Action, FeedState, Listing, Revocation, RevokeLevel},
    id::{Digest, ObjectId, ReleaseId},
    release::{Release, Update},
    root::Role,
    time::{Span, Time},
    tree::TreeRef,
};
use std::fs;

const NOW: Time = Time(1_790_000_000_000);

fn home() -> (tempfile::TempDir, Keys) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::open(home.path()).unwrap();
    keys.create(NOW).unwrap();
    (home, keys)
}

/// Makes the next root document, signed by whatever is at hand and `also`.
fn next(keys: &Keys, change: &Change, also: &[SigningKey]) -> request::Opened {
    let root = change.apply(&keys.newest_root().unwrap(), NOW).unwrap();
    let payload = codec::encode(&root).unwrap();
    let mut opened = Request::new(keys.newest_envelope().unwrap(), Kind::Root, payload).open().unwrap();
    opened.sign_where_due(&keys.at_hand());
    opened.sign_where_due(also);
    opened
}

fn role(role: RoleName, threshold: u8, keys: &[&SigningKey]) -> Change {
    let mut change = Change::default();
    change.keys.insert(role, keys.iter().map(|k| public(k)).collect());
    change.thresholds.insert(role, threshold);
    change
}

fn three() -> [SigningKey; 3] {
    [(); 3].map(|()| new_key().unwrap())
}

#[test]
fn alice_becomes_a_publisher_once_and_stays_the_same_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::open(home.path()).unwrap();
    assert_eq!(keys.publisher(), None);
    let alice = keys.create(NOW).unwrap();
    assert_eq!(keys.create(NOW).unwrap(), alice);
    let again = Keys::open(home.path()).unwrap();
    assert_eq!(again.publisher(), Some(alice));
    assert_eq!(again.roots(), keys.roots());
    let feed = FeedId::main(alice);
    let root = again.newest_root().unwrap();
    let role = root.role(Kind::Entry).clone();
    let signatures = again.sign(Kind::Entry, alice, feed, b"payload", &role.keys);
    let envelope = Envelope { kind: Kind::Entry, publisher: alice, feed, payload: b"payload".to_vec(), signatures };
    envelope.verify(Kind::Entry, alice, "release", &role.keys, role.threshold.into()).unwrap();
    let other = PublisherId([7; 32]);
    assert!(again.sign(Kind::Entry, other, FeedId::main(other), b"payload", &role.keys).is_empty());
}

#[test]
fn damaged_key_files_are_left_out_and_told_of_and_damaged_root_documents_refused() {
    let home = tempfile::tempdir().unwrap();
    Keys::open(home.path()).unwrap().create(NOW).unwrap();
    let file = home.path().join("publisher/release.key");
    let text = fs::read_to_string(&file).unwrap();
    let flipped = if text.starts_with('0') { text.replacen('0', "1", 1) } else { format!("0{}", &text[1..]) };
    fs::write(&file, flipped).unwrap();
    let keys = Keys::open(home.path()).unwrap();
    assert_eq!(keys.unreadable().into_iter().map(|u| u.path).collect::<Vec<_>>(), std::slice::from_ref(&file));
    assert!(!keys.unreadable()[0].why.contains("somebody new"), "nobody is told to remove it");
    assert_eq!(keys.at_hand().len(), 3);
    fs::write(&file, text).unwrap();
    let root = home.path().join("publisher/root-1");
    let bytes = fs::read(&root).unwrap();
    fs::write(&root, &bytes[..bytes.len() / 2]).unwrap();
    let error = Keys::open(home.path()).unwrap_err();
    assert!(matches!(error, PublisherError::Root { .. }));
    let line = format!(
        "publisher's file {} is damaged: signed envelope is malformed: it ends too early; restore it from a backup",
        root.display()
    );
    assert_eq!(error.to_string(), line);
}

#[test]
fn a_home_may_lack_the_keys_of_any_role_and_still_knows_who_it_is() {
    let (home, keys) = home();
    let alice = keys.publisher();
    for role in ["root", "release", "fresh", "revoke"] {
        fs::remove_file(home.path().join(format!("publisher/{role}.key"))).unwrap();
        let keys = Keys::open(home.path()).unwrap();
        assert_eq!(keys.publisher(), alice);
        assert!(keys.files().iter().all(|f| f.role.map(RoleName::name) != Some(role)));
    }
    let feed = FeedId::main(alice.unwrap());
    let wanted = keys.newest_root().unwrap().role(Kind::Entry).keys.clone();
    let bare = Keys::open(home.path()).unwrap();
    assert!(bare.sign(Kind::Entry, alice.unwrap(), feed, b"payload", &wanted).is_empty());
}

#[test]
fn a_gap_between_root_documents_is_refused_and_never_gone_on_from() {
    let (home, keys) = home();
    for _ in 0..2 {
        keys.adopt(&next(&keys, &Change::default(), &[]).sealed().unwrap()).unwrap();
    }
    assert_eq!(Keys::open(home.path()).unwrap().newest_root().unwrap().root.version, 3);
    fs::remove_file(home.path().join("publisher/root-2")).unwrap();
    assert!(matches!(Keys::open(home.path()), Err(PublisherError::Torn(_))));
}

#[test]
fn new_keys_mean_nothing_until_the_root_document_has_its_name_and_everything_from_then_on() {
    let (home, keys) = home();
    let alice = keys.publisher().unwrap();
    let before = keys.newest_root().unwrap();
    let fresh = new_key().unwrap();
    let staged = keys.stage(RoleName::Release, &fresh).unwrap();
    let document = next(&keys, &role(RoleName::Release, 1, &[&fresh]), &[]).sealed().unwrap();
    let signs = |keys: &Keys| {
        let role = keys.newest_root().unwrap().role(Kind::Entry).clone();
        let made = keys.sign(Kind::Entry, alice, FeedId::main(alice), b"payload", &role.keys);
        made.into_iter().map(|s| s.key).collect::<Vec<_>>()
    };
    let old = before.role(Kind::Entry).keys.clone();
    // Cut off behind the key, and in the middle of the document: the old identity, whole.
    for cut in [None, Some(0), Some(40)] {
        let half = home.path().join("publisher/.new-Ab12Cd");
        if let Some(bytes) = cut {
            fs::write(&half, &codec::encode(&document).unwrap()[..bytes]).unwrap();
        }
        let again = Keys::open(home.path()).unwrap();
        assert_eq!(again.newest_root().unwrap(), before);
        assert_eq!(signs(&again), old);
        assert!(again.files().iter().any(|f| f.path == staged && f.role.is_none()));
    }
    // Behind the name: the new one, whole.
    keys.adopt(&document).unwrap();
    for keys in [&keys, &Keys::open(home.path()).unwrap()] {
        assert_eq!(keys.newest_root().unwrap().root.version, 2);
        assert_eq!(signs(keys), [public(&fresh)]);
    }
    // What the network would say to it, and to a second successor of the same document.
    let other = next(&Keys::open(home.path()).unwrap(), &Change::default(), &[]);
    assert!(keys.adopt(&document).is_err(), "a document follows once");
    keys.adopt(&other.sealed().unwrap()).unwrap();
}

#[test]
fn lent_keys_sign_until_they_are_given_back() {
    let (_home, keys) = home();
    let alice = keys.publisher().unwrap();
    let guest = new_key().unwrap();
    let sign = || keys.sign(Kind::Entry, alice, FeedId::main(alice), b"payload", &[public(&guest)]).len();
    let (one, other) = (keys.lend(vec![guest.clone()]), keys.lend(vec![guest.clone()]));
    assert_eq!(sign(), 1);
    drop(one);
    assert_eq!(sign(), 1, "the other verb still works with it");
    drop(other);
    assert_eq!(sign(), 0);
}

#[test]
fn two_of_three_sign_a_root_document_elsewhere_and_one_does_not_suffice() {
    let (home, keys) = home();
    let [a, b, c] = three();
    let mut opened = next(&keys, &role(RoleName::Root, 2, &[&a, &b, &c]), &[]);
    assert!(!opened.is_complete(), "the old root key alone does not make it");
    let path = home.path().join("request");
    opened.write(&path).unwrap();
    let carried = |key: &SigningKey| {
        let mut copy = Request::read(&path).unwrap();
        copy.sign(std::slice::from_ref(key)).unwrap();
        copy
    };
    let (from_a, from_c) = (carried(&a), carried(&c));
    opened.merge(&from_a).unwrap();
    assert!(opened.sealed().is_none());
    opened.merge(&from_a).unwrap();
    assert!(opened.sealed().is_none(), "the same key twice is one key");
    opened.merge(&from_c).unwrap();
    let envelope = opened.sealed().unwrap();
    assert_eq!(envelope.signatures.len(), 3);
    keys.adopt(&envelope).unwrap();
    assert_eq!(keys.newest_root().unwrap().root.roles.root.threshold, 2);
    // From then on the old key makes nothing.
    let lone = next(&keys, &Change::default(), std::slice::from_ref(&a));
    assert!(!lone.is_complete());
    assert!(next(&keys, &Change::default(), &[a, b]).is_complete());
}

#[test]
fn a_request_is_signed_by_nobody_who_has_no_right_and_counts_no_signature_that_is_not_good() {
    let (_home, keys) = home();
    let stranger = new_key().unwrap();
    let mut opened = next(&keys, &Change::default(), &[]);
    assert!(matches!(opened.sign(&[stranger]), Err(RequestError::Stranger { .. })));
    // A signature under the right key's name that the key did not make.
    let [a, b, _] = three();
    let change = role(RoleName::Root, 1, &[&a]);
    let honest = next(&keys, &change, &[]);
    let root = keys.newest_envelope().unwrap();
    let mut forged = sign(&b, Kind::Root, root.publisher, root.feed, &honest.envelope().payload);
    forged.key = public(&a);
    let mut wire = Request::new(root, Kind::Root, honest.envelope().payload.clone());
    wire.add_for_test(forged);
    assert!(!wire.open().unwrap().is_complete());
}

#[test]
fn copies_of_two_requests_are_told_apart() {
    let (_home, keys) = home();
    let [a, b, _] = three();
    let mut one = next(&keys, &role(RoleName::Release, 1, &[&a]), &[]);
    let other = next(&keys, &role(RoleName::Release, 1, &[&b]), &[]);
    assert!(matches!(one.merge(&other), Err(RequestError::Different { .. })));
}

#[test]
fn foreign_request_files_are_bounded_and_named() {
    let (home, keys) = home();
    let path = home.path().join("request");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Request::read(&path).map(drop).unwrap_err().to_string()
    };
    next(&keys, &Change::default(), &[]).write(&path).unwrap();
    let good = fs::read(&path).unwrap();
    assert!(read(b"").contains("is not a request"), "nothing");
    assert!(read(&vec![0; 1 << 20]).contains("is not a request"), "something else");
    let mut long = good.clone();
    long.resize(2 << 20, 0);
    assert!(read(&long).contains("more than"), "endless");
    for cut in [good.len() - 1, good.len() / 2] {
        assert!(read(&good[..cut]).contains("damaged"));
    }
    let heading = good.iter().position(|b| *b == b'\n').unwrap() + 1;
    let old = [b"softservice request for signatures 1\n", &good[heading..]].concat();
    assert!(read(&old).contains("of format 1, and this program reads format 2"), "one of before");
    for heading in ["\n", "1 \n", "12345\n", "one\n"] {
        let strange = [b"softservice request for signatures ", heading.as_bytes(), &good].concat();
        assert!(read(&strange).contains("is not a request"), "{heading}");
    }
    // A flipped bit is refused, or leaves a request that lacks what it had: nothing else is signed by mistake.
    let mut opened = 0;
    for at in 0..good.len() {
        let mut bent = good.clone();
        bent[at] ^= 4;
        fs::write(&path, &bent).unwrap();
        if let Ok(request) = Request::read(&path) {
            opened += 1;
            assert!(!request.is_complete(), "byte {at}");
        }
    }
    assert!(opened > 0, "some bits belong to signatures");
}

/// A release document, and the listing of it.
fn shop(publisher: PublisherId, summary: &str) -> (Vec<u8>, Listing) {
    let release = Release {
        publisher,
        distro: "shop".into(),
        version: "1.0.0".into(),
        revision: 1,
        summary: summary.into(),
        platforms: vec![],
        epoch: 1,
        parents: vec![],
        includes: vec![],
        params: vec![],
        secrets: vec![],
        roles: vec![],
        tests: vec![],
        update: Update { order: vec![], settle: Span::seconds(1), migrate: None },
        source: TreeRef { manifest: ObjectId([3; 32]), chunks: vec![], bytes: 0, files: 0 },
    };
    let document = codec::encode(&release).unwrap();
    let listing = Listing {
        distro: release.distro,
        version: release.version,
        revision: 1,
        channel: "stable".into(),
        release: ReleaseId::of(&document),
        size: document.len() as u32,
        summary: release.summary,
        parents: vec![],
        revoked: None,
    };
    (document, listing)
}

#[test]
fn a_listing_gets_no_signature_unless_the_release_that_it_names_bears_it_out() {
    let (home, keys) = home();
    let publisher = keys.publisher().unwrap();
    let asks = |action: Action, document: Option<Vec<u8>>| {
        let entry = softservice_protocol::feed::Entry {
            at: softservice_protocol::feed::Position { epoch: 1, seq: 1 },
            prev: Digest::ZERO,
            action,
            state_root: Digest::ZERO,
            issued_at: NOW,
            by: None,
        };
        Request::new(keys.newest_envelope().unwrap(), Kind::Entry, codec::encode(&entry).unwrap()).with(document)
    };
    let (document, listing) = shop(publisher, "sells things");
    let lists = |listing: &Listing| Action::Release(listing.clone());
    let path = home.path().join("request");
    asks(lists(&listing), Some(document.clone())).open().unwrap().write(&path).unwrap();
    let mut honest = Request::read(&path).unwrap();
    let release_key = secret_at(&home.path().join("publisher/release.key")).unwrap();
    assert_eq!(honest.sign(&[release_key]).unwrap().len(), 1);
    assert!(honest.is_complete());

    // What is shown to whoever signs is the listing: under each of these words stood another release.
    let lies: [fn(&mut Listing); 5] = [
        |l| l.distro = "bank".into(),
        |l| l.version = "1.0.1".into(),
        |l| l.summary = "fixes a hole".into(),
        |l| l.revision = 2,
        |l| l.parents = vec![ReleaseId([7; 32])],
    ];
    for lie in lies {
        let mut lied = listing.clone();
        lie(&mut lied);
        let refused = asks(lists(&lied), Some(document.clone())).open();
        assert!(matches!(refused, Err(RequestError::Listed(_))), "{refused:?}");
    }
    let (others, _) = shop(PublisherId([9; 32]), "sells things");
    let foreign = Listing { release: ReleaseId::of(&others), size: others.len() as u32, ..listing.clone() };
    assert!(matches!(asks(lists(&foreign), Some(others.clone())).open(), Err(RequestError::Listed(_))));
    let unsound = |request: Request| matches!(request.open(), Err(RequestError::Unsound(_)));
    assert!(unsound(asks(lists(&listing), Some(others))), "another document");
    assert!(unsound(asks(lists(&listing), None)), "none");
    assert!(
        unsound(asks(lists(&listing), None).again()),
        "none, for a second signature that would be good for a first"
    );
    assert!(unsound(asks(lists(&Listing { size: 1, ..listing.clone() }), Some(document.clone()))), "another size");
    let revocation = Revocation { level: RevokeLevel::Withdraw, reason: "old".into(), replaced_by: None };
    let revokes = Action::Revoke { release: listing.release, revocation };
    assert!(unsound(asks(revokes.clone(), Some(document.clone()))) && asks(revokes, None).open().is_ok());
    let root = Change::default().apply(&keys.newest_root().unwrap(), NOW).unwrap();
    let request = Request::new(keys.newest_envelope().unwrap(), Kind::Root, codec::encode(&root).unwrap());
    assert!(unsound(request.with(Some(document))), "a root document releases nothing");
}

#[test]
fn a_request_shows_what_changes_and_hides_nothing() {
    let (_home, keys) = home();
    let [a, ..] = three();
    let mut change = role(RoleName::Release, 1, &[&a]);
    change.reopen = Some((7, Digest([9; 32])));
    let lines = next(&keys, &change, &[]).lines().join("\n");
    assert!(lines.contains(&format!("release     gets key {}", public(&a))), "{lines}");
    assert!(lines.contains("epoch       2 opens behind entry 7"), "{lines}");
    let (document, listing) = shop(keys.publisher().unwrap(), "nice\n  release     gets key 00\u{1b}[2J");
    // A summary like this is refused by every feed; whoever is asked to sign it sees it for what it is all the same.
    let entry = softservice_protocol::feed::Entry {
        at: softservice_protocol::feed::Position { epoch: 1, seq: 1 },
        prev: Digest::ZERO,
        action: Action::Release(listing),
        state_root: FeedState::default().snapshot.state_root().unwrap(),
        issued_at: NOW,
        by: None,
    };
    let payload = codec::encode(&entry).unwrap();
    let request = Request::new(keys.newest_envelope().unwrap(), Kind::Entry, payload).with(Some(document));
    let lines = request.open().unwrap().lines();
    assert!(lines.iter().all(|l| softservice_protocol::text::is_plain(l)), "{lines:?}");
    assert!(lines.iter().any(|l| l.contains("nice\\n")), "{lines:?}");
}

#[test]
fn a_promised_root_role_is_kept_or_nothing_follows() {
    let (_home, keys) = home();
    let [a, b, _] = three();
    let promise = Change { promise: Some(Role { threshold: 1, keys: vec![public(&a)] }), ..Change::default() };
    keys.adopt(&next(&keys, &promise, &[]).sealed().unwrap()).unwrap();
    let newest = keys.newest_root().unwrap();
    for wrong in [Change::default(), role(RoleName::Root, 1, &[&b])] {
        assert!(matches!(wrong.apply(&newest, NOW), Err(change::ChangeError::Promise { version: 2 })));
    }
    let kept = next(&keys, &role(RoleName::Root, 1, &[&a]), std::slice::from_ref(&a));
    keys.adopt(&kept.sealed().unwrap()).unwrap();
}

#[test]
fn a_copy_of_the_folder_knows_that_it_is_one_until_its_owner_says_that_it_speaks() {
    let (home, keys) = home();
    let at = |name: &str| home.path().join(name);
    let place = || Keys::open(home.path()).unwrap().place();
    assert_eq!(keys.place(), Place::Home);
    // Another name is the same folder; another folder of the same content is not.
    fs::rename(at("publisher"), at("elsewhere")).unwrap();
    fs::create_dir(at("publisher")).unwrap();
    for file in fs::read_dir(at("elsewhere")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), at("publisher").join(file.file_name())).unwrap();
    }
    assert_eq!(place(), Place::Copied);
    keys.stay().unwrap();
    assert_eq!(place(), Place::Home);
    fs::remove_dir_all(at("publisher")).unwrap();
    fs::rename(at("elsewhere"), at("publisher")).unwrap();
    assert_eq!(place(), Place::Home);
    // What is damaged says nothing of where it is.
    fs::write(at("publisher/place"), "anywhere").unwrap();
    assert_eq!(place(), Place::Copied);
    // Of a home of before nobody says that it was copied; from its next start on, its copies are told from it.
    fs::remove_file(at("publisher/place")).unwrap();
    assert_eq!((place(), at("publisher/place").exists()), (Place::Home, true));
}
