//! Chance that can be played again: everything that a simulation leaves open is drawn from one seed.

/// A stream of pseudo-random numbers (SplitMix64). The same seed gives the same stream, everywhere.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// A stream.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds would otherwise share most of their streams, one step apart.
        let mut chance = Self(seed ^ 0x5851_f42d_4c95_7f2d);
        Self(chance.draw())
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is far below anything that a simulation could notice.
        self.draw() % end.max(1)
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True once in `n` times; never if `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = usize::try_from(self.below(of.len() as u64)).expect("an index of a slice");
        *of.get(index).expect("something to pick from")
    }

    /// An independent stream, so that one part of a simulation can draw more without moving another.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_another_seed_another() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(!draw(1).iter().any(|number| draw(2).contains(number)), "streams do not overlap at once");
    }

    #[test]
    fn bounds_hold() {
        let mut chance = Chance::new(7);
        assert!((0..1000).all(|_| (3..=5).contains(&chance.between(3, 5))));
        assert!(!chance.one_in(0));
        assert!(chance.one_in(1));
    }
}
