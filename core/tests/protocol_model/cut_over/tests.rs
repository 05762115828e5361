//! The rules together, and each rule left out.

use super::{CutOver, FEED_IS_COMPLETE, NO_GAP, NO_WRITE_LOST, Rules, SAVED_STATE_IS_TRUE, UnknownSwap};
use crate::check::{Bounds, exhaust, refute};

fn cut_over(rules: Rules) -> CutOver {
    CutOver { rules, writes: 3, swaps: 2, crashes: 0, losses: 0 }
}

#[test]
fn model_cut_over_and_revert_lose_no_write() {
    exhaust("cut-over and revert", cut_over(Rules::KEPT));
}

#[test]
fn model_cut_over_and_revert_survive_crashes_and_lost_answers() {
    let (crashes, losses) = if Bounds::from_environment() == Bounds::Large { (3, 2) } else { (2, 1) };
    exhaust("cut-over with faults", CutOver { crashes, losses, ..cut_over(Rules::KEPT) });
}
/// A late DELETE of log entries that the checkpoint covers already takes nothing from anybody.
#[test]
fn model_late_trim_of_what_was_saved_is_harmless_without_token_check() {
    let rules = Rules { trim_checks_token: false, ..Rules::KEPT };
    exhaust("late trim", CutOver { crashes: 2, losses: 0, ..cut_over(rules) });
}

/// Lock and rename at once: what the feed has not applied yet stays in the old table.
#[test]
fn model_without_final_drain_a_write_is_lost() {
    refute("no final drain", cut_over(Rules { drain: false, ..Rules::KEPT }), NO_WRITE_LOST);
}

/// The head is read, and then the lock is waited for: writes in between are behind the head.
#[test]
fn model_with_a_head_read_before_the_lock_a_write_is_lost() {
    let rules = Rules { head_under_lock: false, ..Rules::KEPT };
    refute("head before lock", cut_over(rules), NO_WRITE_LOST);
}

/// The session with the lock is killed, and another session's RENAME goes through all the same.
#[test]
fn model_swap_that_does_not_depend_on_the_lock_loses_a_write() {
    let rules = Rules { swap_bound_to_lock: false, ..Rules::KEPT };
    refute("swap without lock", CutOver { losses: 1, ..cut_over(rules) }, NO_WRITE_LOST);
}

/// UNLOCK, then RENAME: a writer is faster.
#[test]
fn model_that_releases_writers_before_the_swap_loses_a_write() {
    let rules = Rules { release_after_swap: false, swap_bound_to_lock: false, ..Rules::KEPT };
    refute("release before swap", cut_over(rules), NO_WRITE_LOST);
}

/// Two renames: in between, "table does not exist".
#[test]
fn model_swap_in_two_renames_leaves_no_live_table() {
    let rules = Rules { atomic_swap: false, ..Rules::KEPT };
    refute("two renames", cut_over(rules), NO_WRITE_LOST);
}

/// The capture trigger on the new table is created after the first new write.
#[test]
fn model_with_the_reverse_feed_created_after_release_revert_loses_a_write() {
    let rules = Rules { reverse_before_release: false, ..Rules::KEPT };
    refute("reverse after release", cut_over(rules), FEED_IS_COMPLETE);
    refute("reverse after release", cut_over(rules), NO_WRITE_LOST);
}

/// The answer was lost, the run goes on as before the swap, and drops "its shadow": the live table.
#[test]
fn model_with_an_unknown_swap_taken_as_not_done_the_live_table_is_lost() {
    let rules = Rules { unknown_swap: UnknownSwap::TakenAsNotDone, ..Rules::KEPT };
    refute("unknown = not done", CutOver { losses: 1, ..cut_over(rules) }, NO_WRITE_LOST);
}

/// The answer was lost, the run calls itself cut over, and drops "the retired table": the live one.
#[test]
fn model_with_an_unknown_swap_taken_as_done_the_live_table_is_lost() {
    let rules = Rules { unknown_swap: UnknownSwap::TakenAsDone, ..Rules::KEPT };
    refute("unknown = done", CutOver { losses: 1, ..cut_over(rules) }, NO_WRITE_LOST);
}

/// The catalogue says "not swapped", because the swap is still waiting, and it is executed afterwards.
#[test]
fn model_that_asks_the_catalogue_without_fence_believes_a_swap_that_is_running_failed() {
    let rules = Rules { unknown_swap: UnknownSwap::Ask, ..Rules::KEPT };
    let model = CutOver { losses: 1, ..cut_over(rules) };
    refute("asked too early", model, SAVED_STATE_IS_TRUE);
    refute("asked too early", model, NO_WRITE_LOST);
}

/// The same, with the rename after the answer: it waits until the swap is done, and renames the table that
/// was the live one.
#[test]
fn model_that_fences_only_after_the_catalogue_was_asked_believes_the_same() {
    let rules = Rules { unknown_swap: UnknownSwap::AskThenFence, ..Rules::KEPT };
    let model = CutOver { losses: 1, ..cut_over(rules) };
    refute("asked, then fenced", model, SAVED_STATE_IS_TRUE);
    refute("asked, then fenced", model, NO_WRITE_LOST);
}

/// Killed right after the swap: the saved state still says "copying", and nobody asks the catalogue.
#[test]
fn model_without_saved_intent_a_takeover_mistakes_the_live_table_for_its_shadow() {
    let rules = Rules { intent_saved: false, ..Rules::KEPT };
    refute("intent not saved", CutOver { crashes: 1, ..cut_over(rules) }, NO_WRITE_LOST);
}

/// The statement of a dead runner is executed after its successor's.
#[test]
fn model_without_fence_a_late_apply_brings_an_old_row_back() {
    let rules = Rules { fence: false, ..Rules::KEPT };
    refute("no fence at takeover", CutOver { crashes: 1, ..cut_over(rules) }, FEED_IS_COMPLETE);
    refute("no fence in mid-run", CutOver { losses: 1, ..cut_over(rules) }, FEED_IS_COMPLETE);
}

/// The swap of a dead runner is executed after its successor has asked whose the name is.
#[test]
fn model_without_fence_a_late_swap_exchanges_the_tables_behind_the_successors_back() {
    let rules = Rules { fence: false, ..Rules::KEPT };
    refute("late swap", CutOver { crashes: 1, ..cut_over(rules) }, NO_WRITE_LOST);
}

/// A process that was stopped for a minute saves its old state over its successor's.
#[test]
fn model_sleeper_that_saves_without_token_check_makes_the_saved_state_wrong() {
    let rules = Rules { save_checks_token: false, ..Rules::KEPT };
    let model = CutOver { crashes: 1, ..cut_over(rules) };
    refute("sleeper saves", model, SAVED_STATE_IS_TRUE);
    let twice = CutOver { crashes: 2, ..model };
    refute("sleeper saves", twice, NO_GAP);
    refute("sleeper saves", twice, NO_WRITE_LOST);
}

/// What was applied is deleted from the log before that position is saved: the next runner starts
/// inside the gap. The token does not help, since it may still be valid.
#[test]
fn model_that_trims_more_than_was_saved_tears_a_gap() {
    let rules = Rules { trims_saved_only: false, ..Rules::KEPT };
    refute("unsaved changes trimmed", CutOver { crashes: 1, ..cut_over(rules) }, NO_GAP);
}

/// It aborts a run that its successor has cut over: the live table is dropped.
#[test]
fn model_sleeper_that_drops_without_token_check_drops_the_live_table() {
    let rules = Rules { drop_checks_token: false, ..Rules::KEPT };
    refute("sleeper drops", CutOver { crashes: 1, ..cut_over(rules) }, NO_WRITE_LOST);
}
