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
use crate::replica_lag::ReplicaLag;
use crate::state::{Names, Store};
use crate::{feed, inspect, leftovers, lint, load, plan, preflight};

/// The driver of MySQL and MariaDB.
#[must_use]
pub fn driver() -> Arc<dyn Driver> {
    Arc::new(MySql)
}

struct MySql;

#[async_trait]
impl Driver for MySql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    fn summary(&self) -> &'static str {
        "MySQL from 8.0.17, MariaDB from 10.6: instant and native changes, shadow rebuilds by binary log, revert"
    }

    fn rules(&self) -> Vec<&'static dyn Rule> {
        lint::rules()
    }

    async fn connect(&self, url: &str, settings: &Settings) -> Result<Arc<dyn Session>> {
        let server = Arc::new(Server::open(url, settings).await?);
        let (product, version) = (server.product(), server.version());
        if let Some(needed) = preflight::needed(product, version) {
            let found = format!("the server is {} {version}", product.name());
            return Err(Error::new(ErrorKind::Refused, found).hint(needed));
        }
        Ok(Arc::new(Connected {
            native: Native::new(Arc::clone(&server)),
            rebuilder: Opener::new(Arc::clone(&server)),
            store: Store::new(Arc::clone(&server)),
            replicas: ReplicaLag::new(Arc::clone(&server)),
            server,
        }))
    }
}

struct Connected {
    server: Arc<Server>,
    native: Native,
    rebuilder: Opener,
    store: Store,
    replicas: ReplicaLag,
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
        let mut connection = self.server.take().await?;
        let names = Names::new(&self.server.settings().state_name);
        let mut checks = preflight::checks(&mut connection, self.server.schema(), &names).await?;
        checks.extend(feed::replica::checks(&self.server).await?);
        if let Some(schema) = self.server.schema() {
            checks.extend(leftovers::checks(&mut connection, schema, &names).await?);
        }
        self.server.keep(connection);
        Ok(checks)
    }

    async fn draft(&self, request: &Request) -> Result<Draft> {
        plan::draft(&self.server, request).await
    }

    async fn count(&self, table: &TableId) -> Result<u64> {
        let schema = table.schema.as_deref().or(self.server.schema()).unwrap_or_default();
        let mut connection = self.server.take().await?;
        let rows = inspect::count(&mut connection, schema, &table.name).await?;
        self.server.keep(connection);
        Ok(rows)
    }

    async fn load(&self, limits: &Limits) -> Result<Vec<Reading>> {
        load::readings(&self.server, &self.replicas, limits).await
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
    let product = connection.product().name().to_owned();
    Ok(ServerFacts { driver: "mysql".to_owned(), product, version })
}
