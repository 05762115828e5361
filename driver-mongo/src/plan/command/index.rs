//! `createIndexes`, `dropIndexes`, and `collMod` of an index.

use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::plan::Strategy;
use replank_core::{Error, ErrorKind, Result};

use super::duplicates::duplicates;
use super::{Drafting, seconds};
use crate::capability;
use crate::connect::millis;
use crate::ejson;
use crate::error::from_mongo;
use crate::inspect::{index_name, is_set, number};
use crate::native::{Act, is_index, is_key, quorum};
use crate::parse::{IndexChange, Which};
use crate::spec::Stored;
use crate::state::now_ms;

/// The server's limit, that of `_id` among them. Source: <https://www.mongodb.com/docs/manual/reference/limits/>.
const INDEXES_MAX: usize = 64;

impl Drafting<'_> {
    pub(super) async fn create_indexes(
        &mut self,
        indexes: Vec<Document>,
        given: Option<&Bson>,
    ) -> Result<()> {
        if self.is_view() {
            self.cannot("a view has no indexes of its own");
            return Ok(());
        }
        let there = self.there();
        let mut new = Vec::new();
        for index in indexes {
            match there.indexes.iter().find(|other| index_name(other) == index_name(&index)) {
                Some(other) if is_index(other, &index) => {}
                Some(other) => {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        format!("there is another index `{}`", index_name(&index)),
                    )
                    .with("it is", ejson::document_text(other))
                    .hint("give the new one another name, or drop the old one first"));
                }
                None => new.push(index),
            }
        }
        if there.indexes.len() + 1 + new.len() > INDEXES_MAX {
            self.cannot(&format!("a collection has at most {INDEXES_MAX} indexes"));
        }
        self.facts.members_down = members_down(self, given).await;
        // What is made by this list is empty, and needs no such way.
        let is_asked = !self.is_made && new.iter().any(|index| is_set(index, "unique"));
        let prepares = is_asked && capability::prepares_unique(self.server).await?;
        for index in new {
            self.create_index(index, given, prepares).await?;
        }
        Ok(())
    }

    async fn create_index(&mut self, index: Document, given: Option<&Bson>, prepares: bool) -> Result<()> {
        let name = index_name(&index).to_owned();
        self.changes.push(format!("index {name} comes: {}", described(&index)));
        if let Some(limit) = index.get("expireAfterSeconds") {
            self.expires(&index, seconds(limit)?).await?;
        }
        let is_unique = is_set(&index, "unique");
        if is_unique && !self.is_made {
            self.evidence.collisions.extend(duplicates(self.server, &self.name, &index).await?);
        }
        let collection = self.name.clone();
        let gone = Act::DropIndex { collection: collection.clone(), index: Stored(index.clone()) };
        // The way over a prepared index finds out within moments what a unique build finds at its end, and refuses new duplicates meanwhile.
        if is_unique && prepares {
            let mut plain = index;
            plain.remove("unique");
            let build =
                Act::Build { collection: collection.clone(), index: Stored(plain), quorum: quorum(given) };
            let becomes = |option: &str| Act::Index {
                collection: collection.clone(),
                name: name.clone(),
                set: Stored(doc! { option: true }),
            };
            self.step(format!("build index {name}, not unique yet"), build, Some(gone.clone()), None)?;
            self.step(
                format!("refuse new duplicates under {name}"),
                becomes("prepareUnique"),
                Some(gone.clone()),
                None,
            )?;
            self.step(format!("make {name} unique"), becomes("unique"), Some(gone), None)?;
            self.because("the index is built while others write, refuses new duplicates, and then becomes unique in a moment");
        } else {
            let build = Act::Build { collection, index: Stored(index), quorum: quorum(given) };
            self.step(format!("build index {name}"), build, Some(gone), None)?;
            self.because("the server builds an index while others write");
        }
        self.undone("`revert` drops what was built");
        self.strategy = self.strategy.max(Strategy::NativeOnline);
        self.moment();
        Ok(())
    }

    /// D305: what a TTL index would delete at once is gone for good.
    async fn expires(&mut self, index: &Document, limit: Duration) -> Result<()> {
        let Some(field) = index.get_document("key").ok().and_then(|key| key.keys().next().cloned()) else {
            return Ok(());
        };
        if self.is_made {
            return Ok(());
        }
        let before = now_ms(self.server).await? - millis(limit);
        let mut stages = vec![doc! { "$match": { &field: { "$lt": DateTime::from_millis(before) } } }];
        if let Ok(partial) = index.get_document("partialFilterExpression") {
            stages.push(doc! { "$match": partial.clone() });
        }
        stages.push(doc! { "$count": "n" });
        let found = self.server.database().collection::<Document>(&self.name).aggregate(stages).await;
        let found: Vec<Document> = found.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)?;
        let expired = found.first().and_then(|found| found.get("n")).map_or(0, number);
        if expired > 0 {
            self.for_good(&format!(
                "{expired} documents whose `{field}` is older than {} s expire at once, and do not come back",
                limit.as_secs()
            ));
            self.facts.expiring = expired;
        }
        Ok(())
    }

    /// Which indexes are meant. Not that of `_id`, which no collection is without.
    fn named(&self, which: &Which) -> Result<Vec<Document>> {
        let there = self.there().indexes;
        let missing = |what: String| {
            let names: Vec<&str> = there.iter().map(index_name).collect();
            let hint = if names.is_empty() {
                "it has none but that of `_id`, which stays".to_owned()
            } else {
                format!("it has {}; that of `_id` stays", names.join(", "))
            };
            Error::new(ErrorKind::NotFound, format!("`{}` has no index {what}", self.name)).hint(hint)
        };
        match which {
            Which::All => Ok(there),
            Which::Names(names) => names
                .iter()
                .map(|name| {
                    let found = there.iter().find(|index| index_name(index) == name);
                    found.cloned().ok_or_else(|| missing(format!("`{name}`")))
                })
                .collect(),
            Which::Key(key) => {
                let wanted = doc! { "key": key.clone() };
                let found: Vec<Document> =
                    there.iter().filter(|index| is_key(index, &wanted)).cloned().collect();
                match found.len() {
                    1 => Ok(found),
                    0 => Err(missing(ejson::document_text(key))),
                    _ => Err(Error::new(ErrorKind::Usage, "several indexes have that key").hint(format!(
                        "name one: {}",
                        found.iter().map(index_name).collect::<Vec<_>>().join(", ")
                    ))),
                }
            }
        }
    }

    pub(super) async fn drop_indexes(&mut self, which: Which) -> Result<()> {
        let used = used(self).await;
        let hides = capability::hides_indexes(self.server).await?;
        for index in self.named(&which)? {
            let name = index_name(&index).to_owned();
            self.changes.push(format!("index {name} goes: {}", described(&index)));
            if is_set(&index, "unique") {
                self.changes.push(format!("values under {name} may be the same again, once it is final"));
            }
            let collection = self.name.clone();
            let hide = |is_hidden: bool| Act::Index {
                collection: collection.clone(),
                name: name.clone(),
                set: Stored(doc! { "hidden": is_hidden }),
            };
            let was_hidden = is_set(&index, "hidden");
            let gone = Act::DropIndex { collection: collection.clone(), index: Stored(index.clone()) };
            if let Some(use_of) = used.iter().find(|(other, _)| *other == name) {
                self.facts.used_indexes.push(use_of.1.clone());
            }
            if hides {
                // A hidden index expires documents all the same.
                if index.contains_key("expireAfterSeconds") {
                    self.stop_expiring(&index)?;
                }
                self.facts.hidden_indexes.push(name.clone());
                let title = format!("hide index {name} from queries");
                self.step(title, hide(true), Some(hide(was_hidden)), Some(gone))?;
            } else {
                self.facts.bare_indexes.push(name.clone());
                let again = Act::Build { collection: collection.clone(), index: Stored(index), quorum: None };
                self.step(format!("drop index {name}"), gone, Some(again), None)?;
            }
        }
        self.moment();
        if !hides {
            self.because("this server hides no indexes");
            self.undone("`revert` builds the index again");
            return Ok(());
        }
        self.because("an index is hidden first: no query uses it, and it is kept up until it is made final");
        self.undone("`revert` shows the index to queries again at once; `finalize` drops it");
        Ok(())
    }

    /// A TTL index expires nothing any more for the next 68 years, which is the longest that the server takes.
    pub(super) fn stop_expiring(&mut self, index: &Document) -> Result<()> {
        let name = index_name(index).to_owned();
        let Some(before) = index.get("expireAfterSeconds").cloned() else { return Ok(()) };
        let to = |limit: Bson| Act::Index {
            collection: self.name.clone(),
            name: name.clone(),
            set: Stored(doc! { "expireAfterSeconds": limit }),
        };
        let (forward, back) = (to(Bson::Int32(i32::MAX)), to(before));
        self.changes.push(format!("index {name} expires nothing any more, from its first step on"));
        self.step(format!("let index {name} expire nothing"), forward, Some(back), None)
    }

    pub(super) async fn change_index(&mut self, change: IndexChange) -> Result<()> {
        let Some(index) = self.named(&change.which)?.into_iter().next() else {
            return Err(Error::new(ErrorKind::Usage, "no index is named"));
        };
        let name = index_name(&index).to_owned();
        let collection = self.name.clone();
        let to = |set: Document| Act::Index {
            collection: collection.clone(),
            name: name.clone(),
            set: Stored(set),
        };
        let Some((option, value)) =
            change.set.iter().next().map(|(option, value)| (option.clone(), value.clone()))
        else {
            return Ok(());
        };
        let before = index.get(&option).cloned();
        if before.as_ref() == Some(&value) || (before.is_none() && value == Bson::Boolean(false)) {
            return Ok(());
        }
        self.because("the server notes it in its catalogue");
        self.moment();
        match (option.as_str(), value.as_bool()) {
            ("unique", Some(true)) => {
                self.changes.push(format!("index {name} becomes unique"));
                self.evidence.collisions.extend(duplicates(self.server, &self.name, &index).await?);
                if !is_set(&index, "prepareUnique") {
                    self.step(
                        format!("refuse new duplicates under {name}"),
                        to(doc! { "prepareUnique": true }),
                        Some(to(doc! { "prepareUnique": false })),
                        None,
                    )?;
                }
                self.step(format!("make {name} unique"), to(doc! { "unique": true }), None, None)?;
                self.for_good("no command makes a unique index one that is not; it can be built anew under another name");
            }
            ("unique", _) => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("`{name}` stays unique: no command undoes that"),
                )
                .hint("build the same index under another name, and drop this one"));
            }
            ("expireAfterSeconds", _) => {
                let limit = seconds(&value)?;
                let is_shorter = match &before {
                    Some(before) => limit < seconds(before)?,
                    None => true,
                };
                let said = before
                    .as_ref()
                    .map_or("never".to_owned(), |before| format!("after {} s", ejson::text(before)));
                self.changes.push(format!(
                    "what index {name} expires goes after {} s, and not {said}",
                    limit.as_secs()
                ));
                if is_shorter {
                    self.expires(&index, limit).await?;
                }
                match before {
                    Some(before) => self.step(
                        format!("expire after {} s by index {name}", limit.as_secs()),
                        to(doc! { "expireAfterSeconds": value }),
                        Some(to(doc! { "expireAfterSeconds": before })),
                        None,
                    )?,
                    None => {
                        self.step(
                            format!("expire after {} s by index {name}", limit.as_secs()),
                            to(doc! { "expireAfterSeconds": value }),
                            None,
                            None,
                        )?;
                        self.for_good("no command takes the time limit off an index again");
                    }
                }
                self.undone("`revert` sets the old limit again; what expired meanwhile is gone");
            }
            (_, Some(is_so)) => {
                let not = if is_so { "" } else { "not " };
                self.changes.push(format!("index {name} becomes {not}{option}"));
                self.step(
                    format!("set {option} of index {name} to {is_so}"),
                    to(doc! { &option: is_so }),
                    Some(to(doc! { &option: !is_so })),
                    None,
                )?;
                self.undone("`revert` sets it back");
            }
            _ => return Err(Error::new(ErrorKind::Usage, format!("`{option}` is true or false"))),
        }
        Ok(())
    }
}

/// An index in the words of a person.
fn described(index: &Document) -> String {
    let mut words = index.clone();
    words.remove("name");
    ejson::document_text(&words)
}

/// How often indexes were used, and since when, as this member counts it.
async fn used(drafting: &Drafting<'_>) -> Vec<(String, String)> {
    let statistics = async {
        let collection = drafting.server.database().collection::<Document>(&drafting.name);
        let found = collection.aggregate([doc! { "$indexStats": {} }]).await.map_err(from_mongo)?;
        found.try_collect::<Vec<_>>().await.map_err(from_mongo)
    };
    let found: Vec<Document> = match statistics.await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "how much indexes are used is not known");
            return Vec::new();
        }
    };
    let told = found.iter().filter_map(|index| {
        let accesses = index.get_document("accesses").ok()?;
        let times = accesses.get("ops").map_or(0, number);
        let since = accesses.get_datetime("since").ok().and_then(|since| since.try_to_rfc3339_string().ok());
        let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
        let name = index_name(index).to_owned();
        (times > 0).then(|| (name.clone(), format!("index {name} was used {times} times{since}")))
    });
    told.collect()
}

/// D302: members without which a build does not end, as the quorum was given.
async fn members_down(drafting: &Drafting<'_>, given: Option<&Bson>) -> Vec<String> {
    if !matches!(given.map(Bson::as_str), None | Some(Some("votingMembers"))) {
        return Vec::new();
    }
    // A server that is no replica set waits for nobody.
    let Ok(status) = drafting.server.admin(doc! { "replSetGetStatus": 1 }).await else { return Vec::new() };
    let members = status.get_array("members").cloned().unwrap_or_default();
    let is_up = |member: &Document| member.get("state").map_or(1, number);
    members
        .iter()
        .filter_map(Bson::as_document)
        // PRIMARY, SECONDARY, ARBITER.
        .filter(|member| !matches!(is_up(member), 1 | 2 | 7))
        .map(|member| {
            format!(
                "{} is {}",
                member.get_str("name").unwrap_or("a member"),
                member.get_str("stateStr").unwrap_or("away")
            )
        })
        .collect()
}
