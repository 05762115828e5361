//! Which ranges are copied already.
//!
//! The copy writes into a table without any index, which takes half the time, so that nothing there tells whether a row is
//! there. Each chunk therefore leaves its bounds here, in the statement that copies it: a chunk whose answer was lost, and a
//! runner that goes on where another one was killed, and with other bounds, leave out what is here.

use replank_core::Result;
use replank_core::value::Bounds;

use super::Core;
use super::prepare::make_helper;
use super::range::{row, values};
use crate::connect::Conn;
use crate::sql::{ident, table};
use crate::state::ObjectRole;

impl Core {
    fn chunks_name(&self) -> String {
        format!("_rp_{}_0_chunks", self.job.run.short())
    }

    fn chunks(&self) -> String {
        table(&self.spec.schema, &self.chunks_name())
    }
}

/// Makes the table, with the shadow. Its columns are compared as those of the source are: they have their types and
/// collations. What a crash empties with the shadow is UNLOGGED like it.
pub async fn make(connection: &mut Conn, core: &Core) -> Result<()> {
    let names = core.source_key()?;
    let columns: Vec<String> = ["l", "u"]
        .iter()
        .flat_map(|end| {
            names.iter().enumerate().map(move |(at, name)| format!("s.{} AS {end}{at}", ident(name)))
        })
        .collect();
    let kind = if core.spec.new.definition.is_unlogged() { "UNLOGGED " } else { "" };
    let made = format!(
        "CREATE {kind}TABLE {} AS SELECT {} FROM {} AS s WITH NO DATA",
        core.chunks(),
        columns.join(", "),
        core.source()
    );
    make_helper(connection, core, ObjectRole::Chunks, &core.chunks_name(), made).await
}

/// The statement that notes a chunk.
pub fn noting(core: &Core, bounds: &Bounds) -> Result<String> {
    let key = &core.flow()?.key;
    let ends = [values(bounds.lower.as_ref(), key)?, values(bounds.upper.as_ref(), key)?];
    let nothing = vec!["NULL".to_owned(); key.len()];
    let all: Vec<String> = ends.into_iter().flat_map(|end| end.unwrap_or_else(|| nothing.clone())).collect();
    Ok(format!("INSERT INTO {} VALUES ({})", core.chunks(), all.join(", ")))
}

/// Whether some of a range is copied already, as a query.
pub fn any(core: &Core, bounds: &Bounds) -> Result<String> {
    Ok(format!("SELECT EXISTS (SELECT FROM {} AS c WHERE {})", core.chunks(), meeting(core, bounds)?))
}

/// That a noted chunk has keys of a range in it.
fn meeting(core: &Core, bounds: &Bounds) -> Result<String> {
    let key = &core.flow()?.key;
    let mut conditions = Vec::new();
    if let Some(lower) = values(bounds.lower.as_ref(), key)? {
        conditions.push(format!("(c.u0 IS NULL OR {} > ({}))", end('u', key.len()), lower.join(", ")));
    }
    if let Some(upper) = values(bounds.upper.as_ref(), key)? {
        conditions.push(format!("(c.l0 IS NULL OR {} < ({}))", end('l', key.len()), upper.join(", ")));
    }
    Ok(if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") })
}

/// That a row of a range of the source, under an alias, is not copied yet. It is held against each chunk that is noted within
/// that range, and those are few: against all of them it would take hours.
pub fn without(core: &Core, bounds: &Bounds, alias: &str) -> Result<String> {
    let names = core.source_key()?;
    let row = row(alias, &names);
    Ok(format!(
        "NOT EXISTS (SELECT FROM {} AS c WHERE {} AND (c.l0 IS NULL OR {row} > {}) AND (c.u0 IS NULL OR {row} <= {}))",
        core.chunks(),
        meeting(core, bounds)?,
        end('l', names.len()),
        end('u', names.len())
    ))
}

/// An end of a noted chunk, as a row.
fn end(letter: char, columns: usize) -> String {
    let columns: Vec<String> = (0..columns).map(|at| format!("c.{letter}{at}")).collect();
    format!("({})", columns.join(", "))
}
