//! How objects are changed. Invariant: what comes out is never what went in.

use crate::{
    cast::{digest, key, public},
    draw::Draw,
    objects::Object,
};
use softservice_protocol::{
    codec,
    feed::{Action, Entry, Fresh, RevokeLevel},
    id::{FeedId, PublisherId, ReleaseId},
    root::Root,
    sign::{Envelope, Kind, Signature, sign},
    time::Span,
};

/// The group's order, little-endian: added to a signature's S, it makes a second spelling of the same signature.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The object, changed in one to three places.
pub(crate) fn changed(draw: &mut Draw, object: &Object, others: &[Object]) -> Vec<u8> {
    loop {
        let mut bytes = object.good.clone();
        if object.is_envelope && draw.is_once_in(2) {
            let mut envelope: Envelope = codec::decode(&bytes).expect("it is one");
            (0..=draw.below(2)).for_each(|_| forge(draw, &mut envelope, others));
            // What does not fit is nobody's envelope.
            let Ok(forged) = codec::encode(&envelope) else { continue };
            bytes = forged;
        } else {
            (0..=draw.below(3)).for_each(|_| damage(draw, &mut bytes, others));
        }
        if bytes != object.good {
            return bytes;
        }
    }
}

/// As a broken disk or link would, or somebody who tries.
fn damage(draw: &mut Draw, bytes: &mut Vec<u8>, others: &[Object]) {
    let len = bytes.len().max(1);
    let at = draw.below(len).min(bytes.len());
    match draw.below(11) {
        0..=2 if at < bytes.len() => bytes[at] ^= 1 << draw.below(8),
        3 if at < bytes.len() => bytes[at] = draw.number() as u8,
        4 => bytes.insert(at, draw.number() as u8),
        5 if at < bytes.len() => drop(bytes.remove(at)),
        6 => bytes.truncate(at),
        7 => bytes.extend((0..1 + draw.below(40)).map(|_| 0)),
        8 => {
            // A length, a number, a discriminant: values at which decoders stumble.
            let number =
                *draw.of(&[0u64, 1, 2, 255, 1 << 16, 1 << 32, 1 << 40, u64::MAX, u64::MAX - 1, (128 << 20) + 1]);
            let width = *draw.of(&[1usize, 2, 4, 8]);
            for (place, byte) in bytes.iter_mut().skip(at).zip(number.to_le_bytes().into_iter().take(width)) {
                *place = byte;
            }
        }
        9 => {
            let end = (at + 1 + draw.below(64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = draw.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        10 => {
            // The rest of another object, of whatever kind.
            let other = &draw.of(others).good;
            let from = draw.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {}
    }
}

/// By somebody who knows what each part means, and has keys of their own only.
fn forge(draw: &mut Draw, envelope: &mut Envelope, others: &[Object]) {
    let mallory = key(b'm', draw.below(4) as u8);
    match draw.below(14) {
        0..=3 => reword(draw, envelope),
        4 => envelope.kind = *draw.of(&[Kind::Root, Kind::Entry, Kind::Fresh]),
        5 => envelope.publisher = PublisherId([draw.number() as u8; 32]),
        6 => envelope.feed = FeedId([draw.number() as u8; 32]),
        7 => {
            let signature = sign(&mallory, envelope.kind, envelope.publisher, envelope.feed, &envelope.payload);
            envelope.signatures.push(signature);
            envelope.signatures.sort();
        }
        8 => {
            // Mallory's signature under the name of a key that counts.
            let signature = sign(&mallory, envelope.kind, envelope.publisher, envelope.feed, &envelope.payload);
            if let Some(place) = envelope.signatures.first_mut() {
                place.bytes = signature.bytes;
            }
        }
        9 => drop(envelope.signatures.pop()),
        10 => {
            let twice: Vec<Signature> = envelope.signatures.iter().flat_map(|s| [s.clone(), s.clone()]).collect();
            envelope.signatures = twice;
        }
        11 => malleate(draw, envelope),
        12 => {
            // Signatures of something else that the same keys signed.
            if let Ok(other) = codec::decode::<Envelope>(&draw.of(others).good) {
                envelope.signatures = other.signatures;
            }
        }
        _ => match envelope.signatures.first_mut() {
            Some(place) if draw.is_once_in(2) => place.algorithm = draw.number() as u8,
            Some(place) => place.key = public(&mallory),
            None => {}
        },
    }
}

/// A second spelling of a signature, were one allowed.
fn malleate(draw: &mut Draw, envelope: &mut Envelope) {
    let Some(place) = envelope.signatures.first_mut() else { return };
    match draw.below(3) {
        0 => {
            let mut carry = 0u16;
            for (byte, order) in place.bytes.iter_mut().skip(32).zip(ORDER) {
                carry += u16::from(*byte) + u16::from(order);
                *byte = carry as u8;
                carry >>= 8;
            }
        }
        1 => place.bytes.iter_mut().skip(31).take(1).for_each(|b| *b ^= 0x80),
        _ => place.bytes.push(0),
    }
}

/// Other words under the same signatures.
fn reword(draw: &mut Draw, envelope: &mut Envelope) {
    if let Ok(mut root) = envelope.open::<Root>() {
        match draw.below(8) {
            0 => root.roles.root.threshold = draw.below(3) as u8,
            1 => root.roles.release.keys[0] = public(&key(b'm', 2)),
            2 => root.roles.revoke.keys.push(public(&key(b'm', 4))),
            3 => root.expires_at = root.expires_at + Span::days(1 + draw.below(1000) as u64),
            4 => root.version = draw.number() % 4,
            5 => root.feed.epoch += 1,
            6 => root.next_keys = Some(digest(1)),
            _ => root.min_protocol = draw.below(4) as u16,
        }
        envelope.payload = codec::encode(&root).expect("it fits");
    } else if let Ok(mut entry) = envelope.open::<Entry>() {
        match draw.below(6) {
            0 => entry.at.seq = draw.number() % 5,
            1 => entry.at.epoch = draw.below(3) as u32,
            2 => entry.prev = digest(draw.below(3) as u8),
            3 => entry.issued_at.0 ^= 1,
            4 => entry.state_root = digest(1),
            _ => match &mut entry.action {
                Action::Release(listing) if draw.is_once_in(2) => listing.release = ReleaseId([9; 32]),
                Action::Release(listing) => listing.version = "9.9.9".into(),
                Action::Revoke { revocation, .. } if draw.is_once_in(2) => revocation.level = RevokeLevel::Withdraw,
                Action::Revoke { release, .. } => *release = ReleaseId([2; 32]),
            },
        }
        envelope.payload = codec::encode(&entry).expect("it fits");
    } else if let Ok(mut fresh) = envelope.open::<Fresh>() {
        match draw.below(4) {
            0 => fresh.head.at.seq = draw.number() % 5,
            1 => fresh.head.hash = digest(1),
            2 => fresh.valid_for = Span::days(1 + draw.below(90) as u64),
            _ => fresh.issued_at = fresh.issued_at + Span::days(1),
        }
        envelope.payload = codec::encode(&fresh).expect("it fits");
    }
}
