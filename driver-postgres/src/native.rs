//! Steps that the server runs itself.
//!
//! A step within a transaction records itself there (`steps`): what is recorded is done, and nothing else, whatever became
//! of the answer. What no transaction can hold (`CONCURRENTLY`) is told by the catalogue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{NativeDdl, Probe};
use replank_core::error::Retry;
use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::error::codes;
use crate::holders::old_holders_of_any;
use crate::inspect::{Index, index, indexes};
use crate::plan::{Kind, NOTHING, Notes};
use crate::repack::{Named, run_beside};
use crate::shape::shape;
use crate::sql::{first, get, is_so, number, rows, run, text};
use crate::state::Names;

/// Runs and probes steps.
pub struct Native {
    server: Arc<Server>,
    names: Names,
}

/// Some five seconds.
const REST_LOOKS: u32 = 250;
const REST_PAUSE: Duration = Duration::from_millis(20);

impl Native {
    /// On a server.
    pub fn new(server: Arc<Server>) -> Self {
        let names = Names::new(&server.settings().state_name);
        Self { server, names }
    }

    /// The statement and its record, or neither.
    async fn recorded(&self, step: &Step, notes: &Notes, budget: Duration, is_long: bool) -> Result<()> {
        let mut connection = self.server.connect().await?;
        if !notes.is_forward(step) && !notes.index.is_empty() {
            match find(&mut connection, notes).await? {
                Found::Missing | Found::Whole | Found::Remainder { is_ours: true, .. } => {}
                Found::Foreign(_) | Found::Built(_) | Found::Remainder { .. } => return Err(not_ours(notes)),
            }
        }
        if !is_long {
            refuse_to_queue(&mut connection, step, notes, budget).await?;
        }
        let steps = self.names.table("steps");
        let record = match notes.is_forward(step) {
            true => format!("INSERT INTO {steps} (mark) VALUES ({})", text(&notes.mark)),
            false => format!("DELETE FROM {steps} WHERE mark = {}", text(&notes.mark)),
        };
        // Nobody who reads or writes waits behind a lock of the gentle kind. Autovacuum gives way after a second.
        let wait = if is_long { budget.max(self.server.settings().busy_timeout) } else { budget };
        let wait = wait.as_millis().max(1);
        // Of each statement: the wait for its lock and what is done under it, together.
        let whole = if is_long { 0 } else { wait * 2 };
        let sql = format!(
            "BEGIN; SET LOCAL lock_timeout = {wait}; SET LOCAL statement_timeout = {whole};
             SET LOCAL search_path = {}; {};
             {record}; COMMIT",
            notes.path,
            marked(step, notes)
        );
        run(&mut connection, sql).await.map(drop).map_err(|error| too_long(error, is_long))
    }

    /// On a session of its own: it waits for transactions that are older, and no setting of ours may end that wait.
    async fn alone(&self, notes: &Notes, sql: String) -> Result<()> {
        let mut connection = self.server.connect().await?;
        run(&mut connection, format!("SET lock_timeout = 0; SET search_path = {}", notes.path)).await?;
        run(&mut connection, sql).await.map(drop)
    }

    /// The first transaction says that the partition goes, the second waits until nobody sees it any more. Where that is
    /// cut short, the rest of it is a statement of its own.
    async fn detach(
        &self,
        step: &Step,
        notes: &Notes,
        (parent, name, rest): (i64, &str, &str),
        budget: Duration,
    ) -> Result<()> {
        let mut connection = self.server.connect().await?;
        let is_it = format!("SELECT to_regclass({}) = {}", text(name), notes.table);
        if !is_so(&mut connection, is_it).await? {
            let what = format!("the table {name} is another one than the plan was made for, or gone");
            return Err(Error::new(ErrorKind::ForeignDdl, what));
        }
        let at = membership(&mut connection, parent, notes.table).await?;
        refuse_to_queue(&mut connection, step, notes, budget).await?;
        let wait = budget.as_millis().max(1);
        let settings = format!("SET lock_timeout = {wait}; SET search_path = {}", notes.path);
        run(&mut connection, settings).await?;
        match (notes.is_forward(step), at) {
            (_, Membership::Going) => {
                run(&mut connection, format!("{} {rest}", comment(notes))).await.map(drop)
            }
            (true, Membership::None) | (false, Membership::Whole) => Ok(()),
            (true, Membership::Whole) => run(&mut connection, marked(step, notes)).await.map(drop),
            // A default partition that came since is looked through under its lock, an index that came since is built.
            (false, Membership::None) => {
                run(&mut connection, format!("SET statement_timeout = {}", wait * 2)).await?;
                run(&mut connection, marked(step, notes))
                    .await
                    .map(drop)
                    .map_err(|error| too_long(error, false))
            }
        }
    }

    /// Says which partitions the index of a partitioned table lacks.
    async fn see_whole(&self, notes: &Notes) -> Result<()> {
        let mut connection = self.server.take().await?;
        let sql = format!(
            "SELECT p.relid::regclass::text FROM pg_partition_tree({}) p
             WHERE p.isleaf AND NOT EXISTS (SELECT FROM pg_partition_tree(to_regclass({})) t
                               JOIN pg_index i ON i.indexrelid = t.relid WHERE i.indrelid = p.relid AND i.indisvalid)",
            notes.table,
            text(&notes.index)
        );
        let lacking = rows(&mut connection, sql).await?;
        self.server.keep(connection);
        let Some(row) = lacking.first() else { return Ok(()) };
        let lacking: String = get(row, 0)?;
        Err(Error::new(
            ErrorKind::ForeignDdl,
            format!("the partition {lacking} has no part of the index {}: it came meanwhile", notes.index),
        )
        .hint(format!(
            "CREATE INDEX CONCURRENTLY on {lacking}, ALTER INDEX {} ATTACH PARTITION it, then `replank resume`",
            notes.index
        )))
    }

    async fn make_index(&self, step: &Step, notes: &Notes) -> Result<()> {
        let mut connection = self.server.take().await?;
        match find(&mut connection, notes).await? {
            Found::Missing => {}
            Found::Whole => {
                self.server.keep(connection);
                return Ok(());
            }
            Found::Remainder { left, .. } => self.drop_invalid(notes, &left).await?,
            Found::Built(other) => {
                let what = format!("somebody else builds an index {} just now", other.name);
                return Err(Error::new(ErrorKind::Refused, what));
            }
            Found::Foreign(other) => {
                let what = format!("somebody else has made an index {} meanwhile", other.name);
                return Err(Error::new(ErrorKind::ForeignDdl, what).with("index", other.definition));
            }
        }
        let made = self.alone(notes, marked(step, notes)).await;
        let found = find_at_rest(&mut connection, notes).await;
        // Ended from outside, it is left to the next try: what it waited for would hold the removal up as well.
        if let Err(error) = &made
            && error.kind().retry() == Retry::Never
            && let Ok(Found::Remainder { left, is_ours: true }) = &found
        {
            self.drop_invalid(notes, left).await?;
        }
        made?;
        self.server.keep(connection);
        match found? {
            Found::Remainder { left, .. } => {
                Err(Error::new(ErrorKind::Retry, format!("index {} was built and is not valid", left.name)))
            }
            _ => Ok(()),
        }
    }

    /// Found by the step's mark, as its own statement is: it may wait for as long.
    async fn drop_invalid(&self, notes: &Notes, left: &Index) -> Result<()> {
        self.alone(
            notes,
            format!("{} DROP INDEX CONCURRENTLY IF EXISTS {}", comment(notes), left.full_name()),
        )
        .await
    }

    /// What an interrupted REINDEX has left is dropped before it is tried again.
    async fn renew(&self, step: &Step, notes: &Notes) -> Result<()> {
        self.drop_left_by_reindex(notes).await?;
        self.alone(notes, marked(step, notes)).await
    }

    async fn drop_left_by_reindex(&self, notes: &Notes) -> Result<()> {
        let mut connection = self.server.take().await?;
        let left = left_by_reindex(&mut connection, notes).await?;
        self.server.keep(connection);
        for left in &left {
            self.drop_invalid(notes, left).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl NativeDdl for Native {
    async fn run(&self, step: &Step, lock_budget: Duration) -> Result<()> {
        let notes = Notes::of(step)?;
        let is_forward = notes.is_forward(step);
        match (&notes.kind, is_forward) {
            (Kind::Recorded, _) => self.recorded(step, &notes, lock_budget, false).await,
            (Kind::RecordedLong, _) => self.recorded(step, &notes, lock_budget, true).await,
            (Kind::IndexMade, true) | (Kind::IndexDropped, false) => self.make_index(step, &notes).await,
            (Kind::IndexMade, false) | (Kind::IndexDropped | Kind::RemainderDropped, true) => {
                self.alone(&notes, marked(step, &notes)).await
            }
            (Kind::RemainderDropped, false) => Ok(()),
            (Kind::IndexWhole, _) => self.see_whole(&notes).await,
            (Kind::Detached { parent, name, rest }, _) => {
                self.detach(step, &notes, (*parent, name, rest), lock_budget).await
            }
            (Kind::Repacked { name, .. }, true) => {
                let path = format!("SET search_path = {}", notes.path);
                let table = Named { oid: notes.table, name };
                run_beside(&self.server, table, &path, marked(step, &notes), lock_budget).await
            }
            (Kind::Repacked { .. }, false) => Ok(()),
            (Kind::IndexesRenewed { .. }, true) => self.renew(step, &notes).await,
            (Kind::IndexesRenewed { .. }, false) => self.drop_left_by_reindex(&notes).await,
        }
    }

    async fn cancel(&self, step: &Step) -> Result<()> {
        let notes = Notes::of(step)?;
        let mut connection = self.server.take().await?;
        run(&mut connection, format!("SELECT pg_cancel_backend(pid) FROM {}", at_it(&notes))).await?;
        self.server.keep(connection);
        Ok(())
    }

    async fn probe(&self, step: &Step) -> Result<Probe> {
        let notes = Notes::of(step)?;
        let mut connection = self.server.take().await?;
        let running = format!("SELECT EXISTS (SELECT 1 FROM {})", at_it(&notes));
        let probe = if is_so(&mut connection, running).await? {
            Probe::Running
        } else {
            self.standing(&mut connection, step, &notes).await?
        };
        self.server.keep(connection);
        Ok(probe)
    }
}

impl Native {
    /// How a step stands that nobody is at.
    async fn standing(&self, connection: &mut Conn, step: &Step, notes: &Notes) -> Result<Probe> {
        let is_forward = notes.is_forward(step);
        let done_if = |is_done: bool| if is_done { Probe::Done } else { Probe::Absent };
        Ok(match &notes.kind {
            Kind::Recorded | Kind::RecordedLong => {
                // A rebuild that takes the run back puts another table in the place of the one that the steps were for.
                let sql = format!(
                    "SELECT EXISTS (SELECT FROM {} WHERE mark = {})
                     AND NOT EXISTS (SELECT FROM pg_class WHERE oid = {} AND starts_with(relname, '_rp_'))",
                    self.names.table("steps"),
                    text(&notes.mark),
                    notes.table
                );
                done_if(is_so(connection, sql).await? == is_forward)
            }
            Kind::RemainderDropped if !is_forward => Probe::Done,
            Kind::IndexWhole if step.statement == NOTHING => Probe::Done,
            Kind::IndexWhole => {
                let valid = format!(
                    "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass({})",
                    text(&notes.index)
                );
                done_if(is_so(connection, valid).await?)
            }
            Kind::Detached { parent, .. } => match membership(connection, *parent, notes.table).await? {
                Membership::Going => Probe::Broken,
                Membership::None => done_if(is_forward),
                Membership::Whole => done_if(!is_forward),
            },
            Kind::IndexMade | Kind::IndexDropped | Kind::RemainderDropped => {
                let is_made = is_forward == (notes.kind == Kind::IndexMade);
                match find(connection, notes).await? {
                    Found::Missing => done_if(!is_made),
                    Found::Remainder { is_ours: true, .. } if notes.kind == Kind::RemainderDropped => {
                        Probe::Absent
                    }
                    Found::Remainder { is_ours: true, .. } => Probe::Broken,
                    Found::Whole if notes.kind != Kind::RemainderDropped => done_if(is_made),
                    Found::Whole => return Err(not_ours(notes)),
                    // To be made, it is in the way, which is told when it is tried.
                    Found::Foreign(_) | Found::Built(_) | Found::Remainder { .. } if is_made => Probe::Absent,
                    Found::Foreign(_) | Found::Built(_) | Found::Remainder { .. } => {
                        return Err(not_ours(notes));
                    }
                }
            }
            // The rows say the same in either file.
            Kind::Repacked { .. } if !is_forward => Probe::Done,
            Kind::Repacked { file, .. } => {
                let now = number(connection, format!("SELECT pg_relation_filenode({})::bigint", notes.table));
                done_if(now.await? != *file)
            }
            Kind::IndexesRenewed { old } => {
                let present = indexes(connection, &format!("i.indrelid = {}", notes.table)).await?;
                let is_old = present.iter().any(|index| old.contains(&index.oid));
                match left_by_reindex(connection, notes).await?.is_empty() {
                    _ if is_forward && !is_old => Probe::Done,
                    true => done_if(!is_forward),
                    false => Probe::Broken,
                }
            }
        })
    }
}

/// How a table stands to one that it is, or was, a partition of.
enum Membership {
    /// It is a partition.
    Whole,
    /// It is on its way out, and nobody new sees it.
    Going,
    /// It is none.
    None,
}

async fn membership(connection: &mut Conn, parent: i64, child: i64) -> Result<Membership> {
    let sql =
        format!("SELECT inhdetachpending FROM pg_inherits WHERE inhparent = {parent} AND inhrelid = {child}");
    Ok(match first(connection, sql).await? {
        None => Membership::None,
        Some(row) if get(&row, 0)? => Membership::Going,
        Some(_) => Membership::Whole,
    })
}

/// What bears the name of the index that a step is about.
enum Found {
    Missing,
    /// The index itself.
    Whole,
    /// What a build or a removal that was ended has left; of our index, or of another of that name on the table.
    Remainder {
        left: Index,
        is_ours: bool,
    },
    /// An index that somebody else builds just now.
    Built(Index),
    /// An index of another shape, or on another table.
    Foreign(Index),
}

async fn find(connection: &mut Conn, notes: &Notes) -> Result<Found> {
    let here = format!("c.oid = to_regclass({}) AND i.indrelid = {}", text(&notes.index), notes.table);
    let Some(found) = indexes(connection, &here).await?.into_iter().next() else {
        let elsewhere = index(connection, &notes.index).await?;
        return Ok(elsewhere.map_or(Found::Missing, Found::Foreign));
    };
    let is_ours = shape(&found.definition) == notes.shape;
    if found.is_valid {
        return Ok(if is_ours { Found::Whole } else { Found::Foreign(found) });
    }
    // Of other logins' sessions one may not see what they build, but always that they do, and what they lock.
    let built = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index p
                        WHERE p.index_relid = {} OR p.relid IS NULL AND EXISTS (
                            SELECT FROM pg_locks l WHERE l.pid = p.pid AND l.locktype = 'relation' AND l.relation = {}
                            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))",
        found.oid, notes.table
    );
    Ok(match is_so(connection, built).await? {
        true => Found::Built(found),
        false => Found::Remainder { left: found, is_ours },
    })
}

/// After a build that was answered: a server says that it failed before it has cleared away, and seems to be at it for a
/// while. Seen with much else going on.
async fn find_at_rest(connection: &mut Conn, notes: &Notes) -> Result<Found> {
    for _ in 0..REST_LOOKS {
        match find(connection, notes).await? {
            Found::Built(_) => tokio::time::sleep(REST_PAUSE).await,
            found => return Ok(found),
        }
    }
    find(connection, notes).await
}

/// An index that is to go, and that is not the one that the plan was made for, stays.
fn not_ours(notes: &Notes) -> Error {
    Error::new(ErrorKind::ForeignDdl, format!("the index {} is not what it was", notes.index))
        .with("was", &notes.shape)
        .hint("somebody else has changed it: rename it, or drop it yourself, and try again")
}

async fn left_by_reindex(connection: &mut Conn, notes: &Notes) -> Result<Vec<Index>> {
    let left =
        format!("i.indrelid = {} AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'", notes.table);
    indexes(connection, &left).await
}

/// Sessions that are at a step, with whatever answer they will get.
fn at_it(notes: &Notes) -> String {
    format!(
        "pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active' AND query LIKE {}",
        text(&format!("%{}%", comment(notes)))
    )
}

/// A wait for the lock has an error of its own: this was work under it, and would take as long the next time.
fn too_long(error: Error, is_long: bool) -> Error {
    let was_canceled =
        error.context().iter().any(|(name, value)| *name == "code" && value == codes::CANCELED);
    if is_long || !was_canceled {
        return error;
    }
    Error::new(
        ErrorKind::Gate,
        "the step took longer under its lock than the budget allows, and was rolled back",
    )
    .hint("try a greater --lock-budget, or when less is going on")
    .caused_by(error)
}

fn comment(notes: &Notes) -> String {
    format!("/* replank {} */", notes.mark)
}

/// The statement, so that it is found among those that run.
fn marked(step: &Step, notes: &Notes) -> String {
    format!("{} {}", comment(notes), step.statement)
}

/// Whoever comes after a lock that is waited for waits too: it is not asked for behind somebody who holds the table for
/// long.
async fn refuse_to_queue(connection: &mut Conn, step: &Step, notes: &Notes, budget: Duration) -> Result<()> {
    let mut tables = vec![notes.table];
    tables.extend(&notes.others);
    if !notes.is_forward(step) {
        tables.extend(&notes.others_back);
    }
    let holders = old_holders_of_any(connection, &tables, budget).await?;
    let Some(first) = holders.first() else { return Ok(()) };
    Err(Error::new(ErrorKind::LockTimeout, format!("session {} holds the table: {}", first.id, first.about))
        .with("holders", holders.len()))
}
