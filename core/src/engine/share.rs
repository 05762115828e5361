//! How much of the time chunks may take, beside those who write.
//!
//! How much of a server is free cannot be read anywhere, so it is tried. Chunks run for a while and then rest for a while, and
//! the transactions that others commit in both are counted. Where writers commit as much beside chunks as without them, there
//! was room, and chunks take nearly all of the time; where they commit less, chunks take so much of the time that what is lost
//! over all is a twentieth. Where hardly anybody writes nothing rests.

use std::time::Duration;

/// Long enough for some chunks and some hundred transactions, short enough to notice when a rush begins. Chosen.
const WORK: Duration = Duration::from_millis(250);
/// The shortest rest in which anything can be counted. Chosen.
const REST_MIN: Duration = Duration::from_millis(50);
/// Below so many transactions a second nobody is waiting for the disk because of us. Chosen.
const BUSY: f64 = 50.0;
/// So many in a window are somebody who writes, perhaps slowly because of us: once, that is tried. Ours are fewer. Chosen.
const NOTICED: f64 = 4.0;
/// After a count that failed. Chosen.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// What writers may lose by chunks. Chosen: what captures and applies their changes costs them as much again.
const TOLERATED: f64 = 0.05;
/// Whatever writers lose, the change comes to an end. Chosen.
const LEAST: f64 = 0.1;
/// Where chunks may take less of the time than this, they are dear. Chosen.
const DEAR: f64 = 0.5;
/// While somebody writes, so much is tried at most: the rest is for counting.
const MOST: f64 = 0.95;
/// Before anything is known.
const FIRST: f64 = 0.5;
/// What was counted counts so much less with each round: some five rounds are remembered. Chosen.
const FADING: f64 = 0.8;

/// What chunks may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Begin.
    Go,
    /// Rest.
    Wait,
    /// Ask how much others have written, and begin nothing before that is known.
    Count,
}

/// Transactions, and the seconds in which they were committed.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    transactions: f64,
    seconds: f64,
}

impl Tally {
    fn add(&mut self, transactions: f64, seconds: f64) {
        self.transactions = self.transactions * FADING + transactions;
        self.seconds = self.seconds * FADING + seconds;
    }

    fn rate(self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.transactions / self.seconds)
    }
}

#[derive(Debug, Clone, Copy)]
enum Window {
    /// Nothing was counted yet, or nobody knows what was between.
    New,
    Working {
        since: Duration,
        from: u64,
    },
    Resting {
        since: Duration,
        from: u64,
        until: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Share {
    window: Window,
    worked: Tally,
    rested: Tally,
    /// Somebody writes: windows have clean edges.
    is_busy: bool,
    is_counting: bool,
    /// The driver cannot say.
    is_unknown: bool,
    /// How long the next window of work is.
    work: Duration,
    /// Transactions of our own in this window.
    own: u64,
    /// Nothing is counted before.
    not_before: Duration,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            window: Window::New,
            worked: Tally::default(),
            rested: Tally::default(),
            is_busy: false,
            is_counting: false,
            is_unknown: false,
            work: WORK,
            own: 0,
            not_before: Duration::ZERO,
        }
    }
}

impl Share {
    /// What chunks may do, of which so many are in flight.
    pub fn turn(&mut self, now: Duration, in_flight: usize) -> Turn {
        if self.is_unknown || now < self.not_before {
            return Turn::Go;
        }
        if self.is_counting {
            return if self.is_busy { Turn::Wait } else { Turn::Go };
        }
        match self.window {
            Window::Working { since, .. } if now < since + self.work => return Turn::Go,
            Window::Resting { until, .. } if now < until => return Turn::Wait,
            Window::Working { .. } if self.is_busy && in_flight > 0 => return Turn::Wait,
            _ => {}
        }
        self.is_counting = true;
        Turn::Count
    }

    /// A chunk committed a transaction of ours.
    pub fn chunk_ended(&mut self) {
        self.own += 1;
    }

    /// What others have committed in all; `None` where the driver cannot say.
    pub fn counted(&mut self, count: Option<u64>, now: Duration) {
        self.is_counting = false;
        let Some(count) = count else {
            self.is_unknown = true;
            return;
        };
        let own = std::mem::take(&mut self.own);
        let others = |from: u64| (count.saturating_sub(from).saturating_sub(own)) as f64;
        self.window = match self.window {
            Window::New => Window::Working { since: now, from: count },
            Window::Working { since, from } => {
                let (transactions, seconds) = (others(from), (now - since).as_secs_f64());
                // Those who stand still beside chunks are busy without them.
                let alone = self.rested.rate();
                let is_busy = transactions > BUSY * seconds
                    || alone.map_or(transactions > NOTICED, |alone| alone > BUSY);
                // The first window of a rush has no clean edge.
                if !is_busy || !std::mem::replace(&mut self.is_busy, true) {
                    self.is_busy = is_busy;
                    self.work = WORK;
                    Window::Working { since: now, from: count }
                } else {
                    self.worked.add(transactions, seconds);
                    let until = now + self.rest(now - since);
                    Window::Resting { since: now, from: count, until }
                }
            }
            Window::Resting { since, from, .. } => {
                self.rested.add(others(from), (now - since).as_secs_f64());
                Window::Working { since: now, from: count }
            }
        };
    }

    /// It could not be counted.
    pub fn count_failed(&mut self, now: Duration) {
        self.forget_window();
        self.not_before = now + FAILED_PAUSE;
    }

    /// Chunks did not run as they were let.
    pub fn forget_window(&mut self) {
        self.window = Window::New;
        self.is_counting = false;
        self.own = 0;
    }

    /// The part of the time that chunks take, in percent, where it is less than all.
    pub fn percent(&self) -> Option<u32> {
        let is_shared = self.is_busy && !self.is_unknown;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        is_shared.then(|| (self.allowed() * 100.0).round() as u32)
    }

    /// Those who write lose much by what chunks do: something as large that cannot rest should take less at a time.
    pub fn is_dear(&self) -> bool {
        self.is_busy && !self.is_unknown && self.allowed() < DEAR
    }

    fn allowed(&self) -> f64 {
        let (Some(beside), Some(alone)) = (self.worked.rate(), self.rested.rate()) else { return FIRST };
        if alone <= 0.0 {
            return MOST;
        }
        (TOLERATED / (1.0 - beside / alone).max(f64::EPSILON)).clamp(LEAST, MOST)
    }

    /// After so much work. What comes next is as long as that the rest can be counted in.
    fn rest(&mut self, worked: Duration) -> Duration {
        let share = self.allowed();
        let rest = worked.mul_f64((1.0 - share) / share).max(REST_MIN);
        self.work = rest.mul_f64(share / (1.0 - share)).max(WORK);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    /// Writers of so many transactions a second, beside chunks and without them, for a minute: how much of the time chunks
    /// took, and how much of what they would have written writers did.
    fn minute(share: &mut Share, beside: f64, alone: f64) -> (f64, f64) {
        let (mut now, mut written, mut worked) = (Duration::ZERO, 1_000.0, 0);
        let before = written;
        for _ in 0..6_000 {
            let goes = match share.turn(now, 0) {
                Turn::Go => true,
                Turn::Wait => false,
                Turn::Count => {
                    share.counted(Some(written as u64), now);
                    false
                }
            };
            written += TICK.as_secs_f64() * if goes { beside } else { alone };
            worked += u32::from(goes);
            now += TICK;
        }
        (f64::from(worked) / 6_000.0, (written - before) / (alone * 60.0))
    }

    #[test]
    fn writers_that_lose_a_third_beside_chunks_keep_nine_tenths() {
        let mut share = Share::default();
        let (worked, kept) = minute(&mut share, 650.0, 1_000.0);
        assert!((0.1..0.2).contains(&worked), "{worked}");
        assert!(kept > 0.93, "{kept}");
        assert!(share.percent().is_some_and(|percent| (10..20).contains(&percent)));
        assert!(share.is_dear());
    }

    #[test]
    fn where_there_is_room_chunks_take_nearly_all_of_the_time() {
        let mut share = Share::default();
        let (worked, kept) = minute(&mut share, 1_000.0, 1_000.0);
        assert!(!share.is_dear());
        assert!(worked > 0.9, "{worked}");
        assert!(kept > 0.99, "{kept}");
    }

    #[test]
    fn writers_that_stand_still_beside_chunks_do_not_stop_the_change() {
        let (worked, _) = minute(&mut Share::default(), 60.0, 10_000.0);
        assert!((0.08..0.15).contains(&worked), "{worked}");
    }

    #[test]
    fn writers_that_chunks_slow_down_to_next_to_nothing_are_noticed() {
        for (beside, alone, most) in [(20.0, 1_000.0, 0.2), (40.0, 80.0, 0.35)] {
            let (worked, _) = minute(&mut Share::default(), beside, alone);
            assert!(worked < most, "{beside} of {alone}: {worked}");
        }
    }

    #[test]
    fn a_count_that_fails_is_not_tried_again_at_once() {
        let mut share = Share::default();
        assert_eq!(share.turn(Duration::ZERO, 0), Turn::Count);
        share.count_failed(Duration::ZERO);
        assert_eq!(share.turn(Duration::from_millis(999), 0), Turn::Go);
        assert_eq!(share.turn(Duration::from_secs(1), 0), Turn::Count);
    }

    #[test]
    fn where_hardly_anybody_writes_nothing_rests() {
        let mut share = Share::default();
        let (worked, _) = minute(&mut share, 20.0, 20.0);
        assert!(worked > 0.95, "{worked}");
        assert_eq!(share.percent(), None);
    }

    #[test]
    fn chunks_that_run_are_waited_for_before_anything_is_counted() {
        let mut share = Share::default();
        for second in 0..2 {
            let now = Duration::from_secs(second);
            assert_eq!(share.turn(now, 2), Turn::Count, "nobody writes yet, or so it is thought");
            share.counted(Some(1_000 * second), now);
        }
        let later = Duration::from_secs(2);
        assert_eq!(share.turn(later, 2), Turn::Wait);
        assert_eq!(share.turn(later, 0), Turn::Count);
        assert_eq!(share.turn(later, 0), Turn::Wait, "it is being counted");
    }

    #[test]
    fn our_own_transactions_are_not_those_of_others() {
        let mut share = Share::default();
        let mut count = 0;
        for second in 0..10 {
            let now = Duration::from_secs(second);
            assert_eq!(share.turn(now, 2), Turn::Count);
            share.counted(Some(count), now);
            for _ in 0..200 {
                share.chunk_ended();
            }
            count += 200;
        }
        assert_eq!(share.percent(), None);
    }

    #[test]
    fn a_driver_that_cannot_say_is_never_asked_again() {
        let mut share = Share::default();
        assert_eq!(share.turn(Duration::ZERO, 0), Turn::Count);
        share.counted(None, Duration::ZERO);
        assert_eq!(share.turn(Duration::from_secs(9), 0), Turn::Go);
    }
}
