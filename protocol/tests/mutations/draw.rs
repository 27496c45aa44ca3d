//! Dice: each mutation draws from its own, so that it can be repeated without those before it.

/// A stream of numbers from the BLAKE3 of seed and number.
pub(crate) struct Draw(blake3::OutputReader);

impl Draw {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).update(&number.to_le_bytes()).finalize_xof())
    }
    pub(crate) fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }
    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
    pub(crate) fn is_once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
