//! replank's own records in the server: what the tables `runs`, `leases`, `events` and `control` hold.
//! Every method is one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::control::Control;
use crate::driver::{Command, CommandState, EventRecord, Lease, LeaseHolder, Revision};
use crate::ident::{Fence, RunId, TableId};
use crate::journal::chain;
use crate::run::Run;
use crate::{Error, ErrorKind, Result};

#[derive(Debug, Default)]
pub(super) struct Records {
    pub is_made: bool,
    /// As text, so that what a run keeps is what it gets back.
    runs: Vec<(RunId, String, Revision)>,
    leases: BTreeMap<TableId, LeaseRow>,
    events: Vec<EventRecord>,
    commands: Vec<CommandRow>,
}

#[derive(Debug)]
struct LeaseRow {
    token: Fence,
    holder: Option<LeaseHolder>,
    /// Which client took it.
    client: usize,
    expires: Instant,
}

#[derive(Debug)]
struct CommandRow {
    run: RunId,
    control: Control,
    answer: Option<String>,
}

/// The server's clock: it stands still while nothing waits, like everything else here.
pub(super) fn clock(started: Instant) -> Timestamp {
    // 2026-01-01T00:00:00Z
    let start = Timestamp::from_second(1_767_225_600).expect("a valid time");
    let elapsed = SignedDuration::try_from(started.elapsed()).expect("a simulation is not that long");
    start.saturating_add(elapsed).expect("a duration of seconds can be added")
}

fn fenced(message: &str) -> Error {
    Error::new(ErrorKind::Fenced, message)
}

impl Records {
    fn made(&self) -> Result<()> {
        if self.is_made {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, "replank's records were never made here"))
    }

    /// Only under the table's newest token: a runner that was overtaken leaves no run behind.
    pub fn create(&mut self, run: &Run) -> Result<Revision> {
        self.made()?;
        self.check_token(&run.table, run.fence)?;
        if self.runs.iter().any(|(id, ..)| *id == run.id) {
            return Err(Error::new(ErrorKind::Server, "the run is there already"));
        }
        self.runs.push((run.id.clone(), write(run), Revision(1)));
        Ok(Revision(1))
    }

    pub fn load(&self, id: &RunId) -> Option<(Run, Revision)> {
        self.runs.iter().find(|(known, ..)| known == id).map(|(_, text, revision)| (read(text), *revision))
    }

    pub fn runs(&self) -> Vec<Run> {
        self.runs.iter().map(|(_, text, _)| read(text)).collect()
    }

    pub fn save(&mut self, run: &Run, expected: Revision, token: Fence) -> Result<Revision> {
        self.made()?;
        self.check_token(&run.table, token)?;
        let row = self.runs.iter_mut().find(|(id, ..)| *id == run.id);
        match row {
            Some((_, text, revision)) if *revision == expected => {
                *text = write(run);
                revision.0 += 1;
                Ok(*revision)
            }
            Some(_) => Err(fenced("another runner saved the run")),
            None => Err(Error::new(ErrorKind::NotFound, "there is no such run")),
        }
    }

    /// # Errors
    /// `Fenced` when the token is not the newest of the table.
    pub fn check_token(&self, table: &TableId, token: Fence) -> Result<()> {
        match self.leases.get(table) {
            Some(lease) if lease.token == token => Ok(()),
            _ => Err(fenced("another runner took the table over")),
        }
    }

    pub fn lease(&self, table: &TableId) -> Option<Lease> {
        self.leases.get(table).map(|row| Lease {
            token: row.token,
            holder: row.holder.clone(),
            remaining: row.expires.saturating_duration_since(Instant::now()),
        })
    }

    /// Which client took the lease last.
    pub fn lease_client(&self, table: &TableId) -> Option<usize> {
        self.leases.get(table).map(|row| row.client)
    }

    pub fn take_lease(
        &mut self,
        client: usize,
        table: &TableId,
        seen: Option<Fence>,
        holder: &LeaseHolder,
        ttl: Duration,
    ) -> Result<Option<Fence>> {
        self.made()?;
        if self.leases.get(table).map(|row| row.token) != seen {
            return Ok(None);
        }
        let token = Fence(seen.map_or(1, |seen| seen.0 + 1));
        let expires = Instant::now() + ttl;
        let row = LeaseRow { token, holder: Some(holder.clone()), client, expires };
        self.leases.insert(table.clone(), row);
        Ok(Some(token))
    }

    pub fn renew_lease(&mut self, table: &TableId, token: Fence, ttl: Duration) -> Result<()> {
        self.check_token(table, token)?;
        let row = self.leases.get_mut(table).expect("its token was just checked");
        if row.holder.is_none() {
            return Err(fenced("the lease was given up"));
        }
        row.expires = Instant::now() + ttl;
        Ok(())
    }

    pub fn release_lease(&mut self, table: &TableId, token: Fence) {
        if self.check_token(table, token).is_ok() {
            let row = self.leases.get_mut(table).expect("its token was just checked");
            row.holder = None;
            row.expires = Instant::now();
        }
    }

    pub fn append(&mut self, at: Timestamp, run: &RunId, kind: &str, body: &serde_json::Value) -> Result<()> {
        self.made()?;
        let seq = self.events.len() as u64 + 1;
        let previous =
            self.events.last().map_or_else(|| chain::GENESIS.to_owned(), |record| record.hash.clone());
        let hash = chain::hash(&previous, seq, at, run, kind, body);
        self.events.push(EventRecord {
            seq,
            at,
            run: run.clone(),
            kind: kind.to_owned(),
            body: body.clone(),
            previous,
            hash,
        });
        Ok(())
    }

    pub fn events(&self, run: Option<&RunId>) -> Vec<EventRecord> {
        self.events.iter().filter(|record| run.is_none_or(|run| record.run == *run)).cloned().collect()
    }

    pub fn post(&mut self, run: &RunId, control: &Control) -> Result<u64> {
        self.made()?;
        self.commands.push(CommandRow { run: run.clone(), control: control.clone(), answer: None });
        Ok(self.commands.len() as u64)
    }

    pub fn pending(&self, run: &RunId) -> Vec<Command> {
        let numbered = (1..).zip(&self.commands);
        numbered
            .filter(|(_, row)| row.run == *run && row.answer.is_none())
            .map(|(id, row)| Command { id, control: row.control.clone() })
            .collect()
    }

    /// The first answer stays: a repeated one changes nothing.
    pub fn acknowledge(&mut self, id: u64, answer: &str) -> Result<()> {
        self.command_mut(id)?.answer.get_or_insert_with(|| answer.to_owned());
        Ok(())
    }

    pub fn command(&mut self, id: u64) -> Result<CommandState> {
        let answer = self.command_mut(id)?.answer.clone();
        Ok(answer.map_or(CommandState::Waiting, CommandState::Answered))
    }

    fn command_mut(&mut self, id: u64) -> Result<&mut CommandRow> {
        let row = usize::try_from(id).ok().and_then(|id| self.commands.get_mut(id.checked_sub(1)?));
        row.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no command {id}")))
    }
}

fn write(run: &Run) -> String {
    serde_json::to_string(run).expect("a run can always be written")
}

fn read(text: &str) -> Run {
    serde_json::from_str(text).expect("what was written as a run can be read as one")
}
