//! What a driver's tests provide for the cases.

use std::sync::Arc;

use async_trait::async_trait;

use crate::driver::{RebuildJob, Request, Session};
use crate::ident::{Role, TableId, helper_name};
use crate::run::Direction;

/// A server with one empty table, and an application's way to it.
///
/// Keys are short lower-case words and values whole numbers below a million, both as text here: the table
/// may hold them in any type. The table has no other columns that a write must fill, and the change that is
/// asked for converts every such value without loss, there and back.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A new session, on a connection of its own.
    async fn session(&self) -> Arc<dyn Session>;

    /// The table.
    fn table(&self) -> TableId;

    /// The change: it must need a rebuild and be able to go back.
    fn change(&self) -> Request;

    /// Does all this in one transaction of an application, on any table by name: the live one in either
    /// shape, or a helper table, to damage it.
    async fn write(&self, table: &TableId, writes: &[Write]);

    /// The rows of any table by name, in either shape, as `(key, value)`, sorted as text.
    async fn rows(&self, table: &TableId) -> Vec<(String, String)>;

    /// Opens a transaction of an application that has written to the live table and does not end.
    async fn hold(&self) -> Box<dyn Hold>;

    /// Commits something that is not the table's, where others can while the swap's lock is held.
    async fn commit_elsewhere(&self) {}

    /// The name of the table that a rebuild writes.
    fn written(&self, job: &RebuildJob) -> TableId {
        let role = match job.direction {
            Direction::Forward => Role::Shadow,
            Direction::Reverse => Role::Retired,
        };
        TableId { schema: job.table.schema.clone(), name: helper_name(&job.run, job.fence, role) }
    }
}

/// A transaction that stays open.
#[async_trait]
pub trait Hold: Send {
    /// Ends it.
    async fn release(self: Box<Self>);
}

/// One statement of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Inserts a row that is not there.
    Insert(&'static str, &'static str),
    /// Gives a row that is there another value.
    Update(&'static str, &'static str),
    /// Deletes a row that is there.
    Delete(&'static str),
    /// Gives a row that is there a key that is free.
    Rekey(&'static str, &'static str),
}
