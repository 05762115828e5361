//! Commands to whoever runs a run.

use replank_core::control::Control;
use replank_core::driver::{Command, CommandState};
use replank_core::ident::RunId;
use replank_core::{Error, ErrorKind, Result};

use super::{Names, broken, unwritable};
use crate::connect::Conn;
use crate::sql::{first, get, rows, run as execute, text};

/// Leaves a command; answers with its number.
pub async fn post(connection: &mut Conn, names: &Names, run: &RunId, command: &Control) -> Result<u64> {
    let body = serde_json::to_string(command).map_err(|error| unwritable("a command", error))?;
    let sql = format!(
        "INSERT INTO {} (run, body) VALUES ({}, {}) RETURNING id",
        names.table("control"),
        text(run.as_str()),
        text(&body)
    );
    match first(connection, sql).await? {
        Some(row) => Ok(u64::try_from(get::<i64>(&row, 0)?).unwrap_or_default()),
        None => Err(Error::new(ErrorKind::Internal, "the server gave a command no number")),
    }
}

/// Commands without an answer, oldest first.
pub async fn pending(connection: &mut Conn, names: &Names, run: &RunId) -> Result<Vec<Command>> {
    let sql = format!(
        "SELECT id, body FROM {} WHERE run = {} AND answer IS NULL ORDER BY id",
        names.table("control"),
        text(run.as_str())
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| {
            let body: String = get(row, 1)?;
            let control = serde_json::from_str(&body).map_err(|error| broken("a command", error))?;
            Ok(Command { id: u64::try_from(get::<i64>(row, 0)?).unwrap_or_default(), control })
        })
        .collect()
}

/// Answers a command that has no answer yet; the first answer stands.
pub async fn acknowledge(connection: &mut Conn, names: &Names, id: u64, answer: &str) -> Result<()> {
    let sql = format!(
        "UPDATE {} SET answer = {} WHERE id = {id} AND answer IS NULL",
        names.table("control"),
        text(answer)
    );
    execute(connection, sql).await.map(drop)
}

/// How a command stands.
pub async fn state(connection: &mut Conn, names: &Names, id: u64) -> Result<CommandState> {
    let found =
        first(connection, format!("SELECT answer FROM {} WHERE id = {id}", names.table("control"))).await?;
    let row =
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no command number {id}")))?;
    Ok(get::<Option<String>>(&row, 0)?.map_or(CommandState::Waiting, CommandState::Answered))
}
