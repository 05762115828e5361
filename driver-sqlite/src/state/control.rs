//! Commands to whoever runs a run.

use replank_core::control::Control;
use replank_core::driver::{Command, CommandState};
use replank_core::ident::RunId;
use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use super::{Names, broken, unwritable};
use crate::error::from_sqlx;
use crate::inspect::get;
use crate::sql::query;

/// Leaves a command; answers with its number.
pub async fn post(
    connection: &mut SqliteConnection,
    names: &Names,
    run: &RunId,
    command: &Control,
) -> Result<u64> {
    let body = serde_json::to_string(command).map_err(|error| unwritable("a command", error))?;
    let done = query(format!("INSERT INTO {} (run, body) VALUES (?, ?)", names.table("control")))
        .bind(run.as_str().to_owned())
        .bind(body)
        .execute(connection)
        .await
        .map_err(from_sqlx)?;
    Ok(done.last_insert_rowid().unsigned_abs())
}

/// Commands without an answer, oldest first.
pub async fn pending(connection: &mut SqliteConnection, names: &Names, run: &RunId) -> Result<Vec<Command>> {
    let sql = format!(
        "SELECT id, body FROM {} WHERE run = ? AND answer IS NULL ORDER BY id",
        names.table("control")
    );
    let rows = query(sql).bind(run.as_str().to_owned()).fetch_all(connection).await.map_err(from_sqlx)?;
    rows.iter()
        .map(|row| {
            let body: String = get(row, 1)?;
            let control = serde_json::from_str(&body).map_err(|error| broken("a command", error))?;
            Ok(Command { id: get::<i64>(row, 0)?.unsigned_abs(), control })
        })
        .collect()
}

/// Answers a command that has no answer yet; the first answer stands.
pub async fn acknowledge(
    connection: &mut SqliteConnection,
    names: &Names,
    id: u64,
    answer: &str,
) -> Result<()> {
    query(format!("UPDATE {} SET answer = ? WHERE id = ? AND answer IS NULL", names.table("control")))
        .bind(answer.to_owned())
        .bind(number(id)?)
        .execute(connection)
        .await
        .map_err(from_sqlx)
        .map(|_| ())
}

/// How a command stands.
pub async fn state(connection: &mut SqliteConnection, names: &Names, id: u64) -> Result<CommandState> {
    let found = query(format!("SELECT answer FROM {} WHERE id = ?", names.table("control")))
        .bind(number(id)?)
        .fetch_optional(connection)
        .await
        .map_err(from_sqlx)?;
    let row =
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no command number {id}")))?;
    Ok(get::<Option<String>>(&row, 0)?.map_or(CommandState::Waiting, CommandState::Answered))
}

fn number(id: u64) -> Result<i64> {
    i64::try_from(id).map_err(|_| Error::new(ErrorKind::Internal, "a command's number is too large"))
}
