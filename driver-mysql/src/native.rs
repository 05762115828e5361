//! Statements that the server carries out itself: run within the lock budget, and probed before they are
//! believed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{NativeDdl, Probe};
use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;
use tokio::time::sleep;

use crate::added_keys::{is_made, looks, refused};
use crate::connect::{Conn, Product, Server};
use crate::definition;
use crate::rebuild::orphans;
use crate::sessions::{end, sessions, waits_for_table};
use crate::sql::{get, ident, number, rows, run, table, text};

/// For what is taken off again. As a statement's by default.
const LOCK_BUDGET: Duration = Duration::from_millis(200);

/// Runs steps on a server.
pub struct Native {
    server: Arc<Server>,
}

impl Native {
    /// On a server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[async_trait]
impl NativeDdl for Native {
    async fn run(&self, step: &Step, lock_budget: Duration) -> Result<()> {
        let looks = looks(step)?;
        let mut aside = self.server.take().await?;
        // A look that was interrupted is taken again.
        if looks.is_empty() || !is_made(&mut aside, step).await? {
            self.alter(&mut aside, &step.statement, lock_budget, looks.is_empty()).await?;
        }
        if let Some((look, found)) = orphans::first(&mut aside, &looks).await? {
            self.alter(&mut aside, &step.inverse, lock_budget, true).await?;
            return Err(refused(&look, &found));
        }
        self.server.keep(aside);
        Ok(())
    }

    async fn cancel(&self, step: &Step) -> Result<()> {
        let mut connection = self.server.take().await?;
        let running = running(connection.product(), step);
        for row in rows(&mut connection, running).await? {
            let id: u64 = get(&row, 0)?;
            end(&mut connection, "KILL QUERY", id).await?;
        }
        let looks = looks(step)?;
        if !looks.is_empty()
            && is_made(&mut connection, step).await?
            && orphans::first(&mut connection, &looks).await?.is_some()
        {
            self.alter(&mut connection, &step.inverse, LOCK_BUDGET, true).await?;
        }
        self.server.keep(connection);
        Ok(())
    }

    async fn probe(&self, step: &Step) -> Result<Probe> {
        let mut connection = self.server.take().await?;
        let found = probe(&mut connection, step).await?;
        self.server.keep(connection);
        Ok(found)
    }
}

impl Native {
    /// Runs a statement on a session of its own, which never waits for its lock longer than the budget.
    async fn alter(
        &self,
        aside: &mut Conn,
        statement: &str,
        lock_budget: Duration,
        checks_keys: bool,
    ) -> Result<()> {
        let mut connection = self.server.connect().await?;
        // The server's own timeout has a floor of a second; the watchdog keeps the budget.
        let checks = u8::from(checks_keys);
        let settings = format!("lock_wait_timeout = 1, wait_timeout = 86400, foreign_key_checks = {checks}");
        run(&mut connection, format!("SET SESSION {settings}")).await?;
        let id = connection.id();
        let running = run(&mut connection, statement);
        tokio::pin!(running);
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut running => break ended,
                () = sleep(lock_budget) => {}
            }
            // Only a statement that waits for its lock keeps others out; one that builds is let alone.
            if waits_for_table(aside, id).await? {
                run(aside, format!("KILL QUERY {id}")).await?;
            }
        };
        match ended {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::LockTimeout => Err(Error::new(
                ErrorKind::LockTimeout,
                format!("the lock was not granted within {} ms", lock_budget.as_millis()),
            )
            .caused_by(error)),
            Err(error) => Err(error),
        }
    }
}

/// Sessions that run the step's statement, this runner's or an earlier one's.
fn running(product: Product, step: &Step) -> String {
    format!(
        "SELECT id FROM {} WHERE info = {} AND id <> CONNECTION_ID()",
        sessions(product),
        text(&step.statement)
    )
}

/// Whether the counter is where the statement sets it, if it does: that stands in no definition that is compared.
async fn is_counter_set(connection: &mut Conn, step: &Step, schema: &str, name: &str) -> Result<bool> {
    let note = &step.spec["counter"];
    let (Some(value), Some(column)) = (note["value"].as_u64(), note["column"].as_str()) else {
        return Ok(true);
    };
    let sql = format!(
        "SELECT auto_increment BETWEEN {value} AND (SELECT GREATEST({value}, COALESCE(MAX({}), 0) + 1) FROM {})
         FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        ident(column),
        table(schema, name),
        text(schema),
        text(name)
    );
    Ok(number(connection, sql).await? == 1)
}

/// What a rebuild has put back may list its checks in another order.
fn alike(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => definition::same(one, other),
        (one, other) => one == other,
    }
}

async fn probe(connection: &mut Conn, step: &Step) -> Result<Probe> {
    let field = |name: &str| step.spec.get(name).and_then(Json::as_str);
    let (Some(schema), Some(name), Some(forward)) = (field("schema"), field("table"), field("forward"))
    else {
        return Err(Error::new(ErrorKind::Internal, "a step without its notes").with("step", &step.title));
    };
    let running = running(connection.product(), step);
    if !rows(connection, running).await?.is_empty() {
        return Ok(Probe::Running);
    }
    let is_forward = step.statement == forward;
    let live = definition::read(connection, schema, name).await?;
    if let Some(after) = field("after") {
        let (goal, start) = match is_forward {
            true => (Some(after), field("before")),
            false => (field("before"), Some(after)),
        };
        return Ok(match live.as_deref() {
            live if alike(live, goal)
                && is_forward
                && !is_counter_set(connection, step, schema, name).await? =>
            {
                Probe::Absent
            }
            // What changes nothing is done.
            live if alike(live, goal) => match orphans::first(connection, &looks(step)?).await? {
                None => Probe::Done,
                Some(_) => Probe::Absent,
            },
            live if alike(live, start) => Probe::Absent,
            _ => {
                return Err(Error::new(
                    ErrorKind::ForeignDdl,
                    format!("`{name}` is neither as it was planned nor as it was"),
                )
                .hint("somebody else changed it; look at it, then `replank abort` or plan again"));
            }
        });
    }
    let (Some(to_schema), Some(to)) = (field("to_schema"), field("to")) else {
        // A plain DROP.
        return Ok(if live.is_none() { Probe::Done } else { Probe::Absent });
    };
    let other = definition::read(connection, to_schema, to).await?;
    Ok(match (is_forward, step.statement.starts_with("DROP")) {
        (true, _) if live.is_none() && other.is_some() => Probe::Done,
        (_, true) if other.is_none() => Probe::Done,
        (false, false) if live.is_some() && other.is_none() => Probe::Done,
        _ => Probe::Absent,
    })
}
