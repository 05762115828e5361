//! The way in: the driver, and a session on one replica set.

use std::sync::Arc;

use async_trait::async_trait;
use bson::{Document, doc};
use replank_core::driver::facts::CheckState;
use replank_core::driver::{
    Check, Driver, NativeDdl, Rebuilder, Request, ServerFacts, Session, Settings, StateStore,
};
use replank_core::ident::TableId;
use replank_core::lint::Rule;
use replank_core::plan::Draft;
use replank_core::throttle::{Limits, Reading};
use replank_core::{ErrorKind, Result};

use crate::connect::Server;
use crate::error::from_mongo;
use crate::inspect::Collection;
use crate::native::Native;
use crate::rebuild::{self, Opener};
use crate::state::Store;
use crate::{capability, lint, load, plan, privileges};

/// The driver of MongoDB.
#[must_use]
pub fn driver() -> Arc<dyn Driver> {
    Arc::new(Mongo)
}

struct Mongo;

#[async_trait]
impl Driver for Mongo {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["mongodb", "mongodb+srv"]
    }

    fn summary(&self) -> &'static str {
        "MongoDB from 4.4, replica sets: its commands online, rebuilds by change stream, revert"
    }

    fn rules(&self) -> Vec<&'static dyn Rule> {
        lint::rules()
    }

    fn mends_on_connect(&self) -> bool {
        true
    }

    async fn connect(&self, url: &str, settings: &Settings) -> Result<Arc<dyn Session>> {
        let server = Arc::new(Server::open(url, settings).await?);
        match rebuild::mend(&server).await {
            Ok(mended) => {
                for collection in mended {
                    tracing::warn!(
                        "writes to `{collection}` were refused since a runner died; they are let in again"
                    );
                }
            }
            // Who may not read the records has no run here. `doctor` must get further, to say what is missing.
            Err(error) if error.kind() == ErrorKind::Refused => {
                tracing::warn!(%error, "the records of runs cannot be read");
            }
            Err(error) => return Err(error),
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
        facts(&self.server).await
    }

    async fn checks(&self) -> Result<Vec<Check>> {
        let facts = facts(&self.server).await?;
        let mut checks =
            vec![check("version", CheckState::Good, format!("{} {}", facts.product, facts.version), None)];
        let privileges = privileges::check(&self.server).await?;
        let found = match capability::probe(&self.server).await {
            Err(error) if error.kind() == ErrorKind::Refused => {
                let says = format!("what the server does cannot be tried: {error}");
                checks.extend([check("rebuilds", CheckState::Bad, says, None), privileges]);
                return Ok(checks);
            }
            found => found?,
        };
        if found.missing.is_empty() {
            checks.push(check(
                "rebuilds",
                CheckState::Good,
                "change streams, transactions and validators work".to_owned(),
                None,
            ));
        }
        for missing in &found.missing {
            checks.push(check("rebuilds", CheckState::Bad, missing.clone(), None));
        }
        if !found.waits_for_transactions {
            let says = "collMod does not wait for open transactions: what they commit during a swap is lost";
            checks.push(check("transactions", CheckState::Warning, says.to_owned(), None));
        }
        checks.push(privileges);
        Ok(checks)
    }

    async fn draft(&self, request: &Request) -> Result<Draft> {
        plan::draft(&self.server, request).await
    }

    async fn count(&self, table: &TableId) -> Result<u64> {
        Collection::expect(&self.server, &table.name).await?;
        let collection = self.server.database().collection::<Document>(&table.name);
        collection.count_documents(doc! {}).await.map_err(from_mongo)
    }

    async fn load(&self, _limits: &Limits) -> Result<Vec<Reading>> {
        load::readings(&self.server).await
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

fn check(name: &str, state: CheckState, found: String, mend: Option<String>) -> Check {
    Check { name: name.to_owned(), state, found, mend }
}

/// What the server is.
pub async fn facts(server: &Server) -> Result<ServerFacts> {
    let info = server.admin(doc! { "buildInfo": 1 }).await?;
    let version = info.get_str("version").unwrap_or("unknown").to_owned();
    // Others that speak the protocol say so with a field of their own.
    let other = ["secantusVersion", "ferretdb"].into_iter().find(|field| info.contains_key(field));
    let product = match other {
        Some("ferretdb") => "FerretDB".to_owned(),
        Some(field) => format!("SecantusDB {} as MongoDB", info.get_str(field).unwrap_or_default()),
        None => "MongoDB".to_owned(),
    };
    Ok(ServerFacts { driver: "mongodb".to_owned(), product, version })
}
