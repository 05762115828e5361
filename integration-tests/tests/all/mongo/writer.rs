//! One writer, which knows what each of its documents is.

use std::collections::BTreeMap;
use std::iter::StepBy;
use std::ops::RangeFrom;
use std::sync::Arc;
use std::time::Duration;

use mongodb::action::Action as _;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, WriteFailure};
use mongodb::{ClientSession, Database};
use tokio::time::{Instant, timeout};

use super::journal::{Journal, Possibilities, Stored};
use super::load::{Settings, Shared};
use super::orders::{COLLECTION, id};
use super::plan::{Kind, Operation, draw};
use crate::random::Random;

/// A server that does not answer is not waited for.
const LIMIT: Duration = Duration::from_secs(15);
const REFUSED: i32 = 121;
const DUPLICATE: i32 = 11_000;
const CONFLICT: i32 = 112;
const NO_TRANSACTION: i32 = 251;

/// A writer and its documents.
pub struct Writer {
    database: Database,
    random: Random,
    journal: Journal,
    /// Documents that it still writes: those of which it knows all.
    keys: Vec<u64>,
    /// Keys that nobody has used yet.
    fresh: StepBy<RangeFrom<u64>>,
    settings: Settings,
}

/// How a write failed.
enum Failure {
    /// It was not done, because of the validation.
    Refused,
    /// It was not done, because of another write.
    Conflict,
    /// The server knows no such transaction, or no more: one that was killed since has forgotten that it committed it.
    Over(String),
    /// It was not even sent.
    NotSent(String),
    /// The server said what cannot be.
    Contradiction(String),
    /// The server found nothing, and had what it was to find: see [`Settings::may_miss`].
    Missed,
    /// It was done or not.
    Unknown(String),
}

/// What documents are before and after.
type Changes = BTreeMap<u64, Possibilities>;

impl Writer {
    /// A writer of the documents that its journal knows, and of new ones from a key on, in steps as wide as there are writers.
    pub fn new(
        database: Database,
        random: Random,
        journal: Journal,
        first_fresh: u64,
        settings: Settings,
    ) -> Self {
        let keys = journal.known.keys().copied().collect();
        let step = usize::try_from(settings.writers).expect("a few writers");
        Self { database, random, journal, keys, fresh: (first_fresh..).step_by(step), settings }
    }

    /// Writes until it is told to stop.
    pub async fn write(mut self, shared: Arc<Shared>) -> Journal {
        while !shared.is_stopped() {
            let (began, before) = (Instant::now(), self.journal.summary.acknowledged);
            match self.settings.transactions && self.random.one_in(6) {
                true => self.transaction(&shared).await,
                false => self.single(&shared).await,
            }
            self.journal.summary.longest = self.journal.summary.longest.max(began.elapsed());
            if self.journal.summary.acknowledged > before {
                shared.acknowledge();
            }
            let pause = u64::try_from(self.settings.pause.as_micros()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_micros(self.random.below(pause))).await;
        }
        self.journal
    }

    async fn single(&mut self, shared: &Shared) {
        let mut changes = Changes::new();
        let (operation, sent) = (self.draw(&changes), Instant::now());
        let before = self.now(operation.key, &changes);
        let done = self.carry_out(&operation, before.as_ref(), None).await;
        note(&mut changes, &operation, before, sent);
        match done {
            Ok(()) => self.acknowledged(changes),
            Err(failure) => self.failed(failure, changes, shared),
        }
    }

    async fn transaction(&mut self, shared: &Shared) {
        let mut changes = Changes::new();
        let mut session = match limited(self.database.client().start_session()).await {
            Ok(session) => session,
            Err(failure) => return self.failed_before_commit(failure, &[], shared),
        };
        session.start_transaction().await.expect("a new session has no transaction");
        for _ in 0..1 + self.random.below(4) {
            let (operation, sent) = (self.draw(&changes), Instant::now());
            let before = self.now(operation.key, &changes);
            let done = self.carry_out(&operation, before.as_ref(), Some(&mut session)).await;
            note(&mut changes, &operation, before, sent);
            if let Err(failure) = done {
                let is_over = limited(session.abort_transaction()).await.is_ok();
                // What the server may still hold for a transaction nobody should wait for; and of what cannot be it is told once.
                let goes_on = is_over && !matches!(failure, Failure::Contradiction(_));
                let held: Vec<u64> = if goes_on { Vec::new() } else { changes.keys().copied().collect() };
                return self.failed_before_commit(failure, &held, shared);
            }
        }
        if self.random.one_in(5) {
            match limited(session.abort_transaction()).await {
                Ok(()) => self.journal.summary.taken_back += 1,
                Err(_lost) => self.let_go(&changes.keys().copied().collect::<Vec<_>>()),
            }
            return;
        }
        match limited(session.commit_transaction()).await {
            Ok(()) => self.acknowledged(changes),
            // Or it was sent before and its answer lost: a client sends a commit twice.
            Err(Failure::NotSent(why) | Failure::Over(why)) => {
                self.failed(Failure::Unknown(why), changes, shared);
            }
            Err(failure) => self.failed(failure, changes, shared),
        }
    }

    /// A write of one of its documents, or of a new one; some are written much more than others.
    fn draw(&mut self, changes: &Changes) -> Operation {
        let few = if self.random.one_in(3) { 6 } else { u64::MAX };
        let bound = few.min(u64::try_from(self.keys.len()).expect("64 bits"));
        let key = match self.random.one_in(8) || bound == 0 {
            true => {
                let key = self.fresh.next().expect("there are always more");
                self.keys.push(key);
                self.journal.known.insert(key, None);
                key
            }
            false => self.keys[usize::try_from(self.random.below(bound)).expect("below a length")],
        };
        let is_there = self.now(key, changes).is_some();
        draw(&mut self.random, key, is_there, &self.settings)
    }

    /// What a document is, with what the transaction did.
    fn now(&self, key: u64, changes: &Changes) -> Option<Stored> {
        match changes.get(&key) {
            Some((_, after)) => after.clone(),
            None => self.journal.known.get(&key).cloned().flatten(),
        }
    }

    /// Whether all of these are not there, as far as is known.
    fn are_gone(&self, changes: &Changes) -> bool {
        changes.keys().all(|key| self.journal.known.get(key).is_none_or(Option::is_none))
    }

    fn acknowledged(&mut self, changes: Changes) {
        let answered = Instant::now();
        self.journal.summary.acknowledged += 1;
        for (key, (before, after)) in changes {
            let after = after.map(|after| match before {
                Some(before) if before.sent == after.sent => after,
                _ => Stored { answered, ..after },
            });
            self.journal.known.insert(key, after);
        }
    }

    /// A write of one statement failed, or a commit.
    fn failed(&mut self, failure: Failure, changes: Changes, shared: &Shared) {
        let why = match failure {
            Failure::Refused => return self.journal.refuse(),
            Failure::Conflict | Failure::Over(_) => {
                self.journal.summary.conflicts += 1;
                return;
            }
            Failure::NotSent(why) => {
                self.journal.summary.not_sent += 1;
                why
            }
            // What is written stays as it was: not there.
            Failure::Contradiction(_) if self.settings.may_be_seen_again && self.are_gone(&changes) => {
                self.journal.summary.seen_again += 1;
                return;
            }
            Failure::Contradiction(why) => {
                self.let_go(&changes.keys().copied().collect::<Vec<_>>());
                self.journal.contradictions.push(why.clone());
                why
            }
            // What is there must be what was there before.
            Failure::Missed => {
                self.let_go(&changes.keys().copied().collect::<Vec<_>>());
                "the server found nothing".to_owned()
            }
            Failure::Unknown(why) => {
                self.journal.summary.unknown += 1;
                self.let_go(&changes.keys().copied().collect::<Vec<_>>());
                self.journal.unknown.push(changes);
                why
            }
        };
        shared.trouble(&why);
        self.journal.trouble(&why);
    }

    /// A transaction failed, of which nothing was to be committed yet.
    fn failed_before_commit(&mut self, failure: Failure, held: &[u64], shared: &Shared) {
        self.let_go(held);
        match failure {
            Failure::Unknown(why) => {
                self.journal.summary.failed += 1;
                shared.trouble(&why);
                self.journal.trouble(&why);
            }
            other => self.failed(other, Changes::new(), shared),
        }
    }

    /// Never writes these again.
    fn let_go(&mut self, keys: &[u64]) {
        self.keys.retain(|key| !keys.contains(key));
    }

    async fn carry_out(
        &self,
        operation: &Operation,
        before: Option<&Stored>,
        session: Option<&mut ClientSession>,
    ) -> Result<(), Failure> {
        let orders = self.database.collection::<Document>(COLLECTION);
        let query = doc! { "_id": id(operation.key) };
        let is_there = before.is_some();
        let after = operation.after(before.map(|stored| &stored.document)).unwrap_or_default();
        let set = match &operation.kind {
            Kind::Set { field, value } | Kind::PutField { field, value } => {
                doc! { "$set": { *field: value } }
            }
            _ => doc! { "$inc": { "version": 1 } },
        };
        // Whether it found what it must have found.
        let is_so = match &operation.kind {
            Kind::Insert { .. } => {
                limited(orders.insert_one(after).optional(session, |write, session| write.session(session)))
                    .await?;
                true
            }
            Kind::Set { .. } | Kind::Increment => {
                limited(
                    orders.update_one(query, set).optional(session, |write, session| write.session(session)),
                )
                .await?
                .matched_count
                    == 1
            }
            Kind::Replace { .. } => {
                limited(
                    orders
                        .replace_one(query, after)
                        .optional(session, |write, session| write.session(session)),
                )
                .await?
                .matched_count
                    == 1
            }
            Kind::Delete => {
                limited(orders.delete_one(query).optional(session, |write, session| write.session(session)))
                    .await?
                    .deleted_count
                    == 1
            }
            Kind::PutField { .. } => {
                let done = limited(
                    orders
                        .update_one(query, set)
                        .upsert(true)
                        .optional(session, |write, session| write.session(session)),
                )
                .await?;
                (done.matched_count == 1) == is_there && done.upserted_id.is_some() != is_there
            }
            Kind::PutWhole { .. } => {
                let done = limited(
                    orders
                        .replace_one(query, after)
                        .upsert(true)
                        .optional(session, |write, session| write.session(session)),
                )
                .await?;
                (done.matched_count == 1) == is_there && done.upserted_id.is_some() != is_there
            }
        };
        match is_so {
            true => Ok(()),
            false if self.settings.may_miss && is_there => Err(Failure::Missed),
            false => Err(Failure::Contradiction(format!(
                "{operation:?}: the server found otherwise than {before:?}"
            ))),
        }
    }
}

/// Adds what an operation makes of its document.
fn note(changes: &mut Changes, operation: &Operation, before: Option<Stored>, sent: Instant) {
    let document = before.as_ref().map(|stored| &stored.document);
    let decides = operation.decides_the_shape(document);
    let after = operation.after(document).map(|document| match &before {
        Some(before) if !decides => Stored { document, ..before.clone() },
        _ => Stored { document, sent, answered: sent },
    });
    changes.entry(operation.key).or_insert((before, None)).1 = after;
}

async fn limited<T>(answer: impl IntoFuture<Output = Result<T, Error>>) -> Result<T, Failure> {
    match timeout(LIMIT, answer.into_future()).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_elapsed) => Err(Failure::Unknown(format!("no answer in {LIMIT:?}"))),
    }
}

fn failure(error: &Error) -> Failure {
    let code = match error.kind.as_ref() {
        ErrorKind::ServerSelection { message, .. } => return Failure::NotSent(message.clone()),
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code,
        ErrorKind::Command(command) => command.code,
        _ => 0,
    };
    match code {
        REFUSED => Failure::Refused,
        CONFLICT => Failure::Conflict,
        NO_TRANSACTION => Failure::Over(error.to_string()),
        DUPLICATE => Failure::Contradiction(error.to_string()),
        _ if code != 0 && error.contains_label(TRANSIENT_TRANSACTION_ERROR) => Failure::Conflict,
        _ => Failure::Unknown(error.to_string()),
    }
}
