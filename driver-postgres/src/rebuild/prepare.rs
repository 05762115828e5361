//! Making the shadow and its capture. What is not live is made in one transaction; the triggers, which need a lock on the
//! table that applications use, in a second and short one.

use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::polite::{Lock, politely};
use super::{Core, chunks, lasting, parked, parts, slot};
use crate::connect::Conn;
use crate::definition::{Definition, check_line, check_name, checks};
use crate::empty_copy::{Place, copy};
use crate::inspect::Table;
use crate::partitions::Part;
use crate::spec::Side;
use crate::sql::{first, get, ident, rows, run, table, text};
use crate::state::ObjectRole;

/// Makes everything that a forward run needs.
pub async fn prepare(core: &Core) -> Result<()> {
    if core.job.direction != Direction::Forward {
        return Err(Error::new(ErrorKind::Internal, "the reverse side is made by the swap"));
    }
    let mut connection = core.server.take().await?;
    core.check_token(&mut connection).await?;
    if let Some(left) = core.objects.all(&mut connection).await?.first() {
        return Err(Error::new(ErrorKind::Internal, format!("`{}` is registered already", left.name)));
    }
    let source = Table::named(&mut connection, &core.source()).await?;
    if source.oid != core.spec.original {
        return Err(Error::new(ErrorKind::ForeignDdl, format!("`{}` is another table now", core.job.table))
            .hint("plan again"));
    }
    run(&mut connection, "BEGIN").await?;
    check_same(&core.spec.old.definition, &Definition::read(&mut connection, source.oid).await?, core)?;
    core.check_parts(source.oid, &Part::all(&mut connection, source.oid).await?)?;
    make_shadow(core, &mut connection, &source).await?;
    chunks::make(&mut connection, core).await?;
    parked::make(&mut connection, core).await?;
    lasting::make(&mut connection, core).await?;
    let capture = core.capture(Direction::Forward, None)?;
    make_helper(&mut connection, core, ObjectRole::Log, &capture.log, capture.log()).await?;
    if core.captures_by_slot() {
        core.objects.put(&mut connection, ObjectRole::Slot, &core.slot_name(), &json!({})).await?;
    }
    run(&mut connection, "COMMIT").await?;
    let tables = parts::with_partitions(&mut connection, source.oid).await?;
    core.server.keep(connection);
    if core.captures_by_slot() {
        return slot::make(core, source.oid).await;
    }

    let mut statements = core.triggers(&capture, Direction::Forward);
    let fingerprint = core.fingerprint(&capture, Direction::Forward);
    let extra = format!("json_build_object('fingerprint', ({fingerprint}))::text");
    statements.push(core.objects.putting(ObjectRole::Log, &capture.log, &extra));
    politely(core, Lock::AmongReaders, &tables, &statements).await
}

/// A table of ours beside the shadow, made by `statement`: nobody else's, and registered.
pub async fn make_helper(
    connection: &mut Conn,
    core: &Core,
    role: ObjectRole,
    name: &str,
    statement: String,
) -> Result<()> {
    run(connection, statement).await?;
    run(connection, closing(&table(&core.spec.schema, name))).await?;
    core.objects.put(connection, role, name, &json!({})).await
}

async fn make_shadow(core: &Core, connection: &mut Conn, source: &Table) -> Result<()> {
    let name = core.written_name();
    let full = match &core.spec.shape {
        None => copy(connection, source, Place::Beside(&name)).await?,
        Some(shape) => made_as(connection, &table(&core.spec.schema, &name), shape, &core.spec.new).await?,
    };
    for action in &core.spec.actions {
        run(connection, format!("ALTER TABLE {full} {action}")).await?;
    }
    let number = super::number_of(connection, &full)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the shadow was made and is not there"))?;
    name_not_nulls(core, connection, number, &full).await?;
    let made = Definition::read(connection, number).await?;
    if made.lines != core.spec.new.definition.lines {
        return Err(Error::new(
            ErrorKind::Refused,
            "the server made the shadow otherwise than it was planned",
        )
        .with("planned", core.spec.new.definition.lines.join("; "))
        .with("made", made.lines.join("; "))
        .hint("please report this; nothing of the table was changed"));
    }
    give_away(connection, source.oid, &full).await?;
    for part in parts::make(core, connection, &full, number).await? {
        give_away(connection, source.oid, &part).await?;
    }
    core.objects.put(connection, ObjectRole::Shadow, &name, &json!({})).await?;
    core.objects.put(connection, ObjectRole::Live, &core.job.table.name, &json!({ "shadow": number })).await
}

/// A table of the shape that a person gave, without any index. Checks that have no name in it were named after the shadow.
async fn made_as(connection: &mut Conn, full: &str, shape: &str, planned: &Side) -> Result<String> {
    let kind = if planned.definition.is_unlogged() { "UNLOGGED " } else { "" };
    run(connection, format!("CREATE {kind}TABLE {full} {shape}")).await?;
    let sql = format!(
        "SELECT CASE WHEN o.oid IS NULL THEN format('DROP INDEX %s', i.indexrelid::regclass)
                     ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', i.indrelid::regclass, o.conname) END
         FROM pg_index i LEFT JOIN pg_constraint o ON o.conindid = i.indexrelid AND o.conrelid = i.indrelid
         WHERE i.indrelid = to_regclass({})",
        text(full)
    );
    for row in rows(connection, sql).await? {
        run(connection, get::<String>(&row, 0)?).await?;
    }
    let number = super::number_of(connection, full).await?.unwrap_or_default();
    let mut free: Vec<&String> = planned.definition.lines.iter().collect();
    let mut others = Vec::new();
    for (name, check) in checks(connection, number).await? {
        match free.iter().position(|line| **line == check_line(&name, &check)) {
            Some(at) => drop(free.remove(at)),
            None => others.push((name, check)),
        }
    }
    for (name, check) in others {
        let planned = free.iter().enumerate().find_map(|(at, line)| Some((at, check_name(line, &check)?)));
        if let Some((at, planned)) = planned {
            run(connection, format!("ALTER TABLE {full} RENAME CONSTRAINT {name} TO {planned}")).await?;
            free.remove(at);
        }
    }
    Ok(full.to_owned())
}

/// Takes away what default privileges gave to others on a table of ours: it holds keys and rows that they may not see.
pub fn closing(full: &str) -> String {
    let body = format!(
        "DECLARE grantee text; BEGIN
         FOR grantee IN SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
             FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
             WHERE c.oid = to_regclass({}) AND a.grantee <> c.relowner
         LOOP EXECUTE format('REVOKE ALL ON %s FROM %s', {}, grantee); END LOOP; END",
        text(full),
        text(full)
    );
    format!("DO {}", text(&body))
}

/// Columns whose NOT NULL is a constraint with a name, and the name.
pub async fn not_nulls(connection: &mut Conn, table: i64) -> Result<Vec<(String, String)>> {
    let sql = format!(
        "SELECT a.attname::text, o.conname::text FROM pg_constraint o
         JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = o.conkey[1]
         WHERE o.conrelid = {table} AND o.contype = 'n' ORDER BY a.attnum"
    );
    rows(connection, sql).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// What has no name in the statement was named after the shadow.
async fn name_not_nulls(core: &Core, connection: &mut Conn, shadow: i64, full: &str) -> Result<()> {
    for (column, name) in not_nulls(connection, shadow).await? {
        let planned = core.spec.new.not_nulls.iter().find(|(planned, _)| *planned == column);
        if let Some((_, planned)) = planned.filter(|(_, planned)| *planned != name) {
            let rename =
                format!("ALTER TABLE {full} RENAME CONSTRAINT {} TO {}", ident(&name), ident(planned));
            run(connection, rename).await?;
        }
    }
    Ok(())
}

/// The owner is the original's. What default privileges gave to others is taken back: grants come with the name.
async fn give_away(connection: &mut Conn, source: i64, full: &str) -> Result<()> {
    run(connection, closing(full)).await?;
    let sql = format!(
        "SELECT pg_get_userbyid(s.relowner)::text, s.relowner = w.relowner
         FROM pg_class s, pg_class w WHERE s.oid = {source} AND w.oid = to_regclass({})",
        text(full)
    );
    let Some(row) = first(connection, sql).await? else { return Ok(()) };
    if !get::<bool>(&row, 1)? {
        let owner: String = get(&row, 0)?;
        run(connection, format!("ALTER TABLE {full} OWNER TO {}", ident(&owner))).await?;
    }
    Ok(())
}

fn check_same(planned: &Definition, present: &Definition, core: &Core) -> Result<()> {
    if planned.is_same(present) {
        return Ok(());
    }
    let (gone, new) = planned.differences(present);
    Err(Error::new(
        ErrorKind::ForeignDdl,
        format!("somebody else changed the definition of `{}`", core.job.table),
    )
    .with("gone", gone.join("; "))
    .with("new", new.join("; ")))
}

impl Core {
    /// By what number the server knows the table that applications write in a direction.
    pub(super) async fn live_number(
        &self,
        connection: &mut Conn,
        direction: Direction,
    ) -> Result<Option<i64>> {
        match direction {
            Direction::Forward => Ok(Some(self.spec.original)),
            Direction::Reverse => self.shadow_number(connection).await,
        }
    }

    /// By what number the server knows the table of the new shape.
    pub(super) async fn shadow_number(&self, connection: &mut Conn) -> Result<Option<i64>> {
        let live = self.objects.one(connection, ObjectRole::Live).await?;
        Ok(live.and_then(|live| live.extra["shadow"].as_i64()))
    }

    /// R7: the source's definition is what the plan saw.
    pub(super) async fn check_definition(&self, connection: &mut Conn) -> Result<()> {
        self.check_identity(connection).await?;
        let Some(number) = self.live_number(connection, self.job.direction).await? else { return Ok(()) };
        let present = Definition::read(connection, number).await?;
        check_same(&self.spec.source(self.job.direction).definition, &present, self)?;
        match self.spec.source(self.job.direction).is_partitioned() {
            true => self.check_parts(number, &Part::all(connection, number).await?),
            false => Ok(()),
        }
    }
}
