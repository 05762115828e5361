//! The log of committed transactions. It runs ahead of what a new read sees.

use std::sync::Arc;

use tokio::time::Instant;

use super::catalogue::{Identity, State};
use super::row::{Place, Row, Shape};
use super::server::TABLE;
use super::transaction::{Op, Touched, perform};
use crate::ident::RunId;
use crate::run::Direction;
use crate::value::Position;
use crate::{Error, ErrorKind, Result};

/// A transaction in the log.
#[derive(Debug, Clone)]
pub(super) struct Committed {
    pub number: u64,
    pub table: Identity,
    /// The name under which the application wrote.
    pub name: String,
    /// What it did, without what was skipped.
    pub done: Vec<Op>,
    pub touched: Vec<Touched>,
    /// The places that it changes once it becomes visible.
    pub images: Vec<(Place, Option<Arc<Row>>)>,
    pub at: Instant,
    /// A new read sees it.
    pub is_visible: bool,
}

/// What a feed needs on the server. Log entries before `start` are not in it.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    pub run: RunId,
    pub direction: Direction,
    pub source: Identity,
    /// The source's definition when it was made.
    pub definition: u64,
    pub start: usize,
    /// Entries before this one are gone.
    pub forgotten: usize,
}

/// "Everything before entry `index` was handed out." Not padded: text order is not log order.
pub(super) fn position(index: usize) -> Position {
    Position(format!("log:{index}"))
}

pub(super) fn index(position: &Position) -> Result<usize> {
    let bad = || Error::new(ErrorKind::Internal, format!("`{position}` is no position of this server"));
    position.0.strip_prefix("log:").and_then(|digits| digits.parse().ok()).ok_or_else(bad)
}

impl State {
    /// The oldest entry that a new read may not see yet, or the end of the log.
    pub fn settled(&self) -> usize {
        self.log.iter().position(|entry| !entry.is_visible).unwrap_or(self.log.len())
    }

    /// Makes an entry visible, and with it everything that it changed.
    pub fn show(&mut self, index: usize) {
        let entry = &mut self.log[index];
        if std::mem::replace(&mut entry.is_visible, true) {
            return;
        }
        let (table, images) = (entry.table, entry.images.clone());
        if entry.name == TABLE {
            perform(&entry.done, &mut self.truth, Shape::Old, false);
        }
        let rows = Arc::make_mut(&mut self.table_mut(table).rows);
        for (place, row) in images {
            match row {
                Some(row) => rows.insert(place, row),
                None => rows.remove(&place),
            };
        }
    }
}
