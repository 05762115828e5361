//! The swap itself: two renames, and everything that must move with the name.
//!
//! Readers go on with the snapshot that they have and find the new table with their next one. Statements
//! that applications keep prepared are prepared again by SQLite, as the schema's version has moved on.

use replank_core::ident::helper_name;
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;
use sqlx::sqlite::SqliteConnection;

use super::{Core, capture_role, prepare};
use crate::definition::{self, Live, Shape};
use crate::error::from_sqlx;
use crate::parse::{IndexText, TableText};
use crate::spec::opposite;
use crate::sql::{ident, query, run};
use crate::state::ObjectRole;

/// Swaps, in the guard's transaction.
pub async fn swap(connection: &mut SqliteConnection, core: &Core, reverse: bool) -> Result<()> {
    let direction = core.job.direction;
    let live = core.source().to_owned();
    let incoming = core.written();
    let (incoming_side, _, incoming_role) = prepare::aside(core, direction);
    let (outgoing_side, outgoing_name_role, outgoing_role) = prepare::outgoing(core, direction);
    let outgoing = helper_name(&core.job.run, core.fence(), outgoing_name_role);

    drop_triggers(connection, core, &live).await?;
    // A CHECK that says `table.column` would not survive the rename, so the outgoing table loses that, and
    // its foreign keys, before.
    let outgoing_text = TableText::parse(&outgoing_side.sql)?;
    rewrite_schema(connection, &[(live.clone(), outgoing_text.render_aside(&live))], &[]).await?;
    // Foreign keys of other tables, views and triggers name the live name and go on doing so: with
    // `legacy_alter_table` a rename changes nothing but the table.
    run(connection, format!("ALTER TABLE {} RENAME TO {}", ident(&live), ident(&outgoing))).await?;
    run(connection, format!("ALTER TABLE {} RENAME TO {}", ident(&incoming), ident(&live))).await?;

    let texts = Texts::of(connection, core, &live, &outgoing).await?;
    let indexes: Vec<&IndexName> = texts.outgoing.iter().chain(&texts.incoming).collect();
    rewrite_schema(connection, &texts.tables, &indexes).await?;
    for index in &texts.outgoing {
        let live_name = Json::String(index.present.clone());
        core.objects.put(connection, ObjectRole::Index, &index.name, &live_name).await?;
    }
    for index in &texts.incoming {
        core.objects.remove(connection, ObjectRole::Index, &index.present).await?;
    }
    verify(connection, core, &live, &outgoing).await?;

    for trigger in &incoming_side.triggers {
        run(connection, trigger.sql.clone()).await?;
    }
    carry_sequence(connection, &live, &outgoing, incoming_side.autoincrement && outgoing_side.autoincrement)
        .await?;
    // What ANALYZE found out stays with the name by itself: a rename does not touch `sqlite_stat1`.

    core.objects.remove(connection, incoming_role, &incoming).await?;
    core.objects.put(connection, outgoing_role, &outgoing, &Json::Null).await?;
    if reverse {
        prepare::make_triggers(core, connection, opposite(direction), &outgoing).await?;
    }
    let shape = match direction {
        Direction::Forward => Shape::New,
        Direction::Reverse => Shape::Old,
    };
    let definition = definition::read(connection, &live, &core.names).await?;
    Live { shape, definition }.save(connection, &core.objects, &live).await
}

/// The application's triggers, to be made again on the new table, and ours, which have done their work.
async fn drop_triggers(connection: &mut SqliteConnection, core: &Core, live: &str) -> Result<()> {
    let found =
        query("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE")
            .bind(live.to_owned())
            .fetch_all(&mut *connection)
            .await
            .map_err(from_sqlx)?;
    for row in &found {
        let name: String = crate::inspect::get(row, 0)?;
        run(connection, format!("DROP TRIGGER {}", ident(&name))).await?;
    }
    core.objects.clear(connection, capture_role(core.job.direction)).await
}

/// What the catalogue is to say.
struct Texts {
    /// Tables: name and statement.
    tables: Vec<(String, String)>,
    /// Indexes of the table that goes aside.
    outgoing: Vec<IndexName>,
    /// Indexes of the table that becomes the live one.
    incoming: Vec<IndexName>,
}

/// An index's present name, and its name and statement to come.
struct IndexName {
    present: String,
    name: String,
    sql: String,
}

impl Texts {
    async fn of(connection: &mut SqliteConnection, core: &Core, live: &str, outgoing: &str) -> Result<Self> {
        let direction = core.job.direction;
        let (incoming_side, ..) = prepare::aside(core, direction);
        let (outgoing_side, outgoing_role, _) = prepare::outgoing(core, direction);
        // The live table has its statement to the letter, foreign keys included; the other one has none
        // any more (R10).
        let aside = TableText::parse(&outgoing_side.sql)?.render_aside(outgoing);
        let tables = vec![(live.to_owned(), incoming_side.sql.clone()), (outgoing.to_owned(), aside)];
        let mut outgoing_indexes = Vec::new();
        for (number, index) in outgoing_side.indexes.iter().enumerate() {
            let name = prepare::index_name(core, outgoing_role, number);
            let sql = IndexText::parse(&index.sql)?.render(&name, outgoing);
            outgoing_indexes.push(IndexName { present: index.name.clone(), name, sql });
        }
        let mut incoming = Vec::new();
        let registered = core.objects.of(connection, ObjectRole::Index).await?;
        for index in &incoming_side.indexes {
            let helper =
                registered.iter().find(|object| object.extra.as_str() == Some(&index.name)).ok_or_else(
                    || Error::new(ErrorKind::Internal, format!("index `{}` was never built", index.name)),
                )?;
            let (name, sql) = (index.name.clone(), index.sql.clone());
            incoming.push(IndexName { present: helper.name.clone(), name, sql });
        }
        Ok(Self { tables, outgoing: outgoing_indexes, incoming })
    }
}

/// SQLite renames no index, and adds or drops no foreign key. Both change nothing in how rows are stored,
/// and for such changes SQLite documents this way: see "Making Other Kinds Of Table Schema Changes" in
/// <https://www.sqlite.org/lang_altertable.html>.
async fn rewrite_schema(
    connection: &mut SqliteConnection,
    tables: &[(String, String)],
    indexes: &[&IndexName],
) -> Result<()> {
    run(connection, "PRAGMA writable_schema = ON").await?;
    for (name, sql) in tables {
        let done = query("UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = ?")
            .bind(sql.clone())
            .bind(name.clone())
            .execute(&mut *connection)
            .await
            .map_err(from_sqlx)?;
        one_row(done.rows_affected(), name)?;
    }
    // The outgoing ones come first and make way: names are unique in a database.
    for IndexName { present, name, sql } in indexes {
        let done = query("UPDATE sqlite_schema SET name = ?, sql = ? WHERE type = 'index' AND name = ?")
            .bind(name.clone())
            .bind(sql.clone())
            .bind(present.clone())
            .execute(&mut *connection)
            .await
            .map_err(from_sqlx)?;
        one_row(done.rows_affected(), present)?;
    }
    // The renames have moved the schema's version on already, for everybody else; this reads it again here.
    run(connection, "PRAGMA writable_schema = RESET").await.map(|_| ())
}

fn one_row(rows: u64, name: &str) -> Result<()> {
    if rows == 1 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ForeignDdl, format!("`{name}` is not in the catalogue as it should be"))
        .with("rows", rows))
}

/// Reads back what the catalogue makes of it, before anybody else can see it.
async fn verify(connection: &mut SqliteConnection, core: &Core, live: &str, outgoing: &str) -> Result<()> {
    let (incoming_side, ..) = prepare::aside(core, core.job.direction);
    let (outgoing_side, ..) = prepare::outgoing(core, core.job.direction);
    for (name, side) in [(live, incoming_side), (outgoing, outgoing_side)] {
        let columns = prepare::columns(connection, name).await?;
        if columns != side.columns {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("`{name}` came out different from the plan"),
            )
            .with("columns", columns.join("; ")));
        }
    }
    for index in &incoming_side.indexes {
        let found = query("SELECT 1 FROM pragma_index_list(?) WHERE name = ?")
            .bind(live.to_owned())
            .bind(index.name.clone())
            .fetch_optional(&mut *connection)
            .await
            .map_err(from_sqlx)?;
        if found.is_none() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("index `{}` did not come along", index.name),
            ));
        }
    }
    Ok(())
}

/// Ids of deleted rows stay used up.
async fn carry_sequence(
    connection: &mut SqliteConnection,
    live: &str,
    outgoing: &str,
    both: bool,
) -> Result<()> {
    if !both {
        return Ok(());
    }
    query(
        "DELETE FROM sqlite_sequence WHERE name = ?1 AND EXISTS (SELECT 1 FROM sqlite_sequence AS o
           WHERE o.name = ?2 AND o.seq > sqlite_sequence.seq)",
    )
    .bind(live.to_owned())
    .bind(outgoing.to_owned())
    .execute(&mut *connection)
    .await
    .map_err(from_sqlx)?;
    query(
        "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, seq FROM sqlite_sequence
           WHERE name = ?2 AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
    )
    .bind(live.to_owned())
    .bind(outgoing.to_owned())
    .execute(connection)
    .await
    .map_err(from_sqlx)
    .map(|_| ())
}
