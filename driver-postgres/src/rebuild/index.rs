//! Indexes, built after the copy, each by the server's parallel build. The copy goes into a table without any: with one it
//! takes twice the time, and building that one afterwards less than half of what is saved.

use replank_core::driver::IndexBuild;
use replank_core::ident::Role;
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, compare};
use crate::connect::Conn;
use crate::definition::Index;
use crate::sql::{get, ident, rows, run, text};

impl Core {
    /// The statements that make the index of this number on a table that is not live, under its helper's name.
    pub(super) fn making(&self, on: &str, at: usize, index: &Index) -> String {
        let name = ident(&self.index_name(Role::Shadow, at));
        match self.spec.new.is_partitioned() {
            true => index.making_of_all(on, &name),
            false => index.making(on, &name),
        }
    }
}

/// Indexes that the written table does not have yet, with their numbers: first the one by which its rows are found.
pub async fn missing<'a>(connection: &mut Conn, core: &'a Core) -> Result<Vec<(usize, &'a Index)>> {
    if core.job.direction == Direction::Reverse {
        // The retired table never lost one.
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass({})",
        text(&core.written())
    );
    let there: Vec<String> =
        rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let all = core.spec.new.definition.indexes.iter().enumerate();
    let mut missing: Vec<_> =
        all.filter(|(at, _)| !there.contains(&core.index_name(Role::Shadow, *at))).collect();
    missing.sort_by_key(|(_, index)| index.name != core.spec.new.key_index);
    Ok(missing)
}

/// Builds the index.
pub async fn build(core: &Core, name: &str) -> Result<IndexBuild> {
    let mut connection = core.server.take().await?;
    let missing = missing(&mut connection, core).await?;
    let Some((at, index)) = missing.into_iter().find(|(_, index)| index.name == name) else {
        core.server.keep(connection);
        return Ok(IndexBuild::Built);
    };
    match run(&mut connection, core.making(&core.written(), at, index)).await {
        Ok(_) => {
            core.server.keep(connection);
            Ok(IndexBuild::Built)
        }
        Err(error) if error.kind() == ErrorKind::Duplicate => {
            let unique = core.spec.new.unique.iter().find(|unique| unique.name == name);
            let unique = unique.ok_or_else(|| {
                Error::new(ErrorKind::Duplicate, format!("rows stand in each other's way under {name}"))
                    .caused_by(error)
            })?;
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
