//! Rows that differed when they were compared: on their way, or wrong?
//!
//! A comparison runs while writers write, so a row may differ because its change has not been applied
//! yet. Such a change comes through the feed. A row is guilty when it differed in two comparisons, the
//! feed has passed a head that was read after the second, nothing of it was in the queue, and no change of
//! it came in between. A guilty row is applied once more and counted as a repair; one that is guilty again
//! is a mismatch. A row so hot that it changes in every round is left to the comparison under the lock.

use std::collections::BTreeMap;

use super::queue::Owed;
use super::sweep::Index;
use crate::value::{Change, Key, Position};

/// What waits for the row to be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The feed's checkpoint.
    Feed(Owed),
    /// A chunk of the comparison.
    Chunk(Index),
}

/// A position that is to be read, is being read, or was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Goal {
    /// To be read.
    #[default]
    Wanted,
    /// A read that began after the goal was wanted is under way.
    Asked,
    /// Read.
    At(Position),
}

/// A row that changed so often while it was looked at is hot. Chosen.
const HOT_TOUCHES: u32 = 20;

#[derive(Debug)]
struct Suspect {
    change: Change,
    holds: Vec<Hold>,
    goal: Goal,
    /// 1 once a comparison found it different since its last change; 2 once another did that began after
    /// the feed had passed a head read after the first. Comparisons that overlap prove no more than one.
    strikes: u8,
    is_repaired: bool,
    /// How often it has changed since.
    touches: u32,
    is_comparing: bool,
    /// A change came while it was being compared: the comparison may have read before it was applied.
    is_stale: bool,
}

/// What to do with rows whose time has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// To be compared again; the caller answers with [`Suspects::acquit`] or [`Suspects::accuse_again`].
    pub compare: Vec<Key>,
    /// Guilty for the first time: to be applied again.
    pub repair: Vec<Change>,
    /// Guilty although repaired.
    pub mismatched: Vec<Key>,
}

/// The rows that differed.
#[derive(Debug, Default)]
pub struct Suspects {
    by_key: BTreeMap<Key, Suspect>,
}

impl Suspects {
    /// A comparison found the row different.
    pub fn accuse(&mut self, change: Change, hold: Hold) {
        let suspect = self.by_key.entry(change.key.clone()).or_insert_with(|| Suspect {
            change,
            holds: Vec::new(),
            goal: Goal::Wanted,
            strikes: 0,
            is_repaired: false,
            touches: 0,
            is_comparing: false,
            is_stale: false,
        });
        suspect.holds.push(hold);
        suspect.strikes = suspect.strikes.max(1);
        suspect.goal = Goal::Wanted;
    }

    /// A comparison that [`Suspects::due`] asked for found it different again.
    pub fn accuse_again(&mut self, key: &Key) {
        if let Some(suspect) = self.by_key.get_mut(key) {
            suspect.is_comparing = false;
            let is_stale = std::mem::take(&mut suspect.is_stale);
            suspect.strikes = if is_stale || suspect.strikes == 0 { 1 } else { 2 };
            suspect.goal = Goal::Wanted;
        }
    }

    /// The comparison could not be made.
    pub fn not_compared(&mut self, key: &Key) {
        if let Some(suspect) = self.by_key.get_mut(key) {
            suspect.is_comparing = false;
            suspect.is_stale = false;
        }
    }

    /// The row was found equal: what it held is free.
    pub fn acquit(&mut self, key: &Key) -> Vec<Hold> {
        self.by_key.remove(key).map(|suspect| suspect.holds).unwrap_or_default()
    }

    /// The feed brought a change of the row: whatever it differed by may be that.
    pub fn touch(&mut self, key: &Key) {
        if let Some(suspect) = self.by_key.get_mut(key) {
            suspect.strikes = 0;
            suspect.touches += 1;
            suspect.is_stale = suspect.is_comparing;
        }
    }

    /// Each changes so often that only a lock could tell whether it is equal. So it is where there is none.
    #[must_use]
    pub fn are_all_hot(&self) -> bool {
        self.by_key.values().all(|suspect| suspect.touches >= HOT_TOUCHES)
    }

    /// Whether a goal has to be read.
    #[must_use]
    pub fn wants_goal(&self) -> bool {
        self.by_key.values().any(|suspect| suspect.goal == Goal::Wanted)
    }

    /// A read of the head begins now.
    pub fn ask_goal(&mut self) {
        for suspect in self.by_key.values_mut().filter(|suspect| suspect.goal == Goal::Wanted) {
            suspect.goal = Goal::Asked;
        }
    }

    /// It answered, or it failed.
    pub fn answer_goal(&mut self, head: Option<&Position>) {
        for suspect in self.by_key.values_mut().filter(|suspect| suspect.goal == Goal::Asked) {
            suspect.goal = head.map_or(Goal::Wanted, |head| Goal::At(head.clone()));
        }
    }

    /// Rows whose goal the feed has passed and that nothing waits to be applied for.
    pub fn due(&mut self, has_passed: impl Fn(&Position) -> bool, is_busy: impl Fn(&Key) -> bool) -> Due {
        let mut due = Due::default();
        for (key, suspect) in &mut self.by_key {
            let Goal::At(goal) = &suspect.goal else { continue };
            if suspect.is_comparing || !has_passed(goal) || is_busy(key) {
                continue;
            }
            if suspect.strikes < 2 {
                suspect.is_comparing = true;
                due.compare.push(key.clone());
            } else if suspect.is_repaired {
                due.mismatched.push(key.clone());
            } else {
                suspect.is_repaired = true;
                suspect.strikes = 0;
                suspect.goal = Goal::Wanted;
                due.repair.push(suspect.change.clone());
            }
        }
        due
    }

    /// Every suspect, for the comparison under the lock.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.by_key.keys().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Lane;

    fn change() -> Change {
        Change { key: key(), lane: Lane(0), removed: false }
    }

    fn key() -> Key {
        Key("k".to_owned())
    }

    fn head() -> Position {
        Position("9".to_owned())
    }

    fn round(suspects: &mut Suspects) -> Due {
        suspects.ask_goal();
        suspects.answer_goal(Some(&head()));
        suspects.due(|_| true, |_| false)
    }

    #[test]
    fn a_row_that_stays_different_is_compared_again_repaired_once_and_then_a_mismatch() {
        let mut suspects = Suspects::default();
        suspects.accuse(change(), Hold::Chunk(0));
        assert_eq!(round(&mut suspects).compare, vec![key()], "one comparison convicts nobody");
        suspects.accuse_again(&key());
        assert_eq!(round(&mut suspects).repair, vec![change()]);
        suspects.accuse(change(), Hold::Chunk(0));
        assert_eq!(round(&mut suspects).compare, vec![key()], "a repair is judged afresh");
        suspects.accuse_again(&key());
        assert_eq!(round(&mut suspects).mismatched, vec![key()]);
    }

    #[test]
    fn a_row_that_changes_in_every_round_is_never_guilty() {
        let mut suspects = Suspects::default();
        suspects.accuse(change(), Hold::Chunk(0));
        for _ in 0..10 {
            suspects.touch(&key());
            assert_eq!(round(&mut suspects).compare, vec![key()]);
            suspects.accuse_again(&key());
            assert_eq!(suspects.due(|_| true, |_| false), Due::default(), "a new goal is needed");
        }
    }

    #[test]
    fn only_a_row_that_changes_all_the_time_is_hot() {
        let mut suspects = Suspects::default();
        assert!(suspects.are_all_hot(), "there is none");
        suspects.accuse(change(), Hold::Chunk(0));
        for _ in 0..HOT_TOUCHES {
            assert!(!suspects.are_all_hot());
            suspects.touch(&key());
        }
        assert!(suspects.are_all_hot());
    }

    #[test]
    fn nothing_is_due_before_the_feed_has_passed_or_while_a_change_waits() {
        let mut suspects = Suspects::default();
        suspects.accuse(change(), Hold::Chunk(0));
        assert!(suspects.wants_goal());
        suspects.ask_goal();
        assert_eq!(suspects.due(|_| true, |_| false), Due::default());
        suspects.answer_goal(Some(&head()));
        assert_eq!(suspects.due(|_| false, |_| false), Due::default());
        assert_eq!(suspects.due(|_| true, |_| true), Due::default());
        assert_eq!(suspects.due(|_| true, |_| false).compare, vec![key()]);
        assert_eq!(suspects.acquit(&key()), vec![Hold::Chunk(0)]);
        assert!(suspects.is_empty());
    }

    #[test]
    fn comparisons_that_overlap_convict_nobody() {
        let mut suspects = Suspects::default();
        suspects.accuse(change(), Hold::Chunk(0));
        suspects.accuse(change(), Hold::Chunk(1));
        suspects.accuse(change(), Hold::Chunk(2));
        assert_eq!(round(&mut suspects).compare, vec![key()], "three that overlap prove what one does");
    }

    #[test]
    fn a_comparison_that_began_before_a_change_does_not_count_after_it() {
        let mut suspects = Suspects::default();
        suspects.accuse(change(), Hold::Chunk(0));
        assert_eq!(round(&mut suspects).compare, vec![key()]);
        suspects.touch(&key());
        suspects.accuse(change(), Hold::Chunk(1));
        suspects.accuse_again(&key());
        assert_eq!(
            round(&mut suspects).compare,
            vec![key()],
            "both may have read before the change was applied"
        );
        suspects.accuse_again(&key());
        assert_eq!(round(&mut suspects).repair, vec![change()]);
    }

    #[test]
    fn a_head_that_was_being_read_before_the_accusation_is_no_goal() {
        let mut suspects = Suspects::default();
        suspects.ask_goal();
        suspects.accuse(change(), Hold::Chunk(0));
        suspects.answer_goal(Some(&head()));
        assert!(suspects.wants_goal());
    }
}
