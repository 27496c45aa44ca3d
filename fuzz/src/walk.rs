//! Chains of root documents, as anybody might make them who holds some of the keys. Invariant: which one may follow is
//! worked out here a second time, from the rule and not from the program.

use crate::{
    cast::{NOW, digest, key, public},
    script::Script,
};
use ed25519_dalek::SigningKey;
use softservice_protocol::{
    codec,
    id::{FeedId, PublisherId},
    limits,
    root::{Role, Root, TrustedRoot, publisher_of},
    sign::{Envelope, Kind},
    time::Span,
};
use std::sync::LazyLock;

/// Keys that stand in root roles, in the order of their public halves.
static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| {
    let mut keys: Vec<_> = (1..=5).map(|n| key(b'r', n)).collect();
    keys.sort_by_key(public);
    keys
});

fn chosen(mask: u8) -> Vec<&'static SigningKey> {
    KEYS.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, key)| key).collect()
}
fn role(mask: u8, threshold: u8) -> Role {
    Role { threshold, keys: chosen(mask).into_iter().map(public).collect() }
}
/// Whether the keys of `signers` reach the threshold of a role with the keys of `mask`.
fn reaches(mask: u8, threshold: u8, signers: u8) -> bool {
    (mask & signers).count_ones() >= u32::from(threshold)
}

fn seal(root: &Root, publisher: PublisherId, signers: u8) -> Envelope {
    let payload = codec::encode(root).expect("a root document is short");
    Envelope::seal(Kind::Root, publisher, FeedId::main(publisher), payload, &chosen(signers))
}

/// Changes a document that could follow; says whether it still may, if those sign who must.
fn twist_by(root: &mut Root, twist: u8) -> bool {
    match twist {
        0 => root.version += 1,
        1 => root.version -= 1,
        2 => root.prev = digest(9),
        3 => root.publisher.0[0] ^= 1,
        4 => root.min_protocol = 0,
        5 => root.feed.epoch += 2,
        6 => root.expires_at = root.issued_at,
        7 => root.roles.release.threshold = 0,
        8 => root.roles.fresh.keys = root.roles.release.keys.clone(),
        9 => root.roles.revoke.keys = root.roles.root.keys.clone(),
        10 => root.feed.from_hash = digest(3),
        11 => {
            root.feed.epoch += 1;
            return true;
        }
        _ => return true,
    }
    false
}

/// Each step proposes a successor; it is taken exactly if it may be.
pub fn walk(bytes: &[u8]) {
    let mut script = Script(bytes);
    let others = [2, 3, 4].map(|n| public(&key(b'o', n)));
    let mut first = Root::first(public(&KEYS[0]), others[0], others[1], others[2], NOW, NOW + Span::days(365));
    first.roles.root = role(0b111, 2);
    let publisher = publisher_of(&codec::encode(&first).expect("short"));
    let mut chain = vec![seal(&first, publisher, 0b11)];
    let mut trusted = TrustedRoot::first(publisher, &chain[0]).expect("two of three signed");
    let mut now = (0b111, 2);
    while let (Some(mask), Some(threshold), Some(signers), Some(twist)) =
        (script.byte(), script.byte(), script.byte(), script.byte())
    {
        let [mask, signers] = [mask, signers].map(|m| m & 0b1_1111);
        let mut root = trusted.root.clone();
        (root.version, root.prev, root.publisher) = (root.version + 1, trusted.digest, publisher);
        root.roles.root = role(mask, threshold);
        let straight = twist_by(&mut root, twist) && root.version <= limits::ROOT_STEPS;
        let sound = threshold > 0 && u32::from(threshold) <= mask.count_ones();
        let expected = straight && sound && reaches(now.0, now.1, signers) && reaches(mask, threshold, signers);
        let envelope = seal(&root, publisher, signers);
        match trusted.next(&envelope) {
            Ok(next) => {
                assert!(expected, "taken: {root:?} signed by {signers:b} after {now:?}");
                (trusted, now) = (next, (mask, threshold));
                chain.push(envelope);
            }
            Err(why) => assert!(!expected, "refused, {why}: {root:?} signed by {signers:b} after {now:?}"),
        }
    }
    let again = TrustedRoot::walk(publisher, &chain).expect("what was taken one by one is a chain");
    assert_eq!(again, trusted);
}
