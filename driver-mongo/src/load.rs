//! Load signals.

use bson::doc;
use replank_core::Result;
use replank_core::throttle::Reading;

use crate::connect::Server;
use crate::inspect::number;

/// What the throttle may look at: how many operations are active or waiting.
pub async fn readings(server: &Server) -> Result<Vec<Reading>> {
    let status = server.admin(doc! { "serverStatus": 1 }).await?;
    let active = status
        .get_document("globalLock")
        .and_then(|lock| lock.get_document("activeClients"))
        .ok()
        .and_then(|clients| clients.get("total"))
        .map(number);
    // A server without the figure has no such signal.
    Ok(active
        .map(|active| Reading {
            signal: "threads_running".to_owned(),
            #[expect(clippy::cast_precision_loss, reason = "a number of clients")]
            value: Some(active as f64),
        })
        .into_iter()
        .collect())
}
