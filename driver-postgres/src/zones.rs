//! Times without an offset. `'2026-02-01'` of a timestamptz is a moment in the session's zone, and the server writes down the
//! moment: in a bound, a default, a check, an index. Sessions of ours begin with UTC, whatever the server, the database or the
//! role say: the client asks for it. In psql another moment would have come of it, and which one nobody can ask from here.
//!
//! So what a statement makes is tried under two zones, and refused where it comes out differently. What is computed for each
//! row, such as `now()`, is no constant and comes out the same.

use replank_core::{Error, ErrorKind, Result};

use crate::connect::Conn;
use crate::sql::{first, get, ident, rows, run};

/// More than a day apart, so that not even `'today'` means the same in both.
pub const ZONES: [&str; 2] = ["<-12>+12", "<+14>-14"];

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

/// The zone that sessions of this login begin with, in its psql for example. None where nobody has set one for it or for the
/// database: then it is the server's, which is not to be seen from a session that has asked for UTC.
pub async fn of_login(connection: &mut Conn) -> Result<Option<String>> {
    // In the order in which the server believes them.
    let sql = "SELECT split_part(line, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS line
         WHERE setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
         AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
         AND lower(split_part(line, '=', 1)) = 'timezone'
         ORDER BY setrole = 0, setdatabase = 0 LIMIT 1";
    first(connection, sql).await?.map(|row| get(&row, 0)).transpose()
}

/// Names of the zone of our sessions.
pub const UTC: [&str; 11] = [
    "utc",
    "etc/utc",
    "gmt",
    "etc/gmt",
    "uct",
    "etc/uct",
    "zulu",
    "etc/zulu",
    "universal",
    "etc/universal",
    "greenwich",
];

/// Whether a zone is the one of our sessions by another name.
pub fn is_utc(zone: &str) -> bool {
    UTC.contains(&zone.to_lowercase().as_str())
}

/// Whether of two types one is a timestamp and the other one a timestamptz.
pub fn is_one_with_a_zone(one: &str, other: &str) -> bool {
    let has_zone = |kind: &str| kind.ends_with("with time zone");
    one.starts_with("timestamp") && other.starts_with("timestamp") && has_zone(one) != has_zone(other)
}

/// The zone, as a literal, of an expression that says of a column just that: `(at AT TIME ZONE 'Asia/Tokyo')`. The same words of
/// what it gives lead back.
pub fn named<'a>(expression: &'a str, column: &str) -> Option<&'a str> {
    let plain = expression.strip_prefix('(')?.strip_suffix(')')?.trim();
    let rest = [column.to_owned(), ident(column)].iter().find_map(|own| {
        let (said, rest) = plain.split_at_checked(own.len())?;
        said.eq_ignore_ascii_case(own).then_some(rest)
    })?;
    let words = " AT TIME ZONE ";
    let (said, literal) = rest.split_at_checked(words.len())?;
    let inner = literal.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    (said.eq_ignore_ascii_case(words) && !inner.contains('\'')).then(|| literal.trim())
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
    fn a_zone_that_is_named_leads_back() {
        assert_eq!(named("(at AT TIME ZONE 'Asia/Tokyo')", "at"), Some("'Asia/Tokyo'"));
        assert_eq!(named("(\"At\" at time zone '+02' )", "At"), Some("'+02'"));
        assert_eq!(named("(atx AT TIME ZONE 'UTC')", "at"), None);
        assert_eq!(named("(at AT TIME ZONE 'UTC' + interval '1 hour')", "at"), None);
        assert_eq!(named("(at AT TIME ZONE zone)", "at"), None);
        let (with, without) = ("timestamp(3) with time zone", "timestamp without time zone");
        assert!(is_one_with_a_zone(with, without) && is_one_with_a_zone(without, with));
        assert!(!is_one_with_a_zone(with, with) && !is_one_with_a_zone("text", with));
        assert!(is_utc("Etc/UTC") && is_utc("gmt") && !is_utc("Europe/London"));
    }

    #[test]
    fn only_what_has_a_literal_in_it_is_tried_twice() {
        assert!(!holds_a_literal("ALTER TABLE t ADD COLUMN a int DEFAULT 7"));
        assert!(holds_a_literal("ALTER TABLE t ADD COLUMN a timestamptz DEFAULT '2026-02-01'"));
        assert!(holds_a_literal(
            "CREATE TABLE p PARTITION OF t FOR VALUES FROM ($$2026-02-01$$) TO (MAXVALUE)"
        ));
    }
}
