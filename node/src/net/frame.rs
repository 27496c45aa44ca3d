//! Frames on a stream: four little-endian bytes of length, then so many bytes. Invariant: nothing is allocated beyond the
//! limit of the reader, whatever length a peer claims.

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use std::io;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream broke or ended inside a frame.
    #[error("stream broke: {0}")]
    Broken(#[from] io::Error),
    /// Longer than allowed, or empty.
    #[error("frame of {size} bytes, at most {limit} are allowed and none may be empty")]
    Size { size: usize, limit: usize },
}

/// The next frame; none when the stream ended between two.
pub(crate) async fn read<R: AsyncRead + Unpin>(stream: &mut R, limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
    let mut head = [0; 4];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|r| !r.is_empty()) {
        match stream.read(rest).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => filled += n,
        }
    }
    let size = u32::from_le_bytes(head) as usize;
    if size == 0 || size > limit {
        return Err(FrameError::Size { size, limit });
    }
    let mut bytes = vec![0; size];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

/// Puts one frame behind what is in `wire`.
pub(crate) fn put(wire: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    wire.extend_from_slice(&size.to_le_bytes());
    wire.extend_from_slice(bytes);
    Ok(())
}

/// Writes one frame, in one piece: each piece is encrypted and sent for itself. The caller flushes.
pub(crate) async fn write<W: AsyncWrite + Unpin>(stream: &mut W, bytes: &[u8]) -> io::Result<()> {
    let mut wire = Vec::with_capacity(4 + bytes.len());
    put(&mut wire, bytes)?;
    stream.write_all(&wire).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;

    #[tokio::test]
    async fn frames_come_back_and_absurd_lengths_are_refused_before_allocation() {
        let mut wire = Vec::new();
        write(&mut wire, b"one").await.unwrap();
        write(&mut wire, b"two!").await.unwrap();
        let mut reader = Cursor::new(wire.clone());
        assert_eq!(read(&mut reader, 4).await.unwrap().unwrap(), b"one");
        assert_eq!(read(&mut reader, 4).await.unwrap().unwrap(), b"two!");
        assert!(read(&mut reader, 4).await.unwrap().is_none());
        assert!(matches!(read(&mut Cursor::new(&wire), 2).await, Err(FrameError::Size { size: 3, limit: 2 })));
        let huge = u32::MAX.to_le_bytes();
        assert!(matches!(read(&mut Cursor::new(&huge), 1 << 20).await, Err(FrameError::Size { .. })));
        assert!(matches!(read(&mut Cursor::new(&wire[..5]), 4).await, Err(FrameError::Broken(_))));
        assert!(matches!(read(&mut Cursor::new(&[0u8; 4]), 4).await, Err(FrameError::Size { size: 0, .. })));
    }
}
