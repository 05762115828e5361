//! Commands to whoever runs a run.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::control::Control;
use replank_core::driver::{Command, CommandState};
use replank_core::ident::RunId;
use replank_core::{Error, ErrorKind, Result};

use super::{broken, missing, records, signed, unsigned, unwritable};
use crate::connect::Server;
use crate::error::{from_mongo, is_duplicate};

/// Leaves a command; answers with its number.
pub async fn post(server: &Server, run: &RunId, command: &Control) -> Result<u64> {
    let body = serde_json::to_string(command).map_err(|error| unwritable("a command", error))?;
    let commands = records(server, "control");
    loop {
        let last = commands.find_one(doc! {}).sort(doc! { "_id": -1 }).await.map_err(from_mongo)?;
        let id = match last {
            Some(last) => last.get_i64("_id").map_err(missing("a command"))? + 1,
            None => 1,
        };
        match commands.insert_one(doc! { "_id": id, "run": run.as_str(), "body": &body }).await {
            Ok(_) => return Ok(unsigned(id)),
            // Somebody else was faster with this number.
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(from_mongo(error)),
        }
    }
}

/// Commands without an answer, oldest first.
pub async fn pending(server: &Server, run: &RunId) -> Result<Vec<Command>> {
    let filter = doc! { "run": run.as_str(), "answer": null };
    let found = records(server, "control").find(filter).sort(doc! { "_id": 1 }).await.map_err(from_mongo)?;
    let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
    found.iter().map(command).collect()
}

fn command(found: &Document) -> Result<Command> {
    let missing = missing("a command");
    let body = found.get_str("body").map_err(&missing)?;
    let control = serde_json::from_str(body).map_err(|error| broken("a command", error))?;
    let id = found.get_i64("_id").map_err(&missing)?;
    Ok(Command { id: unsigned(id), control })
}

/// Answers a command that has no answer yet; the first answer stands.
pub async fn acknowledge(server: &Server, id: u64, answer: &str) -> Result<()> {
    records(server, "control")
        .update_one(doc! { "_id": signed(id), "answer": null }, doc! { "$set": { "answer": answer } })
        .await
        .map_err(from_mongo)
        .map(|_| ())
}

/// How a command stands.
pub async fn state(server: &Server, id: u64) -> Result<CommandState> {
    let found = records(server, "control").find_one(doc! { "_id": signed(id) }).await.map_err(from_mongo)?;
    let found =
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no command number {id}")))?;
    Ok(match found.get_str("answer") {
        Ok(answer) => CommandState::Answered(answer.to_owned()),
        Err(_) => CommandState::Waiting,
    })
}
