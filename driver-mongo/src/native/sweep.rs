//! A job, range by range. No transaction: an update or a delete of many documents is many writes for the server, and each of them
//! may be done twice.

use async_trait::async_trait;
use bson::{Bson, Document, doc};
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
use crate::inspect::{self, number};
use crate::key;
use crate::ranges;
use crate::state::records;

/// Where it is noted which documents could not be written, and why.
const QUARANTINE: &str = "quarantine";
/// As many are named as a person reads.
const NAMED: i64 = 5;

#[async_trait]
impl ByRanges for Native {
    async fn next_bound(&self, step: &Step, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
        ranges::next_bound(&self.server, &self.job(step)?.collection, after, rows).await
    }

    async fn write(&self, run: &RunId, step: &Step, bounds: &Bounds, quarantine_max: u64) -> Result<Written> {
        let job = self.job(step)?;
        self.is_the_same(&job).await?;
        let range = ranges::filter(bounds)?;
        let rows = ranges::counted(&self.server, &job.collection, &range).await?;
        let changed = match self.send_write(run, &job, &range).await {
            Err(error) if is_of_a_document(&error) => {
                self.one_by_one(run, &job, &range, quarantine_max).await?
            }
            answered => answered?,
        };
        Ok(Written { rows, changed })
    }

    async fn finish(&self, run: &RunId, step: &Step) -> Result<Option<String>> {
        self.is_the_same(&self.job(step)?).await?;
        self.told_of_quarantine(run, step).await
    }
}

impl Native {
    fn job(&self, step: &Step) -> Result<Job> {
        match self.act(step)? {
            Act::Write(job) => Ok(job),
            _ => Err(Error::new(ErrorKind::Internal, "a step is no write of many documents")),
        }
    }

    /// One that was dropped or renamed is not written any more, and the job would come to its end without a word.
    async fn is_the_same(&self, job: &Job) -> Result<()> {
        match inspect::uuid(&self.server, &job.collection).await? {
            Some(uuid) if uuid == job.uuid => Ok(()),
            _ => Err(Error::new(
                ErrorKind::ForeignDdl,
                format!("`{}` is not the collection any more that the job began with", job.collection),
            )
            .hint("somebody has dropped or renamed it: `replank abort` ends the job, and what was written stays")),
        }
    }

    /// Writes what matches within a range. Answers how many documents that changed.
    async fn send_write(&self, run: &RunId, job: &Job, range: &Document) -> Result<u64> {
        let mut command = job.within(range);
        command.insert("writeConcern", majority_document());
        command.insert("comment", format!("replank {run}"));
        let reply = answer(self.server.database().run_command(command).await)?;
        let changed = reply.get("nModified").or_else(|| reply.get("n"));
        Ok(changed.map_or(0, number))
    }

    /// Where a range fails for a document of it, each is written by itself, and those that fail are noted.
    async fn one_by_one(&self, run: &RunId, job: &Job, range: &Document, most: u64) -> Result<u64> {
        let mut changed = 0;
        for id in self.matching(job, range).await? {
            match self.send_write(run, job, &doc! { "_id": { "$eq": id.clone() } }).await {
                Ok(one) => changed += one,
                Err(error) if is_of_a_document(&error) => {
                    self.set_aside(run, job, &id, &error, most).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }

    async fn matching(&self, job: &Job, range: &Document) -> Result<Vec<Bson>> {
        let filter = doc! { "$and": [range.clone(), job.filter.0.clone()] };
        let collection = self.server.database().collection::<Document>(&job.collection);
        let finding = collection.find(filter).projection(doc! { "_id": 1 }).hint(ranges::by_id());
        let found: Vec<Document> =
            finding.await.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)?;
        Ok(found.into_iter().filter_map(|mut one| one.remove("_id")).collect())
    }

    /// Notes a document that cannot be written, and why. Its contents stay where they are. Noting it again changes nothing.
    async fn set_aside(&self, run: &RunId, job: &Job, id: &Bson, error: &Error, most: u64) -> Result<()> {
        let quarantine = records(&self.server, QUARANTINE);
        let this = doc! { "_id": format!("{run}/{}", key::encode(id)?.0) };
        let others = doc! { "run": run.as_str(), "_id": { "$ne": this.get("_id") } };
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
                "what was written stays. Mend the document, or `replank throttle {0} quarantine_max=1000`, by which such documents are noted in `{1}.{QUARANTINE}` and the others written; then `replank resume {0}`",
                run.short(),
                self.server.settings().state_name
            )));
        }
        let mut note = this.clone();
        note.extend(doc! {
            "run": run.as_str(),
            "collection": &job.collection,
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
}

/// Whether an error may be about one document of those that were written, and not about the server or its connection. Of one that is
/// about the command each document fails, and the first is named.
fn is_of_a_document(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unfit | ErrorKind::Duplicate | ErrorKind::Server)
}
