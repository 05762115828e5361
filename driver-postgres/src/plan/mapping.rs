//! How rows of one shape become rows of the other, both ways.

use replank_core::{Error, ErrorKind, Result};

use super::key::{Sides, keys};
use crate::connect::Conn;
use crate::rebuild::number_of;
use crate::spec::{Flow, KeyColumn, Mapped, Original};
use crate::sql::{first, get, ident, rows, run};
use crate::zones::{self, refuse_times_without_offset};

/// A column, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its number in the copy, which stays when it is renamed.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type, as it is typed.
    pub kind: String,
    /// The same without a length or precision.
    pub base: String,
    /// How its values compare, by number.
    pub collation: i64,
    /// It takes no NULL.
    pub is_not_null: bool,
    /// It is computed from others.
    pub is_generated: bool,
    /// Its type is the server's own.
    pub is_builtin: bool,
    /// The longest text that it takes.
    pub length: Option<i32>,
}

impl Column {
    /// Those of a table.
    pub async fn all(connection: &mut Conn, table: i64) -> Result<Vec<Self>> {
        let sql = format!(
            "SELECT a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attcollation::bigint, a.attnotnull,
                    a.attgenerated <> '', t.typnamespace = 'pg_catalog'::regnamespace OR t.typtype = 'e',
                    CASE WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod >= 4 THEN a.atttypmod - 4 END,
                    format_type(a.atttypid, -1)
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = {table} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        );
        rows(connection, sql)
            .await?
            .iter()
            .map(|row| {
                Ok(Self {
                    number: get(row, 0)?,
                    name: get(row, 1)?,
                    kind: get(row, 2)?,
                    collation: get(row, 3)?,
                    is_not_null: get(row, 4)?,
                    is_generated: get(row, 5)?,
                    is_builtin: get(row, 6)?,
                    length: get(row, 7)?,
                    base: get(row, 8)?,
                })
            })
            .collect()
    }

    fn mapped(&self, expression: String, original: Option<Original>) -> Mapped {
        let (column, kind, base) = (self.name.clone(), self.kind.clone(), self.base.clone());
        Mapped { column, kind, base, expression, original }
    }

    /// Bytes of a whole number.
    pub fn width(&self) -> Option<u8> {
        match self.kind.as_str() {
            "smallint" => Some(2),
            "integer" => Some(4),
            "bigint" => Some(8),
            _ => None,
        }
    }

    /// Equal values always have one text.
    pub fn is_exact(&self) -> bool {
        let plain = self.kind.split('(').next().unwrap_or_default().trim();
        self.width().is_some()
            || matches!(plain, "uuid" | "text" | "character varying" | "bytea" | "date" | "oid")
            || plain.starts_with("timestamp")
    }

    /// Every value of this column is one of the other, and comes back as it was.
    pub fn is_lossless_into(&self, other: &Self) -> bool {
        if self.kind == other.kind {
            return true;
        }
        if let (Some(own), Some(others)) = (self.width(), other.width()) {
            return own <= others;
        }
        let is_text = |column: &Self| column.kind == "text" || column.kind.starts_with("character varying");
        is_text(self)
            && is_text(other)
            && match (self.length, other.length) {
                (_, None) => true,
                (Some(own), Some(others)) => own <= others,
                (None, Some(_)) => false,
            }
    }
}

/// What the person gave for values that the server cannot convert by itself: column → expression.
pub struct Given<'a> {
    /// Over the old columns.
    pub forward: &'a [(String, String)],
    /// Over the new columns.
    pub reverse: &'a [(String, String)],
}

/// Both shapes, each with an empty copy. A column that stays has the same number in both.
pub struct Shapes<'a> {
    /// The copy of the old shape.
    pub before: &'a str,
    /// That of the new one.
    pub after: &'a str,
    /// The old columns.
    pub old: &'a [Column],
    /// The new ones.
    pub new: &'a [Column],
}

/// The ways.
pub struct Ways {
    /// Into the new shape.
    pub forward: Flow,
    /// And back, or why not.
    pub backward: std::result::Result<Flow, String>,
    /// The old shape's index through which rows are found.
    pub old_index: String,
    /// The new one's.
    pub new_index: String,
}

/// Where a shape was given whole, columns are the same when their names are: old ones get the numbers of the new ones.
pub fn pair_by_name(old: &mut [Column], new: &[Column]) {
    for (own, column) in (1..).zip(old) {
        // No column has a negative number.
        column.number = new.iter().find(|other| other.name == column.name).map_or(-own, |other| other.number);
    }
}

/// By what number the server knows a copy.
pub async fn number(connection: &mut Conn, copy: &str) -> Result<i64> {
    number_of(connection, copy)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a copy was made and is not there"))
}

/// Finds the ways, or why there is none. `using` is what the statement itself says of values.
pub async fn mapping(
    connection: &mut Conn,
    shapes: &Shapes<'_>,
    old_number: i64,
    new_number: i64,
    using: &[(String, String)],
    given: &Given<'_>,
    is_partitioned: bool,
) -> Result<std::result::Result<Ways, String>> {
    known(shapes.new, given.forward)?;
    known(shapes.old, given.reverse)?;
    let mut columns = Vec::new();
    for column in shapes.new.iter().filter(|column| !column.is_generated) {
        let from = shapes.old.iter().find(|from| from.number == column.number);
        let own = expression(given.forward, &column.name).or_else(|| {
            from.and_then(|from| expression(using, &from.name)).or_else(|| expression(using, &column.name))
        });
        let expression = match (own, from) {
            (Some(own), _) => format!("({own})"),
            (None, Some(from)) => ident(&from.name),
            // Left to the server, which gives it its default.
            (None, None) => continue,
        };
        let stays = from.is_some_and(|from| from.kind == column.kind && expression == ident(&from.name));
        if !stays && let Some(why) = depends(connection, shapes.before, column, &expression).await? {
            return Ok(Err(why));
        }
        columns.push(column.mapped(expression, None));
    }
    let old_keys = keys(connection, old_number).await?;
    let new_keys = keys(connection, new_number).await?;
    let sides = Sides { old: shapes.old, new: shapes.new, columns: &columns };
    let (key, old_index, new_index) = match sides.key(&old_keys, &new_keys, is_partitioned) {
        Ok(found) => found,
        Err(why) => return Ok(Err(format!("rows cannot be told apart while they are copied: {why}"))),
    };
    let forward = Flow { key, columns, kept: Vec::new() };
    let backward = backward(connection, shapes, &forward, given).await?;
    Ok(Ok(Ways { forward, backward, old_index, new_index }))
}

fn known(columns: &[Column], given: &[(String, String)]) -> Result<()> {
    match given.iter().find(|(name, _)| !columns.iter().any(|column| column.name == *name)) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(ErrorKind::Usage, format!("there is no column `{name}`"))),
    }
}

fn expression<'a>(given: &'a [(String, String)], column: &str) -> Option<&'a str> {
    given.iter().find(|(name, _)| name == column).map(|(_, text)| text.as_str())
}

/// Runs something that may fail, and leaves nothing of it.
pub async fn tried(connection: &mut Conn, sql: String) -> Result<Option<Error>> {
    run(connection, "SAVEPOINT rp_tried").await?;
    let done = run(connection, sql).await;
    run(connection, "ROLLBACK TO SAVEPOINT rp_tried").await?;
    match done {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionLost => Err(error),
        Err(error) => Ok(Some(error)),
    }
}

/// Adds a column of another one's type that is computed.
fn computing(table: &str, column: &Column, expression: &str) -> String {
    format!(
        "ALTER TABLE {table} ADD COLUMN _rp_tried {} GENERATED ALWAYS AS ({expression}) STORED",
        column.kind
    )
}

/// What a value depends on besides the row. The server itself says so, of a column that would be computed that way.
async fn depends(
    connection: &mut Conn,
    before: &str,
    column: &Column,
    expression: &str,
) -> Result<Option<String>> {
    let computed = computing(before, column, expression);
    refuse_times_without_offset(connection, std::slice::from_ref(&computed)).await?;
    match tried(connection, computed).await? {
        Some(error) if !is_mutable(&error) => {
            return Ok(Some(format!("column {}: {}", column.name, error.message())));
        }
        None if !is_of_zone(connection, before, column, expression).await? => return Ok(None),
        _ => {}
    }
    let zone = zones::of_login(connection).await?;
    Ok(Some(format!(
        "the value of column {} would depend on more than its row, such as a session's time zone: say it with USING, \
         as in USING {} AT TIME ZONE '{}'",
        column.name,
        ident(&column.name),
        zone.as_deref().unwrap_or("UTC")
    )))
}

/// The server says so of what is computed from more than its row.
fn is_mutable(error: &Error) -> bool {
    error.context().iter().any(|(name, value)| *name == "code" && value == "42P17")
}

/// Whether the conversion that goes without saying, from what an expression gives into a column, would come out otherwise in a
/// session of another zone. Of a computed column the server looks at the expression alone, so it is asked of the conversion
/// when it is said. Where this login's zone is known to be that of our sessions, it makes no difference.
async fn is_of_zone(connection: &mut Conn, table: &str, column: &Column, expression: &str) -> Result<bool> {
    let given = format!(
        "SELECT pg_typeof(v)::text FROM (VALUES (1)) AS one LEFT JOIN (SELECT {expression} AS v FROM {table}) AS given ON true"
    );
    let Some(row) = first(connection, given).await? else { return Ok(false) };
    let has_zone = |kind: &str| kind.contains("with time zone");
    if !has_zone(&get::<String>(&row, 0)?) && !has_zone(&column.kind) {
        return Ok(false);
    }
    let said = computing(table, column, &format!("({expression})::{}", column.kind));
    let depends = tried(connection, said).await?.is_some_and(|error| is_mutable(&error));
    Ok(depends && !zones::of_login(connection).await?.is_some_and(|zone| zones::is_utc(&zone)))
}

async fn backward(
    connection: &mut Conn,
    shapes: &Shapes<'_>,
    forward: &Flow,
    given: &Given<'_>,
) -> Result<std::result::Result<Flow, String>> {
    let mut columns = Vec::new();
    let mut kept = Vec::new();
    for column in shapes.old.iter().filter(|column| !column.is_generated) {
        let to = shapes.new.iter().find(|to| to.number == column.number);
        let sent = to.and_then(|to| forward.columns.iter().find(|mapped| mapped.column == to.name));
        let own = expression(given.reverse, &column.name).map(|own| format!("({own})"));
        let expression = match (own, to) {
            (Some(own), _) => {
                let computed = computing(shapes.after, column, &own);
                refuse_times_without_offset(connection, &[computed]).await?;
                own
            }
            (None, None) => {
                kept.push(column.name.clone());
                continue;
            }
            (None, Some(to)) if to.is_generated => {
                return Ok(Err(format!("column {} is computed in the new shape", to.name)));
            }
            (None, Some(to)) => match back_into(connection, shapes, column, to, sent).await? {
                Some(expression) => expression,
                None => {
                    return Ok(Err(format!(
                        "the server makes no {} of a {}: say how with -D reverse={}=…",
                        column.kind, to.kind, column.name
                    )));
                }
            },
        };
        // What was sent forward as another type may have lost something on the way.
        let original = match (to, sent) {
            (Some(to), Some(sent))
                if !column.is_lossless_into(to) || sent.expression != ident(&column.name) =>
            {
                let (kind, expression) = (to.kind.clone(), sent.expression.clone());
                Some(Original { source: to.name.clone(), kind, expression })
            }
            _ => None,
        };
        columns.push(column.mapped(expression, original));
    }
    let key = forward
        .key
        .iter()
        .map(|column| {
            let kind = shapes.new.iter().find(|new| new.name == column.written).map(|new| new.kind.clone());
            KeyColumn {
                source: column.written.clone(),
                written: column.source.clone(),
                kind: kind.unwrap_or_else(|| column.kind.clone()),
                is_exact: column.is_exact,
            }
        })
        .collect();
    Ok(Ok(Flow { key, columns, kept }))
}

/// How a value comes back, if the server knows how, and no session's zone has a say in it.
async fn back_into(
    connection: &mut Conn,
    shapes: &Shapes<'_>,
    column: &Column,
    to: &Column,
    sent: Option<&Mapped>,
) -> Result<Option<String>> {
    let plain = ident(&to.name);
    let named = sent.and_then(|sent| zones::named(&sent.expression, &column.name));
    let ways = match named.filter(|_| zones::is_one_with_a_zone(&column.kind, &to.kind)) {
        Some(literal) => vec![format!("{plain} AT TIME ZONE {literal}")],
        None => vec![plain.clone(), format!("{plain}::{}", column.kind)],
    };
    for expression in ways {
        let sql = format!(
            "EXPLAIN INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {expression} FROM {}",
            shapes.before,
            ident(&column.name),
            shapes.after
        );
        if tried(connection, sql).await?.is_none() {
            let depends = is_of_zone(connection, shapes.after, column, &expression).await?;
            return Ok((!depends).then_some(expression));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: &str, length: Option<i32>) -> Column {
        Column {
            number: 1,
            name: "c".to_owned(),
            kind: kind.to_owned(),
            base: kind.to_owned(),
            collation: 0,
            is_not_null: true,
            is_generated: false,
            is_builtin: true,
            length,
        }
    }

    #[test]
    fn widening_loses_nothing() {
        let narrow = column("integer", None);
        assert!(narrow.is_lossless_into(&column("bigint", None)));
        assert!(!narrow.is_lossless_into(&column("smallint", None)));
        assert!(!narrow.is_lossless_into(&column("text", None)), "'007' is no number's text");
        let short = column("character varying(5)", Some(5));
        assert!(short.is_lossless_into(&column("text", None)));
        assert!(short.is_lossless_into(&column("character varying(6)", Some(6))));
        assert!(!short.is_lossless_into(&column("character varying(4)", Some(4))));
    }

    #[test]
    fn only_where_equal_values_have_one_text_are_there_lanes() {
        for kind in ["bigint", "uuid", "text", "character varying(5)", "timestamp(3) without time zone"] {
            assert!(column(kind, None).is_exact(), "{kind}");
        }
        for kind in ["numeric", "numeric(10,2)", "character(5)", "double precision", "citext"] {
            assert!(!column(kind, None).is_exact(), "{kind}");
        }
    }
}
