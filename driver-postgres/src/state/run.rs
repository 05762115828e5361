//! Runs, each one JSON text with a revision.

use replank_core::driver::Revision;
use replank_core::ident::{Fence, RunId};
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};

use super::lease::held;
use super::{Names, broken, check_token, is_made, unwritable};
use crate::connect::Conn;
use crate::sql::{first, get, rows, run as execute, text};

/// Adds a run at revision 1.
pub async fn create(connection: &mut Conn, names: &Names, run: &Run) -> Result<Revision> {
    let sql = format!(
        "INSERT INTO {} (id, table_name, state, revision, body) SELECT {}, {}, {}, 1, {} WHERE {}",
        names.table("runs"),
        text(run.id.as_str()),
        text(&run.table.to_string()),
        text(run.state.word()),
        text(&written(run)?),
        held(names, &run.table, run.fence)
    );
    match execute(connection, sql).await {
        Ok(1) => Ok(Revision(1)),
        Ok(_) => {
            check_token(connection, names, &run.table, run.fence).await?;
            Err(Error::new(ErrorKind::Fenced, format!("another runner took over `{}`", run.table)))
        }
        Err(error) if error.kind() == ErrorKind::Duplicate => {
            Err(Error::new(ErrorKind::Internal, format!("run {} is there already", run.id)))
        }
        Err(error) => Err(error),
    }
}

/// A run with its revision.
pub async fn load(connection: &mut Conn, names: &Names, id: &RunId) -> Result<Option<(Run, Revision)>> {
    let sql = format!("SELECT body, revision FROM {} WHERE id = {}", names.table("runs"), text(id.as_str()));
    let Some(row) = first(connection, sql).await? else { return Ok(None) };
    Ok(Some((parsed(&get::<String>(&row, 0)?)?, revision(get(&row, 1)?))))
}

/// Every run, oldest first; none where the store was never made.
pub async fn all(connection: &mut Conn, names: &Names) -> Result<Vec<Run>> {
    if !is_made(connection, names).await? {
        return Ok(Vec::new());
    }
    let found = rows(connection, format!("SELECT body FROM {} ORDER BY number", names.table("runs"))).await?;
    found.iter().map(|row| parsed(&get::<String>(row, 0)?)).collect()
}

/// Replaces a run if its revision is `expected` and `token` is still the table's.
pub async fn save(
    connection: &mut Conn,
    names: &Names,
    run: &Run,
    expected: Revision,
    token: Fence,
) -> Result<Revision> {
    let sql = format!(
        "UPDATE {} SET state = {}, body = {}, revision = revision + 1 WHERE id = {} AND revision = {} AND {}",
        names.table("runs"),
        text(run.state.word()),
        text(&written(run)?),
        text(run.id.as_str()),
        expected.0,
        held(names, &run.table, token)
    );
    if execute(connection, sql).await? == 1 {
        return Ok(Revision(expected.0 + 1));
    }
    check_token(connection, names, &run.table, token).await?;
    Err(Error::new(ErrorKind::Fenced, format!("run {} was saved by another runner", run.id))
        .with("revision", expected.0)
        .hint("`replank status` shows who runs it"))
}

fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

fn written(run: &Run) -> Result<String> {
    serde_json::to_string(run).map_err(|error| unwritable("a run", error))
}

fn parsed(text: &str) -> Result<Run> {
    serde_json::from_str(text).map_err(|error| broken("a run", error))
}
