//! The driver contract: what a database must be able to do so that the engine can change it online.
//!
//! Core never sees SQL, row values or server codes. An ability is a part that a session hands out or
//! does not, so that a capability flag cannot contradict the code. Every sentence on these traits that
//! a caller relies on has a conformance case in [`crate::testkit::conformance`].
//!
//! All calls may be dropped half-way (a crash does the same): a driver leaves the server either as
//! before or as after the call, or says [`ErrorKind::ConnectionLost`](crate::ErrorKind::ConnectionLost)
//! where it cannot know.

pub mod cut_over;
pub mod facts;
pub mod feed;
pub mod native;
pub mod rebuild;
pub mod registry;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::ident::TableId;
use crate::lint::Rule;
use crate::plan::Draft;
use crate::throttle::{Limits, Reading};
use crate::{Error, ErrorKind, Result};
pub use cut_over::{CutOver, GAVE_WAY, HELD_FOR, Owner, SwapGuard, SwapOutcome};
pub use facts::{Check, Holder, ServerFacts};
pub use feed::{ChangeFeed, FeedBatch};
pub use native::{ByRanges, NativeDdl, Probe, Written};
pub use rebuild::{Applied, Compared, Copied, Effort, IndexBuild, Pace, Rebuild, RebuildJob, Rebuilder};
pub use registry::Registry;
pub use state::{Command, CommandState, EventRecord, Lease, LeaseHolder, Revision, StateStore};

/// A kind of database.
#[async_trait]
pub trait Driver: Send + Sync {
    /// The name in output, such as `sqlite`.
    fn name(&self) -> &'static str;

    /// URL schemes that mean this driver, without the colon. The first is the preferred one.
    fn schemes(&self) -> &'static [&'static str];

    /// One line for `replank drivers`: what this driver can do.
    fn summary(&self) -> &'static str;

    /// Rules that only this driver's facts can judge, besides those of core.
    fn rules(&self) -> Vec<&'static dyn Rule>;

    /// A runner of this driver's that dies in its swap may leave writes refused, and connecting lets them in again once the time of
    /// that is over: the command line keeps a process beside each runner, which then connects.
    fn mends_on_connect(&self) -> bool {
        false
    }

    /// Connects and answers with a session on which every abort of a query is survivable.
    ///
    /// Connecting twice gives two independent sessions. Nothing on the server is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a URL that cannot be meant,
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for a database that is not there.
    async fn connect(&self, url: &str, settings: &Settings) -> Result<Arc<dyn Session>>;
}

/// What a connection needs to know besides its URL.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where replank keeps its records: a schema or database, or the table prefix in SQLite.
    pub state_name: String,
    /// How long a statement of ours may wait for a lock that is not the swap's.
    pub busy_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { state_name: "_replank".to_owned(), busy_timeout: Duration::from_secs(5) }
    }
}

/// A connected database.
#[async_trait]
pub trait Session: Send + Sync {
    /// What the server is and how it is set up.
    async fn server(&self) -> Result<ServerFacts>;

    /// What `doctor` looks at: connection, privileges, settings, each with the statement that mends it.
    async fn checks(&self) -> Result<Vec<Check>>;

    /// Reads one statement and everything on the server that decides how it can run. Changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when the text is not exactly one statement that
    /// this driver understands; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when its table is
    /// not there; [`ErrorKind::Refused`](crate::ErrorKind::Refused) when the object is of a kind that
    /// cannot be changed (a view, a system table).
    async fn draft(&self, request: &Request) -> Result<Draft>;

    /// How many rows a table has, each of them counted, however long that takes; a draft may estimate. Dropped
    /// half-way, the server may go on counting for a while.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when it is not there.
    async fn count(&self, table: &TableId) -> Result<u64>;

    /// Load signals that the throttle may look at, those that `limits` ask for among them. A signal that the server
    /// does not offer is left out; one that it offers and that cannot be read now comes without a value, and counts as
    /// bad. Asked every second, and the run waits for the answer: what takes longer is looked at on the side.
    async fn load(&self, limits: &Limits) -> Result<Vec<Reading>>;

    /// Steps that the server does itself.
    fn native(&self) -> Option<&dyn NativeDdl>;

    /// The shadow rebuild.
    fn rebuilder(&self) -> Option<&dyn Rebuilder>;

    /// Where runs are kept. Nothing is created before [`StateStore::ensure`].
    fn state(&self) -> &dyn StateStore;
}

/// What a person asked for.
#[derive(Debug, Clone)]
pub enum Request {
    /// A statement in the database's own language.
    Statement {
        /// The text.
        text: String,
        /// Expressions for values that the server cannot convert by itself: column → expression.
        forward: Vec<(String, String)>,
        /// The same for the way back.
        reverse: Vec<(String, String)>,
        /// How a rebuild shall learn of what is written meanwhile: a word of the driver's own.
        capture: Option<String>,
    },
    /// A rebuild without a statement: a repack, or a new shape.
    Rebuild {
        /// The table.
        table: String,
        /// The new shape: what makes such a table, in the database's own language.
        shape: Option<String>,
        /// What is made of each row, where the database's own language says that by a pipeline.
        pipeline: Option<String>,
        /// The same for the way back.
        reverse_pipeline: Option<String>,
        /// As in a statement.
        capture: Option<String>,
    },
    /// What takes steps of the server's own back, as one change.
    TakeBack {
        /// The [inverses](crate::plan::Step::inverse) of steps on one table, as this driver planned them.
        inverses: Vec<String>,
    },
}

impl Request {
    /// For drivers whose databases say what is made of a row in a statement.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where there is a pipeline.
    pub fn without_pipelines(&self) -> Result<()> {
        match self {
            Self::Rebuild { pipeline: None, reverse_pipeline: None, .. }
            | Self::Statement { .. }
            | Self::TakeBack { .. } => Ok(()),
            Self::Rebuild { .. } => Err(Error::new(ErrorKind::Usage, "this database knows no pipelines")
                .hint("give the new shape with --as, or the statement with `replank apply -e`")),
        }
    }

    /// How changes are captured: the word that the person gave, or the first of those that the driver knows.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for any other word.
    pub fn capture<'a>(&self, known: &[&'a str]) -> Result<&'a str> {
        let asked = match self {
            Self::Statement { capture, .. } | Self::Rebuild { capture, .. } => capture.as_deref(),
            Self::TakeBack { .. } => None,
        };
        let found = match asked {
            Some(asked) => known.iter().find(|known| **known == asked),
            None => known.first(),
        };
        found.copied().ok_or_else(|| {
            let asked = asked.unwrap_or_default();
            Error::new(ErrorKind::Usage, format!("changes cannot be captured by `{asked}` here"))
                .hint(format!("write capture={}", known.join(", or capture=")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_to_capture_is_one_that_the_driver_knows() {
        let asking = |capture: Option<&str>| Request::Rebuild {
            table: "t".to_owned(),
            shape: None,
            pipeline: None,
            reverse_pipeline: None,
            capture: capture.map(ToOwned::to_owned),
        };
        let known = ["trigger", "slot"];
        assert_eq!(asking(None).capture(&known).expect("the first"), "trigger");
        assert_eq!(asking(Some("slot")).capture(&known).expect("known"), "slot");
        let error = asking(Some("binlog")).capture(&known).expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
