//! Steps that the server carries out itself: each is asked of the catalogue before and after.

mod act;
mod job;
mod probe;
mod same;
mod sweep;

pub use act::{Act, quorum, step};
pub use job::Job;
pub use same::{are_options, is_index, is_key};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bson::{Document, doc};
use replank_core::driver::{ByRanges, NativeDdl, Probe};
use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Server, answer, majority_document, millis};
use crate::error::from_mongo;
use crate::holders;
use crate::inspect::{self, index_name, is_set};
use crate::plan::breaking;
use crate::rebuild::rename;

/// Runs and probes steps.
pub struct Native {
    server: Arc<Server>,
}

impl Native {
    /// On a server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }

    fn act(&self, step: &Step) -> Result<Act> {
        Act::of(step, self.server.database_name()).map(|(act, _)| act)
    }

    /// Sends a command whose effect the catalogue tells.
    async fn send(&self, act: &Act, wait: Option<Duration>) -> Result<()> {
        let mut command = act.command(self.server.database_name());
        command.insert("writeConcern", majority_document());
        command.insert("comment", "replank");
        if let Some(wait) = wait {
            command.insert("maxTimeMS", millis(wait).max(1));
        }
        let name = if act.is_of_admin() { "admin" } else { self.server.database_name() };
        answer(self.server.client().database(name).run_command(command).await).map(|_| ())
    }

    /// A command that takes the collection for itself waits for every transaction that has touched it, and everybody else behind
    /// the command: so it is not sent while one is open.
    async fn nobody_holds(&self, act: &Act, budget: Duration) -> Result<()> {
        let holders = holders::holders(&self.server, budget).await?;
        if holders.is_empty() {
            return Ok(());
        }
        let who: Vec<String> =
            holders.iter().map(|holder| format!("{} ({})", holder.about, holder.id)).collect();
        Err(Error::new(
            ErrorKind::LockTimeout,
            format!("`{}` would wait, and others behind it", act.collection()),
        )
        .with("for", who.join("; "))
        .hint("wait until it ends, or end it with killSessions"))
    }

    async fn build(&self, act: &Act, index: &Document) -> Result<()> {
        // However long it takes: a limit would be one for the whole build.
        self.send(act, None).await.map_err(|error| error.with("index", index_name(index)))
    }

    /// Only what nobody has written to goes: under another name nobody finds it while that is looked at.
    async fn unmake(&self, collection: &str, aside: &str) -> Result<()> {
        let database = self.server.database_name();
        // A try that was killed may have left it there.
        if !inspect::exists(&self.server, aside).await? {
            rename(&self.server, database, collection, aside).await?;
        }
        let kept = self.server.database().collection::<Document>(aside);
        let written = kept.count_documents(doc! {}).limit(1).await.map_err(from_mongo)?;
        if written == 0 {
            return kept.drop().await.map_err(from_mongo);
        }
        rename(&self.server, database, aside, collection).await.map_err(|error| {
            error.hint(format!(
                "`{collection}` was made again meanwhile; what was written before is in `{aside}`"
            ))
        })?;
        Err(Error::new(ErrorKind::Refused, format!("`{collection}` has been written to since it was made"))
            .hint(format!("`replank apply -e '{{\"drop\": \"{collection}\"}}'` keeps what is there until it is made final")))
    }
}

#[async_trait]
impl NativeDdl for Native {
    async fn run(&self, step: &Step, lock_budget: Duration) -> Result<()> {
        let act = self.act(step)?;
        self.nobody_holds(&act, lock_budget).await?;
        match &act {
            Act::Build { index, .. } => self.build(&act, &index.0).await,
            Act::Unmake { collection, aside } => self.unmake(collection, aside).await,
            // The server reads the whole index for that, and keeps others out at the end of it only.
            Act::Index { set, .. } if is_set(&set.0, "unique") => self.send(&act, None).await,
            Act::Options { collection, clean: Some(validator), .. } => {
                let what = format!("the validator of `{collection}`");
                if let Some(unfit) = breaking(&self.server, collection, &[], &validator.0, what).await? {
                    return Err(Error::new(
                        ErrorKind::Unfit,
                        format!("{} documents do not fit {}", unfit.rows, unfit.what),
                    )
                    .with("first", unfit.samples.join(", "))
                    .hint("they have come since the plan was made: change them, then resume"));
                }
                self.send(&act, Some(lock_budget)).await
            }
            // One of our own that was renamed is known by its identity before this is asked for.
            Act::Rename { from, to, .. } => {
                if inspect::exists(&self.server, to).await? {
                    return Err(Error::new(ErrorKind::Refused, format!("there is a collection `{to}` already"))
                        .hint(format!(
                            "an application may have made it by writing to it: move its documents, drop it, and try again; `{from}` is untouched"
                        )));
                }
                self.send(&act, Some(lock_budget)).await
            }
            Act::Write(_) => {
                Err(Error::new(ErrorKind::Internal, "a write of many documents is no single command"))
            }
            _ => self.send(&act, Some(lock_budget)).await,
        }
    }

    async fn cancel(&self, step: &Step) -> Result<()> {
        // An index that is being built is aborted by its drop; everything else has a time limit of its own.
        let Act::Build { collection, index, .. } = self.act(step)? else { return Ok(()) };
        let name = index_name(&index.0);
        if !probe::being_built(&self.server, &collection).await?.contains(&name.to_owned()) {
            return Ok(());
        }
        let drop = Act::DropIndex { collection, index: index.clone() };
        match self.send(&drop, None).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            dropped => dropped,
        }
    }

    async fn probe(&self, step: &Step) -> Result<Probe> {
        let (act, role) = Act::of(step, self.server.database_name())?;
        probe::probe(&self.server, &act, role).await
    }

    fn by_ranges(&self, step: &Step) -> Option<&dyn ByRanges> {
        matches!(self.act(step), Ok(Act::Write(_))).then_some(self as &dyn ByRanges)
    }
}
