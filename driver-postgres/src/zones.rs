//! Times without an offset. `'2026-02-01'` of a timestamptz is a moment in the session's zone, and the server writes down the
//! moment: in a bound, a default, a check, an index. Sessions of ours begin with UTC, whatever the server, the database or the
//! role say: the client asks for it. In psql another moment would have come of it, and which one nobody can ask from here.
//!
//! So what a statement makes is tried under two zones, and refused where it comes out differently. What is computed for each
//! row, such as `now()`, is no constant and comes out the same.

use replank_core::{Error, ErrorKind, Result};

use crate::connect::Conn;
use crate::sql::{get, rows, run};

/// More than a day apart, so that not even `'today'` means the same in both.
const ZONES: [&str; 2] = ["<-12>+12", "<+14>-14"];

/// Tries statements about temporary tables in the transaction that the session is in, and leaves nothing of them. What the
/// server has against them it says when they are run.
///
/// # Errors
/// [`ErrorKind::Refused`] where what they make depends on the session's zone.
pub async fn refuse_times_without_offset(connection: &mut Conn, statements: &[String]) -> Result<()> {
    if !statements.iter().any(|statement| holds_a_literal(statement)) {
        return Ok(());
    }
    let west = constants(connection, ZONES[0], statements).await?;
    if west == constants(connection, ZONES[1], statements).await? && west.is_some() {
        return Ok(());
    }
    let Some(here) = constants(connection, "UTC", statements).await? else { return Ok(()) };
    let differs = here.iter().find(|line| !west.iter().flatten().any(|other| other == *line));
    let what = differs.map_or("its bounds", String::as_str);
    Err(Error::new(
        ErrorKind::Refused,
        format!("a time without an offset would be read in UTC here, and perhaps in another zone elsewhere: {what}"),
    )
    .hint("write each time of a timestamptz with its offset, as in '2026-02-01 00:00+00'"))
}

/// Without one there is no time in it.
fn holds_a_literal(statement: &str) -> bool {
    statement.contains(['\'', '$'])
}

/// What statements write down under a zone, as it is said in UTC; none where the server does not take them.
async fn constants(connection: &mut Conn, zone: &str, statements: &[String]) -> Result<Option<Vec<String>>> {
    run(connection, format!("SAVEPOINT rp_zone; SET LOCAL TimeZone = '{zone}'")).await?;
    let found = match run(connection, statements.join("\n;\n")).await {
        Ok(_) => Some(written(connection).await?),
        // These say nothing of the zone.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionLost | ErrorKind::LockTimeout | ErrorKind::Retry | ErrorKind::DiskFull
            ) =>
        {
            return Err(error);
        }
        Err(_) => None,
    };
    run(connection, "ROLLBACK TO SAVEPOINT rp_zone; RELEASE SAVEPOINT rp_zone").await?;
    Ok(found)
}

/// Everything in temporary tables that may have a constant in it.
async fn written(connection: &mut Conn) -> Result<Vec<String>> {
    run(connection, "SET LOCAL TimeZone = 'UTC'").await?;
    let sql = "WITH t AS (SELECT oid, relname, relpartbound FROM pg_class WHERE relnamespace = pg_my_temp_schema())
         SELECT line FROM (
             SELECT 1 AS place, relname, '' AS name, pg_get_expr(relpartbound, oid) AS line FROM t WHERE relpartbound IS NOT NULL
             UNION ALL
             SELECT 2, relname, a.attname, format('column %s %s', a.attname, pg_get_expr(f.adbin, f.adrelid))
             FROM t JOIN pg_attrdef f ON f.adrelid = t.oid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = f.adnum
             UNION ALL
             SELECT 3, relname, o.conname, pg_get_constraintdef(o.oid) FROM t JOIN pg_constraint o ON o.conrelid = t.oid AND o.contype = 'c'
             UNION ALL
             SELECT 4, relname, '', pg_get_indexdef(oid) FROM t JOIN pg_index i ON i.indexrelid = t.oid
             WHERE i.indpred IS NOT NULL OR i.indexprs IS NOT NULL
             UNION ALL
             SELECT 5, relname, '', pg_get_partkeydef(oid) FROM t JOIN pg_partitioned_table p ON p.partrelid = t.oid
         ) AS w ORDER BY place, relname, name";
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_literal_in_it_is_tried_twice() {
        assert!(!holds_a_literal("ALTER TABLE t ADD COLUMN a int DEFAULT 7"));
        assert!(holds_a_literal("ALTER TABLE t ADD COLUMN a timestamptz DEFAULT '2026-02-01'"));
        assert!(holds_a_literal(
            "CREATE TABLE p PARTITION OF t FOR VALUES FROM ($$2026-02-01$$) TO (MAXVALUE)"
        ));
    }
}
