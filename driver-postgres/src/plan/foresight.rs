//! What would stop a rebuild at its first chunk, or only at its swap: it is tried on empty copies, and asked of the rows,
//! when the plan is made.

use replank_core::plan::{Evidence, NullColumn, Unfit};
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};

use super::mapping::tried;
use crate::attached::Attached;
use crate::connect::Conn;
use crate::inspect::Table;
use crate::spec::Spec;
use crate::sql::{first, get, ident, number, rows, run, text};

/// The empty table of the new shape.
#[derive(Clone, Copy)]
pub struct After<'a> {
    /// As it is typed.
    pub name: &'a str,
    /// Its number.
    pub number: i64,
}

/// Why the swap would fail, if it would.
pub async fn obstacle(
    connection: &mut Conn,
    table: &Table,
    spec: &Spec,
    after: After<'_>,
    attached: &Attached,
) -> Result<Option<String>> {
    if let Some(name) = taken_name(connection, table, spec).await? {
        return Ok(Some(format!(
            "an index of the new shape would be called {name}, and something else has that name: give it another one"
        )));
    }
    let own =
        format!("{}.{}", quoted(connection, &table.schema).await?, quoted(connection, &table.name).await?);
    for statement in &attached.on {
        let is_tried = ["CREATE POLICY ", "CREATE TRIGGER ", "CREATE CONSTRAINT TRIGGER "];
        if !is_tried.iter().any(|begins| statement.starts_with(begins)) {
            continue;
        }
        let on_copy = statement.replacen(&format!(" ON {own} "), &format!(" ON {} ", after.name), 1);
        // It is one of a view.
        if on_copy == *statement {
            continue;
        }
        let only = on_copy.split_once("; COMMENT ON ").map_or(on_copy.as_str(), |(only, _)| only);
        let only = only.split_once("; ALTER TABLE ").map_or(only, |(only, _)| only);
        if let Some(error) = tried(connection, only.to_owned()).await?.filter(is_of_shape) {
            return Ok(Some(would_fail(statement, &error)));
        }
    }
    let filters = format!(
        "SELECT pubname::text, to_jsonb(t) ->> 'rowfilter' FROM pg_publication_tables t
         WHERE schemaname = {} AND tablename = {} AND to_jsonb(t) ->> 'rowfilter' IS NOT NULL",
        text(&table.schema),
        text(&table.name)
    );
    for row in rows(connection, filters).await? {
        let (publication, filter): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        let asked = format!("SELECT FROM {} WHERE {filter}", after.name);
        if let Some(error) = tried(connection, asked).await?.filter(is_of_shape) {
            return Ok(Some(would_fail(&format!("the filter of the publication {publication}"), &error)));
        }
    }
    foreign_keys(connection, table, after).await
}

/// What the server says of columns, types and names, and not of rights or of what is locked just now.
pub fn is_of_shape(error: &Error) -> bool {
    let code = error.context().iter().find(|(name, _)| *name == "code").map(|(_, code)| code.to_string());
    code.is_some_and(|code| code.starts_with("42") && code != "42501")
}

fn would_fail(what: &str, error: &Error) -> String {
    format!("the new shape does not take `{what}`: {}", error.message())
}

/// As the server writes it in statements: with quotes where it needs them.
async fn quoted(connection: &mut Conn, name: &str) -> Result<String> {
    let row = first(connection, format!("SELECT quote_ident({})", text(name))).await?;
    row.map(|row| get(&row, 0)).transpose().map(Option::unwrap_or_default)
}

async fn taken_name(connection: &mut Conn, table: &Table, spec: &Spec) -> Result<Option<String>> {
    let names: Vec<String> = spec.new.definition.indexes.iter().map(|index| text(&index.name)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = {} AND c.relname IN ({}) AND c.oid NOT IN (SELECT indexrelid FROM pg_index WHERE indrelid = {}) LIMIT 1",
        text(&table.schema),
        names.join(", "),
        table.oid
    );
    first(connection, sql).await?.map(|row| get(&row, 0)).transpose()
}

/// A foreign key from, or onto, an empty copy of the other table, whose types and unique indexes the server looks at.
async fn foreign_keys(connection: &mut Conn, table: &Table, after: After<'_>) -> Result<Option<String>> {
    let sql = format!(
        "SELECT conname::text, conrelid::regclass::text, confrelid::regclass::text, conrelid = {0}, confrelid = {0},
                pg_get_constraintdef(oid)
         FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND {0} IN (conrelid, confrelid) ORDER BY conname",
        table.oid
    );
    for row in rows(connection, sql).await? {
        let (name, from, onto): (String, String, String) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        let (is_from, is_onto, definition): (bool, bool, String) =
            (get(&row, 3)?, get(&row, 4)?, get(&row, 5)?);
        let other = if is_from { &onto } else { &from };
        let copied = match is_from && is_onto {
            true => String::new(),
            false => {
                format!("CREATE TEMPORARY TABLE _rp_other (LIKE {other} INCLUDING INDEXES) ON COMMIT DROP; ")
            }
        };
        let (from_copy, onto_copy) = match (is_from, is_onto) {
            (true, true) => (after.name, after.name),
            (true, false) => (after.name, "pg_temp._rp_other"),
            _ => ("pg_temp._rp_other", after.name),
        };
        let references = format!(" REFERENCES {onto}(");
        let definition = definition.replacen(&references, &format!(" REFERENCES {onto_copy}("), 1);
        let definition = definition.trim_end_matches(" NOT VALID");
        let made = format!("{copied}ALTER TABLE {from_copy} ADD {definition}");
        if let Some(error) = tried(connection, made).await?.filter(is_of_shape) {
            return Ok(Some(would_fail(&format!("foreign key {name} of {from}"), &error)));
        }
    }
    Ok(None)
}

/// Adds what rows of today say against the new shape's CHECKs, and against columns that take no NULL and get nothing.
pub async fn ask_rows(
    connection: &mut Conn,
    table: &Table,
    spec: &Spec,
    after: After<'_>,
    evidence: &mut Evidence,
) -> Result<()> {
    let flow = spec.flow(Direction::Forward)?;
    let source = table.full_name();
    let mut values = flow.written();
    let mut computed = String::new();
    let all = format!(
        "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '', a.attidentity <> '',
                coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault), CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        after.number
    );
    for row in rows(connection, all).await? {
        let (name, kind, is_not_null): (String, String, bool) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        if flow.columns.iter().any(|mapped| mapped.column == name) {
            continue;
        }
        let (is_computed, counts): (bool, bool) = (get(&row, 3)?, get(&row, 4)?);
        let default = get::<Option<String>>(&row, 5)?;
        // A domain may refuse NULL by itself.
        let plain = get::<Option<String>>(&row, 6)?.unwrap_or_else(|| kind.clone());
        let quoted = ident(&name);
        match &default {
            Some(expression) if is_computed => computed.push_str(&format!(", ({expression}) AS {quoted}")),
            Some(default) if is_constant(connection, after, default, &kind).await? => {
                values.push(format!("({default})::{kind} AS {quoted}"));
            }
            _ => values.push(format!("NULL::{plain} AS {quoted}")),
        }
        let gets_nothing = is_not_null && !counts && default.is_none();
        let there = format!("SELECT count(*) FROM {source}");
        if gets_nothing && let Some(rows) = some(number(connection, there).await?) {
            evidence.nulls.push(NullColumn { column: name, rows, samples: Vec::new() });
        }
    }
    let new = format!(
        "SELECT conname::text, pg_get_expr(conbin, conrelid) FROM pg_constraint n WHERE conrelid = {} AND contype = 'c' AND convalidated
         AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conrelid = {} AND o.contype = 'c' AND o.convalidated
                         AND pg_get_expr(o.conbin, o.conrelid) = pg_get_expr(n.conbin, n.conrelid))
         ORDER BY conname",
        after.number, table.oid
    );
    for row in rows(connection, new).await? {
        let (name, condition): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        let against = format!(
            "SELECT count(*) FROM (SELECT *{computed} FROM (SELECT {} FROM {source}) AS v) AS c WHERE NOT ({condition})",
            values.join(", ")
        );
        run(connection, "SAVEPOINT rp_check").await?;
        let (rows, samples) = match number(connection, against).await {
            Ok(rows) => (some(rows), Vec::new()),
            Err(error) if error.kind() == ErrorKind::ConnectionLost => return Err(error),
            // Of some row it cannot be said at all.
            Err(error) => (Some(1), vec![error.message().to_owned()]),
        };
        run(connection, "ROLLBACK TO SAVEPOINT rp_check").await?;
        if let Some(rows) = rows {
            let what = format!("rows do not meet the CHECK {name}: {condition}");
            evidence.unfit.push(Unfit { what, rows, samples });
        }
    }
    Ok(())
}

/// Whether a default may be asked for every row: one that counts would be used up, or lock something.
async fn is_constant(connection: &mut Conn, after: After<'_>, default: &str, kind: &str) -> Result<bool> {
    let computed = format!(
        "ALTER TABLE {} ADD COLUMN _rp_tried {kind} GENERATED ALWAYS AS ({default}) STORED",
        after.name
    );
    Ok(tried(connection, computed).await?.is_none())
}

fn some(rows: i64) -> Option<u64> {
    u64::try_from(rows).ok().filter(|rows| *rows > 0)
}

/// Columns that are left out, and that the old table takes no row without: the way back ends with the first INSERT.
pub async fn owed_back(connection: &mut Conn, table: &Table, left_out: &[String]) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT attname::text FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
         WHERE attrelid = {} AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
         AND typdefault IS NULL ORDER BY attnum",
        table.oid
    );
    let owed: Vec<String> =
        rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    Ok(owed.into_iter().filter(|name| left_out.contains(name)).collect())
}
