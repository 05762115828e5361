//! Secondary indexes, built in bulk after the copy: all that are missing in one statement, so that the table
//! is read once.

use replank_core::driver::IndexBuild;
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, compare};
use crate::connect::Conn;
use crate::spec::Index;
use crate::sql::{get, rows, run, text};

// The default of 1 MiB sorts in many small runs. Per build, and bounded. Chosen.
const SORT_BUFFER: u64 = 64 << 20;
// As many as copy. The default of 4 leaves nothing of a small machine to those who write. Chosen.
const BUILD_THREADS: u64 = 2;

/// Deferred indexes that the written table does not have yet.
pub async fn missing<'a>(connection: &mut Conn, core: &'a Core) -> Result<Vec<&'a Index>> {
    if core.job.direction == Direction::Reverse {
        // The retired table never lost one.
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_schema = {} AND table_name = {}",
        text(core.written_home()),
        text(&core.written_name())
    );
    let found = rows(connection, sql).await?;
    let there: Vec<String> = found.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let is_missing = |index: &&Index| index.is_deferred && !there.contains(&index.name);
    Ok(core.spec.new.indexes.iter().filter(is_missing).collect())
}

/// What the session that builds is to have, of what this server knows: MySQL has all of it from
/// 8.0.27 on, and MariaDB's are set when it starts.
async fn settings(connection: &mut Conn) -> Result<Vec<(&'static str, u64)>> {
    let wanted = [
        ("innodb_ddl_buffer_size", SORT_BUFFER),
        ("innodb_ddl_threads", BUILD_THREADS),
        ("innodb_parallel_read_threads", BUILD_THREADS),
    ];
    let names: Vec<String> = wanted.iter().map(|(name, _)| text(name)).collect();
    let sql = format!("SHOW SESSION VARIABLES WHERE variable_name IN ({})", names.join(", "));
    let known: Vec<String> =
        rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    Ok(wanted.into_iter().filter(|(name, _)| known.iter().any(|known| known == name)).collect())
}

/// Builds the index, and with it all others that are missing.
pub async fn build(core: &Core, name: &str) -> Result<IndexBuild> {
    let mut connection = core.server.take().await?;
    let missing = missing(&mut connection, core).await?;
    if !missing.iter().any(|index| index.name == name) {
        core.server.keep(connection);
        return Ok(IndexBuild::Built);
    }
    let clauses: Vec<String> = missing.iter().map(|index| format!("ADD {}", index.clause)).collect();
    let settings = settings(&mut connection).await?;
    for (name, value) in &settings {
        run(&mut connection, format!("SET SESSION {name} = {value}")).await?;
    }
    let built = run(&mut connection, format!("ALTER TABLE {} {}", core.written(), clauses.join(", "))).await;
    match built {
        Ok(_) => {
            for (name, _) in &settings {
                run(&mut connection, format!("SET SESSION {name} = DEFAULT")).await?;
            }
            core.remember_shadow(&mut connection).await?;
            core.server.keep(connection);
            Ok(IndexBuild::Built)
        }
        Err(error) if error.kind() == ErrorKind::Duplicate => {
            let mut changes = Vec::new();
            for index in missing.iter().filter(|index| index.is_unique) {
                let unique = core.spec.new.unique.iter().find(|unique| unique.name == index.name);
                let unique = unique.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Internal,
                        format!("the plan says nothing of the key `{}`", index.name),
                    )
                })?;
                changes.extend(compare::duplicates(&mut connection, core, unique).await?);
            }
            if changes.is_empty() {
                // They are gone already, or are equal in a way that only the index sees.
                return Err(Error::new(ErrorKind::Retry, error.to_string()));
            }
            Ok(IndexBuild::Duplicates(changes))
        }
        Err(error) => Err(error),
    }
}
