//! The rules together, and each rule left out.

use super::{CARRIES_VALUES, DroppedColumn, Rules};
use crate::check::{Bounds, exhaust, refute};
use crate::histories;

fn dropped_column(length: usize, rules: Rules) -> DroppedColumn {
    DroppedColumn { histories: histories::every(length), rules, crashes: 1 }
}

#[test]
fn model_reverse_feed_carries_a_dropped_columns_values() {
    let (length, crashes) = if Bounds::from_environment() == Bounds::Large { (5, 2) } else { (4, 2) };
    exhaust("dropped column", DroppedColumn { crashes, ..dropped_column(length, Rules::KEPT) });
    let histories = histories::with_three_rows();
    exhaust("dropped column, three rows", DroppedColumn { histories, ..dropped_column(0, Rules::KEPT) });
}

/// The position of R4, behind the data: after a crash a key change is applied a second time, to the
/// row that took the key since.
#[test]
fn model_reverse_feed_with_position_behind_data_moves_the_wrong_row() {
    let rules = Rules { position_with_batch: false, ..Rules::KEPT };
    refute("position behind data", dropped_column(3, rules), CARRIES_VALUES);
}

/// Keys alone: a row that was deleted and inserted again inherits the value of the dead one.
#[test]
fn model_reverse_feed_of_keys_alone_revives_a_deleted_rows_value() {
    let rules = Rules { deleted_in_between: false, ..Rules::KEPT };
    refute("keys alone", dropped_column(2, rules), CARRIES_VALUES);
}

/// A key change as delete and insert: the row loses its value.
#[test]
fn model_reverse_feed_with_key_changes_as_delete_and_insert_loses_a_value() {
    let rules = Rules { moves: false, ..Rules::KEPT };
    refute("key change as delete and insert", dropped_column(1, rules), CARRIES_VALUES);
}

/// Delete-or-upsert of the row as it is now: the row has already moved away, and when the key change
/// arrives there is nothing left to move.
#[test]
fn model_reverse_feed_that_deletes_what_it_cannot_read_loses_a_value() {
    let rules = Rules { absent_rows_wait: false, ..Rules::KEPT };
    refute("absent rows deleted", dropped_column(2, rules), CARRIES_VALUES);
}
