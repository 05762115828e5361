//! How far replicas are behind: looked at on the side, since one that does not answer keeps nobody waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysql_async::Row;
use replank_core::Result;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connect::{Conn, Server, address};
use crate::replicas::{addresses, channels};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A replica that answers later counts as one that does not. Chosen.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The worst of all replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lag {
    /// There are none, or none that can be reached and were to be found.
    NoneFound,
    /// One does not say.
    Unknown,
    /// So far behind.
    Seconds(f64),
}

/// Watches the replicas of a server, from when it is first asked until it is dropped.
pub struct ReplicaLag {
    server: Arc<Server>,
    watching: Mutex<Option<Watching>>,
}

struct Watching {
    asked: String,
    seen: Arc<Mutex<Lag>>,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ReplicaLag {
    /// Of a server; nothing is looked at yet.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server, watching: Mutex::new(None) }
    }

    /// What was seen last. `asked` is `host:port,host:port`, which all have to answer, or `auto`: those that the server
    /// knows, and that have answered once.
    pub fn worst(&self, asked: &str) -> Lag {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if watching.as_ref().is_none_or(|watching| watching.asked != asked) {
            let first = if asked == "auto" { Lag::NoneFound } else { Lag::Unknown };
            let seen = Arc::new(Mutex::new(first));
            let watch = watch(Arc::clone(&self.server), asked.to_owned(), Arc::clone(&seen));
            *watching = Some(Watching { asked: asked.to_owned(), seen, task: tokio::spawn(watch) });
        }
        let seen = watching.as_ref().map(|it| *it.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.unwrap_or(Lag::Unknown)
    }
}

async fn watch(server: Arc<Server>, asked: String, seen: Arc<Mutex<Lag>>) {
    let is_auto = asked == "auto";
    let mut open: BTreeMap<(String, u16), Conn> = BTreeMap::new();
    let mut answered: Vec<(String, u16)> = Vec::new();
    loop {
        let all = match is_auto {
            true => {
                timeout(ANSWER_WITHIN, found(&server)).await.unwrap_or_else(|_elapsed| Ok(answered.clone()))
            }
            false => listed(&asked),
        };
        let mut worst = Lag::NoneFound;
        for address in all.unwrap_or_else(|_unreadable| answered.clone()) {
            let said = timeout(ANSWER_WITHIN, one(&server, &mut open, &address)).await;
            let said = said.ok().and_then(Result::ok).flatten();
            if said.is_none() {
                open.remove(&address);
            } else if !answered.contains(&address) {
                answered.push(address.clone());
            }
            // One that was never reached may be behind a wall.
            if said.is_some() || !is_auto || answered.contains(&address) {
                worst = worse(worst, said);
            }
        }
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = worst;
        sleep(LOOK_EVERY).await;
    }
}

fn worse(worst: Lag, seconds: Option<f64>) -> Lag {
    match (worst, seconds) {
        (Lag::Unknown, _) | (_, None) => Lag::Unknown,
        (Lag::NoneFound, Some(seconds)) => Lag::Seconds(seconds),
        (Lag::Seconds(worst), Some(seconds)) => Lag::Seconds(worst.max(seconds)),
    }
}

fn listed(asked: &str) -> Result<Vec<(String, u16)>> {
    asked.split(',').map(address).collect()
}

async fn found(server: &Server) -> Result<Vec<(String, u16)>> {
    let mut connection = server.take().await?;
    let found = addresses(&mut connection).await?;
    server.keep(connection);
    Ok(found)
}

/// Seconds that a replica is behind; `None` where it does not say, or is none.
async fn one(
    server: &Server,
    open: &mut BTreeMap<(String, u16), Conn>,
    address: &(String, u16),
) -> Result<Option<f64>> {
    let mut connection = match open.remove(address) {
        Some(connection) => connection,
        None => server.elsewhere(&address.0, address.1).await?,
    };
    let asked = channels(&mut connection).await?;
    open.insert(address.clone(), connection);
    let lags: Option<Vec<f64>> = asked.iter().map(seconds).collect();
    Ok(lags.filter(|lags| !lags.is_empty()).map(|lags| lags.into_iter().fold(0.0, f64::max)))
}

fn seconds(channel: &Row) -> Option<f64> {
    let names = ["Seconds_Behind_Source", "Seconds_Behind_Master"];
    names.iter().find_map(|name| channel.get_opt::<Option<f64>, _>(*name)?.ok().flatten())
}

#[cfg(test)]
mod tests {
    use replank_core::ErrorKind;

    use super::*;

    #[test]
    fn the_worst_counts_and_silence_is_worst() {
        let of = |all: &[Option<f64>]| all.iter().fold(Lag::NoneFound, |worst, one| worse(worst, *one));
        assert_eq!(of(&[]), Lag::NoneFound);
        assert_eq!(of(&[Some(1.0), Some(3.0), Some(2.0)]), Lag::Seconds(3.0));
        assert_eq!(of(&[Some(1.0), None, Some(2.0)]), Lag::Unknown);
    }

    #[test]
    fn addresses_are_read() {
        let read = listed("a:3307, b").expect("addresses");
        assert_eq!(read, [("a".to_owned(), 3307), ("b".to_owned(), 3306)]);
        assert_eq!(listed("a:x").expect_err("no port").kind(), ErrorKind::Usage);
    }
}
