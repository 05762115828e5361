//! A pooler in front of the server.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::Table;
use crate::binary::run_beside;
use crate::server::postgres_own_server;

/// Each transaction has another server process: settings, locks and prepared statements of a session are nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_pooler_in_transaction_mode_is_refused_with_the_reason() {
    let server = postgres_own_server(&[]).await;
    let table = Table::within(server.database().await, 100).await;
    let before = table.schema().await;
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
            assert_eq!(table.schema().await, before);
        } else {
            run_beside(&["doctor", "-t", &url], &[]).await.exits(0);
        }
    }
}
