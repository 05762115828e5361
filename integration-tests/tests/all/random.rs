//! Randomness that can be replayed: `REPLANK_SEED=n`.

/// The seed of this process, printed once a test so that a failure can be replayed.
pub fn seed(test: &str) -> u64 {
    let seed = std::env::var("REPLANK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now);
    println!("{test}: REPLANK_SEED={seed}");
    seed
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| u64::try_from(since.as_nanos() & u128::from(u64::MAX >> 1)).unwrap_or(1))
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose operations.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed and the number of whoever draws.
    pub fn new(seed: u64, number: u64) -> Self {
        Self(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// For names that nobody else has: no seed gives it again.
    pub fn of_now() -> Self {
        Self(now())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Whether one in `n` falls.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
