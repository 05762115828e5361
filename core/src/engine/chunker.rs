//! Sizes chunks by the time that they take.

use std::time::Duration;

/// Chooses how many rows the next chunk has, so that it takes about as long as the target.
#[derive(Debug, Clone)]
pub struct Chunker {
    rows: u64,
    rows_max: u64,
    bytes_max: u64,
    target: Duration,
}

// Small enough to be harmless on the widest rows, and six quick chunks from a hundred thousand. Chosen.
const FIRST: u64 = 500;

impl Chunker {
    /// Starts small: nothing is known of the rows yet.
    #[must_use]
    pub fn new(target: Duration, rows_max: u64, bytes_max: u64) -> Self {
        Self { rows: FIRST.min(rows_max.max(1)), rows_max: rows_max.max(1), bytes_max, target }
    }

    /// Takes new bounds; the size found so far is kept within them.
    pub fn limit(&mut self, target: Duration, rows_max: u64, bytes_max: u64) {
        self.target = target;
        self.rows_max = rows_max.max(1);
        self.bytes_max = bytes_max;
        self.rows = self.rows.min(self.rows_max);
    }

    /// Rows for the next chunk.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Learns from a chunk: at most doubles, at most halves, so that one outlier does no harm.
    pub fn learn(&mut self, rows: u64, bytes: u64, took: Duration) {
        if rows == 0 {
            return;
        }
        let took = took.as_secs_f64().max(1e-6);
        #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
        let (asked, seen, bytes) = (self.rows as f64, rows as f64, bytes as f64);
        let by_time = seen * self.target.as_secs_f64() / took;
        #[expect(clippy::cast_precision_loss, reason = "byte limits are far below 2^53")]
        let by_bytes = if bytes > 0.0 { seen * self.bytes_max as f64 / bytes } else { f64::INFINITY };
        let wanted = by_time.min(by_bytes).clamp(asked / 2.0, asked * 2.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the limits")]
        let wanted = wanted.round() as u64;
        self.rows = wanted.clamp(1, self.rows_max);
    }

    /// A chunk did not fit, or took too long: the next is a quarter of it.
    pub fn shrink(&mut self) {
        self.rows = (self.rows / 4).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(100);

    #[test]
    fn it_settles_on_the_size_that_takes_the_target() {
        let mut chunker = Chunker::new(TARGET, 1_000_000, u64::MAX);
        for _ in 0..20 {
            // A server that copies 50 rows a millisecond.
            let took = Duration::from_micros(chunker.rows() * 20);
            chunker.learn(chunker.rows(), 0, took);
        }
        assert!((4_900..=5_100).contains(&chunker.rows()), "{}", chunker.rows());
    }

    #[test]
    fn rows_and_bytes_bound_it() {
        let mut chunker = Chunker::new(TARGET, 700, u64::MAX);
        chunker.learn(500, 0, Duration::from_micros(1));
        assert_eq!(chunker.rows(), 700);
        let mut chunker = Chunker::new(TARGET, 1_000_000, 10_000);
        for _ in 0..20 {
            // Rows of 100 bytes, copied in no time.
            chunker.learn(chunker.rows(), chunker.rows() * 100, Duration::from_micros(1));
        }
        assert_eq!(chunker.rows(), 100);
    }

    #[test]
    fn one_slow_chunk_only_halves_it_and_it_never_reaches_zero() {
        let mut chunker = Chunker::new(TARGET, 1_000_000, u64::MAX);
        chunker.learn(500, 0, Duration::from_secs(60));
        assert_eq!(chunker.rows(), 250);
        for _ in 0..20 {
            chunker.shrink();
        }
        assert_eq!(chunker.rows(), 1);
    }
}
