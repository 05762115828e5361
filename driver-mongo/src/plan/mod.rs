//! From what a person asked for to a draft: the collection as it is, and the ways that there are.

mod command;
mod evidence;
mod shadow;

pub use evidence::breaking;

use bson::Document;
use replank_core::driver::facts::TableFacts;
use replank_core::driver::{Request, ServerFacts};
use replank_core::ident::TableId;
use replank_core::plan::{Draft, Evidence};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::Server;
use crate::inspect::{self, Collection};
use crate::rebuild;
use crate::session::facts;
use crate::state::all_runs;

/// A request, read against the server.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a collection that is not there, [`ErrorKind::Refused`] for what cannot be changed.
pub async fn draft(server: &Server, request: &Request) -> Result<Draft> {
    match request {
        Request::Rebuild { table, shape, pipeline, reverse_pipeline, .. } => {
            let asked = shadow::Asked {
                shape: shape.as_deref(),
                pipeline: pipeline.as_deref(),
                reverse_pipeline: reverse_pipeline.as_deref(),
            };
            let subject = Subject::read(server, table).await?;
            shadow::draft(server, &subject, &asked).await
        }
        Request::Statement { text, forward, reverse, .. } => {
            if !forward.is_empty() || !reverse.is_empty() {
                return Err(Error::new(ErrorKind::Usage, "a command says by itself what becomes of values")
                    .hint("`replank rebuild COLLECTION --pipeline FILE --reverse-pipeline FILE` takes expressions"));
            }
            command::draft(server, text).await
        }
        Request::TakeBack { .. } => {
            Err(Error::new(ErrorKind::Internal, "no step of MongoDB's is taken back by a rebuild"))
        }
    }
}

/// The collection that a request is about.
struct Subject {
    id: TableId,
    collection: Collection,
    size: inspect::Size,
    server: ServerFacts,
}

impl Subject {
    async fn read(server: &Server, name: &str) -> Result<Self> {
        let name = plain_name(server, name)?;
        let collection = Collection::expect(server, name).await?;
        match collection.kind.as_str() {
            "collection" => {}
            kind => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("`{name}` is a {kind}, and no plain collection"),
                )
                .hint("a view is changed by `collMod`, and of a time series a new one is made"));
            }
        }
        if rebuild::whose(&collection.options).is_some() {
            // A plan would take it for the application's own validator.
            return Err(Error::new(ErrorKind::Refused, format!("writes to `{name}` are refused for a swap"))
                .hint("a run is at it: `replank status`; what a dead one left is taken away when its lease is over"));
        }
        Ok(Self {
            id: TableId { schema: Some(server.database_name().to_owned()), name: name.to_owned() },
            size: inspect::size(server, name).await?,
            collection,
            server: facts(server).await?,
        })
    }

    fn table_facts(&self) -> TableFacts {
        let mut dependants: Vec<String> = self
            .collection
            .indexes
            .iter()
            .map(|index| format!("index {}", inspect::index_name(index)))
            .collect();
        if self.collection.options.contains_key("validator") {
            dependants.push("validator".to_owned());
        }
        TableFacts {
            id: self.id.clone(),
            rows: self.size.documents,
            // The counters are wrong after a crash of the server's.
            rows_exact: false,
            bytes: self.size.bytes,
            key: vec!["_id".to_owned()],
            dependants,
        }
    }

    /// C032: other runs on the collection; a rebuild waits for what one keeps as well.
    async fn busy(&self, server: &Server, evidence: &mut Evidence) -> Result<()> {
        for run in all_runs(server).await? {
            if run.table == self.id {
                evidence.busy.extend(run.unfinished());
                evidence.busy.extend(run.keeps_retired_table());
            }
        }
        Ok(())
    }
}

/// The collection's name: it may be given with its database.
fn plain_name<'a>(server: &Server, name: &'a str) -> Result<&'a str> {
    let own = format!("{}.", server.database_name());
    let name = name.strip_prefix(&own).unwrap_or(name);
    if name.starts_with("system.") || name.starts_with("_rp_") {
        return Err(Error::new(ErrorKind::Refused, format!("`{name}` is no collection of an application")));
    }
    Ok(name)
}

/// Options in the words of a person.
fn described(options: &Document) -> String {
    if options.is_empty() { "no options".to_owned() } else { crate::ejson::document_text(options) }
}
