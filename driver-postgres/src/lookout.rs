//! Answers that never come: a connection can be dead with nobody to say so. Statements may take hours, so no deadline tells
//! one from the other; but the server knows from another session whether it is at it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use replank_core::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, raw_sql};
use tokio::time::timeout;

use crate::error::from_sqlx;

/// Statements that take longer are rare, and cost a question each time. Far below the deadlines of whoever calls. Chosen.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// An answer that was on its way during the question has arrived by then. Chosen.
const GRACE: Duration = Duration::from_secs(1);
const QUESTION_WAIT: Duration = Duration::from_secs(10);

/// Whose answer is waited for.
#[derive(Debug, Clone)]
pub struct Lookout {
    /// The way to the server.
    pub opts: Arc<PgConnectOptions>,
    /// The number of the session's process.
    pub pid: i32,
}

impl Lookout {
    /// Waits for an answer for as long as the server is at it.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionLost`] when it is not, and nothing comes.
    pub async fn answer<T>(&self, call: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
        let mut call = pin!(call);
        loop {
            if let Ok(answer) = timeout(ASK_AFTER, &mut call).await {
                return answer.map_err(from_sqlx);
            }
            let is_at_it = timeout(QUESTION_WAIT, self.is_at_it()).await;
            // Also when it has no session left for a question, or is coming up.
            if matches!(is_at_it, Ok(Ok(true) | Err(sqlx::Error::Database(_)))) {
                continue;
            }
            return match timeout(GRACE, &mut call).await {
                Ok(answer) => answer.map_err(from_sqlx),
                Err(_elapsed) => Err(Error::new(
                    ErrorKind::ConnectionLost,
                    "the server is at nothing, and does not answer",
                )),
            };
        }
    }

    async fn is_at_it(&self) -> sqlx::Result<bool> {
        let mut connection = PgConnection::connect_with(&self.opts).await?;
        let sql =
            format!("SELECT 1 FROM pg_stat_activity WHERE pid = {} AND state NOT LIKE 'idle%'", self.pid);
        let found = raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
        Ok(!found.is_empty())
    }
}
