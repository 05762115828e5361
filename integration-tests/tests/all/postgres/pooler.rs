//! A pooler in front of the server.

use std::time::{Duration, Instant};

use sqlx::Row as _;
use tokio::net::TcpStream;

use super::Table;
use super::table::{connect, query, run};
use crate::binary::run_beside;
use crate::server::postgres_own_server;

/// Each transaction has another server process: settings, locks and prepared statements of a session are nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_pooler_in_transaction_mode_is_refused_with_the_reason() {
    let server = postgres_own_server(&[]).await;
    let table = Table::within(server.database().await, 100).await;
    table.execute("CREATE TABLE lists (a int)").await;
    for statement in ["ALTER TABLE customers ADD COLUMN extra int", "CREATE INDEX ON lists (a)"] {
        run_beside(&["apply", "-t", &table.url(), "-e", statement, "--yes"], &[]).await.exits(0);
    }
    let retype =
        ["apply", "-t", &table.url(), "-e", "ALTER TABLE orders ALTER amount TYPE numeric(14, 3)", "--yes"];
    run_beside(&retype, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    let (before, runs) = (table.schema().await, runs_of(&table).await);
    for (mode, port) in [("transaction", 6432), ("session", 6433)] {
        server.shell(&format!(
            "cat > /tmp/{mode}.ini <<END
[databases]
* = host=127.0.0.1 port=5432 user=postgres password=replank
[pgbouncer]
listen_addr = *
listen_port = {port}
unix_socket_dir =
pidfile = /tmp/{mode}.pid
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = extra_float_digits
END
setpriv --reuid=postgres --regid=postgres --clear-groups pgbouncer -d /tmp/{mode}.ini"
        ));
        let address = format!("{}:{port}", server.inner_address());
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).await.is_err() {
            assert!(Instant::now() < until, "the pooler does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let url = table.url().replace(&server.address(), &address);
        let apply = ["apply", "-t", &url, "-e", "ALTER TABLE orders ALTER customer TYPE bigint", "--yes"];
        if mode == "transaction" {
            run_beside(&["doctor", "-t", &url], &[]).await.says("pool_mode = session");
            run_beside(&apply, &[])
                .await
                .exits(3)
                .says("a pooler gives each transaction another server process");
            // Of runs that were begun elsewhere nothing is changed either, and nobody else gets our settings.
            for command in [
                ["resume", "last"],
                ["abort", "last"],
                ["revert", &runs[0].0],
                ["revert", &runs[1].0],
                ["finalize", &runs[0].0],
            ] {
                let ended = run_beside(&[&command[..], &["-t", &url, "--yes"]].concat(), &[]).await;
                println!("{command:?}: {:?}\n{}{}", ended.code, ended.out, ended.err);
                let ended = ended.exits(3);
                assert!(!ended.err.contains("--no-revert"), "that would lose something");
                ended
                    .says("a pooler gives each transaction another server process")
                    .says("pool_mode = session");
            }
            run_beside(&["status", "-t", &url], &[]).await.exits(0);
            assert_eq!((table.schema().await, runs_of(&table).await), (before.clone(), runs.clone()));
            assert_eq!(settings(&url).await, "on 0 0 DEFAULT", "a session's settings are left to others");
        } else {
            run_beside(&["doctor", "-t", &url], &[]).await.exits(0);
        }
    }
    run_beside(&["resume", "last", "-t", &table.url(), "--yes"], &[]).await.exits(0);
}

/// Runs with their states and revisions, oldest first.
async fn runs_of(table: &Table) -> Vec<(String, String)> {
    let mut connection = table.connect().await;
    let sql = "SELECT id, state || ' ' || revision || ' ' || (SELECT string_agg(token::text, ' ') FROM _replank.leases)
               FROM _replank.runs ORDER BY number";
    query(&mut connection, sql).await.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What an application finds set in each of several processes of the pool.
async fn settings(url: &str) -> String {
    let (mut one, mut other) = (connect(url).await, connect(url).await);
    let mut found = std::collections::BTreeSet::new();
    for connection in [&mut one, &mut other] {
        let sql =
            "BEGIN; SELECT concat_ws(' ', current_setting('row_security'), current_setting('lock_timeout'),
                   current_setting('idle_in_transaction_session_timeout'),
                   CASE WHEN current_setting('application_name') = 'replank' THEN 'OURS' ELSE 'DEFAULT' END)";
        found.insert(query(connection, sql).await[0].get::<String, _>(0));
    }
    for connection in [&mut one, &mut other] {
        run(connection, "ROLLBACK").await.expect("ended");
    }
    found.into_iter().collect::<Vec<_>>().join(", ")
}
