//! What the server does for a rebuild's statements. A statement reads, takes its time, and writes; other
//! statements and transactions go on in between.

mod apply;
mod compare;
mod copy;
mod index;
mod objects;
mod read;

pub(in crate::testkit::memory) use apply::{apply, write_rows};
pub(in crate::testkit::memory) use compare::{compare, compare_keys, compared_keys};
pub(in crate::testkit::memory) use copy::copy;
pub(in crate::testkit::memory) use index::{build_index, collisions, deferred_indexes};
pub(in crate::testkit::memory) use objects::{discard, fence, prepare};
pub(in crate::testkit::memory) use read::{forget, gap, head, next_bound, open_feed};
