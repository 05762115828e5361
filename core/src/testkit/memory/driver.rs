//! The driver, and its sessions.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::{Client, Kind};
use super::rebuild::MemoryRebuilder;
use super::row::Shape;
use super::server::Server;
use crate::driver::facts::{CheckState, TableFacts};
use crate::driver::{
    Check, Driver, NativeDdl, Rebuilder, Request, ServerFacts, Session, Settings, StateStore,
};
use crate::ident::TableId;
use crate::lint::Rule;
use crate::plan::{Candidate, Draft, Evidence, LockNote, Step, Strategy};
use crate::throttle::{Limits, Reading};
use crate::{Error, ErrorKind, Result};

/// Connects to one server in this process. The URL is `memory:`.
pub struct MemoryDriver {
    server: Server,
}

impl MemoryDriver {
    /// The driver of a server.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self { server }
    }
}

#[async_trait]
impl Driver for MemoryDriver {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["memory"]
    }

    fn summary(&self) -> &'static str {
        "a database in this process, for tests"
    }

    fn rules(&self) -> Vec<&'static dyn Rule> {
        Vec::new()
    }

    async fn connect(&self, url: &str, _settings: &Settings) -> Result<Arc<dyn Session>> {
        if url != "memory:" {
            return Err(Error::new(ErrorKind::Usage, "the only URL is `memory:`"));
        }
        Ok(Arc::new(self.server.connect()))
    }
}

/// A session.
pub struct MemorySession {
    client: Client,
    rebuilder: MemoryRebuilder,
}

impl Server {
    /// A session of a new client.
    #[must_use]
    pub fn connect(&self) -> MemorySession {
        let client = Client::new(self.clone());
        MemorySession { rebuilder: MemoryRebuilder { client: client.clone() }, client }
    }
}

impl MemorySession {
    /// The client, to decide about its doom.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

#[async_trait]
impl Session for MemorySession {
    async fn server(&self) -> Result<ServerFacts> {
        Ok(facts())
    }

    async fn checks(&self) -> Result<Vec<Check>> {
        let name = "connection".to_owned();
        Ok(vec![Check { name, state: CheckState::Good, found: "in this process".to_owned(), mend: None }])
    }

    /// Understands `retype TABLE`, which is a rebuild, and `native TABLE WORD`, which is a step of the server: some
    /// words misbehave, see `native.rs`.
    async fn draft(&self, request: &Request) -> Result<Draft> {
        request.capture(&["log"])?;
        let Request::Statement { text, .. } = request else {
            return Err(Error::new(ErrorKind::Usage, "this server rebuilds only by `retype TABLE`"));
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (table, candidate) = match words.as_slice() {
            ["retype", table] => (*table, self.retype()),
            ["native", table, word] => (*table, native(text, word)),
            _ => return Err(Error::new(ErrorKind::Usage, format!("`{text}` is not understood"))),
        };
        let rows = self.client.server.rows(table)?.len() as u64;
        Ok(Draft {
            statement: text.clone(),
            changes: vec![text.clone()],
            server: facts(),
            table: TableFacts {
                id: TableId::new(table),
                rows,
                rows_exact: true,
                bytes: None,
                key: vec!["key".to_owned()],
                dependants: Vec::new(),
            },
            candidates: vec![candidate],
            evidence: Evidence::default(),
            driver_facts: serde_json::Value::Null,
        })
    }

    async fn count(&self, table: &TableId) -> Result<u64> {
        Ok(self.client.server.rows(&table.name)?.len() as u64)
    }

    async fn load(&self, _limits: &Limits) -> Result<Vec<Reading>> {
        let load = |server: Server| async move {
            let running = server.look(|state| u32::try_from(state.open.len()).unwrap_or(u32::MAX));
            Ok(vec![
                Reading { signal: "threads_running".to_owned(), value: Some(f64::from(running)) },
                Reading { signal: "disk_free".to_owned(), value: Some(1e12) },
            ])
        };
        self.client.call(Kind::Read, "load".to_owned(), load).await
    }

    fn native(&self) -> Option<&dyn NativeDdl> {
        Some(&self.client)
    }

    fn rebuilder(&self) -> Option<&dyn Rebuilder> {
        Some(&self.rebuilder)
    }

    fn state(&self) -> &dyn StateStore {
        &self.client
    }
}

fn facts() -> ServerFacts {
    ServerFacts { driver: "memory".into(), product: "Memory".into(), version: "1".into() }
}

impl MemorySession {
    fn retype(&self) -> Candidate {
        let (unique, is_deferred) = self.client.server.look(|state| {
            let is_unique = state.wants_unique(Shape::New);
            (state.config.unique, is_unique && state.config.is_deferred)
        });
        Candidate {
            strategy: Strategy::Shadow,
            impossible: None,
            unasked: None,
            reason: "the values are written differently".to_owned(),
            steps: Vec::new(),
            locks: vec![LockNote { what: "the table, for the swap".to_owned(), hold_ms: 50 }],
            discards: Vec::new(),
            no_way_back: None,
            disk_bytes: None,
            undo: "`replank revert`".to_owned(),
            spec: serde_json::json!({ "unique": unique.word(), "deferred": is_deferred }),
        }
    }
}

fn native(text: &str, word: &str) -> Candidate {
    let step = Step {
        title: format!("set {word}"),
        statement: text.to_owned(),
        // What is written by ranges stays.
        inverse: if word == "ranges" { String::new() } else { format!("{text} back") },
        inverse_discards: Vec::new(),
        inverse_rebuilds: String::new(),
        finalize: String::new(),
        spec: serde_json::Value::Null,
    };
    Candidate {
        strategy: Strategy::Instant,
        impossible: None,
        unasked: None,
        reason: "it is metadata only".to_owned(),
        steps: vec![step],
        locks: vec![LockNote { what: "nothing".to_owned(), hold_ms: 0 }],
        discards: Vec::new(),
        no_way_back: None,
        disk_bytes: None,
        undo: "the inverse statement".to_owned(),
        spec: serde_json::Value::Null,
    }
}
