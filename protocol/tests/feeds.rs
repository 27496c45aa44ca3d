//! Anna publishes, Bob follows her, Mallory has her own keys and bad intentions.

mod cast;
use cast::{NOW, Publisher, digest, key, listing, revocation, revoke, role};
use softservice_protocol::{
    codec,
    feed::{
        Action, Conflict, Equivocation, FeedError, FeedState, Freshness, Listing, Moment, NoProof, Revocation,
        RevokeLevel, freshness, verify_fresh,
    },
    id::{Digest, ReleaseId},
    limits,
    root::{FeedStart, RootError},
    sign::{Kind, SignatureError, sign},
    time::{Span, Time},
};

fn anna() -> Publisher {
    Publisher::named(b'a')
}

/// What Bob says to an entry of Anna's with one thing changed.
fn refused(change: impl FnOnce(&mut softservice_protocol::feed::Entry)) -> FeedError {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    let mut entry = anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)));
    change(&mut entry);
    anna.feed.accept(&anna.trusted, &anna.sealed(&entry)).unwrap_err()
}
fn why(error: FeedError) -> &'static str {
    match error {
        FeedError::Broken { why, .. } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn bob_follows_annas_entries_one_by_one_and_a_newcomer_takes_the_snapshot() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    anna.publish(listing("guestbook", "2.0.0", 2));
    anna.append(anna.sealed(&anna.draft(revoke(1))));
    let mut bob = FeedState::default();
    for envelope in &anna.entries {
        bob = bob.accept(&anna.trusted, envelope).unwrap().0;
    }
    let snapshot = codec::encode(&anna.feed.snapshot).unwrap();
    let newcomer = FeedState::onboard(&anna.trusted, &anna.entries[2], &snapshot).unwrap();
    assert_eq!(bob, newcomer);
    assert_eq!(bob.snapshot.listings[0].revoked, Some(revocation(RevokeLevel::Unsafe)));
    assert_eq!(bob.accept(&anna.trusted, &anna.entries[0]), Err(FeedError::Known(1)));
    assert_eq!(
        FeedState::default().accept(&anna.trusted, &anna.entries[2]),
        Err(FeedError::Gap { wanted: 1, found: 3 })
    );
}

#[test]
fn an_entry_with_a_wrong_number_predecessor_epoch_or_state_is_refused() {
    assert_eq!(refused(|e| e.at.seq = 1), FeedError::Broken { seq: 1, why: "only entry 1 has no predecessor" });
    assert_eq!(refused(|e| (e.at.seq, e.prev) = (1, Digest::ZERO)), FeedError::Equivocation(1));
    assert_eq!(refused(|e| e.at.seq = 3), FeedError::Gap { wanted: 2, found: 3 });
    assert_eq!(refused(|e| e.at.seq = u64::MAX), FeedError::Gap { wanted: 2, found: u64::MAX });
    assert_eq!(why(refused(|e| e.at.seq = 0)), "its number lies before the epoch's first");
    assert_eq!(refused(|e| e.at.epoch = 2), FeedError::Epoch { open: 1, found: 2 });
    assert_eq!(refused(|e| e.at.epoch = 0), FeedError::Epoch { open: 1, found: 0 });
    assert_eq!(why(refused(|e| e.prev = digest(9))), "it names another predecessor");
    assert_eq!(why(refused(|e| e.prev = Digest::ZERO)), "only entry 1 has no predecessor");
    assert_eq!(why(refused(|e| e.state_root = digest(9))), "its state root is not what the entries add up to");
}

#[test]
fn nothing_follows_the_largest_number_and_nothing_panics() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    anna.feed.head.at.seq = u64::MAX;
    let entry = anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)));
    assert_eq!(entry.at.seq, u64::MAX);
    assert!(anna.feed.accept(&anna.trusted, &anna.sealed(&entry)).is_err());
}

#[test]
fn only_the_release_role_adds_and_only_the_revoke_role_may_stop_in_its_place() {
    let mut anna = anna();
    let mallory = Publisher::named(b'm');
    anna.publish(listing("guestbook", "1.0.0", 1));
    let add = codec::encode(&anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)))).unwrap();
    let too_few = |good| Err(FeedError::Signature(SignatureError::TooFew { role: "release", good, needed: 1 }));
    for key in [&mallory.release, &anna.root, &anna.fresh, &anna.revoke] {
        assert_eq!(anna.feed.accept(&anna.trusted, &anna.seal(Kind::Entry, add.clone(), &[key])), too_few(0));
    }
    let stop = codec::encode(&anna.draft(revoke(1))).unwrap();
    for key in [&mallory.revoke, &anna.root, &anna.fresh] {
        assert_eq!(anna.feed.accept(&anna.trusted, &anna.seal(Kind::Entry, stop.clone(), &[key])), too_few(0));
    }
    for key in [&anna.revoke, &anna.release] {
        assert!(anna.feed.accept(&anna.trusted, &anna.seal(Kind::Entry, stop.clone(), &[key])).is_ok());
    }
}

#[test]
fn a_signature_means_nothing_elsewhere() {
    let anna = anna();
    let mallory = Publisher::named(b'm');
    let payload = codec::encode(&anna.draft(Action::Release(listing("guestbook", "1.0.0", 1)))).unwrap();
    let good = anna.seal(Kind::Entry, payload.clone(), &[&anna.release]);
    // Another kind, another publisher, another feed: in the envelope, or under the signature alone.
    let mut other = good.clone();
    other.kind = Kind::Fresh;
    assert_eq!(anna.feed.accept(&anna.trusted, &other).unwrap_err(), SignatureError::Elsewhere.into());
    let mut other = good.clone();
    other.publisher = mallory.id();
    assert_eq!(anna.feed.accept(&anna.trusted, &other).unwrap_err(), SignatureError::Elsewhere.into());
    let mut other = good.clone();
    other.feed = mallory.trusted.feed();
    assert_eq!(anna.feed.accept(&anna.trusted, &other).unwrap_err(), SignatureError::Elsewhere.into());
    for (kind, publisher, feed) in [
        (Kind::Fresh, anna.id(), anna.trusted.feed()),
        (Kind::Entry, mallory.id(), anna.trusted.feed()),
        (Kind::Entry, anna.id(), mallory.trusted.feed()),
    ] {
        let mut grafted = good.clone();
        grafted.signatures = vec![sign(&anna.release, kind, publisher, feed, &payload)];
        assert!(matches!(
            anna.feed.accept(&anna.trusted, &grafted),
            Err(FeedError::Signature(SignatureError::TooFew { .. }))
        ));
    }
}

#[test]
fn a_threshold_counts_keys_never_signatures() {
    let mut anna = anna();
    let (second, third) = (key(b'a', 12), key(b'a', 13));
    let keys = [&anna.release, &second, &third];
    let two_of_three = anna.successor(|r| r.roles.release = role(2, &keys), &[]);
    anna.trusted = anna.trusted.next(&two_of_three).unwrap();
    let payload = codec::encode(&anna.draft(Action::Release(listing("guestbook", "1.0.0", 1)))).unwrap();
    let alone = anna.seal(Kind::Entry, payload.clone(), &[&anna.release]);
    let few = FeedError::Signature(SignatureError::TooFew { role: "release", good: 1, needed: 2 });
    assert_eq!(anna.feed.accept(&anna.trusted, &alone).unwrap_err(), few);
    let mut twice = alone.clone();
    twice.signatures.push(alone.signatures[0].clone());
    assert_eq!(anna.feed.accept(&anna.trusted, &twice).unwrap_err(), SignatureError::Disorder.into());
    let mut seventeen = alone.clone();
    seventeen.signatures =
        (0..17).map(|n| sign(&key(n, 40), Kind::Entry, anna.id(), anna.trusted.feed(), &payload)).collect();
    seventeen.signatures.sort();
    assert_eq!(anna.feed.accept(&anna.trusted, &seventeen).unwrap_err(), SignatureError::Disorder.into());
    let with_stranger = anna.seal(Kind::Entry, payload.clone(), &[&anna.release, &key(b'm', 2)]);
    assert_eq!(anna.feed.accept(&anna.trusted, &with_stranger).unwrap_err(), few);
    assert!(anna.feed.accept(&anna.trusted, &anna.seal(Kind::Entry, payload, &[&second, &third])).is_ok());
}

#[test]
fn a_catalogue_takes_no_odd_listings() {
    let anna = anna();
    let good = listing("guestbook", "1.0.0", 1);
    let one_parent = ReleaseId([7; 32]);
    let odd: Vec<(Listing, &str)> = vec![
        (Listing { distro: "Guestbook".into(), ..good.clone() }, "distro"),
        (Listing { distro: "guest\u{200b}book".into(), ..good.clone() }, "distro"),
        (Listing { channel: String::new(), ..good.clone() }, "channel"),
        (Listing { version: "1.0".into(), ..good.clone() }, "version"),
        (Listing { version: format!("1.0.0-{}", "a".repeat(59)), ..good.clone() }, "version"),
        (Listing { size: 0, ..good.clone() }, "document"),
        (Listing { size: (1 << 20) + 1, ..good.clone() }, "document"),
        (Listing { summary: "s".repeat(201), ..good.clone() }, "summary"),
        (Listing { summary: "two\nlines".into(), ..good.clone() }, "summary"),
        (Listing { summary: "\u{1b}[2J".into(), ..good.clone() }, "summary"),
        (Listing { parents: vec![good.release], ..good.clone() }, "its own"),
        (Listing { parents: vec![one_parent; 2], ..good.clone() }, "twice"),
        (Listing { parents: (10..19).map(|n| ReleaseId([n; 32])).collect(), ..good.clone() }, "8 parents"),
        (Listing { revoked: Some(revocation(RevokeLevel::Withdraw)), ..good.clone() }, "revoked"),
    ];
    for (listing, part) in odd {
        let error = anna.feed.draft(&anna.trusted, Action::Release(listing), NOW).unwrap_err();
        assert!(why(error.clone()).contains(part), "{error} lacks {part}");
    }
    let edge = Listing {
        version: format!("1.0.0-{}", "a".repeat(58)),
        summary: "s".repeat(200),
        size: 1 << 20,
        parents: (10..18).map(|n| ReleaseId([n; 32])).collect(),
        ..good
    };
    assert!(anna.feed.draft(&anna.trusted, Action::Release(edge), NOW).is_ok());
    let reason = |n| Revocation { reason: "r".repeat(n), ..revocation(RevokeLevel::Unsafe) };
    assert!(reason(500).check(ReleaseId([1; 32])).is_ok() && reason(501).check(ReleaseId([1; 32])).is_err());
}

#[test]
fn a_revocation_keeps_its_words_and_is_never_taken_back() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    anna.publish(listing("guestbook", "1.0.1", 2));
    let mut say = |level, replaced_by, reason: &str| {
        let revocation = Revocation { level, replaced_by, reason: reason.into() };
        let entry = anna.draft(Action::Revoke { release: ReleaseId([1; 32]), revocation });
        let head = anna.append(anna.sealed(&entry));
        let snapshot = codec::encode(&anna.feed.snapshot).unwrap();
        assert_eq!(FeedState::onboard(&anna.trusted, &head, &snapshot).unwrap(), anna.feed, "a newcomer knows as much");
        anna.feed.snapshot.listings[0].revoked.clone().unwrap()
    };
    let first = say(RevokeLevel::Unsafe, None, "lets strangers in");
    assert_eq!((first.level, first.reason.as_str()), (RevokeLevel::Unsafe, "lets strangers in"));
    let mended = Some(ReleaseId([2; 32]));
    let second = say(RevokeLevel::Withdraw, mended, "1.0.1 is mended");
    assert_eq!(
        (second.level, second.replaced_by),
        (RevokeLevel::Unsafe, mended),
        "words may change, the level rises only"
    );
    // Neither may a snapshot say less, or name a release as its own replacement.
    let entry = anna.draft(Action::Release(listing("guestbook", "2.0.0", 3)));
    let onboard = |change: &dyn Fn(&mut Revocation)| {
        let mut snapshot = anna.feed.snapshot.after(&entry.action, None).unwrap();
        change(snapshot.listings[0].revoked.as_mut().unwrap());
        let entry = softservice_protocol::feed::Entry { state_root: snapshot.state_root().unwrap(), ..entry.clone() };
        FeedState::onboard(&anna.trusted, &anna.sealed(&entry), &codec::encode(&snapshot).unwrap())
    };
    assert!(onboard(&|_| ()).is_ok());
    let own = onboard(&|r| r.replaced_by = Some(ReleaseId([1; 32]))).unwrap_err();
    assert_eq!(why(own), "the revoked release is named as its own replacement");
    assert!(onboard(&|r| r.reason = "a\u{1b}[31m".into()).is_err(), "words are plain in snapshots, too");
}

#[test]
fn nothing_is_published_twice_and_nothing_unknown_revoked() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    let draft = |action| why(anna.feed.draft(&anna.trusted, action, NOW).unwrap_err());
    assert_eq!(draft(Action::Release(listing("other", "9.0.0", 1))), "the release is already published");
    assert_eq!(
        draft(Action::Release(listing("guestbook", "1.0.0", 2))),
        "this version of the distro is already published"
    );
    assert_eq!(draft(revoke(9)), "the revoked release was never published");
}

#[test]
fn a_newcomer_refuses_a_snapshot_that_entries_could_not_have_made() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    let onboard = |listings: Vec<Listing>| {
        let snapshot = softservice_protocol::feed::Snapshot { listings, spent: vec![] };
        let mut entry = anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)));
        entry.state_root = snapshot.state_root().unwrap();
        FeedState::onboard(&anna.trusted, &anna.sealed(&entry), &codec::encode(&snapshot).unwrap())
    };
    let (one, two) = (listing("guestbook", "1.0.0", 1), listing("guestbook", "2.0.0", 2));
    assert!(onboard(vec![one.clone(), two.clone()]).is_ok());
    assert_eq!(why(onboard(vec![two.clone(), two.clone()]).unwrap_err()), "the release is already published");
    assert_eq!(
        why(onboard(vec![two.clone(), one.clone()]).unwrap_err()),
        "the snapshot does not hold what the entry did"
    );
    let odd = Listing { summary: "\u{202e}".into(), ..one };
    assert!(why(onboard(vec![odd, two]).unwrap_err()).contains("summary"));
    let other = codec::encode(&softservice_protocol::feed::Snapshot::default()).unwrap();
    let error = FeedState::onboard(&anna.trusted, &anna.entries[0], &other).unwrap_err();
    assert_eq!(why(error), "the snapshot is not the one it commits to");
}

#[test]
fn a_feed_reopens_where_the_root_says_and_nowhere_else() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    let good = anna.feed.clone();
    anna.publish(listing("guestbook", "6.6.6", 66));
    let bob = anna.feed.clone();
    let start = FeedStart { epoch: 2, from_seq: 1, from_hash: good.head.hash };
    let reopened = anna.successor(|r| r.feed = start, &[]);
    anna.trusted = anna.trusted.next(&reopened).unwrap();
    anna.feed = good.clone();
    let entry = anna.publish(listing("guestbook", "2.0.0", 2));
    assert_eq!(bob.accept(&anna.trusted, &entry), Err(FeedError::Reopened { after: 1, head: 2 }));
    let caught_up = good.accept(&anna.trusted, &entry).unwrap().0;
    let snapshot = codec::encode(&anna.feed.snapshot).unwrap();
    assert_eq!(FeedState::onboard(&anna.trusted, &entry, &snapshot), Ok(caught_up.clone()));
    assert!(caught_up.head > bob.head, "the mark goes forward although the number does not");
    assert_eq!(good.accept(&anna.trusted, &anna.entries[1]), Err(FeedError::Epoch { open: 2, found: 1 }));

    let next = |change: fn(&mut FeedStart)| {
        let envelope = anna.successor(|r| change(&mut r.feed), &[]);
        anna.trusted.next(&envelope).map(|t| t.root.feed.epoch)
    };
    assert_eq!(next(|f| (f.epoch, f.from_seq) = (3, 2)), Ok(3));
    for change in [
        |f: &mut FeedStart| f.epoch = 1,
        |f: &mut FeedStart| f.epoch = 4,
        |f: &mut FeedStart| f.from_hash = digest(1),
        |f: &mut FeedStart| {
            (f.epoch, f.from_seq, f.from_hash) = (3, 0, Digest::ZERO);
        },
    ] {
        assert!(matches!(next(change), Err(RootError::Invalid(_))));
    }
}

#[test]
fn whoever_speaks_twice_is_proven_to() {
    let mut anna = anna();
    let mallory = Publisher::named(b'm');
    anna.publish(listing("guestbook", "1.0.0", 1));
    let one = anna.sealed(&anna.draft(Action::Release(listing("guestbook", "2.0.0", 2))));
    let other = anna.sealed(&anna.draft(Action::Release(listing("guestbook", "2.0.0", 3))));
    let bob = anna.feed.accept(&anna.trusted, &one).unwrap().0;
    assert_eq!(bob.accept(&anna.trusted, &other), Err(FeedError::Equivocation(2)));

    let proof = Equivocation::make(&anna.trusted, &one, &other).unwrap();
    assert_eq!(proof, Equivocation::make(&anna.trusted, &other, &one).unwrap(), "one proof, whoever found it");
    let carol: Equivocation = codec::decode(&codec::encode(&proof).unwrap()).unwrap();
    assert_eq!(carol.check(&anna.trusted), Ok(Conflict::Feed(bob.head.at)));
    assert!(codec::encode(&proof).unwrap().len() <= 8 << 10);

    assert_eq!(Equivocation::make(&anna.trusted, &one, &one), Err(NoProof::Same));
    assert_eq!(Equivocation::make(&anna.trusted, &one, &anna.entries[0]), Err(NoProof::Elsewhere));
    let swapped = Equivocation { one: proof.other.clone(), other: proof.one.clone(), ..proof.clone() };
    assert_eq!(swapped.check(&anna.trusted), Err(NoProof::Disorder));
    assert_eq!(proof.check(&mallory.trusted), Err(NoProof::Disorder));
    // Mallory cannot freeze Anna's feed.
    let forged = anna.seal(Kind::Entry, other.payload.clone(), &[&mallory.release]);
    assert!(matches!(Equivocation::make(&anna.trusted, &one, &forged), Err(NoProof::Unsigned(_))));
    // Nor does it matter which of her keys spoke: the revoke role is hers too.
    let stop = anna.seal(Kind::Entry, codec::encode(&anna.draft(revoke(1))).unwrap(), &[&anna.revoke]);
    assert!(Equivocation::make(&anna.trusted, &one, &stop).is_ok());
    // The same words signed again are no second word.
    let resigned = anna.seal(Kind::Entry, one.payload.clone(), &[&anna.release, &mallory.release]);
    assert_eq!(Equivocation::make(&anna.trusted, &one, &resigned), Err(NoProof::Same));

    let mut lie = anna.statement();
    lie.head = bob.head;
    lie.head.hash = digest(6);
    let lie = anna.fresh(&lie);
    assert_eq!(
        Equivocation::make(&anna.trusted, &lie, &one).and_then(|p| p.check(&anna.trusted)),
        Ok(Conflict::Feed(bob.head.at))
    );
    let (root_one, root_other) =
        (anna.successor(|_| (), &[]), anna.successor(|r| r.issued_at = NOW + Span::days(1), &[]));
    assert_eq!(
        Equivocation::make(&anna.trusted, &root_one, &root_other).and_then(|p| p.check(&anna.trusted)),
        Ok(Conflict::Root(2))
    );
}

/// Two at the limit are proof, and within eight kilobytes; what one byte more makes no entry proves nothing.
#[test]
fn two_of_the_longest_entries_are_a_proof_and_longer_ones_are_none() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    let longest = |id: u8, more: usize| {
        let mut long = listing(&"d".repeat(63), &format!("1.0.0-{}", "v".repeat(58)), id);
        long.channel = "c".repeat(63);
        long.summary = "s".repeat(200 + more);
        long.parents = (10..18).map(|n| softservice_protocol::id::ReleaseId([n; 32])).collect();
        Action::Release(long)
    };
    let stop = |reason: char, more: usize| {
        let revocation =
            Revocation { reason: reason.to_string().repeat(500 + more), ..revocation(RevokeLevel::Unsafe) };
        Action::Revoke { release: softservice_protocol::id::ReleaseId([1; 32]), revocation }
    };
    let other_keys: Vec<_> = (1..=15).map(|n| cast::key(b'z', n)).collect();
    let mut sealed = |action: Action| {
        let mut entry = anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)));
        entry.action = action;
        let keys: Vec<_> = std::iter::once(&anna.release).chain(&other_keys).collect();
        anna.seal(Kind::Entry, codec::encode(&entry).unwrap(), &keys)
    };
    for pair in [[longest(2, 0), longest(3, 0)], [stop('a', 0), stop('b', 0)]].map(|pair| pair.map(&mut sealed)) {
        assert_eq!(pair[0].signatures.len(), 16);
        let proof = Equivocation::make(&anna.trusted, &pair[0], &pair[1]).unwrap();
        let size = codec::encode(&proof).unwrap().len();
        assert!(size > limits::PROOF_BYTES / 2 && size <= limits::PROOF_BYTES, "{size}");
    }
    for (good, long) in [(longest(2, 0), longest(3, 1)), (stop('a', 0), stop('b', 1))] {
        let (good, long) = (sealed(good), sealed(long));
        assert!(matches!(Equivocation::make(&anna.trusted, &good, &long), Err(NoProof::Rules(_))));
    }
}

/// Or a thief's newcomers would stand on what nobody can show to be a second word.
#[test]
fn nobody_begins_with_an_entry_that_proves_nothing() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    let revoked = Listing { revoked: Some(revocation(RevokeLevel::Unsafe)), ..listing("guestbook", "2.0.0", 2) };
    let snapshot = softservice_protocol::feed::Snapshot { listings: vec![revoked.clone()], spent: Vec::new() };
    let snapshot = codec::encode(&snapshot).unwrap();
    let mut entry = anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)));
    (entry.action, entry.state_root) = (Action::Release(revoked), Digest::of(&snapshot));
    let sealed = anna.sealed(&entry);
    assert!(matches!(Equivocation::make(&anna.trusted, &sealed, &anna.entries[0]), Err(NoProof::Rules(_))));
    assert!(matches!(FeedState::onboard(&anna.trusted, &sealed, &snapshot), Err(FeedError::Broken { .. })));
}

#[test]
fn a_statement_is_fresh_then_stale_then_expired_and_never_bricks() {
    let mut anna = anna();
    anna.publish(listing("guestbook", "1.0.0", 1));
    let root = &anna.trusted.root;
    let mut statement = anna.statement();
    statement.valid_for = Span::days(14);
    let statement = verify_fresh(&anna.trusted, &anna.fresh(&statement)).unwrap();
    let clock = |clock| Moment { clock, built: NOW };
    let state =
        |fresh, days, millis: u64| freshness(fresh, NOW, root, clock(Time((NOW + Span::days(days)).0 + millis - 1))).0;
    let at = |days, millis| state(Some(&statement), days, millis);
    assert_eq!((at(0, 1), at(14, 0), at(14, 1)), (Freshness::Fresh, Freshness::Fresh, Freshness::Stale));
    let lost = clock(Time(NOW.0 - Span::days(1).0));
    assert_eq!(freshness(Some(&statement), NOW, root, lost).0, Freshness::Stale, "before its build a clock is wrong");
    assert_eq!((at(44, 0), at(44, 1)), (Freshness::Stale, Freshness::Expired));
    // Without a statement, the newest entry speaks for its feed.
    let at = |days, millis| state(None, days, millis);
    assert_eq!((at(7, 0), at(7, 1)), (Freshness::Fresh, Freshness::Stale));
    assert_eq!((at(37, 0), at(37, 1)), (Freshness::Stale, Freshness::Expired));
    assert_eq!(
        freshness(Some(&statement), root.expires_at, root, clock(NOW)),
        (Freshness::Expired, None),
        "a clock that runs behind"
    );
    for (valid_for, good) in [
        (Span::seconds(3600), true),
        (Span::seconds(3599), false),
        (Span::days(90), true),
        (Span(Span::days(90).0 + 1), false),
        (Span(u64::MAX), false),
    ] {
        let mut odd = anna.statement();
        odd.valid_for = valid_for;
        assert_eq!(verify_fresh(&anna.trusted, &anna.fresh(&odd)).is_ok(), good, "{valid_for:?}");
    }
    let by_release_key = anna.seal(Kind::Fresh, codec::encode(&anna.statement()).unwrap(), &[&anna.release]);
    assert!(verify_fresh(&anna.trusted, &by_release_key).is_err());
}
