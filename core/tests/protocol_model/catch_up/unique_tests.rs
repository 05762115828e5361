//! Unique values while rows of different moments meet in the shadow (R6).
//!
//! The source never shows two rows with one value, but the shadow may: one row is already applied, the
//! other one's change is still to come. Which rows lost such a conflict is known to the runner's memory
//! alone. That it survives a crash all the same rests on three things:
//! - A chunk that left a row out is copied again.
//! - An apply that leaves its own row out is not finished: what brought the row brings it again.
//! - A row that an apply took away, although the apply's snapshot did not show it with the value, has got
//!   the value since, by a change that was not delivered when that snapshot was read. So it lies behind
//!   whatever the apply owes, and comes again. (Or it has lost the value, by a change that is not applied
//!   yet.) This needs the reply: a runner that does not learn which rows went has to start over.

use super::{CHECKPOINT_IS_BEHIND_DATA, CONVERGES, CatchUp, Hold, OnConflict, Rules, Unique};
use crate::check::{Bounds, exhaust, refute};
use crate::histories;

/// Nobody touches another key's row: there is nothing to remember but what is unfinished anyway.
const LEAVE_OUT: Unique = Unique {
    deferred: false,
    on_conflict: OnConflict::LeaveOut,
    hold: Hold { owes_to_oldest: false, holds_chunk: true, resumes_after_loss: false },
};

const TAKE_AWAY: Unique = Unique {
    on_conflict: OnConflict::TakeAway,
    hold: Hold { owes_to_oldest: true, holds_chunk: true, resumes_after_loss: true },
    ..LEAVE_OUT
};

/// The source has the same unique index. That a chunk is copied is saved later than its rows: not before
/// it is known what it left out.
fn carried_index(length: usize, unique: Unique) -> CatchUp {
    let rules = Rules { unique: Some(unique), chunk_state_with_rows: false, ..Rules::KEPT };
    CatchUp { histories: histories::every_with_unique_values(length), rules, crashes: 1, losses: 0 }
}

/// The change adds the unique index.
fn new_index(length: usize, unique: Unique) -> CatchUp {
    CatchUp { histories: histories::every_with_duplicates(length), ..carried_index(0, unique) }
}

fn length() -> usize {
    if Bounds::from_environment() == Bounds::Large { 3 } else { 2 }
}

#[test]
fn model_rows_left_out_converge_under_a_unique_index() {
    exhaust("left out", CatchUp { losses: 1, ..carried_index(2, LEAVE_OUT) });
}

#[test]
fn model_rows_left_out_converge_among_three_transactions() {
    let crashes = if Bounds::from_environment() == Bounds::Large { 1 } else { 0 };
    exhaust("left out, three transactions", CatchUp { crashes, ..carried_index(3, LEAVE_OUT) });
}

#[test]
fn model_rows_taken_away_converge_under_a_unique_index() {
    let losses = if Bounds::from_environment() == Bounds::Large { 0 } else { 1 };
    exhaust("taken away", CatchUp { losses, ..carried_index(length(), TAKE_AWAY) });
}

#[test]
fn model_deferred_unique_index_is_built_once_no_rows_collide() {
    exhaust("deferred index", carried_index(length(), Unique { deferred: true, ..LEAVE_OUT }));
}

/// Reading again while the colliding row is locked needs no memory: if the new snapshot still gives the
/// value to the own row, the other row's change is later than its copy here, so it is still to come.
#[test]
fn model_reading_again_under_the_lock_of_the_colliding_row_loses_no_row() {
    let mut model = carried_index(length(), Unique { on_conflict: OnConflict::Reread, ..LEAVE_OUT });
    // Nothing is left out, so a chunk's state can be saved with its rows.
    model.rules.chunk_state_with_rows = true;
    exhaust("reread", CatchUp { losses: 1, ..model });
}

/// Two rows of the source collide under the new index: one waits, and the run is never drained, until
/// the application changes either of them.
#[test]
fn model_new_unique_index_waits_for_real_duplicates_to_be_resolved() {
    exhaust("new index, left out", CatchUp { losses: 1, ..new_index(2, LEAVE_OUT) });
    exhaust("new index, taken away", new_index(2, TAKE_AWAY));
}

/// The row that was taken away owes what is newest when the batch lands. Its own change was delivered
/// and applied while the batch was on its way, and is not delivered again.
#[test]
fn model_with_a_debt_to_the_newest_change_a_crash_loses_a_row_that_was_taken_away() {
    let hold = Hold { owes_to_oldest: false, ..TAKE_AWAY.hold };
    let model = carried_index(2, Unique { hold, ..TAKE_AWAY });
    refute("debt to the newest change (R6)", model.clone(), CHECKPOINT_IS_BEHIND_DATA);
    refute("debt to the newest change (R6)", model, CONVERGES);
}

/// The batch's connection breaks, and it takes a row away all the same. The batch is repeated after the
/// fence; the row that went is known to nobody.
#[test]
fn model_that_repeats_a_lost_batch_loses_a_row_that_was_taken_away() {
    let hold = Hold { resumes_after_loss: false, ..TAKE_AWAY.hold };
    let model = CatchUp { crashes: 0, losses: 1, ..carried_index(2, Unique { hold, ..TAKE_AWAY }) };
    refute("lost batch repeated (R6)", model, CONVERGES);
}

/// Both rows have the value in the source. The apply of one takes the other away, which no change will
/// bring again; after a crash the run takes the one that is left for all there is.
#[test]
fn model_new_unique_index_that_takes_real_duplicates_away_loses_a_row() {
    let model = new_index(1, Unique { on_conflict: OnConflict::TakeAwayBlindly, ..TAKE_AWAY });
    refute("real duplicate taken away", model.clone(), CHECKPOINT_IS_BEHIND_DATA);
    refute("real duplicate taken away", model, CONVERGES);
}

/// The chunk counts as copied although it left a row out, of which there is no change. Between rows that
/// the source keeps apart this could not happen: either row has a change that is not applied yet.
#[test]
fn model_new_unique_index_with_chunks_that_do_not_wait_for_rows_left_out_loses_a_row() {
    let hold = Hold { holds_chunk: false, ..LEAVE_OUT.hold };
    refute("chunk not held (R6)", new_index(1, Unique { hold, ..LEAVE_OUT }), CHECKPOINT_IS_BEHIND_DATA);
    refute("chunk not held (R6)", new_index(1, Unique { hold, ..LEAVE_OUT }), CONVERGES);
    exhaust("chunk not held, index carried", carried_index(2, Unique { hold, ..LEAVE_OUT }));
}

/// REPLACE: an older version of one row pushes a newer version of another one out.
#[test]
fn model_with_displaced_keys_not_requeued_a_row_is_lost() {
    let unique = Unique { on_conflict: OnConflict::Replace, ..LEAVE_OUT };
    refute("displaced key not requeued (R6)", CatchUp { crashes: 0, ..carried_index(2, unique) }, CONVERGES);
}

/// INSERT IGNORE into the shadow: the second row of a value never arrives.
#[test]
fn model_with_skipped_keys_not_requeued_a_row_is_lost() {
    let unique = Unique { on_conflict: OnConflict::Ignore, ..LEAVE_OUT };
    refute("skipped key not requeued (R6)", CatchUp { crashes: 0, ..carried_index(2, unique) }, CONVERGES);
}

/// ALTER … ADD UNIQUE through INSERT IGNORE: duplicates are thrown away without a word.
#[test]
fn model_new_unique_index_that_ignores_duplicates_loses_a_row() {
    let unique = Unique { on_conflict: OnConflict::Ignore, ..LEAVE_OUT };
    refute("INSERT IGNORE under a new index", CatchUp { crashes: 0, ..new_index(1, unique) }, CONVERGES);
}

/// The same with REPLACE: the other one of the two is thrown away.
#[test]
fn model_new_unique_index_that_replaces_duplicates_loses_a_row() {
    let unique = Unique { on_conflict: OnConflict::Replace, ..LEAVE_OUT };
    refute("REPLACE under a new index", CatchUp { crashes: 0, ..new_index(1, unique) }, CONVERGES);
}

/// ALTER IGNORE TABLE: the deferred index is built by dropping one row of each pair.
#[test]
fn model_deferred_index_that_drops_duplicates_loses_a_row() {
    let unique = Unique { deferred: true, on_conflict: OnConflict::Ignore, ..LEAVE_OUT };
    refute("deferred index drops rows", CatchUp { crashes: 0, ..new_index(1, unique) }, CONVERGES);
}
