//! Runs, each one JSON text with a revision.

use replank_core::driver::Revision;
use replank_core::ident::{Fence, RunId};
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use super::{Names, broken, check_token, is_made, unwritable};
use crate::error::{from_sqlx, is_unique};
use crate::inspect::get;
use crate::sql::query;

/// Adds a run at revision 1, in the caller's transaction.
pub async fn create(connection: &mut SqliteConnection, names: &Names, run: &Run) -> Result<Revision> {
    check_token(connection, names, &run.table, run.fence).await?;
    let sql = format!(
        "INSERT INTO {} (id, table_name, state, revision, body) VALUES (?, ?, ?, 1, ?)",
        names.table("runs")
    );
    let added = query(sql)
        .bind(run.id.as_str().to_owned())
        .bind(run.table.to_string())
        .bind(run.state.word())
        .bind(text(run)?)
        .execute(connection)
        .await;
    match added {
        Ok(_) => Ok(Revision(1)),
        Err(error) if is_unique(&error) => {
            Err(Error::new(ErrorKind::Internal, format!("run {} is there already", run.id)))
        }
        Err(error) => Err(from_sqlx(error)),
    }
}

/// A run with its revision.
pub async fn load(
    connection: &mut SqliteConnection,
    names: &Names,
    id: &RunId,
) -> Result<Option<(Run, Revision)>> {
    let sql = format!("SELECT body, revision FROM {} WHERE id = ?", names.table("runs"));
    let found =
        query(sql).bind(id.as_str().to_owned()).fetch_optional(connection).await.map_err(from_sqlx)?;
    let Some(row) = found else { return Ok(None) };
    let revision = get::<i64>(&row, 1)?.unsigned_abs();
    Ok(Some((parsed(&get::<String>(&row, 0)?)?, Revision(revision))))
}

/// Every run, oldest first; none where the store was never made.
pub async fn all(connection: &mut SqliteConnection, names: &Names) -> Result<Vec<Run>> {
    if !is_made(connection, names).await? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT body FROM {} ORDER BY number", names.table("runs"));
    let rows = query(sql).fetch_all(connection).await.map_err(from_sqlx)?;
    rows.iter().map(|row| parsed(&get::<String>(row, 0)?)).collect()
}

/// Replaces a run in the caller's transaction.
pub async fn save(
    connection: &mut SqliteConnection,
    names: &Names,
    run: &Run,
    expected: Revision,
    token: Fence,
) -> Result<Revision> {
    check_token(connection, names, &run.table, token).await?;
    let sql = format!(
        "UPDATE {} SET state = ?, body = ?, revision = revision + 1 WHERE id = ? AND revision = ?",
        names.table("runs")
    );
    let done = query(sql)
        .bind(run.state.word())
        .bind(text(run)?)
        .bind(run.id.as_str().to_owned())
        .bind(i64::try_from(expected.0).unwrap_or(i64::MAX))
        .execute(connection)
        .await
        .map_err(from_sqlx)?;
    if done.rows_affected() == 1 {
        return Ok(Revision(expected.0 + 1));
    }
    Err(Error::new(ErrorKind::Fenced, format!("run {} was saved by another runner", run.id))
        .with("revision", expected.0)
        .hint("`replank status` shows who runs it"))
}

fn text(run: &Run) -> Result<String> {
    serde_json::to_string(run).map_err(|error| unwritable("a run", error))
}

fn parsed(text: &str) -> Result<Run> {
    serde_json::from_str(text).map_err(|error| broken("a run", error))
}
