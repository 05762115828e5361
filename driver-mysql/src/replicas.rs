//! The servers that read this one's log.

use replank_core::Result;

use crate::connect::{Conn, Product};
use crate::feed::OURS;
use crate::sql::{get, number, rows};

/// How many there are. A feed of ours reads the log as a replica does, and is none.
pub async fn replicas(connection: &mut Conn) -> Result<u64> {
    match connection.product() {
        Product::MySql => {
            let sql = "SELECT COUNT(*) FROM performance_schema.threads AS t
                       WHERE processlist_command LIKE 'Binlog Dump%'
                       AND NOT EXISTS (SELECT 1 FROM performance_schema.user_variables_by_thread AS v
                                       WHERE v.thread_id = t.thread_id AND v.variable_name = 'replank_feed')";
            number(connection, sql).await
        }
        Product::MariaDb => {
            let registered = rows(connection, "SHOW SLAVE HOSTS").await?;
            let ids = registered.iter().map(|row| get::<u64>(row, 0)).collect::<Result<Vec<_>>>()?;
            Ok(ids.into_iter().filter(|id| id & u64::from(OURS) == 0).count() as u64)
        }
    }
}
