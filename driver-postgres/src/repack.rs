//! The server's own repack beside those who write, from PostgreSQL 19 on: `REPACK (CONCURRENTLY)`.
//!
//! The server copies the table, builds its indexes, applies what was written since, then asks for ACCESS EXCLUSIVE,
//! applies the rest under it and exchanges the files. It bounds neither the wait for that lock nor the time that it holds
//! it, and does not look whether somebody has a snapshot from before: who has one finds an empty table afterwards. So a
//! second session of ours is its gate. It holds the table as a reader does, lets go when the lock is asked for and nobody has
//! an old snapshot, and ends the repack where it would do harm. What was measured: decision 21.

use std::time::Duration;

use replank_core::error::Retry;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use crate::connect::{Conn, Server};
use crate::rebuild::older_snapshots;
use crate::sql::{first, get, is_so, run, text};

/// From here on it is there.
pub const SINCE: u32 = 190_000;
/// A look costs less than a millisecond. Writers wait for one more of them, at the end.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// The server asks so often whether the runner is still there, which costs it a call of the system. Chosen.
const ORPHANED_WITHIN: &str = "20ms";

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// It makes its slot, for which every transaction that has written must end; or it is over.
    Start,
    /// It copies, builds, or applies beside those who write.
    Beside,
    /// It waits for the exclusive lock, or has it.
    Exclusive,
}

/// A table, by number and as statements name it.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    pub oid: i64,
    pub name: &'a str,
}

/// Runs `statement`, which repacks `table`, with these settings.
///
/// # Errors
/// [`ErrorKind::ForeignDdl`] when another table has the name. [`ErrorKind::LockTimeout`] as long as nothing was copied; then [`ErrorKind::Gate`], since another try copies everything
/// anew. Either way the table is as it was, and nothing is left.
pub async fn run_beside(
    server: &Server,
    table: Named<'_>,
    settings: &str,
    statement: String,
    budget: Duration,
) -> Result<()> {
    let mut connection = server.connect().await?;
    let mut gate = Gate::close(server, connection.pid(), table, budget).await?;
    // Of the slot's wait for each transaction that has written, too.
    let wait = budget.as_millis().max(1);
    // Nobody is at the gate when the runner is gone: the server ends what it was at. The gate's session, which waits for a
    // message, ends at once.
    run(
        &mut connection,
        format!("SET lock_timeout = {wait}; SET client_connection_check_interval = '{ORPHANED_WITHIN}'; {settings}"),
    )
    .await?;
    let repacking = run(&mut connection, statement);
    tokio::pin!(repacking);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut repacking => break done,
            () = sleep(LOOK_PAUSE) => {}
        }
        gate.look().await?;
    };
    done.map(drop).map_err(|error| told(error, gate.has_copied, gate.ended))
}

/// What the repack must pass before it exchanges the files.
struct Gate {
    /// Within a transaction that reads the table, until it is open.
    connection: Conn,
    repacker: i32,
    table: i64,
    budget: Duration,
    has_copied: bool,
    opened: Option<Instant>,
    /// Why the repack was ended.
    ended: Option<String>,
}

impl Gate {
    async fn close(server: &Server, repacker: i32, table: Named<'_>, budget: Duration) -> Result<Self> {
        let mut connection = server.connect().await?;
        if !is_so(&mut connection, format!("SELECT to_regclass({}) = {}", text(table.name), table.oid))
            .await?
        {
            let what = format!("the table {} is another one than the plan was made for, or gone", table.name);
            return Err(Error::new(ErrorKind::ForeignDdl, what));
        }
        if let Some(old) = writer(&mut connection, budget).await? {
            let what = format!("{old} has written, and its end must be waited for");
            return Err(Error::new(ErrorKind::LockTimeout, what));
        }
        if let Some(old) = older_snapshots(&mut connection, repacker, budget).await?.first() {
            return Err(Error::new(ErrorKind::LockTimeout, empty_for(&old.id, &old.about)));
        }
        let wait = budget.as_millis().max(1);
        // While the runner is frozen it stays, and the repack gives way to it: nobody would look at snapshots then.
        run(
            &mut connection,
            format!("SET lock_timeout = {wait}; SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE {} IN ACCESS SHARE MODE", table.name),
        )
        .await?;
        Ok(Self {
            connection,
            repacker,
            table: table.oid,
            budget,
            has_copied: false,
            opened: None,
            ended: None,
        })
    }

    /// Opens for a repack that may go on, and ends one that may not.
    async fn look(&mut self) -> Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        let at = self.at().await?;
        self.has_copied |= at != At::Start;
        if at != At::Exclusive {
            return Ok(());
        }
        match self.opened {
            None => {
                let old = older_snapshots(&mut self.connection, self.repacker, self.budget).await?;
                if let Some(old) = old.first() {
                    self.end(empty_for(&old.id, &old.about)).await?;
                }
                self.opened = Some(Instant::now());
                run(&mut self.connection, "COMMIT").await?;
            }
            // The wait and what is done under it, together, as of every step.
            Some(opened) if opened.elapsed() > self.budget * 2 => {
                self.end("it kept writers waiting for longer than the lock budget".to_owned()).await?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn end(&mut self, why: String) -> Result<()> {
        self.ended = Some(why);
        run(&mut self.connection, format!("SELECT pg_cancel_backend({})", self.repacker)).await.map(drop)
    }

    async fn at(&mut self) -> Result<At> {
        // Within a transaction the server would show what it showed before.
        run(&mut self.connection, "SELECT pg_stat_clear_snapshot()").await?;
        let sql = format!(
            "SELECT p.phase <> 'initializing',
                    EXISTS (SELECT FROM pg_locks l WHERE l.pid = p.pid AND l.locktype = 'relation' AND l.relation = {}
                            AND l.mode = 'AccessExclusiveLock'
                            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
             FROM pg_stat_progress_repack p WHERE p.pid = {}",
            self.table, self.repacker
        );
        Ok(match first(&mut self.connection, sql).await? {
            Some(row) if get(&row, 1)? => At::Exclusive,
            Some(row) if get(&row, 0)? => At::Beside,
            _ => At::Start,
        })
    }
}

fn empty_for(session: &str, about: &str) -> String {
    format!("session {session} would find the table empty: {about}")
}

/// What was copied is gone, and would be copied once more: that is not tried unasked.
fn told(error: Error, has_copied: bool, ended: Option<String>) -> Error {
    if !has_copied || error.kind().retry() == Retry::Never || error.kind() == ErrorKind::ConnectionLost {
        return error;
    }
    let why = ended.unwrap_or_else(|| "it did not get its exclusive lock at the end".to_owned());
    Error::new(ErrorKind::Gate, format!("the server's repack was ended, and the table is as it was: {why}"))
        .hint("resume it when less is going on; without `-D strategy=native-online` what was copied is never lost so")
        .caused_by(error)
}

/// A transaction of whatever database that has written and is older than the budget.
async fn writer(connection: &mut Conn, budget: Duration) -> Result<Option<String>> {
    let sql = format!(
        "SELECT 'session ' || a.pid || ', ' || coalesce(a.usename::text, '?') || ', ' || coalesce(a.state, '?') || ', for '
                || coalesce(floor(extract(epoch FROM clock_timestamp() - a.xact_start))::text, '?') || ' s: '
                || coalesce(left(a.query, 80), '?')
         FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()
         AND clock_timestamp() - a.xact_start > interval '{} milliseconds'
         UNION ALL
         SELECT 'the prepared transaction ' || gid FROM pg_prepared_xacts LIMIT 1",
        budget.as_millis()
    );
    first(connection, sql).await?.map(|row| get(&row, 0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_is_not_copied_again_unasked() {
        let waited =
            || Error::new(ErrorKind::LockTimeout, "postgres: canceling statement due to lock timeout");
        assert_eq!(told(waited(), false, None).kind(), ErrorKind::LockTimeout);
        assert_eq!(told(waited(), true, None).kind(), ErrorKind::Gate);
        let lost = Error::new(ErrorKind::ConnectionLost, "the server went away");
        assert_eq!(told(lost, true, None).kind(), ErrorKind::ConnectionLost);
        let full = Error::new(ErrorKind::DiskFull, "no room");
        assert_eq!(told(full, true, None).kind(), ErrorKind::DiskFull);
    }
}
