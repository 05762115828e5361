//! Positions: a snapshot, which says of every transaction whether it had committed before.
//!
//! Log rows become visible in the order of commits, which is not that of their numbers, so no number can say up to where
//! they were read. A snapshot can: what it sees was handed out, and nothing else.
//! <https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT>.

use std::collections::BTreeSet;

use replank_core::value::Position;
use replank_core::{Error, ErrorKind, Result};

/// A `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    open: BTreeSet<u64>,
}

impl Snapshot {
    /// Reads `xmin:xmax:xip,xip`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a position that was not made here.
    pub fn read(position: &Position) -> Result<Self> {
        let parsed = || {
            let mut parts = position.0.split(':');
            let xmin = parts.next()?.parse().ok()?;
            let xmax = parts.next()?.parse().ok()?;
            let open = parts.next()?;
            let open = match open.is_empty() {
                true => BTreeSet::new(),
                false => open.split(',').map(|xid| xid.parse().ok()).collect::<Option<_>>()?,
            };
            parts.next().is_none().then_some(Self { xmin, xmax, open })
        };
        parsed().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "a position of another driver").with("position", position)
        })
    }

    /// Every transaction before this one was over.
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Whether a transaction was over, of whose number only the lower half is known: the server's log has no more.
    pub fn has_ended(&self, xid: u32) -> bool {
        let xid = self.widened(xid);
        xid < self.xmax && !self.open.contains(&xid)
    }

    /// The number with this lower half that is nearest to ours: no two in use are further apart than half of them.
    fn widened(&self, xid: u32) -> u64 {
        const HALF: u64 = 1 << 31;
        const ALL: u64 = 1 << 32;
        let near = (self.xmax & !(ALL - 1)) | u64::from(xid);
        match near {
            near if near > self.xmax + HALF => near.saturating_sub(ALL),
            near if near + HALF < self.xmax => near + ALL,
            near => near,
        }
    }

    /// Whether everything that `goal` sees is seen here as well.
    pub fn sees_all_of(&self, goal: &Self) -> bool {
        self.xmax >= goal.xmax && self.open.iter().all(|xid| *xid >= goal.xmax || goal.open.contains(xid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::read(&Position(text.to_owned())).expect("a good one")
    }

    #[test]
    fn transactions_are_known_by_half_their_number_across_its_end() {
        let two = 2 * (1_u64 << 32);
        let late = snapshot(&format!("{}:{}:{}", two - 5, two + 3, two - 5));
        assert!(!late.has_ended(u32::MAX - 4), "it is open");
        assert!(late.has_ended(u32::MAX - 5), "from before the end of the numbers");
        assert!(late.has_ended(2));
        assert!(!late.has_ended(3), "not begun");
        let early = snapshot("700:710:702");
        assert!(early.has_ended(701) && !early.has_ended(702) && !early.has_ended(710));
        let before = snapshot(&format!("{0}:{0}:", two - 5));
        assert!(!before.has_ended(2), "of the numbers to come");
    }

    #[test]
    fn a_snapshot_has_passed_another_when_it_sees_all_of_it() {
        let goal = snapshot("10:20:10,15");
        assert!(goal.sees_all_of(&goal));
        assert!(snapshot("10:20:15").sees_all_of(&goal), "10 has committed since");
        assert!(snapshot("20:20:").sees_all_of(&goal));
        assert!(snapshot("15:30:15,22").sees_all_of(&goal), "22 came later");
        assert!(!snapshot("10:19:10,15").sees_all_of(&goal), "19 may be unseen");
        assert!(!snapshot("10:20:10,12,15").sees_all_of(&goal), "12 is not seen");
        for text in ["", "1:2", "1:2:3:4", "1:2:x", "a:2:"] {
            assert!(Snapshot::read(&Position(text.to_owned())).is_err(), "{text}");
        }
    }
}
