//! Removing what a run owns, in steps that each stay within the lock budget, and never the table that applications use.

use replank_core::engine::boundary::{Boundary, reached};
use replank_core::{Error, ErrorKind, Result};

use super::polite::{Lock, politely};
use super::{Core, matviews, number_of, parts, slot, swap};
use crate::connect::Conn;
use crate::sql::{get, rows, table, text};
use crate::state::{Object, ObjectRole, is_made};

/// Removes everything that the run owns. Names of helpers are never those of applications, and only what is registered is
/// dropped.
pub async fn discard(core: &Core) -> Result<()> {
    let mut connection = core.server.take().await?;
    if !is_made(&mut connection, &core.names).await? {
        core.server.keep(connection);
        return Ok(());
    }
    core.check_token(&mut connection).await?;
    swap::settle(core, &mut connection).await?;
    for object in core.objects.of(&mut connection, ObjectRole::Slot).await? {
        reached(Boundary::DropBegun);
        slot::remove(core, &mut connection, &object.name).await?;
        reached(Boundary::DropDone);
    }
    // Triggers first: from then on nothing writes into what is removed.
    for object in core.objects.all(&mut connection).await? {
        if matches!(object.role, ObjectRole::Log | ObjectRole::LogBack | ObjectRole::Guard) {
            drop_function(core, &mut connection, &object.name).await?;
        }
    }
    // They read what is removed.
    for (object, aside) in matviews::remembered(core, &mut connection).await? {
        check_name(core, &object)?;
        reached(Boundary::DropBegun);
        core.check_token(&mut connection).await?;
        matviews::remove(core, &mut connection, &object, &aside).await?;
        reached(Boundary::DropDone);
    }
    for object in core.objects.all(&mut connection).await? {
        if !object.role.is_ours() {
            continue;
        }
        if object.role == ObjectRole::Guard {
            core.objects.remove(&mut connection, object.role, &object.name).await?;
            continue;
        }
        check_name(core, &object)?;
        let full = table(&core.spec.schema, &object.name);
        let forget = core.objects.removing(object.role, &object.name);
        match number_of(&mut connection, &full).await? {
            Some(number) => {
                reached(Boundary::DropBegun);
                // Somebody may have taken over since the last one.
                core.check_token(&mut connection).await?;
                let tables = parts::with_partitions(&mut connection, number).await?;
                politely(core, Lock::Alone, &tables, &[format!("DROP TABLE {full}"), forget]).await?;
                reached(Boundary::DropDone);
            }
            None => drop(crate::sql::run(&mut connection, forget).await?),
        }
    }
    core.objects.clear(&mut connection, ObjectRole::Live).await?;
    core.server.keep(connection);
    Ok(())
}

fn check_name(core: &Core, object: &Object) -> Result<()> {
    if object.name.starts_with(&format!("_rp_{}_", core.job.run.short())) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, format!("`{}` is registered as ours and is not", object.name))
        .hint("nothing was dropped; look at the records of this run"))
}

/// Drops a function and its triggers, on whatever table they are by now: its name may be another one.
async fn drop_function(core: &Core, connection: &mut Conn, name: &str) -> Result<()> {
    let function = table(&core.spec.schema, name);
    let (tables, mut statements) = dropping(connection, &function).await?;
    statements.push(format!("DROP FUNCTION IF EXISTS {function}()"));
    politely(core, Lock::Alone, &tables, &statements).await
}

/// The tables on which a function has triggers, and what drops those. Clones go with what they were made from.
pub async fn dropping(connection: &mut Conn, function: &str) -> Result<(Vec<i64>, Vec<String>)> {
    let sql = format!(
        "SELECT t.tgrelid::bigint, CASE WHEN t.tgparentid = 0
                THEN format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname) END
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE t.tgfoid = to_regproc({})",
        text(function)
    );
    let (mut tables, mut statements) = (Vec::new(), Vec::new());
    for row in rows(connection, sql).await? {
        tables.push(get::<i64>(&row, 0)?);
        statements.extend(get::<Option<String>>(&row, 1)?);
    }
    tables.sort_unstable();
    tables.dedup();
    Ok((tables, statements))
}
