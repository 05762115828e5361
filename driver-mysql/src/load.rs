//! Load signals.

use replank_core::Result;
use replank_core::throttle::Reading;

use crate::connect::Conn;
use crate::sql::{first, get};

/// What the throttle may look at.
pub async fn readings(connection: &mut Conn) -> Result<Vec<Reading>> {
    let row = first(connection, "SHOW GLOBAL STATUS LIKE 'Threads_running'").await?;
    let value = row.map(|row| get::<String>(&row, 1)).transpose()?.and_then(|value| value.parse().ok());
    Ok(vec![Reading { signal: "threads_running".to_owned(), value }])
}
