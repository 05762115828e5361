//! Commands as drafts: what each would do, how, and how it is taken back.

mod collection;
mod duplicates;
mod index;
mod job;
mod options;

use std::time::Duration;

use bson::Document;
use replank_core::driver::ServerFacts;
use replank_core::driver::facts::TableFacts;
use replank_core::ident::TableId;
use replank_core::plan::{Candidate, Draft, Evidence, LockNote, Step, Strategy};
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;

use crate::capability;
use crate::connect::Server;
use crate::inspect::{self, Collection};
use crate::lint::Facts;
use crate::native::{Act, step};
use crate::parse::{self, Asked, Command};
use crate::session::facts;
use crate::state::all_runs;

/// A command that changes the catalogue alone. On mongod 4.4 a rename over another collection took 7 ms under three writers.
const MOMENT_MS: u64 = 10;

/// What is drafted, as it grows command by command.
struct Drafting<'a> {
    server: &'a Server,
    /// The collection, without its database.
    name: String,
    /// As it is; `None` where there is none of that name.
    collection: Option<Collection>,
    /// An earlier command of the list makes it.
    is_made: bool,
    changes: Vec<String>,
    steps: Vec<Step>,
    reasons: Vec<String>,
    undo: Vec<String>,
    strategy: Strategy,
    locks: Vec<LockNote>,
    discards: Vec<String>,
    no_way_back: Option<String>,
    impossible: Option<String>,
    evidence: Evidence,
    facts: Facts,
}

/// The draft of a command, or of a list of them.
pub async fn draft(server: &Server, text: &str) -> Result<Draft> {
    let Asked { collection: name, commands } = parse::parse(text, server.database_name())?;
    let name = super::plain_name(server, &name)?.to_owned();
    let collection = Collection::read(server, &name).await?;
    let mut drafting = Drafting {
        server,
        name,
        collection,
        is_made: false,
        changes: Vec::new(),
        steps: Vec::new(),
        reasons: Vec::new(),
        undo: Vec::new(),
        strategy: Strategy::Instant,
        locks: Vec::new(),
        discards: Vec::new(),
        no_way_back: None,
        impossible: None,
        evidence: Evidence::default(),
        facts: Facts::default(),
    };
    if capability::is_router(server).await? {
        drafting.cannot("commands behind a mongos are not followed yet");
    }
    for command in commands {
        drafting.add(command).await?;
    }
    drafting.draft(text).await
}

impl Drafting<'_> {
    async fn add(&mut self, command: Command) -> Result<()> {
        let is_create = matches!(command, Command::Create(_));
        if !is_create && !self.is_made && self.collection.is_none() {
            Collection::expect(self.server, &self.name).await?;
        }
        match command {
            Command::CreateIndexes { indexes, quorum } => self.create_indexes(indexes, quorum.as_ref()).await,
            Command::DropIndexes(which) => self.drop_indexes(which).await,
            Command::Index(change) => self.change_index(change).await,
            Command::Options(set) => self.change_options(set).await,
            Command::Create(options) => self.create(options),
            Command::Rename { to, drops_target } => self.rename(&to, drops_target).await,
            Command::Drop => self.drop().await,
            Command::Update(updates) => self.update(updates).await,
            Command::Delete(deletes) => self.delete(deletes).await,
            Command::ConvertToCapped => {
                self.changes.push(format!("{} becomes capped", self.name));
                self.cannot("the server copies the whole collection while nobody can read or write it, and loses its indexes; a rebuild into a capped collection is not there yet");
                Ok(())
            }
            Command::Shard(name) => {
                self.changes.push(format!("how {} is spread over shards", self.name));
                self.cannot(&format!(
                    "`{name}` is for a mongos, and how it goes on behind one is not followed yet"
                ));
                Ok(())
            }
        }
    }

    /// The collection as it is now, which is there.
    fn there(&self) -> Collection {
        self.collection.clone().unwrap_or_else(|| Collection {
            options: Document::new(),
            uuid: String::new(),
            kind: "collection".to_owned(),
            indexes: Vec::new(),
        })
    }

    fn is_view(&self) -> bool {
        self.collection.as_ref().is_some_and(|collection| collection.kind == "view")
    }

    /// A step, and what it does in words.
    fn step(&mut self, title: String, forward: Act, back: Option<Act>, last: Option<Act>) -> Result<()> {
        self.steps.push(step(title, forward, back, last, self.server.database_name())?);
        Ok(())
    }

    /// A step that holds the collection for a moment.
    fn moment(&mut self) {
        if self.locks.is_empty() {
            self.locks.push(LockNote {
                what: "the collection, exclusively: reads and writes of it wait".to_owned(),
                hold_ms: MOMENT_MS,
            });
        }
    }

    fn cannot(&mut self, why: &str) {
        self.impossible.get_or_insert_with(|| why.to_owned());
    }

    fn for_good(&mut self, why: &str) {
        self.no_way_back.get_or_insert_with(|| why.to_owned());
    }

    fn say(list: &mut Vec<String>, text: &str) {
        if !list.iter().any(|said| said == text) {
            list.push(text.to_owned());
        }
    }

    fn because(&mut self, reason: &str) {
        Self::say(&mut self.reasons, reason);
    }

    fn undone(&mut self, undo: &str) {
        Self::say(&mut self.undo, undo);
    }

    async fn draft(mut self, text: &str) -> Result<Draft> {
        let id = TableId { schema: Some(self.server.database_name().to_owned()), name: self.name.clone() };
        for run in all_runs(self.server).await? {
            if run.table == id {
                self.evidence.busy.extend(run.unfinished());
            }
        }
        let server: ServerFacts = facts(self.server).await?;
        let table = self.table_facts(id).await?;
        let candidate = Candidate {
            strategy: self.strategy,
            impossible: self.impossible,
            unasked: None,
            reason: self.reasons.join("; "),
            steps: self.steps,
            locks: self.locks,
            discards: self.discards,
            no_way_back: self.no_way_back,
            disk_bytes: None,
            undo: self.undo.join("; "),
            spec: Json::Null,
        };
        let for_good = for_good(&candidate, &self.facts);
        Ok(Draft {
            statement: text.to_owned(),
            changes: self.changes,
            server,
            table,
            candidates: for_good.into_iter().chain([candidate]).collect(),
            evidence: self.evidence,
            driver_facts: serde_json::json!(self.facts),
        })
    }

    async fn table_facts(&self, id: TableId) -> Result<TableFacts> {
        let size = match &self.collection {
            Some(collection) if collection.kind != "view" => inspect::size(self.server, &self.name).await?,
            _ => inspect::Size::default(),
        };
        Ok(TableFacts {
            id,
            rows: size.documents,
            rows_exact: false,
            bytes: size.bytes,
            key: vec!["_id".to_owned()],
            dependants: Vec::new(),
        })
    }
}

/// The same without keeping a collection that goes, which is what it comes to where the way back was given up: so that it is judged.
fn for_good(kept: &Candidate, facts: &Facts) -> Option<Candidate> {
    let name = facts.dropped.as_ref().filter(|_| kept.discards.is_empty())?;
    let discards = vec![format!("collection {name} with its documents")];
    Some(Candidate { discards, ..kept.clone() })
}

/// A length of time that commands give in seconds.
fn seconds(value: &bson::Bson) -> Result<Duration> {
    let seconds = match value {
        bson::Bson::Int32(seconds) => f64::from(*seconds),
        #[expect(clippy::cast_precision_loss, reason = "the server takes 2^31 at most")]
        bson::Bson::Int64(seconds) => *seconds as f64,
        bson::Bson::Double(seconds) => *seconds,
        _ => -1.0,
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Error::new(ErrorKind::Usage, format!("`{}` is no number of seconds", crate::ejson::text(value)))
    })
}
