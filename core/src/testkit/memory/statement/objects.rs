//! Helper objects: made, renamed under a new token, removed.

use std::time::Duration;

use tokio::time::Instant;

use super::super::catalogue::{Build, Identity, State, written_name};
use super::super::config::Mutant;
use super::super::log::Capture;
use super::super::row::Shape;
use super::super::server::Server;
use crate::driver::RebuildJob;
use crate::ident::{Fence, RunId};
use crate::run::Direction;
use crate::testkit::memory::error;
use crate::{Error, ErrorKind, Result};

// Nobody but replank uses these tables, so waiting harms nobody; a statement that hangs for longer is
// reported. Chosen.
const FENCE_WAIT_MAX: Duration = Duration::from_secs(20);

/// What one step of the removal may wait.
const DROP_WAIT_MAX: Duration = Duration::from_millis(200);

pub(in crate::testkit::memory) async fn prepare(server: Server, job: RebuildJob) -> Result<()> {
    let (source, _reading) = server.share(|state| state.source(&job)).await?;
    server.step(|state| {
        state.records.check_token(&job.table, job.fence)?;
        if state.table(source).shape == Shape::New {
            return Err(Error::new(ErrorKind::Refused, "the table is not what the plan saw"));
        }
        let is_there = state.captures.iter().any(|capture| capture.run == job.run);
        if is_there || state.build(&job.run).is_some() {
            return Err(Error::new(ErrorKind::Server, "the run has objects already"));
        }
        let is_unique = state.wants_unique(Shape::New);
        let is_deferred = is_unique && state.config.is_deferred;
        let name = written_name(&job.run, Direction::Forward, job.fence);
        let shadow = state.create_table(&name, Shape::New, is_unique && !is_deferred);
        // Nothing is applied before it is built.
        state.table_mut(shadow).has_key = state.config.pace.apply_during_copy;
        state.builds.push(Build { run: job.run.clone(), shadow, original: source, is_deferred });
        Ok(())
    })?;
    server.pause().await;
    server.step(|state| {
        state.records.check_token(&job.table, job.fence)?;
        if state.build(&job.run).is_none() {
            return Err(Error::new(ErrorKind::NotFound, "the shadow was removed meanwhile"));
        }
        // A transaction that was logged before, and is not visible yet, is part of it.
        let start = state.settled();
        state.install_capture(&job.run, Direction::Forward, source, start);
        Ok(())
    })
}

impl State {
    /// Captures the changes of a table from an entry of the log on.
    pub fn install_capture(&mut self, run: &RunId, direction: Direction, source: Identity, start: usize) {
        // What was there before belongs to an attempt that came to nothing.
        self.captures.retain(|capture| capture.run != *run || capture.direction != direction);
        let Some(definition) = self.tables.get(&source).map(|table| table.definition) else { return };
        // A driver that begins late does not say so: its log seems to reach back far enough.
        let forgotten = if self.config.mutant == Some(Mutant::ReverseInstalledLate) { 0 } else { start };
        self.captures.push(Capture { run: run.clone(), direction, source, definition, start, forgotten });
    }
}

/// R5. The written table is found by identity, under whatever token it was. Where it has become the live
/// table, or is gone, there is nothing to rename, and nothing sent before can find it either.
pub(in crate::testkit::memory) async fn fence(server: Server, job: RebuildJob, to: Fence) -> Result<()> {
    // The live table is not locked for this, not even for a moment: applications would wait.
    let find = |state: &mut State| {
        let written = state.build(&job.run).map(|build| build.written(job.direction));
        // It is the rename that waits for the statements that run: a driver without one waits for nothing.
        let is_renamed = state.config.mutant != Some(Mutant::FenceKeepsName);
        let is_helper = |table: &Identity| state.is_discardable(&job, *table);
        written.filter(|table| is_renamed && is_helper(table))
    };
    let mut alone = None;
    if let Some(written) = server.look(find) {
        alone = server.exclude(written, Instant::now() + FENCE_WAIT_MAX).await;
        match server.look(find) {
            Some(_) if alone.is_none() => return Err(error::locked("written table")),
            Some(_) => {}
            None => alone = None,
        }
    }
    server.pause().await;
    let fenced = server.step(|state| {
        state.records.check_token(&job.table, to)?;
        if let Some(written) = find(state).filter(|_| alone.is_some()) {
            state.rename(written, written_name(&job.run, job.direction, to));
        }
        Ok(())
    });
    drop(alone);
    fenced
}

pub(in crate::testkit::memory) async fn discard(server: Server, job: RebuildJob) -> Result<()> {
    loop {
        // One object at a time, its ownership looked up before each.
        let next = server.step(|state| state.next_discarded(&job))?;
        let Some(table) = next else { return Ok(()) };
        server.pause().await;
        let alone = server.exclude(table, Instant::now() + DROP_WAIT_MAX).await;
        let Some(_alone) = alone else {
            if server.look(|state| state.tables.contains_key(&table)) {
                return Err(error::locked("helper table"));
            }
            continue;
        };
        server.step(|state| {
            state.records.check_token(&job.table, job.fence)?;
            if state.is_discardable(&job, table) {
                state.drop_table(table);
            }
            Ok::<_, Error>(())
        })?;
        server.pause().await;
    }
}

impl State {
    /// Removes captures at once, and names the next table to be dropped. Records go last.
    fn next_discarded(&mut self, job: &RebuildJob) -> Result<Option<Identity>> {
        self.records.check_token(&job.table, job.fence)?;
        self.captures.retain(|capture| capture.run != job.run);
        let Some(build) = self.build(&job.run) else { return Ok(None) };
        let table = [build.shadow, build.original].into_iter().find(|table| self.is_discardable(job, *table));
        if table.is_none() {
            self.builds.retain(|build| build.run != job.run);
        }
        Ok(table)
    }

    fn is_discardable(&self, job: &RebuildJob, table: Identity) -> bool {
        let is_owned =
            self.build(&job.run).is_some_and(|build| [build.shadow, build.original].contains(&table));
        let is_live = self.name_of(table) == Some(job.table.name.as_str());
        is_owned && !is_live && self.tables.contains_key(&table)
    }
}
