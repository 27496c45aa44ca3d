//! The form of a compressed answer: one Zstandard frame (RFC 8878, 3.1.1) and nothing behind it, with a window of at most
//! [`WINDOW`]. Invariant: what passes here can be unpacked as it comes by any decoder that gives a frame [`WINDOW`] bytes; the
//! form of what is refused is a lie of whoever sent it.
//!
//! Leaving it to the library was refused: unpacking at once, it takes several frames, frames to be skipped and windows of any
//! size, so that two nodes with other libraries would take other answers.

use super::packing::WINDOW_LOG;

/// Bytes that a frame may refer back to: a span and its base fit.
const WINDOW: u64 = 1 << WINDOW_LOG;
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// A frame without a window of its own: its whole content, which is no longer than what was asked for, is the window.
const SINGLE_SEGMENT: u8 = 1 << 5;

/// Whether these bytes are one frame with a window that is not too large.
///
/// # Errors
/// What is wrong with them, for people.
pub(super) fn check(packed: &[u8]) -> Result<(), &'static str> {
    let Some(&[descriptor, window, ..]) = packed.strip_prefix(MAGIC.as_slice()) else {
        return Err("it does not begin with a frame");
    };
    if descriptor & SINGLE_SEGMENT == 0 && size(window) > WINDOW {
        return Err("the frame has too large a window");
    }
    let frame = zstd::zstd_safe::find_frame_compressed_size(packed).map_err(zstd::zstd_safe::get_error_name)?;
    if frame == packed.len() { Ok(()) } else { Err("more follows after the frame") }
}

/// The window's size, as its byte says it: an eighth of a power of two is the grain.
fn size(byte: u8) -> u64 {
    let base = 1_u64 << (10 + u32::from(byte >> 3));
    base + base / 8 * u64::from(byte & 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zstd::zstd_safe::{CCtx, CParameter};

    fn frame(content: &[u8], window_log: u32, sized: bool) -> Vec<u8> {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        context.set_parameter(CParameter::ContentSizeFlag(sized)).unwrap();
        let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(content.len()));
        // As a stream: of a whole content the library makes the window no larger than it needs to be.
        let mut input = zstd::zstd_safe::InBuffer::around(content);
        let mut output = zstd::zstd_safe::OutBuffer::around(&mut packed);
        context.compress_stream(&mut output, &mut input).unwrap();
        assert_eq!(context.end_stream(&mut output).unwrap(), 0);
        packed
    }

    #[test]
    fn one_frame_is_taken_and_nothing_else() {
        let one = frame(b"one frame", 20, false);
        assert_eq!(check(&one), Ok(()));
        assert!(check(&[one.clone(), one.clone()].concat()).is_err(), "two frames");
        assert!(check(&[one.as_slice(), b"x"].concat()).is_err(), "a byte behind it");
        // A frame to be skipped, of four bytes.
        let skipped = [0x184D_2A50_u32.to_le_bytes(), 4_u32.to_le_bytes(), *b"skip"].concat();
        assert!(check(&skipped).is_err());
        assert!(check(&[skipped, one.clone()].concat()).is_err());
        (0..one.len()).for_each(|len| assert!(check(&one[..len]).is_err(), "cut to {len}"));
    }

    #[test]
    fn a_window_is_as_large_as_a_span_and_its_base_and_no_larger() {
        assert_eq!(check(&frame(&[7; 1000], WINDOW_LOG, false)), Ok(()));
        assert!(check(&frame(&[7; 1000], WINDOW_LOG + 1, false)).is_err());
        assert_eq!((size(0), size(7), size(12 << 3)), (1 << 10, (1 << 10) + 7 * 128, WINDOW));
        assert_eq!(size(u8::MAX), 15 << 38);
        let whole = zstd::bulk::compress(&[7; 1000], 3).unwrap();
        assert_ne!(whole[4] & SINGLE_SEGMENT, 0);
        assert_eq!(check(&whole), Ok(()));
    }
}
