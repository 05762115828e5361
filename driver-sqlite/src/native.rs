//! Steps that SQLite does itself: one transaction each, so there is nothing half done to be found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use replank_core::driver::{NativeDdl, Probe};
use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use crate::connect::{Database, begin_within};
use crate::definition::Follow;
use crate::emptying::{FIRST, delete_some, rest};
use crate::error::{from_sqlx, leaves_commit_unknown};
use crate::inspect::{Table, get};
use crate::parse::{Clause, IndexText, Statement, TableText, parse};
use crate::sql::{ident, query, run};
use crate::state::Names;

/// Runs and probes steps.
pub struct Native {
    database: Arc<Database>,
    names: Names,
}

impl Native {
    /// For a database.
    pub fn new(database: Arc<Database>) -> Self {
        let names = Names::new(&database.settings().state_name);
        Self { database, names }
    }

    /// A rename out of the way, or back: no other object follows, and the table that is out of the way has
    /// no foreign keys (R10).
    async fn move_aside(&self, step: &Step, aside: &Aside, budget: Duration) -> Result<()> {
        let mut connection = self.database.lock_connection(budget).await?;
        begin_within(&mut connection, budget).await?;
        // As for the swap of a rebuild: SQLite documents this way for changes of foreign keys.
        if is_there(&mut connection, &aside.table).await? {
            let without = TableText::parse(&aside.sql)?.render_aside(&aside.table);
            rewrite(&mut connection, &aside.table, without).await?;
            run(&mut connection, step.statement.clone()).await?;
        } else {
            run(&mut connection, step.statement.clone()).await?;
            rewrite(&mut connection, &aside.table, aside.sql.clone()).await?;
        }
        commit(connection).await
    }

    /// The last step of a DROP TABLE: its rows go bit by bit, and none of its triggers fires for them.
    async fn drop_aside(&self, step: &Step, aside: &Aside, budget: Duration) -> Result<()> {
        let mut rows = FIRST;
        loop {
            let mut connection = self.database.lock_connection(budget).await?;
            begin_within(&mut connection, budget).await?;
            let triggers = query("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?")
                .bind(aside.name.clone())
                .fetch_all(&mut connection)
                .await
                .map_err(from_sqlx)?;
            for row in &triggers {
                run(&mut connection, format!("DROP TRIGGER {}", ident(&get::<String>(row, 0)?))).await?;
            }
            let begun = Instant::now();
            let deleted = delete_some(&mut connection, &aside.name, rows).await?;
            let is_last = deleted < rows;
            if is_last {
                run(&mut connection, step.statement.clone()).await?;
            }
            commit(connection).await?;
            if is_last {
                return Ok(());
            }
            rows = rest(rows, begun.elapsed()).await;
        }
    }
}

/// A table that is kept out of the way.
#[derive(Debug, Deserialize)]
struct Aside {
    /// Its name in the application.
    table: String,
    /// Its name out of the way.
    name: String,
    /// Its statement in the application.
    sql: String,
}

impl Aside {
    fn of(step: &Step) -> Result<Option<Self>> {
        let Some(aside) = step.spec.get("aside") else { return Ok(None) };
        Self::deserialize(aside).map(Some).map_err(|error| {
            Error::new(ErrorKind::Internal, "a step's notes cannot be read").caused_by(error)
        })
    }
}

#[async_trait]
impl NativeDdl for Native {
    async fn run(&self, step: &Step, lock_budget: Duration) -> Result<()> {
        let statement = parse(&step.statement)?;
        if let Some(aside) = Aside::of(step)? {
            return match statement {
                Statement::DropTable { .. } => self.drop_aside(step, &aside, lock_budget).await,
                _ => self.move_aside(step, &aside, lock_budget).await,
            };
        }
        let mut connection = self.database.statement_connection(lock_budget).await?;
        begin_within(&mut connection, lock_budget).await?;
        let table = table_of(&mut connection, &statement).await?;
        let follow = match &table {
            Some(table) => Some(Follow::begin(&mut connection, &self.names, table).await?),
            None => None,
        };
        run(&mut connection, step.statement.clone()).await?;
        if let Some(follow) = follow {
            follow.end(&mut connection, &self.names).await?;
        }
        commit(connection).await
    }

    async fn cancel(&self, _step: &Step) -> Result<()> {
        // A statement runs within a process: with the process, or the call, it is over.
        Ok(())
    }

    async fn probe(&self, step: &Step) -> Result<Probe> {
        let statement = parse(&step.statement)?;
        let mut tx = self.database.read().await?;
        let done = is_done(tx.connection(), &statement).await?;
        tx.end().await?;
        Ok(if done { Probe::Done } else { Probe::Absent })
    }
}

async fn commit(mut connection: SqliteConnection) -> Result<()> {
    match query("COMMIT").execute(&mut connection).await {
        Ok(_) => connection.close().await.map_err(from_sqlx),
        Err(error) if leaves_commit_unknown(&error) => {
            Err(Error::new(ErrorKind::ConnectionLost, "it is unknown whether a COMMIT was done")
                .caused_by(error))
        }
        Err(error) => Err(from_sqlx(error)),
    }
}

/// The table whose definition a statement changes and keeps the name of.
async fn table_of(connection: &mut SqliteConnection, statement: &Statement) -> Result<Option<String>> {
    Ok(match statement {
        Statement::AlterTable { clauses, .. } if matches!(clauses[..], [Clause::RenameTo(_)]) => None,
        Statement::AlterTable { table, .. } => Some(table.clone()),
        Statement::CreateIndex(index) => Some(index.table.clone()),
        Statement::DropIndex { name, .. } => {
            let found =
                query("SELECT tbl_name FROM sqlite_schema WHERE type = 'index' AND name = ? COLLATE NOCASE")
                    .bind(name.clone())
                    .fetch_optional(connection)
                    .await
                    .map_err(from_sqlx)?;
            found.map(|row| get(&row, 0)).transpose()?
        }
        Statement::DropTable { .. } => None,
    })
}

/// Whether the catalogue is as it is after the statement.
async fn is_done(connection: &mut SqliteConnection, statement: &Statement) -> Result<bool> {
    match statement {
        Statement::AlterTable { table, clauses } => match &clauses[..] {
            // The old name may be in use again by then.
            [Clause::RenameTo(to)] => is_there(connection, to).await,
            [Clause::RenameColumn { from, to }] => {
                let found = needed(connection, table).await?;
                Ok(found.column(to).is_some()
                    && (found.column(from).is_none() || from.eq_ignore_ascii_case(to)))
            }
            [Clause::AddColumn(column)] => {
                Ok(needed(connection, table).await?.column(&column.name).is_some())
            }
            [Clause::DropColumn(column)] => Ok(needed(connection, table).await?.column(column).is_none()),
            _ => Err(Error::new(ErrorKind::Internal, "a step that SQLite has no statement for")),
        },
        Statement::CreateIndex(index) => {
            let found =
                query("SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ? COLLATE NOCASE")
                    .bind(index.name.clone())
                    .fetch_optional(connection)
                    .await
                    .map_err(from_sqlx)?;
            let Some(row) = found else { return Ok(false) };
            let present = IndexText::parse(&get::<String>(&row, 0)?)?;
            let same = present.body == index.body
                && present.unique == index.unique
                && present.table.eq_ignore_ascii_case(&index.table);
            if same {
                return Ok(true);
            }
            Err(Error::new(ErrorKind::ForeignDdl, format!("somebody made another index `{}`", index.name))
                .hint("drop it, or give this one another name"))
        }
        Statement::DropIndex { name, .. } => {
            let found = query("SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ? COLLATE NOCASE")
                .bind(name.clone())
                .fetch_optional(connection)
                .await
                .map_err(from_sqlx)?;
            Ok(found.is_none())
        }
        Statement::DropTable { name, .. } => Ok(!is_there(connection, name).await?),
    }
}

/// Replaces a table's statement by one that stores rows in the same way.
async fn rewrite(connection: &mut SqliteConnection, table: &str, sql: String) -> Result<()> {
    run(connection, "PRAGMA writable_schema = ON").await?;
    query("UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = ?")
        .bind(sql)
        .bind(table.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(from_sqlx)?;
    run(connection, "PRAGMA writable_schema = RESET").await?;
    needed(connection, table).await.map(|_| ())
}

async fn needed(connection: &mut SqliteConnection, table: &str) -> Result<Table> {
    Table::read(connection, table)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no table `{table}` any more")))
}

async fn is_there(connection: &mut SqliteConnection, table: &str) -> Result<bool> {
    let found = query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE")
        .bind(table.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(from_sqlx)?;
    Ok(found.is_some())
}
