//! Records to bytes. Invariant: it refuses what [`super::Reader`] would refuse, so that nobody learns of it on the day of
//! a restore.

use super::{ArchiveError, Entry, Header, LENGTH, MAGIC, Record, order::Order};
use crate::{codec, id::ObjectId};

/// Writes one archive; the bytes of each call are to be written in their order.
#[derive(Debug)]
pub struct Writer {
    total: blake3::Hasher,
    file: blake3::Hasher,
    order: Order,
}

impl Writer {
    /// An archive's beginning.
    ///
    /// # Errors
    /// The header breaks a rule.
    pub fn begin(header: Header) -> Result<(Self, Vec<u8>), ArchiveError> {
        let mut writer = Self { total: blake3::Hasher::new(), file: blake3::Hasher::new(), order: Order::default() };
        writer.total.update(&MAGIC);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(writer.frame(&Record::Header(Box::new(header)))?);
        Ok((writer, bytes))
    }

    /// A folder, file or link. The data of a file follows, then [`Writer::end_file`].
    ///
    /// # Errors
    /// It breaks a rule of entries, or of their order.
    pub fn entry(&mut self, entry: Entry) -> Result<Vec<u8>, ArchiveError> {
        self.file.reset();
        self.frame(&Record::Entry(entry))
    }

    /// The next bytes of the file, at most [`super::PIECE`].
    ///
    /// # Errors
    /// No file is open, or it is longer than it said.
    pub fn data(&mut self, piece: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        self.file.update(piece);
        self.frame(&Record::Data(piece.to_vec()))
    }

    /// Zeros that take no room.
    ///
    /// # Errors
    /// No file is open, or it is longer than it said.
    pub fn hole(&mut self, length: u64) -> Result<Vec<u8>, ArchiveError> {
        self.frame(&Record::Hole(length))
    }

    /// The file's end, and BLAKE3 of its data.
    ///
    /// # Errors
    /// It is shorter than it said.
    pub fn end_file(&mut self) -> Result<Vec<u8>, ArchiveError> {
        let hash = ObjectId(*self.file.finalize().as_bytes());
        self.frame(&Record::Hash(hash))
    }

    /// The archive's end.
    ///
    /// # Errors
    /// Less came than the header said.
    pub fn end(mut self) -> Result<Vec<u8>, ArchiveError> {
        let total = ObjectId(*self.total.finalize().as_bytes());
        self.frame(&Record::End(total))
    }

    fn frame(&mut self, record: &Record) -> Result<Vec<u8>, ArchiveError> {
        self.order.accept(record)?;
        let body = codec::encode(record)?;
        let length = u32::try_from(body.len()).map_err(|_| ArchiveError::Frame { length: u32::MAX })?;
        let mut bytes = Vec::with_capacity(LENGTH + body.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        self.total.update(&bytes);
        Ok(bytes)
    }
}
