//! An empty copy of a table: what LIKE takes over, and what it does not.

use replank_core::Result;

use crate::connect::Conn;
use crate::inspect::{Table, identities};
use crate::sql::{first, get, ident, rows, run, text};

/// Where a copy is made.
pub enum Place<'a> {
    /// In the session's own schema; it goes with the transaction. The table's own name is free there.
    Temporary(&'a str),
    /// In the table's schema, under this name.
    Beside(&'a str),
}

/// Makes the copy: columns, defaults, checks, storage, options; no index and nothing that hangs on the name. Answers
/// with its full name, quoted.
pub async fn copy(connection: &mut Conn, table: &Table, place: Place<'_>) -> Result<String> {
    let sql = format!(
        "SELECT c.relpersistence::text, c.reloptions, t.reloptions, am.amname::text, ts.spcname::text
         FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid LEFT JOIN pg_am am ON am.oid = c.relam
         LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace WHERE c.oid = {}",
        table.oid
    );
    let (mut persistence, mut options, mut using, mut tablespace) =
        (String::new(), Vec::new(), String::new(), String::new());
    if let Some(row) = first(connection, sql).await? {
        persistence = get(&row, 0)?;
        options
            .extend(get::<Option<Vec<String>>>(&row, 1)?.unwrap_or_default().iter().map(|o| option("", o)));
        let toast = get::<Option<Vec<String>>>(&row, 2)?.unwrap_or_default();
        options.extend(toast.iter().map(|o| option("toast.", o)));
        if let Some(method) = get::<Option<String>>(&row, 3)? {
            using = format!(" USING {}", ident(&method));
        }
        if let Some(space) = get::<Option<String>>(&row, 4)? {
            tablespace = format!(" TABLESPACE {}", ident(&space));
        }
    }
    let with = if options.is_empty() { String::new() } else { format!(" WITH ({})", options.join(", ")) };
    let like = format!(
        "(LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS){using}{with}",
        table.full_name()
    );
    let name = match place {
        Place::Temporary(name) => {
            run(
                connection,
                format!("CREATE TEMPORARY TABLE {} {like} ON COMMIT DROP{tablespace}", ident(name)),
            )
            .await?;
            format!("pg_temp.{}", ident(name))
        }
        Place::Beside(name) => {
            let kind = if persistence == "u" { "UNLOGGED " } else { "" };
            let name = crate::sql::table(&table.schema, name);
            run(connection, format!("CREATE {kind}TABLE {name} {like}{tablespace}")).await?;
            name
        }
    };
    for statement in sequence_types(connection, table, &name).await? {
        run(connection, statement).await?;
    }
    for statement in column_settings(connection, table, &name).await? {
        run(connection, statement).await?;
    }
    Ok(name)
}

/// `fillfactor=70` as it is typed.
fn option(prefix: &str, option: &str) -> String {
    match option.split_once('=') {
        Some((name, value)) => format!("{prefix}{name} = {}", text(value)),
        None => format!("{prefix}{option}"),
    }
}

/// LIKE makes every sequence of an identity column count as bigint does.
async fn sequence_types(connection: &mut Conn, table: &Table, copy: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT format('ALTER SEQUENCE %s AS %s', n.seqrelid::regclass, o.seqtypid::regtype)
         FROM ({}) AS o JOIN ({}) AS n USING (attname) WHERE o.seqtypid <> n.seqtypid",
        identities(&table.oid.to_string()),
        identities(&format!("to_regclass({})", text(copy)))
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

/// Statistics targets and options of columns, which LIKE leaves out.
async fn column_settings(connection: &mut Conn, table: &Table, copy: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT attname::text, nullif(attstattarget, -1)::int,
                (SELECT array_agg(o) FROM unnest(attoptions) AS o WHERE NOT starts_with(o, 'pg_'))
         FROM pg_attribute WHERE attrelid = {} AND attnum > 0 AND NOT attisdropped
         AND (nullif(attstattarget, -1) IS NOT NULL OR attoptions IS NOT NULL)",
        table.oid
    );
    let mut statements = Vec::new();
    for row in rows(connection, sql).await? {
        let column = ident(&get::<String>(&row, 0)?);
        if let Some(target) = get::<Option<i32>>(&row, 1)? {
            statements.push(format!("ALTER TABLE {copy} ALTER COLUMN {column} SET STATISTICS {target}"));
        }
        if let Some(options) = get::<Option<Vec<String>>>(&row, 2)? {
            let options: Vec<String> = options.iter().map(|held| option("", held)).collect();
            statements.push(format!("ALTER TABLE {copy} ALTER COLUMN {column} SET ({})", options.join(", ")));
        }
    }
    Ok(statements)
}
