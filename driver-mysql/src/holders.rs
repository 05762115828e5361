//! Who holds a table's definition.

use std::time::Duration;

use replank_core::Result;
use replank_core::driver::Holder;

use crate::connect::Conn;
use crate::sql::{get, number, rows, text};

/// Sessions that hold a lock on a table in a transaction or statement that is older than `age`. None where the
/// server does not tell.
pub async fn holders(connection: &mut Conn, schema: &str, name: &str, age: Duration) -> Result<Vec<Holder>> {
    if connection.is_mariadb() && !are_visible(connection).await? {
        return Ok(Vec::new());
    }
    // innodb_trx knows only whole seconds; a transaction that began in this one would look old.
    let seconds = "COALESCE(x.timer_wait / 1000000000000, t.processlist_time - 1, 0)";
    let sql = format!(
        "SELECT t.processlist_id, MAX({seconds}), MAX(COALESCE(t.processlist_info, '')), MAX(t.processlist_user)
         FROM performance_schema.metadata_locks AS l
         JOIN performance_schema.threads AS t ON t.thread_id = l.owner_thread_id
         LEFT JOIN performance_schema.events_transactions_current AS x
           ON x.thread_id = l.owner_thread_id AND x.state = 'ACTIVE'
         WHERE l.object_type = 'TABLE' AND l.object_schema = {} AND l.object_name = {} AND l.lock_status = 'GRANTED'
         AND l.lock_duration IN ('TRANSACTION', 'EXPLICIT') AND t.processlist_id <> CONNECTION_ID()
         GROUP BY t.processlist_id HAVING MAX({seconds}) > {}",
        text(schema),
        text(name),
        age.as_secs_f64()
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| {
            let (seconds, doing): (f64, String) = (get(row, 1)?, get(row, 2)?);
            let user: Option<String> = get(row, 3)?;
            let doing = shortened(&doing);
            Ok(Holder {
                id: format!("connection {}", get::<u64>(row, 0)?),
                about: format!("{}: {doing}, for {seconds:.1} s", user.unwrap_or_default()),
            })
        })
        .collect()
}

/// Where nobody can see who holds which table (MariaDB, by default): transactions of others that are older than a
/// moment. The clock of these has whole seconds.
pub async fn old_transactions(connection: &mut Conn) -> Result<Vec<Holder>> {
    let sql = "SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM')) AS age,
                      COALESCE(trx_query, '')
               FROM information_schema.innodb_trx
               WHERE trx_mysql_thread_id NOT IN (0, CONNECTION_ID()) HAVING age > 1";
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| {
            let (seconds, doing): (i64, String) = (get(row, 1)?, get(row, 2)?);
            let doing = shortened(&doing);
            Ok(Holder {
                id: format!("connection {}", get::<u64>(row, 0)?),
                about: format!("{doing}, for {seconds} s"),
            })
        })
        .collect()
}

/// What a session is at, on a line.
fn shortened(statement: &str) -> String {
    if statement.is_empty() {
        return "an idle transaction".to_owned();
    }
    let line: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// Whether the server records metadata locks at all.
pub async fn are_visible(connection: &mut Conn) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM performance_schema.setup_instruments
         WHERE name = 'wait/lock/metadata/sql/mdl' AND enabled = 'YES' AND @@GLOBAL.performance_schema = 1";
    Ok(number(connection, sql).await? > 0)
}
