//! Bytes to what they say. Invariant: it asks for the bytes that it needs, and for no more than a frame may have; what it
//! gave out is true when it has given out [`Item::End`] and the stream ends there, and not before.

use super::{Entry, Header, LENGTH, MAGIC, Record, order::Order};
use crate::{
    codec::{self, CodecError, Wire as _},
    id::ObjectId,
};

/// Why bytes are not a whole backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Something else.
    #[error("it is not a backup")]
    Foreign,
    /// A frame of a length that none has.
    #[error("a record of {length} bytes is none")]
    Frame {
        /// The length that it says.
        length: u32,
    },
    /// Bytes that are no record.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A header that cannot be.
    #[error("its header {rule}")]
    Header {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A path, link or mode that cannot be.
    #[error("{path:?} {rule}")]
    Entry {
        /// The path, cut to 120 characters.
        path: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A record where it does not belong.
    #[error("{what}")]
    Order {
        /// How.
        what: &'static str,
    },
    /// Content that is not what was written.
    #[error("{place} is damaged: its content does not have its hash")]
    Hash {
        /// The file, or the whole.
        place: String,
    },
    /// The stream ended early.
    #[error("it ends within {place}: the rest is missing")]
    Cut {
        /// The last file that began.
        place: String,
    },
    /// The stream goes on.
    #[error("it goes on after its end")]
    Tail,
}

/// What the reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The header; first.
    Header(Header),
    /// A folder, file or link.
    Entry(Entry),
    /// The next bytes of the file that came last.
    Data(Vec<u8>),
    /// So many zeros that take no room.
    Hole(u64),
    /// The file is whole, and its data has this BLAKE3.
    Whole(ObjectId),
    /// The archive is whole.
    End,
}

#[derive(Debug)]
enum Wants {
    Magic,
    Length,
    Body([u8; LENGTH]),
    Nothing,
}

/// Reads one archive.
#[derive(Debug)]
pub struct Reader {
    wants: Wants,
    total: blake3::Hasher,
    file: blake3::Hasher,
    order: Order,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self { wants: Wants::Magic, total: blake3::Hasher::new(), file: blake3::Hasher::new(), order: Order::default() }
    }

    /// How many bytes [`Reader::take`] needs next; 0 when the archive has ended, and then the stream must end too.
    pub fn wants(&self) -> usize {
        match self.wants {
            Wants::Magic => MAGIC.len(),
            Wants::Length => LENGTH,
            Wants::Body(length) => u32::from_le_bytes(length) as usize,
            Wants::Nothing => 0,
        }
    }

    /// Takes exactly as many bytes as it wants. None: the item is not whole yet.
    ///
    /// # Errors
    /// The first way in which the stream is no archive; nothing can be read after it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Item>, ArchiveError> {
        if bytes.len() != self.wants() {
            return Err(ArchiveError::Cut { place: self.order.place() });
        }
        match self.wants {
            Wants::Magic if bytes != MAGIC => Err(ArchiveError::Foreign),
            Wants::Magic => {
                self.total.update(bytes);
                self.wants = Wants::Length;
                Ok(None)
            }
            Wants::Length => {
                let mut length = [0; LENGTH];
                length.copy_from_slice(bytes);
                let number = u32::from_le_bytes(length);
                if number == 0 || number as usize > Record::LIMIT {
                    return Err(ArchiveError::Frame { length: number });
                }
                self.wants = Wants::Body(length);
                Ok(None)
            }
            Wants::Body(length) => {
                let record = codec::decode::<Record>(bytes)?;
                self.order.accept(&record)?;
                self.wants = if self.order.ended() { Wants::Nothing } else { Wants::Length };
                let item = self.item(record)?;
                self.total.update(&length).update(bytes);
                Ok(Some(item))
            }
            Wants::Nothing => Err(ArchiveError::Tail),
        }
    }

    /// Call where the stream ends.
    ///
    /// # Errors
    /// The archive has not ended.
    pub fn end(&self) -> Result<(), ArchiveError> {
        if self.order.ended() { Ok(()) } else { Err(ArchiveError::Cut { place: self.order.place() }) }
    }

    fn item(&mut self, record: Record) -> Result<Item, ArchiveError> {
        let same = |hasher: &blake3::Hasher, hash: ObjectId, place: &dyn Fn() -> String| {
            let good = *hasher.finalize().as_bytes() == hash.0;
            if good { Ok(()) } else { Err(ArchiveError::Hash { place: place() }) }
        };
        Ok(match record {
            Record::Header(header) => Item::Header(*header),
            Record::Entry(entry) => {
                self.file.reset();
                Item::Entry(entry)
            }
            Record::Data(piece) => {
                self.file.update(&piece);
                Item::Data(piece)
            }
            Record::Hole(length) => Item::Hole(length),
            Record::Hash(hash) => {
                same(&self.file, hash, &|| self.order.place())?;
                Item::Whole(hash)
            }
            Record::End(hash) => {
                same(&self.total, hash, &|| "the whole".into())?;
                Item::End
            }
        })
    }
}
