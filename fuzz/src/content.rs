//! What unpacks content, without the node around it: its own source files, as they are.

#[path = "../../node/src/net/content/packing.rs"]
#[allow(dead_code)]
mod packing;
#[path = "../../node/src/net/content/window.rs"]
mod window;

/// As [`packing::unpack`].
pub fn unpack(packed: &[u8], base: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
    packing::unpack(packed, base, len)
}
/// As [`packing::pack_over`], at its lightest.
pub fn pack_over(content: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    packing::pack_over(content, base, 0)
}
