//! Which of a numbered list are here. Invariant: bits beyond `len` are zero, so equal sets have equal bytes.

use serde::{Deserialize, Serialize};

/// A set of numbers below `len`, one bit each, lowest bit first.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(try_from = "Unchecked")]
pub struct Bitmap {
    len: u32,
    #[serde(with = "serde_bytes")]
    bits: Vec<u8>,
}

/// A bitmap as it came from a peer.
#[derive(Deserialize)]
struct Unchecked {
    len: u32,
    #[serde(with = "serde_bytes")]
    bits: Vec<u8>,
}

impl TryFrom<Unchecked> for Bitmap {
    type Error = &'static str;
    fn try_from(Unchecked { len, bits }: Unchecked) -> Result<Self, &'static str> {
        let map = Self { len, bits };
        if map.is_valid() { Ok(map) } else { Err("bitmap's bytes do not fit its length") }
    }
}

impl Bitmap {
    /// None of `len`.
    pub fn empty(len: usize) -> Self {
        Self { len: u32::try_from(len).unwrap_or(u32::MAX), bits: vec![0; len.div_ceil(8)] }
    }
    /// All of `len`.
    pub fn full(len: usize) -> Self {
        let mut map = Self::empty(len);
        for i in 0..len {
            map.set(i, true);
        }
        map
    }
    /// How many numbers there are, in the set or not.
    pub fn len(&self) -> usize {
        self.len as usize
    }
    /// True when there is nothing to number.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Whether `i` is in the set; false beyond the end.
    pub fn get(&self, i: usize) -> bool {
        i < self.len() && self.bits.get(i / 8).is_some_and(|b| b & (1 << (i % 8)) != 0)
    }
    /// Puts `i` in or takes it out; beyond the end it does nothing.
    pub fn set(&mut self, i: usize, on: bool) {
        if i < self.len()
            && let Some(byte) = self.bits.get_mut(i / 8)
        {
            if on { *byte |= 1 << (i % 8) } else { *byte &= !(1 << (i % 8)) }
        }
    }
    /// How many are in the set.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|b| b.count_ones() as usize).sum()
    }
    /// Whether all are in the set.
    pub fn is_full(&self) -> bool {
        self.count() == self.len()
    }
    /// The numbers in the set, ascending.
    pub fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|&i| self.get(i))
    }
    /// The numbers not in the set, ascending.
    pub fn zeros(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|&i| !self.get(i))
    }
    /// Whether the invariant holds; it does for whatever was decoded.
    pub fn is_valid(&self) -> bool {
        self.bits.len() == self.len().div_ceil(8)
            && (self.len.is_multiple_of(8) || self.bits.last().is_none_or(|b| b >> (self.len % 8) == 0))
    }
}
impl std::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitmap({}/{})", self.count(), self.len)
    }
}
