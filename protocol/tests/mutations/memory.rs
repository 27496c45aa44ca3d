//! Bytes that this process holds at once. Invariant: every allocation is counted, by the allocator itself.

use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// What is held now; the peak begins anew.
pub(crate) fn mark() -> usize {
    COUNTED.reset_peak_usage();
    COUNTED.current_usage()
}
/// The most that was held at once beyond a mark.
pub(crate) fn peak_since(mark: usize) -> usize {
    COUNTED.peak_usage().saturating_sub(mark)
}
