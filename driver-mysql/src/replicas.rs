//! The servers that read this one's log, and those that it reads.

use mysql_async::Row;
use replank_core::{ErrorKind, Result};

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

/// Where they say that they are; those that do not say are left out.
pub async fn addresses(connection: &mut Conn) -> Result<Vec<(String, u16)>> {
    let registered = match connection.product() {
        Product::MariaDb => rows(connection, "SHOW SLAVE HOSTS").await?,
        Product::MySql => match rows(connection, "SHOW REPLICAS").await {
            // The statement's name before MySQL 8.0.22.
            Err(error) if error.kind() == ErrorKind::Usage => rows(connection, "SHOW SLAVE HOSTS").await?,
            registered => registered?,
        },
    };
    let mut found = Vec::new();
    for row in &registered {
        let (id, host, port): (u64, String, u16) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        if !host.is_empty() && id & u64::from(OURS) == 0 {
            found.push((host, port));
        }
    }
    Ok(found)
}

/// What a server says of those that it replicates from, a row each; none for one that is no replica.
///
/// # Errors
/// [`ErrorKind::Refused`] for a login that may not look.
pub async fn channels(connection: &mut Conn) -> Result<Vec<Row>> {
    match connection.product() {
        Product::MariaDb => rows(connection, "SHOW ALL SLAVES STATUS").await,
        Product::MySql => match rows(connection, "SHOW REPLICA STATUS").await {
            // The statement's name before MySQL 8.0.22.
            Err(error) if error.kind() == ErrorKind::Usage => rows(connection, "SHOW SLAVE STATUS").await,
            asked => asked,
        },
    }
}
