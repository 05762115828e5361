//! A job, range by range. No transaction: an update or a delete of many documents is many writes for the server, and each of them
//! may be done twice.

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use replank_core::driver::{ByRanges, Written};
use replank_core::ident::RunId;
use replank_core::plan::Step;
use replank_core::value::{Bounds, Key};
use replank_core::{Error, ErrorKind, Result};

use super::Native;
use super::act::Act;
use super::job::Job;
use crate::connect::{answer, majority_document};
use crate::ejson;
use crate::error::from_mongo;
use crate::inspect::number;
use crate::key;
use crate::ranges;
use crate::state::records;

/// Where it is noted which documents could not be written, and why.
const QUARANTINE: &str = "quarantine";
/// As many are named as a person reads.
const NAMED: i64 = 5;
/// A range is kept and deleted in pieces of so many documents, and so many bytes: a message may have 48 MB, and each document is
/// in one of two. Chosen.
const KEPT_AT_ONCE: i64 = 500;
const KEPT_BYTES: usize = 8 << 20;
/// A range has 100,000 documents at most, and some of them may be written just between two commands. Chosen.
const ROUNDS: u32 = 1_000;

#[async_trait]
impl ByRanges for Native {
    async fn next_bound(&self, step: &Step, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
        let job = self.job(step)?;
        ranges::next_bound(&self.server, job.swept(), after, rows).await
    }

    async fn write(&self, run: &RunId, step: &Step, bounds: &Bounds, quarantine_max: u64) -> Result<Written> {
        let job = self.job(step)?;
        let range = ranges::filter(bounds)?;
        let rows = ranges::counted(&self.server, job.swept(), &range).await?;
        let changed = match &job {
            Job::Update { .. } => self.update(run, &job, &range, quarantine_max).await?,
            Job::Delete { kept: None, .. } => self.whole(&job, &range).await?,
            Job::Delete { kept: Some(kept), .. } => self.delete_kept(&job, &range, kept).await?,
            Job::PutBack { collection, kept } => self.put_back(collection, kept, &range).await?,
        };
        Ok(Written { rows, changed })
    }

    async fn finish(&self, run: &RunId, step: &Step) -> Result<Option<String>> {
        match self.job(step)? {
            Job::Update { .. } => self.told_of_quarantine(run, step).await,
            Job::Delete { .. } => Ok(None),
            Job::PutBack { collection, kept } => self.all_are_back(&collection, &kept).await,
        }
    }
}

impl Native {
    fn job(&self, step: &Step) -> Result<Job> {
        match self.act(step)? {
            Act::Write(job) => Ok(job),
            _ => Err(Error::new(ErrorKind::Internal, "a step is no write of many documents")),
        }
    }

    /// The write of a range as one command.
    async fn whole(&self, job: &Job, range: &Document) -> Result<u64> {
        let reply = self.send_write(job.within(Some(range))).await?;
        let changed = reply.get("nModified").or_else(|| reply.get("n"));
        Ok(changed.map_or(0, number))
    }

    /// Where a range fails for a document of it, each is written by itself, and those that fail are noted.
    async fn update(&self, run: &RunId, job: &Job, range: &Document, quarantine_max: u64) -> Result<u64> {
        match self.whole(job, range).await {
            Err(error) if is_of_a_document(&error) => {}
            answered => return answered,
        }
        let mut changed = 0;
        for id in self.matching(job, range).await? {
            match self.whole(job, &doc! { "_id": { "$eq": id.clone() } }).await {
                Ok(one) => changed += one,
                Err(error) if is_of_a_document(&error) => {
                    self.set_aside(run, job, &id, &error, quarantine_max).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }

    async fn matching(&self, job: &Job, range: &Document) -> Result<Vec<Bson>> {
        let filter = doc! { "$and": [range.clone(), job.filter()] };
        let collection = self.server.database().collection::<Document>(job.collection());
        let finding = collection.find(filter).projection(doc! { "_id": 1 }).hint(ranges::by_id());
        let found = finding.await.map_err(from_mongo)?;
        let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
        Ok(found.into_iter().filter_map(|mut one| one.remove("_id")).collect())
    }

    /// Notes a document that cannot be written, and why. Its contents stay where they are. Noting it again changes nothing.
    async fn set_aside(&self, run: &RunId, job: &Job, id: &Bson, error: &Error, most: u64) -> Result<()> {
        let key = key::encode(id)?;
        let quarantine = records(&self.server, QUARANTINE);
        let of_run = doc! { "run": run.as_str() };
        let this = doc! { "_id": format!("{run}/{}", key.0) };
        let others = doc! { "$and": [of_run, { "_id": { "$ne": this.get("_id") } }] };
        if quarantine.count_documents(others).await.map_err(from_mongo)? >= most {
            let limit = match most {
                0 => "nothing is put aside unless that is asked for".to_owned(),
                most => format!("{most} were put aside already, which was the limit"),
            };
            return Err(Error::new(
                ErrorKind::Unfit,
                format!("the document `{}` cannot be written: {}", ejson::text(id), error.message()),
            )
            .with("quarantine", limit)
            .hint(format!(
                "what was written stays. Mend the document and `replank resume {}`; or abort it, and begin again with --throttle quarantine_max=1000: such documents are then noted in `{}.{QUARANTINE}`, and the others written",
                run.short(),
                self.server.settings().state_name
            )));
        }
        let mut note = this.clone();
        note.extend(doc! {
            "run": run.as_str(),
            "collection": job.collection(),
            "document": id.clone(),
            "reason": error.message(),
        });
        quarantine.replace_one(this, note).upsert(true).await.map_err(from_mongo).map(|_| ())
    }

    async fn told_of_quarantine(&self, run: &RunId, step: &Step) -> Result<Option<String>> {
        let quarantine = records(&self.server, QUARANTINE);
        let of_run = doc! { "run": run.as_str() };
        let number = quarantine.count_documents(of_run.clone()).await.map_err(from_mongo)?;
        if number == 0 {
            return Ok(None);
        }
        let first = quarantine.find(of_run).sort(doc! { "_id": 1 }).limit(NAMED).await.map_err(from_mongo)?;
        let first: Vec<Document> = first.try_collect().await.map_err(from_mongo)?;
        let named: Vec<String> =
            first.iter().filter_map(|one| one.get("document")).map(ejson::text).collect();
        Ok(Some(format!(
            "{number} documents could not be written by `{}` and are as they were: {}{}; why says `{}.{QUARANTINE}`",
            step.title,
            named.join(", "),
            if number > u64::try_from(named.len()).unwrap_or(u64::MAX) { ", …" } else { "" },
            self.server.settings().state_name
        )))
    }

    /// What goes is kept first, and goes only as it was kept: a document that is written between the two is looked at again.
    async fn delete_kept(&self, job: &Job, range: &Document, kept: &str) -> Result<u64> {
        let mut deleted = 0;
        for _ in 0..ROUNDS {
            let some = self.some_matching(job, range).await?;
            if some.is_empty() {
                return Ok(deleted);
            }
            let (mut keeping, mut deleting) = (Vec::new(), Vec::new());
            for document in some {
                let id = document.get("_id").cloned().unwrap_or(Bson::Null);
                let this = doc! { "_id": { "$eq": id } };
                // A replacement could not bear every name of a field, and a pipeline can.
                let as_it_is = doc! { "$literal": document };
                keeping.push(doc! { "q": &this, "u": [{ "$replaceWith": &as_it_is }], "upsert": true });
                let unchanged = doc! { "$expr": { "$eq": ["$$ROOT", as_it_is] } };
                deleting.push(doc! { "q": { "$and": [this, unchanged] }, "limit": 1 });
            }
            self.send_write(doc! { "update": kept, "updates": keeping }).await?;
            let reply = self.send_write(doc! { "delete": job.collection(), "deletes": deleting }).await?;
            deleted += reply.get("n").map_or(0, number);
        }
        Err(Error::new(ErrorKind::Retry, "documents are written faster than they can be kept"))
    }

    /// As many documents as one command takes.
    async fn some_matching(&self, job: &Job, range: &Document) -> Result<Vec<Document>> {
        let filter = doc! { "$and": [range.clone(), job.filter()] };
        let collection = self.server.database().collection::<RawDocumentBuf>(job.collection());
        let finding = collection.find(filter).hint(ranges::by_id()).limit(KEPT_AT_ONCE);
        let mut found = finding.await.map_err(from_mongo)?;
        let (mut some, mut bytes) = (Vec::new(), 0);
        while bytes < KEPT_BYTES
            && let Some(raw) = found.try_next().await.map_err(from_mongo)?
        {
            bytes += raw.as_bytes().len();
            some.push(Document::try_from(raw).map_err(|error| {
                Error::new(ErrorKind::Server, "a document cannot be read").caused_by(error)
            })?);
        }
        Ok(some)
    }

    async fn send_write(&self, mut command: Document) -> Result<Document> {
        command.insert("ordered", false);
        command.insert("writeConcern", majority_document());
        command.insert("comment", "replank");
        answer(self.server.database().run_command(command).await)
    }

    /// What was kept comes back, unless its `_id` was written since.
    async fn put_back(&self, collection: &str, kept: &str, range: &Document) -> Result<u64> {
        let before = ranges::counted(&self.server, collection, range).await?;
        let stages = vec![
            doc! { "$match": range.clone() },
            doc! { "$merge": {
                "into": collection,
                "on": "_id",
                // `keepExisting` would store the fields in the order of their names.
                "whenMatched": [{ "$replaceWith": "$$ROOT" }],
                "whenNotMatched": "insert",
            } },
        ];
        let from = self.server.database().collection::<Document>(kept);
        let merging = from.aggregate(stages).hint(ranges::by_id()).allow_disk_use(true);
        merging.bypass_document_validation(true).comment(Bson::from("replank")).await.map_err(from_mongo)?;
        Ok(ranges::counted(&self.server, collection, range).await?.saturating_sub(before))
    }

    /// What was kept goes, now that all of it is back.
    async fn all_are_back(&self, collection: &str, kept: &str) -> Result<Option<String>> {
        let stages = vec![
            doc! { "$lookup": { "from": collection, "localField": "_id", "foreignField": "_id", "as": "there" } },
            doc! { "$match": { "there": [] } },
            doc! { "$limit": 1 },
            doc! { "$project": { "_id": 1 } },
        ];
        let from = self.server.database().collection::<Document>(kept);
        let missing = from.aggregate(stages).allow_disk_use(true).await.map_err(from_mongo)?;
        let missing: Vec<Document> = missing.try_collect().await.map_err(from_mongo)?;
        let told = missing.first().and_then(|one| one.get("_id")).map(|id| {
            format!(
                "`{}` came back and was deleted again by others since, and perhaps others with it",
                ejson::text(id)
            )
        });
        from.drop().await.map_err(from_mongo)?;
        Ok(told)
    }
}

/// Whether an error is about one document of those that were written, and not about the server or the command.
fn is_of_a_document(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unfit | ErrorKind::Duplicate)
}
