//! The server's table of locks, which all sessions share: a swap that fills it makes statements of others fail.

use replank_core::Result;

use crate::connect::Conn;
use crate::sql::{first, get};

/// For each partition: the table itself, what is kept beside it and that one's index, and two triggers of ours.
const OF_A_PARTITION: u64 = 5;

/// Why so many partitions are not locked together, of both tables, with as many indexes in all.
pub async fn refusal(connection: &mut Conn, partitions: usize, indexes: usize) -> Result<Option<String>> {
    let sql = "SELECT current_setting('max_locks_per_transaction')::bigint,
                      current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint";
    let Some(row) = first(connection, sql).await? else { return Ok(None) };
    let whole = |at: usize| -> Result<u64> { Ok(u64::try_from(get::<i64>(&row, at)?).unwrap_or_default()) };
    let (each, sessions) = (whole(0)?, whole(1)?);
    let needed = needed(partitions, indexes);
    Ok(setting(needed, each, sessions).map(|setting| {
        format!(
            "the swap would hold about {needed} locks at once, on {partitions} partitions and what belongs to them, and the server has room \
             for {} of all sessions: set max_locks_per_transaction = {setting}, which needs a restart, or have fewer partitions",
            each * sessions
        )
    }))
}

fn needed(partitions: usize, indexes: usize) -> u64 {
    let whole = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    whole(partitions).saturating_mul(OF_A_PARTITION).saturating_add(whole(indexes))
}

/// What `max_locks_per_transaction` would have to be; none where it is enough. Half of the table is for others. Chosen.
/// <https://www.postgresql.org/docs/current/runtime-config-locks.html>
fn setting(needed: u64, each: u64, sessions: u64) -> Option<u64> {
    let sessions = sessions.max(1);
    (needed * 2 > each * sessions).then(|| (needed * 2).div_ceil(sessions).next_multiple_of(64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_counts_with_its_own_indexes() {
        // Into a table without partitions, which has as many again.
        assert_eq!(needed(400, 400 * 3), 3_200);
    }

    #[test]
    fn half_of_the_locks_are_for_others() {
        // As the server comes: 64 for each of 100.
        assert_eq!(setting(3_200, 64, 100), None);
        assert_eq!(setting(3_201, 64, 100), Some(128));
        assert_eq!(setting(40_000, 64, 100), Some(832));
        assert_eq!(setting(1, 64, 0), None);
    }
}
