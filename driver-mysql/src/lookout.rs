//! A statement whose answer does not come. It may be at work for hours, or the network lost it or its answer and tells
//! nobody, and no deadline can tell the two apart. Another session asks the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use tokio::time::timeout;

use crate::connect::{Product, identity};
use crate::error::code;
use crate::sessions::sessions;

/// Chosen: one that builds an index for hours is asked after often enough, and a lost answer costs some seconds.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// A server that does not answer the question either cannot be reached.
const QUESTION_WAIT: Duration = Duration::from_secs(10);
/// For the answer that was on its way while the question was asked.
const GRACE: Duration = Duration::from_secs(1);

/// Asks what became of a session's statement.
pub struct Lookout {
    /// How it was opened.
    pub opts: Opts,
    /// Its number.
    pub id: u32,
    /// Whose server it is on.
    pub product: Product,
    /// When it was opened.
    pub opened: Instant,
    /// The server's identity; without it nothing is ended.
    pub identity: Option<Arc<str>>,
}

impl Lookout {
    /// The answer of a call on the session.
    ///
    /// An input/output error when none will come: the server has not begun it, has ended it, or cannot be reached. The
    /// session is ended then: what it holds, it would hold for hours.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = mysql_async::Result<T>>,
    ) -> mysql_async::Result<T> {
        tokio::pin!(call);
        loop {
            if let Ok(answer) = timeout(ASK_AFTER, &mut call).await {
                return answer;
            }
            if self.is_at_work().await {
                continue;
            }
            if let Ok(answer) = timeout(GRACE, &mut call).await {
                return answer;
            }
            self.end().await;
            let lost = std::io::Error::new(std::io::ErrorKind::TimedOut, "the answer never came");
            return Err(lost.into());
        }
    }

    async fn is_at_work(&self) -> bool {
        match timeout(QUESTION_WAIT, self.ask()).await {
            Ok(Ok(is_at_work)) => is_at_work,
            // A server that is there, and does not tell.
            Ok(Err(error)) => code(&error).is_some(),
            Err(_elapsed) => false,
        }
    }

    async fn ask(&self) -> mysql_async::Result<bool> {
        let mut connection = Conn::new(self.opts.clone()).await?;
        let sql = format!(
            "SELECT COALESCE(SUM(id = {0} AND command <> 'Sleep'), 0), COALESCE(SUM(id = CONNECTION_ID()), 0)
             FROM {1}",
            self.id,
            sessions(self.product)
        );
        let (at_work, own): (u64, u64) = connection.query_first(sql).await?.unwrap_or_default();
        // Where it does not even show this one, it shows none.
        Ok(at_work > 0 || own == 0)
    }

    async fn end(&self) {
        let ending = async {
            let mut connection = Conn::new(self.opts.clone()).await?;
            if self.is_same_server(&mut connection).await? {
                connection.query_drop(format!("KILL {}", self.id)).await?;
            }
            Ok::<_, mysql_async::Error>(())
        };
        // One that is gone, or cannot be reached.
        let ended = timeout(QUESTION_WAIT, ending).await;
        tracing::debug!(?ended, id = self.id, "a session that does not answer");
    }

    /// Numbers begin again where a server is started anew, and are others' on another: there, one of somebody else's sessions
    /// may have this one's.
    async fn is_same_server(&self, connection: &mut Conn) -> mysql_async::Result<bool> {
        let up: Option<(String, u64)> = connection.query_first("SHOW GLOBAL STATUS LIKE 'Uptime'").await?;
        let is_older = up.is_some_and(|(_, seconds)| seconds >= self.opened.elapsed().as_secs());
        Ok(is_older && self.identity.as_deref() == Some(identity(connection, self.product).await?.as_str()))
    }
}
