//! What happens under the lock, in two steps. First writers are kept out and readers are not: what is left is brought over,
//! compared and committed by another session, and snapshots from before that end. Then nobody gets in for as long as the
//! names are swapped, in the transaction that has the lock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{
    Applied, Compared, CutOver, GAVE_WAY, HELD_FOR, Holder, Owner, Revision, SwapGuard, SwapOutcome,
};
use replank_core::run::{Direction, Run};
use replank_core::value::{Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, timeout};

use super::matview_filling::Filling;
use super::matviews::{self, Pair};
use super::parts::{Trees, with_partitions};
use super::{
    Core, Handle, apply, compare, feed, lasting, number_of, polite, readiness, snapshots, spool, swap,
};
use crate::attached::Attached;
use crate::connect::Conn;
use crate::holders::old_holders_of_any;
use crate::sql::{first, get, is_so, rows, run};
use crate::state::save_run;

/// The swap's statements are sent so many at a time, and the budget is looked at in between. Chosen: a message of these takes
/// some milliseconds.
const AT_ONCE: usize = 100;
/// Without partitions it is always the same few statements: a budget of some milliseconds is meant for what others wait for, and
/// would forbid every swap. Chosen.
const PLAIN_HOLD: Duration = Duration::from_secs(1);
/// What is left of the budget when it comes to the second lock; less is not worth asking for.
const LEAST: Duration = Duration::from_millis(20);
/// Writers wait for the swap, for as long as a bad disk takes; a session that is silent for so much longer than it may take is lost.
const SWAP_WAIT: Duration = Duration::from_secs(10);
/// A session that was ended rolls back at once.
const END_WAIT: Duration = Duration::from_secs(5);

#[async_trait]
impl CutOver for Handle {
    async fn holders(&self, budget: Duration) -> Result<Vec<Holder>> {
        let core = &self.core;
        let mut connection = core.server.take().await?;
        let mut found = snapshots::older_than(&mut connection, budget).await?;
        if let Some(live) = core.live_number(&mut connection, core.job.direction).await? {
            let mut tables = Attached::related_to(&mut connection, live).await?;
            let written = number_of(&mut connection, &core.written()).await?;
            for table in [live].into_iter().chain(written) {
                tables.extend(with_partitions(&mut connection, table).await?);
                tables.extend(sequences_of(&mut connection, table).await?);
            }
            found.extend(old_holders_of_any(&mut connection, &tables, budget).await?);
        }
        core.server.keep(connection);
        Ok(found)
    }

    async fn make_ready(&self) -> Result<()> {
        readiness::make_ready(&self.core).await
    }

    async fn lock(&self, budget: Duration) -> Result<Box<dyn SwapGuard>> {
        lock(&self.core, budget).await
    }

    async fn owner(&self) -> Result<Owner> {
        // Not one that may have been opened before a failover.
        let core = &self.core;
        let mut connection = core.server.connect().await?;
        let now = number_of(&mut connection, &core.source()).await?;
        let shadow = core.shadow_number(&mut connection).await?;
        let is_original = match core.job.direction {
            Direction::Forward => now == Some(core.spec.original),
            Direction::Reverse => now.is_some() && now == shadow,
        };
        let is_written = match core.job.direction {
            Direction::Forward => now.is_some() && now == shadow,
            Direction::Reverse => now == Some(core.spec.original),
        };
        core.server.keep(connection);
        Ok(match (is_original, is_written) {
            (true, false) => Owner::Original,
            (false, true) => Owner::Shadow,
            _ => Owner::Unknown,
        })
    }
}

async fn lock(core: &Arc<Core>, budget: Duration) -> Result<Box<dyn SwapGuard>> {
    let mut aside = core.server.take().await?;
    core.check_token(&mut aside).await?;
    swap::settle(core, &mut aside).await?;
    let written = number_of(&mut aside, &core.written()).await?;
    let live = core.live_number(&mut aside, core.job.direction).await?;
    let (Some(live), Some(written)) = (live, written) else {
        return Err(Error::new(ErrorKind::Fenced, format!("there is no table `{}`", core.written_name()))
            .hint("another runner took over, or removed it; `replank status` shows who"));
    };
    let trees = Trees::read(&mut aside, live, written).await?;
    for table in [live, written].into_iter().chain(trees.numbers()) {
        polite::send_vacuum_away(core, table).await?;
    }
    let names = core.incoming_names();
    let mut connection = core.server.connect().await?;
    Attached::prepare(&mut connection, live, written).await?;
    let mut attached = Attached::again(&mut connection, Some(&names)).await?;
    refuse_what_cannot_follow(&attached)?;
    let pairs = matviews::follow(core, &mut aside, &attached.matviews, (live, written)).await?;
    for number in pairs.iter().flat_map(|pair| [pair.live.oid, pair.incoming]) {
        polite::send_vacuum_away(core, number).await?;
    }
    if !pairs.is_empty() {
        // Whoever refreshes one reads the new table, which has other rights since.
        let before = std::mem::replace(&mut attached, Attached::again(&mut connection, Some(&names)).await?);
        if attached.matviews != before.matviews {
            return Err(Error::new(
                ErrorKind::Retry,
                "a materialized view was changed or refreshed just now",
            ));
        }
    }
    let filling = Filling::of(core, &pairs).await?;
    if core.spec.changes_lasting() {
        let is_unlogged = core.spec.written(core.job.direction).definition.is_unlogged();
        if let Some(why) = lasting::hindrance(&mut aside, live, is_unlogged).await? {
            return Err(Error::new(ErrorKind::ForeignDdl, why).hint("then `replank resume`"));
        }
    }
    if core.captures_by_slot() {
        spool::check_pace(core, budget).await?;
    }
    let mut sequences = sequences_of(&mut aside, live).await?;
    sequences.extend(sequences_of(&mut aside, written).await?);
    let silence = (budget + Duration::from_secs(1)).as_millis();
    run(
        &mut connection,
        format!(
            "SELECT set_config('synchronous_commit', CASE reset_val WHEN 'off' THEN 'on' ELSE reset_val END, false)
             FROM pg_settings WHERE name = 'synchronous_commit';
             SET idle_in_transaction_session_timeout = {silence}; SET lock_timeout = {}",
            budget.as_millis().max(1)
        ),
    )
    .await?;
    run(&mut connection, "BEGIN").await?;
    let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", core.source_rows());
    let lock = match trees.live.is_empty() {
        true => lock,
        false => polite::within(polite::brief(&mut aside, budget).await?, &lock),
    };
    run(&mut connection, lock).await?;
    let mut guard = Guard {
        core: Arc::clone(core),
        connection,
        aside,
        live,
        written,
        trees,
        attached,
        pairs,
        filling,
        sequences,
        budget,
        // From here on every wait of others is ours.
        deadline: Instant::now() + budget,
        captures: false,
        is_over: false,
        is_working: false,
    };
    guard.check().await?;
    Ok(Box::new(guard))
}

impl Core {
    /// Of the table that comes in: the names that its indexes and constraints will have.
    fn incoming_names(&self) -> BTreeSet<String> {
        let definition = &self.spec.written(self.job.direction).definition;
        let indexes = definition.indexes.iter().map(|index| index.name.clone());
        let constraints = definition.lines.iter().filter_map(|line| line.strip_prefix("constraint "));
        let names = constraints.filter_map(first_name);
        indexes.chain(names).collect()
    }
}

/// The name at the beginning of a line, as the catalogue has it.
fn first_name(line: &str) -> Option<String> {
    let Some(quoted) = line.strip_prefix('"') else {
        return line.split(' ').next().map(ToOwned::to_owned);
    };
    let doubled = quoted.replace("\"\"", "\u{0}");
    doubled.split('"').next().map(|name| name.replace('\u{0}', "\""))
}

/// The sequences that columns of a table count by, and that go with it.
async fn sequences_of(connection: &mut Conn, table: i64) -> Result<Vec<i64>> {
    let sql = format!(
        "SELECT q.oid::bigint FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {table}
         AND d.deptype IN ('a', 'i')"
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

fn refuse_what_cannot_follow(attached: &Attached) -> Result<()> {
    if attached.cannot.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::ForeignDdl,
        format!("what came since the plan was made cannot follow the table: {}", attached.cannot.join("; ")),
    )
    .hint("take it away, then `replank resume`"))
}

/// Holds the lock.
struct Guard {
    core: Arc<Core>,
    /// The transaction that has the lock, and swaps.
    connection: Conn,
    /// For what has to be committed before.
    aside: Conn,
    live: i64,
    written: i64,
    trees: Trees,
    attached: Attached,
    /// Materialized views, each with the one that takes its name.
    pairs: Vec<Pair>,
    /// Some of them are to be filled first.
    filling: Option<Filling>,
    /// That the columns of both tables count by. No statement locks one by itself: it is looked who holds one.
    sequences: Vec<i64>,
    budget: Duration,
    /// Of the budget.
    deadline: Instant,
    /// A reverse capture is to be made.
    captures: bool,
    /// The lock was given back, by a commit or otherwise.
    is_over: bool,
    /// A statement is on its way: true after a caller dropped a call half-way.
    is_working: bool,
}

/// Notes in `is_working` that a statement is on its way, until its answer is in.
async fn noted<T>(is_working: &mut bool, call: impl Future<Output = T>) -> T {
    *is_working = true;
    let answer = call.await;
    *is_working = false;
    answer
}

impl Guard {
    /// What was looked at before the lock is still so.
    async fn check(&mut self) -> Result<()> {
        let Self { core, aside, .. } = self;
        core.check_token(aside).await?;
        if !lasting::is_standing(aside, core).await? {
            return Err(Error::new(
                ErrorKind::Retry,
                "the server has crashed, and every row is to be looked at again",
            ));
        }
        if number_of(aside, &core.written()).await? == Some(self.written) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Fenced, format!("`{}` is another table now", core.written_name())))
    }

    /// The rest of it, when nobody can come in between any more: the first lock is shorter by that. Asked by the session that
    /// has the lock: to tell what a view is, the server locks its tables.
    async fn check_again(&mut self) -> Result<()> {
        let Self { core, connection, .. } = self;
        core.check_definition(connection).await?;
        feed::check_capture(connection, core).await?;
        let names = core.incoming_names();
        // The stamps of materialized views among it: those that were refreshed just now.
        let now = Attached::again(connection, Some(&names)).await?;
        let trees = Trees::read(connection, self.live, self.written).await?;
        if now == self.attached && trees == self.trees {
            return matviews::refuse_what_others_filled(connection, &self.pairs).await;
        }
        Err(Error::new(ErrorKind::Retry, "something that hangs on the table came or went just now"))
    }

    /// How it ended, and whether the server said so.
    async fn swap(&mut self) -> (SwapOutcome, bool) {
        let exchanged = timeout(longest_exchange(self.budget, self.hold()), self.exchange())
            .await
            .unwrap_or_else(|_elapsed| Err(silent()));
        if let Err(error) = exchanged {
            let is_lost = error.kind() == ErrorKind::ConnectionLost;
            // The transaction is not committed, and the release sees to it that it never is.
            let told = match is_lost {
                true => Error::new(ErrorKind::Retry, error.message().to_owned()).caused_by(error),
                false => error,
            };
            return (SwapOutcome::NotDone(told), !is_lost);
        }
        let committed = timeout(SWAP_WAIT, run(&mut self.connection, "COMMIT")).await;
        match committed.unwrap_or_else(|_elapsed| Err(silent())) {
            Ok(_) => {
                self.is_over = true;
                (SwapOutcome::Done, true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionLost => (SwapOutcome::Unknown(error), false),
            Err(error) => (SwapOutcome::NotDone(error), true),
        }
    }

    /// Everything but the commit.
    async fn exchange(&mut self) -> Result<()> {
        if let Some(filling) = &mut self.filling {
            return Err(filling.begin().await?);
        }
        snapshots::wait_for_older(&mut self.aside, self.connection.pid(), self.deadline).await?;
        let core = Arc::clone(&self.core);
        let number = match first(&mut self.connection, "SELECT pg_current_xact_id()::text").await? {
            Some(row) => get::<String>(&row, 0)?,
            None => return Err(Error::new(ErrorKind::Internal, "the transaction has no number")),
        };
        let (aside, attached) = (&mut self.aside, &self.attached);
        let tables = (self.live, self.written, &self.trees);
        let all =
            swap::statements(&core, aside, (attached, &self.pairs), tables, &number, self.captures).await?;
        self.lock_out_all().await?;
        // Readers wait from here on, and for as long again at most.
        let hold = self.hold();
        let began = Instant::now();
        match self.rename(&all, began + hold).await {
            Err(error) if error.kind() == ErrorKind::LockTimeout && began.elapsed() >= hold => {
                Err(self.too_long().caused_by(error))
            }
            done => {
                tracing::debug!(held = ?began.elapsed(), statements = all.len(), "the swap, but for its commit");
                done
            }
        }
    }

    /// What is done with the second lock, until this time at most.
    async fn rename(&mut self, all: &[String], until: Instant) -> Result<()> {
        let wait = self.deadline.saturating_duration_since(Instant::now()).max(LEAST);
        let hold = until.saturating_duration_since(Instant::now());
        let limits = format!(
            "SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}",
            wait.as_millis(),
            hold.as_millis().max(1)
        );
        run(&mut self.connection, limits).await?;
        self.check_again().await?;
        // A COMMIT that waits for a standby would be called done by the time limit.
        let end = "SET LOCAL statement_timeout = 0".to_owned();
        let whole: Vec<&str> = all.iter().chain([&end]).map(String::as_str).collect();
        for some in whole.chunks(AT_ONCE) {
            self.within(until)?;
            run(&mut self.connection, some.join(";\n")).await?;
        }
        self.within(until)
    }

    fn within(&self, until: Instant) -> Result<()> {
        if Instant::now() > until { Err(self.too_long()) } else { Ok(()) }
    }

    /// How long the second lock may be held.
    fn hold(&self) -> Duration {
        match self.trees.numbers().next() {
            Some(_) => self.budget,
            None => self.budget.max(PLAIN_HOLD),
        }
    }

    /// Nobody would have got in for longer than was said.
    fn too_long(&self) -> Error {
        let hold = self.hold();
        let mut what = "the exchange of the names took longer than ".to_owned();
        what.push_str(&match hold == self.budget {
            true => format!("the lock budget of {} ms, and was taken back", hold.as_millis()),
            false => format!("{} ms, and was taken back", hold.as_millis()),
        });
        let partitions = self.trees.numbers().count();
        if partitions > 0 {
            what.push_str(&format!("; {partitions} partitions, and their indexes, get names in it"));
        }
        Error::new(ErrorKind::LockTimeout, what).with(HELD_FOR, format!("{} ms", hold.as_millis()))
    }

    /// Never queues for the second lock: who has read the table and comes to write it waits for the first one, and the server
    /// would find the two of us waiting for each other, and end either.
    async fn lock_out_all(&mut self) -> Result<()> {
        let begin = "SAVEPOINT rp_lock; SET LOCAL lock_timeout = 1";
        let nowait = format!("{begin}; {}", self.everything_locked(" NOWAIT").await?);
        // Before PostgreSQL 17 NOWAIT gives up where anybody waits, even for us; a request that may wait goes before those.
        let at_once = format!("{begin}; {}", self.everything_locked("").await?);
        loop {
            if self.nobody_counts().await?
                && (self.locked_by(&nowait).await?
                    || self.nobody_holds_it().await? && self.locked_by(&at_once).await?)
            {
                return Ok(());
            }
            if Instant::now() + LEAST >= self.deadline {
                let what = "readers, or who has a number of its sequence, held the table until the lock budget ran out";
                return Err(Error::new(ErrorKind::LockTimeout, what));
            }
            self.give_way().await?;
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn locked_by(&mut self, request: &str) -> Result<bool> {
        match run(&mut self.connection, request).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::LockTimeout | ErrorKind::Retry) => {
                run(&mut self.connection, "ROLLBACK TO SAVEPOINT rp_lock").await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The tables that are to be locked, as a list of numbers; those of partitions are locked with what they are a part of.
    fn tables(&self, parts: impl Iterator<Item = i64>) -> String {
        let all = self.attached.related.iter().copied().chain([self.live, self.written]).chain(parts);
        let all = all.chain(self.pairs.iter().map(|pair| pair.incoming));
        all.map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
    }

    async fn nobody_holds_it(&mut self) -> Result<bool> {
        let tables = self.tables(self.trees.numbers());
        self.nobody_holds(&tables).await
    }

    /// Whoever has asked a sequence for a number has it until its transaction ends, and the swap needs it, too.
    async fn nobody_counts(&mut self) -> Result<bool> {
        if self.sequences.is_empty() {
            return Ok(true);
        }
        let sequences = self.sequences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.nobody_holds(&sequences).await
    }

    async fn nobody_holds(&mut self, relations: &str) -> Result<bool> {
        let sql = format!(
            "SELECT NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.granted AND l.relation IN ({relations})
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> {})",
            self.connection.pid()
        );
        is_so(&mut self.aside, sql).await
    }

    /// Fails when somebody holds a lock that we need and waits for another one: for ours, or for somebody who waits for ours.
    /// That never ends by itself.
    async fn give_way(&mut self) -> Result<()> {
        let sql = format!(
            "SELECT l.pid::text FROM pg_locks l JOIN pg_locks w ON w.pid = l.pid AND NOT w.granted
             WHERE l.locktype = 'relation' AND l.granted AND l.relation IN ({})
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND l.pid <> {} LIMIT 1",
            self.tables(self.trees.numbers().chain(self.sequences.iter().copied())),
            self.connection.pid()
        );
        match first(&mut self.aside, sql).await? {
            None => Ok(()),
            Some(row) => {
                let pid: String = get(&row, 0)?;
                let what =
                    format!("session {pid} has read the table in its transaction, and waits to write it");
                Err(Error::new(ErrorKind::LockTimeout, what).with(GAVE_WAY, pid))
            }
        }
    }

    /// Views first: whoever reads through one has it before the table, and so has who refreshes one. `LOCK TABLE` would lock
    /// what else a view reads, and takes no materialized one.
    async fn everything_locked(&mut self, how: &str) -> Result<String> {
        let sql = format!(
            "SELECT string_agg(CASE c.relkind
                    WHEN 'v' THEN format('ALTER VIEW %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(c.relowner))
                    WHEN 'm' THEN format('ALTER MATERIALIZED VIEW %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(c.relowner))
                    ELSE format('LOCK TABLE %s%I.%I IN ACCESS EXCLUSIVE MODE{how}', CASE WHEN c.relkind <> 'p' THEN 'ONLY ' END,
                                n.nspname, c.relname) END,
                    '; ' ORDER BY c.relkind NOT IN ('v', 'm'), c.oid)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({})",
            self.tables(std::iter::empty())
        );
        match first(&mut self.aside, sql).await? {
            Some(row) => get(&row, 0),
            None => Err(Error::new(ErrorKind::Internal, "there is nothing to lock")),
        }
    }

    /// Ends the session that has the lock, whatever it is at.
    async fn end(&mut self) -> Result<()> {
        let pid = self.connection.pid();
        let ended = async {
            let mut connection = self.core.server.connect().await?;
            run(&mut connection, format!("SELECT pg_terminate_backend({pid})")).await?;
            let there = format!("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})");
            while is_so(&mut connection, there.clone()).await? {
                sleep(Duration::from_millis(1)).await;
            }
            self.core.server.keep(connection);
            Ok(())
        };
        timeout(END_WAIT, ended).await.unwrap_or_else(|_elapsed| Err(silent()))
    }
}

/// Both locks and what is done under them, and then as long as a disk may be bad.
fn longest_exchange(budget: Duration, hold: Duration) -> Duration {
    budget + hold + SWAP_WAIT
}

fn silent() -> Error {
    Error::new(ErrorKind::ConnectionLost, "the session that has the lock does not answer")
}

#[async_trait]
impl SwapGuard for Guard {
    async fn head(&mut self) -> Result<Position> {
        let Self { core, aside, is_working, .. } = self;
        noted(is_working, async {
            if core.captures_by_slot() {
                spool::drain(core, spool::After::Nothing).await?;
            }
            feed::head(aside).await
        })
        .await
    }

    async fn apply(&mut self, changes: &[Change]) -> Result<Applied> {
        noted(&mut self.is_working, apply::apply(&mut self.aside, &self.core, changes)).await
    }

    async fn compare_keys(&mut self, keys: &[Key]) -> Result<Compared> {
        noted(&mut self.is_working, compare::keys(&mut self.aside, &self.core, keys)).await
    }

    async fn install_reverse(&mut self) -> Result<Position> {
        // Made by the swap, in its own transaction: a snapshot from before has seen nothing of it.
        self.captures = true;
        noted(&mut self.is_working, feed::head(&mut self.aside)).await
    }

    async fn save(&mut self, run: &Run, expected: Revision) -> Result<Revision> {
        let Self { core, connection, is_working, .. } = self;
        noted(is_working, save_run(connection, &core.names, run, expected, core.fence())).await
    }

    async fn commit(&mut self) -> SwapOutcome {
        self.is_working = true;
        let (outcome, is_heard) = self.swap().await;
        self.is_working = !is_heard;
        outcome
    }

    async fn release(mut self: Box<Self>) -> Result<()> {
        if self.is_over {
            // Whoever comes next does it where this is in vain.
            if let Err(error) = swap::settle(&self.core, &mut self.aside).await {
                tracing::warn!(%error, "what is left to do after the swap is done by the next command");
                return Ok(());
            }
            let Self { core, aside, .. } = *self;
            core.server.keep(aside);
            return Ok(());
        }
        if self.is_working {
            // A rollback would wait for the end of whatever was dropped half-way; and what that session sent on the side
            // must not be done later.
            return self.end().await;
        }
        match timeout(END_WAIT, run(&mut self.connection, "ROLLBACK")).await {
            Err(_elapsed) => self.end().await,
            // A session that is gone holds nothing.
            Ok(Err(error)) if error.kind() != ErrorKind::ConnectionLost => Err(error),
            Ok(_) => {
                let Self { core, aside, filling, .. } = *self;
                core.server.keep(aside);
                readiness::leave(&core, filling).await;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_lost_only_after_all_that_it_may_take() {
        for budget in [1, 200, 5_000, 60_000].map(Duration::from_millis) {
            for hold in [budget, budget.max(PLAIN_HOLD)] {
                assert!(
                    longest_exchange(budget, hold) >= budget + hold + Duration::from_secs(5),
                    "{budget:?}"
                );
            }
        }
    }
}
