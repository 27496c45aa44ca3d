//! BLAKE3's own vectors: each length in all three modes, as long as they were published. The numbers are those of
//! `test_vectors/test_vectors.json` in BLAKE3-team/BLAKE3 (CC0): 35 lengths, 131 bytes of output.

use softservice_protocol::id::{ChunkId, Digest, ObjectId, ReleaseId};

const VECTORS: &str = include_str!("blake3.txt");
const KEY: &[u8; 32] = b"whats the Elvish word for friend";
const CONTEXT: &str = "BLAKE3 2019-12-27 16:29:52 test vectors context";

#[test]
fn blake3_gives_its_published_outputs_and_ids_are_their_beginning() {
    let lines: Vec<&str> = VECTORS.lines().collect();
    let mut seen = 0;
    for case in lines.chunks(4) {
        let [length, rest @ ..] = case else { panic!("a case has four lines") };
        let length: usize = length.parse().expect("a length");
        let input: Vec<u8> = (0..=250).cycle().take(length).collect();
        let outputs =
            [::blake3::Hasher::new(), ::blake3::Hasher::new_keyed(KEY), ::blake3::Hasher::new_derive_key(CONTEXT)].map(
                |mut hasher| {
                    let mut output = [0; 131];
                    hasher.update(&input).finalize_xof().fill(&mut output);
                    data_encoding::HEXLOWER.encode(&output)
                },
            );
        assert_eq!(outputs.as_slice(), rest, "{length} bytes");
        // What this program calls an id is the first 32 bytes of the plain mode, whichever id it is.
        let ids = [
            Digest::of(&input).to_string(),
            ObjectId::of(&input).to_string(),
            ChunkId::of(&input).to_string(),
            ReleaseId::of(&input).to_string(),
        ];
        assert!(ids.iter().all(|id| *id == rest[0][..64]), "{length} bytes: {ids:?}");
        seen += 1;
    }
    assert_eq!(seen, 35);
}
