//! Every random choice of a run. Invariant: all dice descend from one seed, each concern has its own, so that a new
//! question in one place does not change the answers in another.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// A seeded source of choices for one concern.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of `concern` under `seed`.
    pub fn new(seed: u64, concern: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(concern.as_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }
    /// A number below `n`; 0 when `n` is 0. The bias of the remainder is below 2^-40 for every `n` used here.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.0.next_u64() % n }
    }
    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }
    /// A fraction from 0 up to, not including, 1.
    pub fn fraction(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        // Drawn even for 0 and 1: the number of draws must not depend on the settings more than it has to.
        self.fraction() < probability
    }
    /// A value in a range of a scenario, inclusive.
    pub fn within(&mut self, range: [f64; 2]) -> f64 {
        range[0] + (range[1] - range[0]).max(0.0) * self.fraction()
    }
    /// Waiting time until the next of events that come `rate` times a second on average, in seconds.
    pub fn waiting(&mut self, rate: f64) -> f64 {
        -(1.0 - self.fraction()).ln() / rate
    }
    /// Brings a list into any order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
    /// At most `count` different ones of a list, in any order.
    pub fn sample<T: Copy>(&mut self, list: &[T], count: usize) -> Vec<T> {
        let mut rest = list.to_vec();
        let count = count.min(rest.len());
        for i in 0..count {
            let other = i + self.below((rest.len() - i) as u64) as usize;
            rest.swap(i, other);
        }
        rest.truncate(count);
        rest
    }
    /// Bytes nobody wrote.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.0.fill_bytes(&mut out);
        out
    }
}
