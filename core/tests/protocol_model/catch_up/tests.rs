//! The rules together, and each rule left out.

use super::{CHECKPOINT_IS_BEHIND_DATA, CONVERGES, CatchUp, Rules};
use crate::check::{Bounds, exhaust, refute};
use crate::histories;

/// Every history of `length` transactions over two keys.
fn two_keys(length: usize, rules: Rules) -> CatchUp {
    CatchUp { histories: histories::every(length), rules, crashes: 0, losses: 0 }
}

#[test]
fn model_copy_and_apply_converges_with_two_chunks_and_two_appliers() {
    exhaust("copy and apply", two_keys(3, Rules::KEPT));
}

#[test]
fn model_copy_and_apply_survives_crashes_and_late_statements() {
    let (length, crashes, losses) = match Bounds::from_environment() {
        Bounds::Small => (2, 2, 1),
        Bounds::Large => (3, 2, 1),
    };
    exhaust("two crashes, one lost statement", CatchUp { crashes, losses, ..two_keys(length, Rules::KEPT) });
}

#[test]
fn model_copy_and_apply_survives_a_crash_among_three_transactions() {
    let crashes = if Bounds::from_environment() == Bounds::Large { 2 } else { 1 };
    exhaust("three transactions, one crash", CatchUp { crashes, ..two_keys(3, Rules::KEPT) });
}

#[test]
fn model_copy_and_apply_follows_rows_that_change_chunk_and_lane() {
    let crashes = if Bounds::from_environment() == Bounds::Large { 2 } else { 1 };
    let histories = histories::with_three_rows();
    exhaust("three rows", CatchUp { histories, crashes, losses: 1, rules: Rules::KEPT });
}

/// MongoDB's `$merge` runs in no transaction: a crash may forget chunks that were copied.
#[test]
fn model_chunks_that_are_copied_again_change_nothing() {
    let rules = Rules { chunk_state_with_rows: false, ..Rules::KEPT };
    exhaust("chunk state saved later", CatchUp { crashes: 2, losses: 1, ..two_keys(2, rules) });
}

/// Copied without any index, the shadow cannot keep a row from being copied twice; the chunks' states
/// do, if they are saved with the rows and read after the fence.
#[test]
fn model_copy_into_a_bare_table_copies_no_row_twice() {
    let rules = Rules { bare_copy: true, ..Rules::KEPT };
    exhaust("bare copy", CatchUp { crashes: 2, losses: 1, ..two_keys(2, rules) });
}

/// A copy that replaces rows does no harm while R2 holds, because no row of a chunk's range is applied
/// from an older snapshot behind the chunk's back. R3 is the second line of defence.
#[test]
fn model_copy_that_overwrites_is_harmless_while_keys_wait_for_chunks() {
    let length = if Bounds::from_environment() == Bounds::Large { 3 } else { 2 };
    let rules = Rules { copy_keeps_rows: false, ..Rules::KEPT };
    exhaust("overwriting copy under R2", CatchUp { crashes: 2, losses: 1, ..two_keys(length, rules) });
}

/// The binlog is sent before the engine commits: a row read on arrival is the one before the change.
#[test]
fn model_without_settle_loses_a_row() {
    let rules = Rules { settle: false, ..Rules::KEPT };
    refute("no settle (R1)", two_keys(2, rules), CONVERGES);
}

/// A delete overtakes the chunk that still carries the row: the row is back for ever.
#[test]
fn model_without_epochs_brings_a_deleted_row_back() {
    let rules = Rules { epochs: false, ..Rules::KEPT };
    refute("no epochs (R2)", two_keys(2, rules), CONVERGES);
}

/// A pooled REPEATABLE READ session: the chunk reads with a snapshot from before it was announced.
#[test]
fn model_chunk_with_a_snapshot_older_than_its_id_brings_a_deleted_row_back() {
    let rules = Rules { snapshot_after_id: false, ..Rules::KEPT };
    refute("snapshot before id (R2)", two_keys(2, rules), CONVERGES);
}

/// Two appliers hold versions of one row, and the older one is written last.
#[test]
fn model_without_lanes_an_older_version_wins() {
    let rules = Rules { lanes: false, ..Rules::KEPT };
    refute("no lanes (R2)", two_keys(2, rules), CONVERGES);
}

/// The chunk upserts, and no key waits for it: a newer version is replaced by the chunk's.
#[test]
fn model_copy_that_overwrites_loses_an_update_once_keys_do_not_wait() {
    use crate::history::{Change::Put, History};
    let update = CatchUp {
        histories: vec![History::new(&[0, 1], &[&[Put(0)], &[Put(1)]])],
        ..two_keys(0, Rules { epochs: false, ..Rules::KEPT })
    };
    exhaust("updates only, no epochs", update.clone());
    let rules = Rules { copy_keeps_rows: false, ..update.rules };
    refute("copy that overwrites (R3)", CatchUp { rules, ..update }, CONVERGES);
}

/// The re-read finds no row, and the applier takes that for nothing to do.
#[test]
fn model_apply_that_ignores_deletes_keeps_deleted_rows() {
    let rules = Rules { deletes: false, ..Rules::KEPT };
    refute("deletes ignored (R3)", two_keys(2, rules), CONVERGES);
}

/// The position is saved when changes are received, and they are lost with the process's memory.
#[test]
fn model_with_the_delivered_position_as_checkpoint_a_crash_loses_a_change() {
    let rules = Rules { checkpoint_behind_data: false, ..Rules::KEPT };
    let model = CatchUp { crashes: 1, ..two_keys(2, rules) };
    refute("checkpoint = delivered (R4)", model.clone(), CHECKPOINT_IS_BEHIND_DATA);
    refute("checkpoint = delivered (R4)", model, CONVERGES);
}

/// The resumed feed starts "from now": what happened while nobody listened is never applied.
#[test]
fn model_that_resumes_from_now_loses_the_changes_of_the_pause() {
    let rules = Rules { resume_at_checkpoint: false, ..Rules::KEPT };
    refute("resume from now (R4)", CatchUp { crashes: 1, ..two_keys(2, rules) }, CONVERGES);
}

/// The process is killed, its INSERT … SELECT goes on, and ends after its successor's.
#[test]
fn model_without_fence_a_dead_runners_statement_brings_an_old_row_back() {
    let rules = Rules { fence: false, ..Rules::KEPT };
    refute("no fence at takeover (R5)", CatchUp { crashes: 1, ..two_keys(2, rules) }, CONVERGES);
}

/// A connection breaks, the statement is simply sent again on another one, and the first still runs.
#[test]
fn model_that_repeats_a_lost_statement_without_fence_brings_an_old_row_back() {
    let rules = Rules { fence: false, ..Rules::KEPT };
    refute("no fence in mid-run (R5)", CatchUp { losses: 1, ..two_keys(2, rules) }, CONVERGES);
}

/// A chunk whose connection broke counts as failed at once, and keys stop waiting for it.
#[test]
fn model_that_takes_a_lost_chunk_for_finished_brings_a_deleted_row_back() {
    let rules = Rules { lost_chunk_blocks: false, ..Rules::KEPT };
    refute("lost chunk taken for finished (R5)", CatchUp { losses: 1, ..two_keys(2, rules) }, CONVERGES);
}

/// The lost chunk had been committed after all, and is copied again into a table without its key.
#[test]
fn model_bare_copy_that_repeats_a_lost_chunk_unseen_copies_rows_twice() {
    let rules = Rules { bare_copy: true, reload_after_fence: false, ..Rules::KEPT };
    refute("lost chunk repeated unseen", CatchUp { losses: 1, ..two_keys(1, rules) }, CONVERGES);
}

/// The chunk's state is saved in a transaction of its own, and a crash comes in between.
#[test]
fn model_bare_copy_with_chunk_state_saved_later_copies_rows_twice() {
    let rules = Rules { bare_copy: true, chunk_state_with_rows: false, ..Rules::KEPT };
    refute("bare copy, state saved later", CatchUp { crashes: 1, ..two_keys(1, rules) }, CONVERGES);
}
