//! The copy, apply and cut-over protocol, checked exhaustively in bounded models.
//!
//! A model is a small world in which everything that can happen may happen next: the application
//! commits, a commit becomes visible, a chunk is read or written, a connection breaks, the process dies,
//! a statement that was thought dead is executed. The checker goes through every order of these steps
//! within the bounds and looks at the invariants in every state. It finds what no test under load would
//! find in years, and it says nothing about sizes, servers or code: those have their own tests.
//!
//! | model | what it covers |
//! |---|---|
//! | [`catch_up`] | copy and apply, settling, epochs, lanes, checkpoints, fences (R1 to R5); unique values (R6) |
//! | [`cut_over`] | lock, drain, swap with lost answers, release, reverse feed, revert, takeovers, sleeping runners |
//! | [`dropped_column`] | the reverse feed of a column that only the retired table has |
//! | [`old_snapshot`] | readers that began before the swap, where rows have versions (PostgreSQL) |
//! | [`two_session_swap`] | a RENAME that waits for another session's lock (MariaDB) |
//!
//! Each rule is a flag. With all rules kept every state is visited and every invariant holds; with one
//! rule broken the checker must find a counterexample, and the test says what real failure it stands
//! for. A rule whose absence broke nothing would be noticed, and so would a model in which nothing
//! happens: what a run is for has to be reached as well.
//!
//! `cargo test -p replank-core model` runs all of it in less than a minute on two cores;
//! `-- --nocapture` shows the counterexamples, step by step. `REPLANK_MODEL_BOUNDS=large` goes through
//! longer histories with more faults: about ten minutes and 1.2 GiB.

mod catch_up;
mod check;
mod cut_over;
mod dropped_column;
mod histories;
mod history;
mod old_snapshot;
mod two_session_swap;
