//! The rebuild as a candidate.

use bson::{Bson, Document};
use replank_core::plan::{Candidate, Draft, Evidence, LockNote, Step, Strategy};
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;

use super::{Subject, described, evidence};
use crate::capability::{self, Capabilities};
use crate::collation::Collation;
use crate::connect::Server;
use crate::inspect;
use crate::lint::Facts;
use crate::spec::{Side, Spec, Stored, stored};
use crate::{ejson, transform};

/// What the fence may take.
const FENCE_MS: u64 = 150;

/// Options that a new shape may have.
const OPTIONS: [&str; 7] = [
    "validator",
    "validationLevel",
    "validationAction",
    "storageEngine",
    "indexOptionDefaults",
    "changeStreamPreAndPostImages",
    "collation",
];

/// What a person asked for.
pub struct Asked<'a> {
    /// What `create` takes for the new collection.
    pub shape: Option<&'a str>,
    /// What is made of each document.
    pub pipeline: Option<&'a str>,
    /// What is made of each document on the way back.
    pub reverse_pipeline: Option<&'a str>,
}

/// The draft of a rebuild.
pub async fn draft(server: &Server, subject: &Subject, asked: &Asked<'_>) -> Result<Draft> {
    let name = &subject.id.name;
    let old = Side {
        options: Stored(subject.collection.options.clone()),
        indexes: stored(subject.collection.indexes.clone()),
    };
    let new = match asked.shape {
        None => old.clone(),
        Some(text) => Side { options: Stored(options(text, name)?), indexes: old.indexes.clone() },
    };
    let forward = asked.pipeline.map(transform::parse).transpose()?;
    let backward = asked.reverse_pipeline.map(transform::parse).transpose()?;
    if forward.is_none() && backward.is_some() {
        return Err(
            Error::new(ErrorKind::Usage, "there is a way back without a way forward").hint("add --pipeline")
        );
    }
    // Without a pipeline documents stay as they are, both ways.
    let backward = if forward.is_none() { Some(Vec::new()) } else { backward };
    let forward = forward.unwrap_or_default();
    let mut evidence = Evidence::default();
    evidence::gather(server, name, &forward, &new, &mut evidence).await?;
    subject.busy(server, &mut evidence).await?;
    let found = capability::probe(server).await?;
    let spec = Spec {
        old,
        new,
        forward: stored(forward.clone()),
        backward: backward.clone().map(stored),
        uuid: subject.collection.uuid.clone(),
        uuids_last: found.uuids_last,
        fence_waits: found.waits_for_transactions,
    };
    let mut candidate = candidate(subject);
    candidate.spec = spec.write()?;
    candidate.impossible = unsuitable(subject, &spec, &found);
    if backward.is_none() {
        candidate.no_way_back = Some(
            "--reverse-pipeline says nothing of how a document of the new shape becomes one of the old"
                .to_owned(),
        );
    }
    Ok(Draft {
        statement: statement(subject, asked),
        changes: changes(&spec, &forward),
        server: subject.server.clone(),
        table: subject.table_facts(),
        candidates: vec![candidate],
        evidence,
        driver_facts: serde_json::json!(Facts {
            missing: found.missing.clone(),
            transactions_pass: !found.waits_for_transactions,
            ..Facts::default()
        }),
    })
}

/// The rebuild as it is written in records, the files' contents with it.
fn statement(subject: &Subject, asked: &Asked<'_>) -> String {
    let mut statement = format!("REBUILD {}", subject.id.name);
    let parts =
        [("AS", asked.shape), ("PIPELINE", asked.pipeline), ("REVERSE PIPELINE", asked.reverse_pipeline)];
    for (word, text) in parts {
        if let Some(value) = text.and_then(|text| ejson::parse(text).ok()) {
            statement.push_str(&format!(" {word} {}", ejson::text(&value)));
        }
    }
    statement
}

fn changes(spec: &Spec, forward: &[Document]) -> Vec<String> {
    let mut changes = Vec::new();
    if spec.old.options != spec.new.options {
        changes.push(format!("options become {}", described(&spec.new.options.0)));
    }
    changes.extend(
        forward.iter().map(|stage| format!("each document goes through {}", ejson::document_text(stage))),
    );
    if changes.is_empty() {
        changes.push("every document is written anew, as it is".to_owned());
    }
    changes
}

/// The options of a new shape: what `create` takes, with or without the name.
fn options(text: &str, name: &str) -> Result<Document> {
    let Bson::Document(mut options) = ejson::parse(text)? else {
        return Err(Error::new(ErrorKind::Usage, "the new shape is an object, as `create` takes it"));
    };
    if let Some(Bson::String(created)) = options.remove("create")
        && created != name
    {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the new shape is that of `{created}`, and not of `{name}`"),
        ));
    }
    if let Some(unknown) = options.keys().find(|option| !OPTIONS.contains(&option.as_str())) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("a rebuild into a collection with `{unknown}` is not there yet"),
        )
        .hint(format!("it takes {}", OPTIONS.join(", "))));
    }
    Ok(options)
}

fn candidate(subject: &Subject) -> Candidate {
    let step = Step::of_engine;
    Candidate {
        strategy: Strategy::Shadow,
        impossible: None,
        unasked: None,
        reason: "no command of the server's writes every document anew while others write".to_owned(),
        steps: vec![
            step("open a change stream, and make the new collection, empty", "drop it"),
            step("copy documents in ranges of `_id`, build indexes, and apply changes", "drop the new collection"),
            step("compare every document, by type and bytes", "nothing"),
            step(
                "refuse writes for a moment by a validator, rename the new collection over the old one",
                "the same with a collection of the old shape that is kept in step",
            ),
        ],
        locks: vec![LockNote {
            what: "writes are refused with error 121 (DocumentValidationFailure), which drivers do not retry, for no longer than the fence budget".to_owned(),
            hold_ms: FENCE_MS,
        }],
        discards: Vec::new(),
        no_way_back: None,
        // The new collection, and the one of the old shape that is kept for the way back.
        disk_bytes: subject.size.bytes.map(|bytes| bytes.saturating_mul(2)),
        undo: "`revert` swaps back, with every write made since; `finalize` drops the collection that is kept for it".to_owned(),
        spec: Json::Null,
    }
}

/// What stands in the way.
fn unsuitable(subject: &Subject, spec: &Spec, found: &Capabilities) -> Option<String> {
    if let Some(missing) = found.missing.first() {
        return Some(format!("this server cannot be followed while it is written: {missing}"));
    }
    if found.is_router {
        return Some("a rebuild of a collection behind a mongos is not there yet".to_owned());
    }
    let expires = |index: &&Document| index.contains_key("expireAfterSeconds");
    if let Some(index) = subject.collection.indexes.iter().find(expires) {
        // The server would delete from the copies by itself.
        return Some(format!(
            "a rebuild of a collection with a TTL index (`{}`) is not there yet",
            inspect::index_name(index)
        ));
    }
    let options = &subject.collection.options;
    let special = ["capped", "timeseries", "clusteredIndex", "encryptedFields", "viewOn"];
    if let Some(option) = special.into_iter().find(|option| options.contains_key(option)) {
        return Some(format!("a rebuild of a collection with `{option}` is not there yet"));
    }
    if Collation::of(&spec.old.options.0) != Collation::of(&spec.new.options.0) {
        return Some("a rebuild into another collation is not there yet".to_owned());
    }
    None
}
