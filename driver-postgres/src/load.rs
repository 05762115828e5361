//! Load signals.

use replank_core::Result;
use replank_core::throttle::{Limits, Reading};

use crate::connect::{Conn, Server};
use crate::sql::{first, get, run};

/// A query of the person's takes no longer, or its answer counts as none. Chosen.
const QUERY_MS: u64 = 1000;

/// What the throttle may look at.
pub async fn readings(server: &Server, limits: &Limits) -> Result<Vec<Reading>> {
    let mut connection = server.take().await?;
    let running = "SELECT (count(*) - 1)::float8 FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend'";
    let running = first(&mut connection, running).await?.map(|row| get(&row, 0)).transpose()?;
    let mut found = vec![Reading { signal: "threads_running".to_owned(), value: running }];
    if let Some(query) = &limits.load_query {
        let value = answer(&mut connection, query).await;
        found.push(Reading { signal: "load".to_owned(), value });
    }
    let lag = match (&limits.lag_query, &limits.lag_replicas) {
        (Some(query), _) => Some(answer(&mut connection, query).await),
        (None, Some(_)) => standbys(&mut connection).await?,
        (None, None) => None,
    };
    if let Some(seconds) = lag {
        let value = seconds.map(|seconds| seconds * 1000.0);
        found.push(Reading { signal: "replica_lag_ms".to_owned(), value });
    }
    server.keep(connection);
    Ok(found)
}

/// How far the slowest standby is behind, in seconds, as the primary sees it; nothing where there is none.
async fn standbys(connection: &mut Conn) -> Result<Option<Option<f64>>> {
    let sql =
        "SELECT max(coalesce(extract(epoch FROM replay_lag), 0))::float8, count(*) FROM pg_stat_replication";
    match first(connection, sql).await? {
        Some(row) if get::<i64>(&row, 1)? > 0 => Ok(Some(get(&row, 0)?)),
        _ => Ok(None),
    }
}

/// The number that a query gives; `None` for anything else, or nothing in time.
async fn answer(connection: &mut Conn, query: &str) -> Option<f64> {
    run(connection, format!("SET statement_timeout = {QUERY_MS}")).await.ok()?;
    let answered =
        first(connection, format!("SELECT ({})::float8", query.trim().trim_end_matches(';'))).await;
    run(connection, "SET statement_timeout = 0").await.ok()?;
    get::<Option<f64>>(&answered.ok()??, 0).ok()?
}
