//! Making the shadow and its capture: one transaction, so there is nothing half made.

use replank_core::ident::{Role, helper_name};
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;
use sqlx::sqlite::SqliteConnection;

use super::{Core, capture_role, log_role, role_of};
use crate::capture::{Capture, Mover, log_statements};
use crate::definition::{self, Live, Shape};
use crate::error::from_sqlx;
use crate::inspect::{Named, Table, get};
use crate::parse::{IndexText, TableText};
use crate::spec::{Side, opposite};
use crate::sql::{ident, idents, query, run};
use crate::state::ObjectRole;

/// Makes everything that a forward run needs.
pub async fn prepare(core: &Core) -> Result<()> {
    if core.job.direction != Direction::Forward {
        return Err(Error::new(ErrorKind::Internal, "the reverse side is made by the swap"));
    }
    let mut tx = core.write().await?;
    let connection = tx.connection();
    let left = core.objects.all(connection).await?;
    if let Some(left) = left.iter().find(|object| object.role != ObjectRole::Live) {
        return Err(Error::new(ErrorKind::Refused, format!("`{}` of this run is there already", left.name))
            .hint("discard what is left of it first"));
    }
    let source = Table::read(connection, core.source()).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no table `{}` any more", core.source()))
    })?;
    check_as_planned(core, &source)?;

    let written = core.written();
    make_table(core, connection, &written).await?;
    make_indexes(core, connection, &written).await?;
    core.objects.put(connection, ObjectRole::Shadow, &written, &Json::Null).await?;

    make_log(core, connection, Direction::Forward).await?;
    make_triggers(core, connection, Direction::Forward, &written).await?;
    let definition = definition::read(connection, core.source(), &core.names).await?;
    Live { shape: Shape::Old, definition }.save(connection, &core.objects, core.source()).await?;
    tx.commit().await
}

/// The table must be what the plan was made for.
fn check_as_planned(core: &Core, source: &Table) -> Result<()> {
    let planned = &core.spec.old;
    let sorted = |named: &[Named]| {
        let mut named = named.to_vec();
        named.sort();
        named
    };
    let same = source.sql == planned.sql
        && sorted(&source.indexes) == sorted(&planned.indexes)
        && source.triggers == planned.triggers;
    if same {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ForeignDdl, format!("`{}` was changed since the plan was made", source.name))
        .hint("plan again"))
}

async fn make_table(core: &Core, connection: &mut SqliteConnection, name: &str) -> Result<()> {
    let text = TableText::parse(&core.spec.new.sql)?.render_aside(name);
    run(connection, text).await?;
    let made = columns(connection, name).await?;
    if made != core.spec.new.columns {
        return Err(Error::new(ErrorKind::Internal, "the new table came out different from the plan")
            .with("planned", core.spec.new.columns.join("; "))
            .with("made", made.join("; ")));
    }
    Ok(())
}

async fn make_indexes(core: &Core, connection: &mut SqliteConnection, table: &str) -> Result<()> {
    for (number, index) in core.spec.new.indexes.iter().enumerate() {
        let name = index_name(core, Role::Shadow, number);
        run(connection, IndexText::parse(&index.sql)?.render(&name, table)).await?;
        core.objects.put(connection, ObjectRole::Index, &name, &Json::String(index.name.clone())).await?;
    }
    let flow = core.flow()?;
    if flow.needs_key_index {
        let name = format!("{}_key", helper_name(&core.job.run, core.fence(), Role::Shadow));
        let columns = idents(flow.written_key());
        run(connection, format!("CREATE INDEX {} ON {} ({columns})", ident(&name), ident(table))).await?;
        core.objects.put(connection, ObjectRole::KeyIndex, &name, &Json::Null).await?;
    }
    Ok(())
}

/// The name of an index while its table is not live: SQLite has one name space for all of them.
pub fn index_name(core: &Core, role: Role, number: usize) -> String {
    format!("{}_i{number}", helper_name(&core.job.run, core.fence(), role))
}

/// Makes the log of a direction; answers with its name.
pub async fn make_log(
    core: &Core,
    connection: &mut SqliteConnection,
    direction: Direction,
) -> Result<String> {
    let name = helper_name(&core.job.run, core.fence(), Role::Log);
    let name = if direction == Direction::Forward { name } else { format!("{name}_back") };
    for statement in log_statements(&name, core.spec.flow(direction)?.key.len()) {
        run(connection, statement).await?;
    }
    core.objects.put(connection, log_role(direction), &name, &Json::Null).await?;
    Ok(name)
}

/// Makes the triggers that fill the log of a direction, on the live table. `written` is the other table.
pub async fn make_triggers(
    core: &Core,
    connection: &mut SqliteConnection,
    direction: Direction,
    written: &str,
) -> Result<()> {
    let table = Table::read(connection, core.source()).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no table `{}` any more", core.source()))
    })?;
    let log = core.objects.one(connection, log_role(direction)).await?;
    let log = log.ok_or_else(|| Error::new(ErrorKind::Internal, "triggers are made before their log"))?;
    let flow = core.spec.flow(direction)?;
    let parked = core.objects.one(connection, ObjectRole::Parked).await?;
    let tables = std::iter::once(written).chain(parked.iter().map(|object| object.name.as_str())).collect();
    let mover = (!flow.kept.is_empty()).then(|| Mover { tables, key: flow.written_key() });
    let capture = Capture { table: &table, key: flow.source_key(), log: &log.name, mover };
    for trigger in capture.triggers() {
        run(connection, trigger.sql).await?;
        // As SQLite keeps it: that is what the feed will look for.
        let row = query("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?")
            .bind(trigger.name.clone())
            .fetch_one(&mut *connection)
            .await
            .map_err(from_sqlx)?;
        let sql: String = get(&row, 0)?;
        core.objects.put(connection, capture_role(direction), &trigger.name, &Json::String(sql)).await?;
    }
    Ok(())
}

/// A table's columns as the catalogue describes them, one line each.
pub async fn columns(connection: &mut SqliteConnection, table: &str) -> Result<Vec<String>> {
    let rows = query(
        "SELECT name || ' ' || type || ' not_null=' || \"notnull\" || ' pk=' || pk || ' hidden=' || hidden
         || ' default=' || coalesce(dflt_value, '') FROM pragma_table_xinfo(?)",
    )
    .bind(table.to_owned())
    .fetch_all(connection)
    .await
    .map_err(from_sqlx)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The side of a table that is not live in a direction, with the role that its helper names carry.
pub fn aside(core: &Core, direction: Direction) -> (&Side, Role, ObjectRole) {
    let (role, object) = role_of(direction);
    (core.spec.written(direction), role, object)
}

/// The side that goes aside when a direction's swap is done.
pub fn outgoing(core: &Core, direction: Direction) -> (&Side, Role, ObjectRole) {
    aside(core, opposite(direction))
}
