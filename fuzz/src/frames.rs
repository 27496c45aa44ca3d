//! What reads frames off a stream, without the node around it: its own source file, as it is.

#[path = "../../node/src/net/frame.rs"]
#[allow(dead_code)]
mod frame;

use futures::FutureExt as _;

/// Every frame in these bytes, up to the first error.
pub fn frames(mut bytes: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = frame::read(&mut bytes, limit).now_or_never().expect("bytes are all there") {
        frames.push(frame);
    }
    frames
}
/// One frame with these bytes.
pub fn put(wire: &mut Vec<u8>, bytes: &[u8]) {
    frame::put(wire, bytes).expect("short enough");
}
