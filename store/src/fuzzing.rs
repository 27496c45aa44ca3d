//! Ways in for fuzz targets (`fuzz/`), which are not there in any other build: readers of a store's files.
//! Invariant: checks of the bytes as a whole are passed here, so that what is tried is what stands behind them.

use crate::{journal, layouts, marks, partial::have, seen};
use std::ops::Range;

/// Marks with this body: what is read is written to bytes that are read as the same.
pub fn marks(body: &[u8]) {
    let Some((generation, heads)) = marks::decode(&[body, blake3::hash(body).as_bytes()].concat()) else { return };
    assert_eq!(marks::decode(&marks::encode(generation, &heads)), Some((generation, heads)));
}

/// A log of these payloads, then `damaged` bytes of it set to `with`: what the damage does not touch is found, in order, and
/// nothing else.
pub fn log(payloads: &[&[u8]], damaged: Range<usize>, with: u8) {
    const BASE: u64 = 8192;
    // As secret as a log's own: another for any other payloads, or a fuzzer that sees what tags are compared with learns to
    // put good records into payloads.
    let mut secret = blake3::Hasher::new();
    for payload in payloads {
        secret.update(payload).update(&payload.len().to_le_bytes());
    }
    let key: [u8; 32] = secret.finalize().into();
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for payload in payloads {
        journal::put(&mut bytes, &key, BASE, payload);
        ends.push(bytes.len());
    }
    let mut changed = bytes.clone();
    let damaged = damaged.start.min(bytes.len())..damaged.end.min(bytes.len());
    changed.get_mut(damaged.clone()).into_iter().flatten().for_each(|byte| *byte = with);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let whole = starts
        .zip(ends.iter().copied())
        .zip(payloads)
        .filter(|((start, end), _)| changed.get(*start..*end) == bytes.get(*start..*end));
    let expected: Vec<(u64, Vec<u8>)> =
        whole.map(|((_, end), payload)| (BASE + end as u64, payload.to_vec())).collect();
    let found = journal::scan(&changed, BASE, &key);
    assert_eq!(found.records, expected, "a log lost more than what was damaged, or found what nobody wrote");
}

/// Any bytes as a log, as a record of a layout, as an entry of chunks that came, and as what is known of a folder.
pub fn files(bytes: &[u8]) {
    let found = journal::scan(bytes, 8192, &[7; 32]);
    assert!(found.end <= 8192 + bytes.len() as u64);
    if let Some(layout) = layouts::decode_layout(bytes) {
        assert!(layout.check().is_ok());
    }
    let hash = blake3::hash(bytes);
    if let Some(spot) = have::decode(&[bytes, hash.as_bytes().split_at(16).0].concat()) {
        assert_eq!(have::decode(&have::encode(&spot)), Some(spot));
    }
    let _ = seen::decode(&[seen::MAGIC.as_slice(), hash.as_bytes(), bytes].concat());
}
