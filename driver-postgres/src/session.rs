//! The way in: the driver, and a session on one server.

use std::sync::Arc;

use async_trait::async_trait;
use replank_core::driver::{
    Check, Driver, NativeDdl, Rebuilder, Request, ServerFacts, Session, Settings, StateStore,
};
use replank_core::ident::TableId;
use replank_core::lint::Rule;
use replank_core::plan::Draft;
use replank_core::throttle::{Limits, Reading};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::native::Native;
use crate::rebuild::Opener;
use crate::state::{Names, Store};
use crate::{inspect, lint, load, plan, preflight};

/// The driver of PostgreSQL.
#[must_use]
pub fn driver() -> Arc<dyn Driver> {
    Arc::new(Postgres)
}

struct Postgres;

#[async_trait]
impl Driver for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["postgres", "postgresql"]
    }

    fn summary(&self) -> &'static str {
        "PostgreSQL from 14: what the server can change while others write, step by step; rebuilds by a log of keys"
    }

    fn rules(&self) -> Vec<&'static dyn Rule> {
        lint::rules()
    }

    async fn connect(&self, url: &str, settings: &Settings) -> Result<Arc<dyn Session>> {
        let server = Arc::new(Server::open(url, settings).await?);
        if let Some(needed) = preflight::needed(server.version()) {
            let found = format!("the server is PostgreSQL {}", server.version() / 10_000);
            return Err(Error::new(ErrorKind::Refused, found).hint(needed));
        }
        Ok(Arc::new(Connected {
            native: Native::new(Arc::clone(&server)),
            rebuilder: Opener::new(Arc::clone(&server)),
            store: Store::new(Arc::clone(&server)),
            server,
        }))
    }
}

struct Connected {
    server: Arc<Server>,
    native: Native,
    rebuilder: Opener,
    store: Store,
}

#[async_trait]
impl Session for Connected {
    async fn server(&self) -> Result<ServerFacts> {
        let mut connection = self.server.take().await?;
        let facts = facts(&mut connection).await?;
        self.server.keep(connection);
        Ok(facts)
    }

    async fn checks(&self) -> Result<Vec<Check>> {
        preflight::checks(&self.server, &Names::new(&self.server.settings().state_name)).await
    }

    async fn draft(&self, request: &Request) -> Result<Draft> {
        plan::draft(&self.server, request).await
    }

    async fn count(&self, table: &TableId) -> Result<u64> {
        let mut connection = self.server.take().await?;
        let schema = table.schema.as_deref().unwrap_or("public");
        let rows = inspect::count(&mut connection, schema, &table.name).await?;
        self.server.keep(connection);
        Ok(rows)
    }

    async fn load(&self, limits: &Limits) -> Result<Vec<Reading>> {
        load::readings(&self.server, limits).await
    }

    fn native(&self) -> Option<&dyn NativeDdl> {
        Some(&self.native)
    }

    fn rebuilder(&self) -> Option<&dyn Rebuilder> {
        Some(&self.rebuilder)
    }

    fn state(&self) -> &dyn StateStore {
        &self.store
    }
}

/// What the server is.
pub async fn facts(connection: &mut Conn) -> Result<ServerFacts> {
    let version = preflight::version(connection).await?;
    Ok(ServerFacts { driver: "postgres".to_owned(), product: "PostgreSQL".to_owned(), version })
}
