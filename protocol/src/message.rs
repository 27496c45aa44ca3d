//! Everything that peers say to each other on the control stream. Content travels on other streams: see
//! [`SpanRequest`] and [`SpanAnswer`], whose headers are framed by a u32 length and followed by chunk bytes.
//! Invariant: nothing here is trusted for its content; what matters is signed or hashed inside.

use crate::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    codec::Wire,
    feed::Head,
    id::{ChunkId, Digest, PublisherId, ReleaseId},
    limits,
};
use serde::{Deserialize, Serialize};

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// On connect and every [`crate::machine`] interval: the heads of the feeds that I follow.
    Heads(Vec<(PublisherId, Head)>),
    /// Tell me what I miss of this feed. `root` is the newest root version I have, 0 for none.
    Pull {
        /// Whose feed.
        publisher: PublisherId,
        /// Newest root version known.
        root: u64,
        /// Newest entry known.
        head: Head,
    },
    /// Answer to a pull: signed envelopes in order, each as received. Page by page; `more` says that another pull helps.
    Feed {
        /// Whose feed.
        publisher: PublisherId,
        /// Root documents after the version asked from.
        roots: Vec<Bytes>,
        /// Snapshot bytes, when the head asked from is the start; the first entry is then its head entry. None at all, an
        /// empty string: it is too long for one message, and [`Message::PullSnapshot`] asks for it.
        snapshot: Option<Bytes>,
        /// Entries.
        entries: Vec<Bytes>,
        /// Newest freshness statement.
        fresh: Option<Bytes>,
        /// Whether more entries follow.
        more: bool,
    },
    /// What do you have of this release's closure? Asked again while a fetch lasts.
    Have {
        /// The release.
        release: ReleaseId,
    },
    /// Answer: bit i = chunk i of the release's content order. None: I do not know this release's manifests.
    /// Sent again, unasked, to whoever asked, as more comes. May show less than is held, never more.
    Has {
        /// The release.
        release: ReleaseId,
        /// Chunks held.
        chunks: Option<Bitmap>,
    },
    /// Addresses of peers that lately had something of this publisher.
    Peers {
        /// Whose.
        publisher: PublisherId,
        /// Multiaddresses with peer ids, as text.
        addresses: Vec<String>,
    },
    /// Send me a piece of a snapshot that is too long for [`Message::Feed`].
    PullSnapshot {
        /// Whose feed.
        publisher: PublisherId,
        /// Which: the digest that its head entry commits to.
        snapshot: Digest,
        /// Where the piece begins.
        from: u32,
    },
    /// Answer: as much as there is from there on, at most [`limits::SNAPSHOT_PIECE`].
    Snapshot {
        /// Whose feed.
        publisher: PublisherId,
        /// Which.
        snapshot: Digest,
        /// Where the piece begins.
        from: u32,
        /// Bytes of the whole; 0 where it is not here any more.
        of: u32,
        /// The piece.
        piece: Bytes,
    },
}
impl Wire for Message {
    const NAME: &'static str = "peer message";
    const LIMIT: usize = limits::MESSAGE_BYTES;
}

/// Bytes inside a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// Header of a request on a content stream. Chunks are asked by id: whoever has one can serve it, whatever tree it
/// came from. Lengths are the asker's, from signed manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanRequest {
    /// The asker's number, unique on the stream.
    pub request: u64,
    /// At most [`limits::SPAN_CHUNKS`], together at most [`limits::SPAN_BYTES`].
    pub chunks: Vec<ChunkRef>,
    /// Chunks that the asker holds and that resemble those asked for, in an order of its own: an answer may be written
    /// against them. At most [`limits::BASE_CHUNKS`], together at most [`limits::BASE_BYTES`]; mostly none.
    pub base: Vec<ChunkRef>,
}
impl Wire for SpanRequest {
    const NAME: &'static str = "span request";
    const LIMIT: usize = 64 << 10;
}

/// How the chunks of an answer are written. The asker knows their length from what was signed, so that nothing makes
/// it unpack more; whatever it unpacks is hashed like anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coding {
    /// One after the other, as they are.
    Plain,
    /// All of them as one Zstandard frame (RFC 8878) of so many bytes.
    Zstd {
        /// Bytes that follow; fewer than the chunks have.
        bytes: u32,
    },
    /// The same, written with the bytes of the request's whole base as prefix (a raw-content dictionary).
    ZstdOverBase {
        /// Bytes that follow; fewer than the chunks have.
        bytes: u32,
    },
}

/// Header of an answer; the bytes of the chunks that are held follow, in the order asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanAnswer {
    /// The asker's number.
    pub request: u64,
    /// Bit i = chunk i of the request follows.
    pub held: Bitmap,
    /// How they are written.
    pub coding: Coding,
}
impl Wire for SpanAnswer {
    const NAME: &'static str = "span answer";
    const LIMIT: usize = 4 << 10;
}

impl SpanRequest {
    /// Bytes asked for, when the request keeps the limits.
    pub fn checked_bytes(&self) -> Option<u64> {
        let bytes: u64 = self.chunks.iter().map(|c| u64::from(c.len)).sum();
        let base: u64 = self.base.iter().map(|c| u64::from(c.len)).sum();
        let fits = self.chunks.len() <= limits::SPAN_CHUNKS && bytes <= limits::SPAN_BYTES as u64;
        let base = self.base.len() <= limits::BASE_CHUNKS && base <= limits::BASE_BYTES as u64;
        let real = self.chunks.iter().chain(&self.base).all(|c| c.len > 0);
        (fits && base && real && !self.chunks.is_empty()).then_some(bytes)
    }
    /// The ids asked for.
    pub fn ids(&self) -> impl Iterator<Item = ChunkId> + '_ {
        self.chunks.iter().map(|c| c.id)
    }
}
