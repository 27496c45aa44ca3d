//! Every bound in one place, with its reason. Relations between them are checked at compile time.

/// Announcements stay far below gossipsub's 64 KiB: signed pointers only.
pub const GOSSIP_BYTES: usize = 4 << 10;
/// A feed entry: a pointer and a few lines.
pub const ENTRY_BYTES: usize = 64 << 10;
/// A proof out of entries or statements: two entries that keep every rule fit, however many signatures they have. One out of
/// root documents is as long as those.
pub const PROOF_BYTES: usize = 8 << 10;
/// A root document: 4 roles of 16 keys and 64 delegations fit several times.
pub const ROOT_BYTES: usize = 64 << 10;
/// A compiled release, templates included. One verify unit, so it is fetched whole.
pub const RELEASE_BYTES: usize = 1 << 20;
/// The catalogue of one publisher after an entry: about 10 000 releases.
pub const SNAPSHOT_BYTES: usize = 4 << 20;
/// A tree manifest: a million entries of about 128 bytes.
pub const MANIFEST_BYTES: usize = 128 << 20;
/// One control message between peers; long answers come in pages.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// A snapshot that is too long for one message travels in pieces of so many bytes: little enough to lose, and that other
/// words pass between two of them.
pub const SNAPSHOT_PIECE: usize = 256 << 10;
/// Where a catalogue is full for releases; what is left of a snapshot is for revocations, some hundreds of the longest.
pub const CATALOGUE_BYTES: usize = SNAPSHOT_BYTES - SNAPSHOT_BYTES / 16;
/// Root documents that one walk may climb (TUF suggests 2^10).
pub const ROOT_STEPS: u64 = 1024;
/// Signatures on one object.
pub const SIGNATURES: usize = 16;
/// Keys in one role.
pub const ROLE_KEYS: usize = 16;
/// Delegations to build machines.
pub const DELEGATIONS: usize = 64;
/// Distros that one delegation names.
pub const DELEGATED_DISTROS: usize = 64;
/// Entries of a tree.
pub const TREE_ENTRIES: usize = 1_000_000;
/// Folders below a tree's root.
pub const TREE_DEPTH: usize = 16;
/// Bytes of one path component.
pub const COMPONENT_BYTES: usize = 255;
/// Bytes of one path.
pub const PATH_BYTES: usize = 1024;
/// Smallest, wished and largest chunk: FastCDC v2020's even sizes; cut points are wire format.
pub const CHUNK_MIN: usize = 16 << 10;
/// The wished size of a chunk.
pub const CHUNK_AVG: usize = 64 << 10;
/// The largest chunk.
pub const CHUNK_MAX: usize = 256 << 10;
/// Bytes that one span request asks for: adjacent missing chunks, enough to hide a round trip, little enough to lose.
pub const SPAN_BYTES: usize = 1 << 20;
/// Chunks in one span request: 512 files of 2 KiB make one megabyte.
pub const SPAN_CHUNKS: usize = 512;
/// Bytes of what an asker holds that resembles one span: twice a span, so that what moved within a file is still found.
pub const BASE_BYTES: usize = 2 << 20;
/// Chunks of it.
pub const BASE_CHUNKS: usize = 512;
/// Span requests that one peer may have open at us.
pub const PENDING_SPANS: usize = 32;
/// Distros that a release may include, directly.
pub const INCLUDES: usize = 64;
/// Releases in one closure.
pub const CLOSURE: usize = 256;
/// Parents of a release.
pub const PARENTS: usize = 8;
/// Bytes of a release's one line about itself.
pub const SUMMARY_BYTES: usize = 200;
/// Bytes of the reason for a revocation.
pub const REASON_BYTES: usize = 500;
/// Bytes of a semantic version.
pub const VERSION_BYTES: usize = 64;
/// Characters of a name.
pub const NAME_BYTES: usize = 63;
/// Entries of one list of a release: services, parameters, environment and the like. Far above what people write.
pub const LIST: usize = 256;
/// Bytes of one line that a person reads, and of one answer to a question.
pub const LINE_BYTES: usize = 4096;
/// Bytes of all files of one tree: sums over a closure stay far below 2^64.
pub const TREE_BYTES: u64 = 1 << 44;
/// Heads in one message.
pub const HEADS: usize = 1024;
/// Entries in one answer to a pull.
pub const FEED_PAGE: usize = 256;
/// Characters of a ticket: what a QR code carries comfortably.
pub const TICKET_CHARS: usize = 400;
/// Peers that we keep a connection to by our own wish.
pub const OUTBOUND_PEERS: usize = 16;
/// Peers that may connect to us.
pub const INBOUND_PEERS: usize = 128;

const _: () = assert!(CHUNK_MAX <= SPAN_BYTES && RELEASE_BYTES <= SPAN_BYTES);
const _: () = assert!(GOSSIP_BYTES <= ENTRY_BYTES && ENTRY_BYTES <= MESSAGE_BYTES && SNAPSHOT_BYTES <= MANIFEST_BYTES);
// Whatever a publisher may grow to, peers can carry: roots in pages, an entry beside an empty catalogue, the catalogue in pieces.
const _: () =
    assert!(ROOT_BYTES + ENTRY_BYTES + (16 << 10) <= MESSAGE_BYTES && SNAPSHOT_PIECE + (4 << 10) <= MESSAGE_BYTES);
const _: () =
    assert!(SNAPSHOT_BYTES <= u32::MAX as usize && SNAPSHOT_BYTES - CATALOGUE_BYTES >= 256 * (REASON_BYTES + 64));
const _: () = assert!((SPAN_CHUNKS + BASE_CHUNKS) * 36 <= MESSAGE_BYTES && HEADS * 128 <= MESSAGE_BYTES);
// Both entries of a proof: signatures of 105 bytes each, and what has one length, beside the longest listing or revocation.
const _: () = assert!(
    2 * (SIGNATURES * 105 + 512 + 2 * NAME_BYTES + VERSION_BYTES + SUMMARY_BYTES + PARENTS * 32) <= PROOF_BYTES
);
const _: () = assert!(2 * (SIGNATURES * 105 + 512 + REASON_BYTES) <= PROOF_BYTES);
