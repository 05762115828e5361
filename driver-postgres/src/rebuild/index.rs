//! Indexes, built after the copy, each by the server's parallel build. The copy goes into a table without any: with one it
//! takes twice the time, and building that one afterwards less than half of what is saved.

use std::collections::BTreeMap;
use std::time::Duration;

use replank_core::driver::{Effort, IndexBuild};
use replank_core::ident::Role;
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, compare, number_of};
use crate::connect::Conn;
use crate::definition::Index;
use crate::holders::old_holders_of_any;
use crate::sql::{get, ident, rows, run, text};

/// What of an index the written table does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacking {
    /// All of it.
    Index,
    /// The constraint behind which it stands, which needs the table alone for a moment. Rows are found without it.
    Constraint,
}

struct Missing<'a> {
    at: usize,
    index: &'a Index,
    lacking: Lacking,
}

/// Names of the indexes to be built, first the one by which rows are found; then those whose constraint is to be added.
pub async fn to_build(connection: &mut Conn, core: &Core) -> Result<Vec<String>> {
    let missing = missing(connection, core).await?;
    let constraints = missing.iter().filter(|missing| {
        missing.lacking == Lacking::Index
            && !core.spec.new.is_partitioned()
            && missing.index.gets_a_constraint()
    });
    Ok(missing.iter().chain(constraints).map(|missing| missing.index.name.clone()).collect())
}

async fn missing<'a>(connection: &mut Conn, core: &'a Core) -> Result<Vec<Missing<'a>>> {
    if core.job.direction == Direction::Reverse {
        // The retired table never lost one.
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT c.relname::text, EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid AND o.conrelid = i.indrelid)
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass({})",
        text(&core.written())
    );
    let there: BTreeMap<String, bool> = rows(connection, sql)
        .await?
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect::<Result<_>>()?;
    let mut missing = Vec::new();
    for (at, index) in core.spec.new.definition.indexes.iter().enumerate() {
        let lacking = match there.get(&core.index_name(Role::Shadow, at)) {
            None => Lacking::Index,
            Some(false) if index.gets_a_constraint() => Lacking::Constraint,
            Some(_) => continue,
        };
        missing.push(Missing { at, index, lacking });
    }
    missing.sort_by_key(|missing| {
        (missing.lacking == Lacking::Constraint, missing.index.name != core.spec.new.key_index)
    });
    Ok(missing)
}

/// Builds an index, or adds the constraint of one that is built.
pub async fn build(core: &Core, name: &str, effort: Effort) -> Result<IndexBuild> {
    let mut connection = core.server.take().await?;
    let missing = missing(&mut connection, core).await?;
    let Some(Missing { at, index, lacking }) = missing.into_iter().find(|missing| missing.index.name == name)
    else {
        core.server.keep(connection);
        return Ok(IndexBuild::Built);
    };
    let (on, helper) = (core.written(), ident(&core.index_name(Role::Shadow, at)));
    let (making, adding) = match core.spec.new.is_partitioned() {
        true => (index.making_of_all(&on, &helper), None),
        false => index.making_in_parts(&on, &helper),
    };
    if let (Lacking::Constraint, Some(adding)) = (lacking, adding) {
        return match run(&mut connection, adding).await {
            Err(error) if error.kind() == ErrorKind::LockTimeout => Err(who_reads(core, error).await),
            Err(error) => Err(core.missed(error)),
            Ok(_) => {
                core.server.keep(connection);
                Ok(IndexBuild::Built)
            }
        };
    }
    let making = match effort {
        Effort::Usual => making,
        Effort::Gentle => format!("SET LOCAL max_parallel_maintenance_workers = 0; {making}"),
    };
    let mut built = run(&mut connection, making.clone()).await;
    let tells_apart_fewer = core.spec.new.tells_apart_fewer(&core.flow()?.key);
    if index.name == core.spec.new.key_index && tells_apart_fewer && is_duplicate(&built) {
        // A row that got another key during the copy may be there under both, and the log, of which nothing was applied
        // yet, has both. Without the index it could only be applied by looking at the whole table each time.
        forget_both(&mut connection, core, name).await?;
        built = run(&mut connection, making).await;
    }
    match built {
        Ok(_) => {
            core.server.keep(connection);
            Ok(IndexBuild::Built)
        }
        Err(error) if error.kind() == ErrorKind::Duplicate => {
            // What stands in the way under an exclusion constraint is not told here; changes are applied, and it is tried again.
            let Some(unique) = core.spec.new.unique.iter().find(|unique| unique.name == name) else {
                core.server.keep(connection);
                return Ok(IndexBuild::Duplicates(Vec::new()));
            };
            let changes = compare::duplicates(&mut connection, core, unique).await?;
            if changes.is_empty() {
                return Err(Error::new(ErrorKind::Retry, "the duplicates are gone already"));
            }
            core.server.keep(connection);
            Ok(IndexBuild::Duplicates(changes))
        }
        Err(error) => Err(core.missed(error)),
    }
}

fn is_duplicate<T>(done: &Result<T>) -> bool {
    done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Duplicate)
}

/// Removes all rows that collide under the index by which rows are found.
async fn forget_both(connection: &mut Conn, core: &Core, name: &str) -> Result<()> {
    let Some(unique) = core.spec.new.unique.iter().find(|unique| unique.name == name) else { return Ok(()) };
    let parts = unique.parts.join(", ");
    let sql = format!(
        "DELETE FROM {} WHERE ({parts}) IN (SELECT {parts} FROM {} GROUP BY {parts} HAVING count(*) > 1)",
        core.written(),
        core.written_rows()
    );
    run(connection, sql).await.map(drop).map_err(|error| core.missed(error))
}

/// Who keeps the table from being had alone: a backup takes each there is.
async fn who_reads(core: &Core, error: Error) -> Error {
    let named = async {
        let mut connection = core.server.take().await?;
        let number = number_of(&mut connection, &core.written()).await?.unwrap_or_default();
        let found = old_holders_of_any(&mut connection, &[number], Duration::ZERO).await?;
        core.server.keep(connection);
        Ok::<_, Error>(found)
    };
    let holders: Vec<String> = named
        .await
        .unwrap_or_default()
        .iter()
        .map(|holder| format!("session {}: {}", holder.id, holder.about))
        .collect();
    Error::new(ErrorKind::LockTimeout, "a constraint of the new table waits for sessions that read it")
        .with("held by", holders.join("; "))
        .hint("a backup that began meanwhile, perhaps; nothing is lost: `replank resume` when it is over")
        .caused_by(error)
}
