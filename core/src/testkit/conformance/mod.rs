//! Conformance: the contract's sentences, each held against a driver by a case.
//!
//! A driver's tests implement [`Fixture`] for a server of theirs and run [`cases`], each with a fixture of
//! its own. A case panics, with what it expected, when the driver breaks its word.

mod change_feed;
mod comparing;
mod control;
mod copying;
mod cut_over;
mod fence;
mod fixture;
mod lease;
mod rig;
mod runs;
mod writing;

use std::future::Future;
use std::pin::Pin;

pub use fixture::{Fixture, Hold, Write};
pub use rig::Rig;

/// A case on its way.
pub type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One sentence of the contract, to be tried on a fresh fixture.
#[derive(Clone, Copy)]
pub struct Case {
    /// What holds.
    pub name: &'static str,
    /// Tries it.
    pub run: for<'a> fn(&'a dyn Fixture) -> Running<'a>,
}

/// Names each case after its function.
macro_rules! cases {
    ($($part:ident: $($name:ident),+;)+) => {
        /// Every case.
        #[must_use]
        pub fn cases() -> Vec<Case> {
            vec![$($(Case {
                name: concat!(stringify!($part), "::", stringify!($name)),
                run: |fixture| Box::pin($part::$name(fixture)),
            },)+)+]
        }
    };
}

cases! {
    copying:
        rows_are_counted_one_by_one,
        prepare_makes_an_empty_table_and_refuses_a_second_time,
        discard_leaves_the_live_table_alone_and_is_harmless_again,
        next_bound_walks_every_row_once,
        copy_brings_every_row_and_copying_again_changes_nothing,
        copy_with_other_bounds_brings_only_what_is_not_there,
        copy_never_overwrites,
        copy_stays_within_its_bounds;
    writing:
        apply_makes_rows_equal_and_is_idempotent,
        apply_removes_rows_that_are_gone,
        apply_reads_the_row_as_it_is_now,
        key_change_arrives_as_both_keys;
    comparing:
        equal_tables_have_no_difference_and_every_row_is_counted,
        changed_missing_and_extra_rows_are_found,
        compare_keys_looks_at_these_keys_only;
    change_feed:
        feed_resumes_from_its_position_without_a_gap,
        feed_hands_out_a_large_transaction_in_pieces,
        feed_answers_empty_when_nothing_happens,
        head_is_passed_once_everything_before_it_was_handed_out,
        forgotten_positions_are_refused_or_complete;
    fence:
        write_under_an_old_token_changes_nothing,
        fence_keeps_the_rows_and_is_idempotent,
        fence_under_a_token_that_is_not_the_newest_is_refused,
        fence_after_the_swap_leaves_the_live_table_alone,
        forget_and_discard_under_an_old_token_are_refused;
    cut_over:
        lock_times_out_within_its_budget_and_changes_nothing,
        holders_names_an_old_transaction,
        making_ready_changes_no_row_and_may_be_repeated_or_dropped,
        writers_wait_for_the_lock,
        release_without_commit_changes_nothing,
        dropped_guard_lets_writers_go_on,
        swap_keeps_the_name_and_the_owner_is_the_shadow,
        reverse_feed_sees_the_first_write_after_the_release,
        way_back_restores_the_old_table_with_every_write,
        lock_under_an_old_token_is_refused,
        save_under_the_lock_is_visible_after_the_swap;
    lease:
        tokens_grow_with_every_holder,
        a_lease_is_taken_once_per_token,
        renewing_after_a_takeover_is_fenced,
        releasing_keeps_the_token_and_leaves_another_holder_alone;
    runs:
        a_store_that_was_never_made_reads_as_empty,
        a_run_is_kept_as_it_was_saved,
        create_under_an_old_token_is_fenced,
        save_with_a_stale_revision_or_token_is_fenced,
        records_are_chained;
    control:
        commands_are_seen_until_they_are_answered;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cases_have_different_names() {
        let names: BTreeSet<_> = cases().iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases().len());
    }
}
