//! Load signals.

use mysql_async::Value;
use mysql_async::prelude::FromValue as _;
use replank_core::Result;
use replank_core::throttle::{Limits, Reading, status_signal};

use crate::connect::{Conn, Server};
use crate::replica_lag::{Lag, ReplicaLag};
use crate::sql::{first, get, rows, run, text};

/// A query of the person's takes no longer, or its answer counts as none. Chosen.
const QUERY_SECONDS: u64 = 1;
const RUNNING: &str = "Threads_running";

/// What the throttle may look at.
pub async fn readings(server: &Server, replicas: &ReplicaLag, limits: &Limits) -> Result<Vec<Reading>> {
    let mut connection = server.take().await?;
    let mut found = status(&mut connection, limits).await?;
    if let Some(query) = &limits.load_query {
        let value = answer(&mut connection, query).await;
        found.push(Reading { signal: "load".to_owned(), value });
    }
    let lag = match (&limits.lag_query, &limits.lag_replicas) {
        (Some(query), _) => Some(answer(&mut connection, query).await),
        (None, Some(asked)) => match replicas.worst(asked) {
            Lag::NoneFound => None,
            Lag::Unknown => Some(None),
            Lag::Seconds(seconds) => Some(Some(seconds)),
        },
        (None, None) => None,
    };
    if let Some(seconds) = lag {
        let value = seconds.map(|seconds| seconds * 1000.0);
        found.push(Reading { signal: "replica_lag_ms".to_owned(), value });
    }
    server.keep(connection);
    Ok(found)
}

async fn status(connection: &mut Conn, limits: &Limits) -> Result<Vec<Reading>> {
    let variables = limits.status_variables();
    let names: Vec<String> = variables.iter().copied().chain([RUNNING]).map(text).collect();
    let sql = format!("SHOW GLOBAL STATUS WHERE variable_name IN ({})", names.join(", "));
    let found = rows(connection, sql).await?;
    let found: Vec<(String, Option<f64>)> = found
        .iter()
        .map(|row| Ok((get(row, 0)?, get::<String>(row, 1)?.parse().ok())))
        .collect::<Result<_>>()?;
    let value = |name: &str| {
        found.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).and_then(|(_, value)| *value)
    };
    let running = Reading { signal: "threads_running".to_owned(), value: value(RUNNING) };
    let asked = variables.iter().map(|name| Reading { signal: status_signal(name), value: value(name) });
    Ok([running].into_iter().chain(asked).collect())
}

/// The number that a query gives; `None` for anything else, or nothing in time.
async fn answer(connection: &mut Conn, query: &str) -> Option<f64> {
    let product = connection.product();
    let deadline = |seconds: u64| format!("SET SESSION {}", product.deadline(seconds));
    run(connection, deadline(QUERY_SECONDS)).await.ok()?;
    let answered = first(connection, query).await;
    run(connection, deadline(0)).await.ok()?;
    match answered.ok()??.as_ref(0)? {
        Value::NULL => None,
        value => String::from_value_opt(value.clone()).ok()?.trim().parse().ok(),
    }
}
