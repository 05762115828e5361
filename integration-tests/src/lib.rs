//! Tests of replank as a whole. Everything is in `tests/all`: one binary, so that what is expensive to
//! start is started once.
