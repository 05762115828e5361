//! What a writer does next.

use crate::random::Random;

/// One change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new row under a key that only this writer uses.
    Insert {
        /// Its key.
        id: i64,
        /// Its customer.
        customer: u64,
    },
    /// Some columns of a row.
    Update {
        /// Its key.
        id: i64,
        /// Its new customer.
        customer: u64,
    },
    /// A row that may be there or not.
    Delete {
        /// Its key.
        id: i64,
    },
    /// A row moves to another key, if it is there and the other is free.
    ChangeKey {
        /// From.
        id: i64,
        /// To.
        to: i64,
    },
    /// Two rows exchange their unique values.
    SwapCodes {
        /// One.
        id: i64,
        /// The other.
        other: i64,
    },
    /// A row takes another's unique value and the other row goes, in one statement.
    Replace {
        /// The row that stays.
        id: i64,
        /// The row that goes.
        victim: i64,
        /// Its customer.
        customer: u64,
    },
}

/// A transaction: parts, of which some are rolled back to a savepoint.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its name in the journal.
    pub id: String,
    /// Operations, and whether each is inside a savepoint that is rolled back.
    pub operations: Vec<(Operation, bool)>,
    /// The whole of it is rolled back.
    pub rolls_back: bool,
}

/// Draws the `number`th transaction of a writer. `rows` are the shared keys `1..=rows`; own keys are above.
pub fn draw(random: &mut Random, writer: u64, number: u64, rows: u64) -> Transaction {
    let count = 1 + random.below(4);
    let operations = (0..count)
        .map(|step| {
            let operation = operation(random, writer, number * 8 + step, rows);
            (operation, random.one_in(8))
        })
        .collect();
    Transaction { id: format!("w{writer}t{number}"), operations, rolls_back: random.one_in(20) }
}

fn operation(random: &mut Random, writer: u64, fresh: u64, rows: u64) -> Operation {
    let own = i64::try_from((writer + 1) * 1_000_000_000 + fresh).expect("far below 2^63");
    // A third of all draws fall on ten hot rows.
    let mut shared = || {
        let bound = if random.one_in(3) { 10.min(rows) } else { rows };
        i64::try_from(1 + random.below(bound)).expect("far below 2^63")
    };
    let (id, other) = (shared(), shared());
    let customer = random.below(1_000_000);
    match random.below(100) {
        0..20 => Operation::Insert { id: own, customer },
        20..65 => Operation::Update { id, customer },
        65..75 => Operation::Delete { id },
        75..85 => Operation::ChangeKey { id, to: if random.one_in(2) { own } else { other } },
        85..93 => Operation::SwapCodes { id, other },
        _ => Operation::Replace { id, victim: other, customer },
    }
}
