//! `update` and `delete` of many documents: jobs in ranges of `_id`.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::plan::Strategy;
use replank_core::{Error, ErrorKind, Result};

use super::Drafting;
use crate::collation::Collation;
use crate::ejson;
use crate::error::from_mongo;
use crate::native::{Act, Job};
use crate::parse::{Delete, Update};

/// Operators that write the same when they are applied again. (`$currentDate` writes another time, which is what it is for.)
const REPEATABLE: [&str; 11] = [
    "$set",
    "$unset",
    "$rename",
    "$min",
    "$max",
    "$addToSet",
    "$pull",
    "$pullAll",
    "$currentDate",
    "$setOnInsert",
    "$bit",
];

impl Drafting<'_> {
    pub(super) async fn update(&mut self, updates: Vec<Update>) -> Result<()> {
        for update in updates {
            self.update_one(update).await?;
        }
        Ok(())
    }

    async fn update_one(&mut self, update: Update) -> Result<()> {
        self.can_be_gone_through();
        let matching = self.matching(&update.filter).await?;
        self.changes.push(format!(
            "{matching} documents that match {} are updated by {}",
            ejson::document_text(&update.filter),
            ejson::text(&update.change)
        ));
        self.facts.updates_many = self.facts.updates_many.max(matching);
        self.facts.moved_fields.extend(moved(&update.change));
        match &update.change {
            Bson::Array(stages) => {
                let stages: Vec<Document> =
                    stages.iter().filter_map(|stage| stage.as_document().cloned()).collect();
                if let Some(still) = self.fits(&update, &stages).await? {
                    self.cannot(&format!(
                        "the document `{}` would match again when it is done, and a range is done again after a crash; let the filter exclude what is done, as in {{\"q\": {{\"region\": {{\"$exists\": false}}}}, \"u\": [{{\"$set\": {{\"region\": …}}}}]}}",
                        ejson::text(&still)
                    ));
                }
            }
            Bson::Document(operators) => {
                let is_simple = Collation::of(&self.there().options).is_simple();
                if !excludes_done(&update.filter, operators, is_simple)
                    && let Some(operator) =
                        operators.iter().find_map(|(name, value)| not_repeatable(name, value))
                {
                    self.cannot(&format!(
                        "`{operator}` does something else when it is done again, and a range is done again after a crash; let the filter exclude what is done, as in {{\"q\": {{\"migrated\": {{\"$exists\": false}}}}, \"u\": {{\"{operator}\": …, \"$set\": {{\"migrated\": true}}}}}}"
                    ));
                }
            }
            _ => {}
        }
        let job = Job::update(&self.name, &self.there().uuid, update);
        self.step(format!("update {} in ranges of _id", self.name), Act::Write(job), None, None)?;
        self.because("documents are updated in ranges of `_id`, slowed down beside others, and from the last checkpoint on after a crash");
        self.for_good("what an update overwrites is not kept");
        self.strategy = self.strategy.max(Strategy::NativeOnline);
        Ok(())
    }

    pub(super) async fn delete(&mut self, deletes: Vec<Delete>) -> Result<()> {
        for delete in deletes {
            self.can_be_gone_through();
            let matching = self.matching(&delete.filter).await?;
            let filter = ejson::document_text(&delete.filter);
            self.changes.push(format!("{matching} documents that match {filter} are deleted"));
            self.facts.deletes_many = self.facts.deletes_many.max(matching);
            let job = Job::delete(&self.name, &self.there().uuid, delete);
            self.step(format!("delete from {} in ranges of _id", self.name), Act::Write(job), None, None)?;
            self.because("documents are deleted in ranges of `_id`, slowed down beside others");
            self.for_good("what is deleted is not kept");
            self.strategy = self.strategy.max(Strategy::NativeOnline);
        }
        Ok(())
    }

    fn can_be_gone_through(&mut self) {
        let there = self.there();
        if there.kind != "collection" {
            self.cannot(&format!("it is a {}, and no plain collection", there.kind));
        }
    }

    async fn matching(&self, filter: &Document) -> Result<u64> {
        if self.is_made {
            return Ok(0);
        }
        let collection = self.server.database().collection::<Document>(&self.name);
        collection.count_documents(filter.clone()).await.map_err(|error| {
            let error = from_mongo(error);
            match error.kind() {
                ErrorKind::Server => {
                    Error::new(ErrorKind::Usage, "the server does not understand the filter")
                        .with("server", error.message())
                }
                _ => error,
            }
        })
    }

    /// Tries a pipeline on every document that matches. D308: one that it fails for. Answers a document that matches the filter still
    /// when it is done.
    async fn fits(&mut self, update: &Update, stages: &[Document]) -> Result<Option<Bson>> {
        let filter = doc! { "$match": update.filter.clone() };
        let mut tried = vec![filter.clone()];
        tried.extend(stages.iter().cloned());
        // The size asks for the whole document: nothing of the pipeline is optimised away.
        tried.push(doc! { "$set": { "_rp_size": { "$bsonSize": "$$ROOT" } } });
        tried.push(filter);
        tried.push(doc! { "$group": { "_id": null, "first": { "$first": "$_id" }, "size": { "$max": "$_rp_size" } } });
        let collection = self.server.database().collection::<Document>(&self.name);
        let trial = async {
            let found = collection.aggregate(tried).allow_disk_use(true).await.map_err(from_mongo)?;
            found.try_collect::<Vec<_>>().await.map_err(from_mongo)
        };
        match trial.await {
            Ok(found) => Ok(found.first().and_then(|found| found.get("first")).cloned()),
            Err(error) if matches!(error.kind(), ErrorKind::Server | ErrorKind::Unfit) => {
                self.facts.pipeline_fails = Some(error.message().to_owned());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The operator that may not be done twice.
fn not_repeatable(name: &str, value: &Bson) -> Option<String> {
    let fields = value.as_document();
    let is_xor = name == "$bit"
        && fields.is_some_and(|fields| {
            fields
                .values()
                .any(|change| change.as_document().is_some_and(|change| change.contains_key("xor")))
        });
    // `$` is the first element that matches: once it is changed, the next one is.
    let is_positional =
        fields.is_some_and(|fields| fields.keys().any(|path| path.split('.').any(|part| part == "$")));
    (is_xor || is_positional || !REPEATABLE.contains(&name)).then(|| name.to_owned())
}

/// Whether what was updated once is no longer matched: by a field that must not be there and is set, or must have one value and is
/// set to another, and that no other operator touches.
fn excludes_done(filter: &Document, operators: &Document, is_simple: bool) -> bool {
    let Ok(set) = operators.get_document("$set") else { return false };
    set.iter().any(|(field, becomes)| match filter.get(field) {
        Some(Bson::Document(condition)) if condition.len() == 1 => {
            condition.get_bool("$exists").is_ok_and(|is_there| !is_there)
                || condition.get("$ne").is_some_and(|not| not == becomes && is_plain(becomes, true))
        }
        Some(value) => value != becomes && is_plain(value, is_simple) && is_plain(becomes, is_simple),
        None => false,
    })
}

/// A value that equals nothing but itself: of texts, where bytes are compared.
fn is_plain(value: &Bson, is_simple: bool) -> bool {
    match value {
        Bson::String(_) => is_simple,
        Bson::Boolean(_) | Bson::ObjectId(_) | Bson::DateTime(_) => true,
        _ => false,
    }
}

/// D307: fields that go, or get another name, by an update.
fn moved(change: &Bson) -> Vec<String> {
    let of = |operators: &Document| -> Vec<String> {
        let mut all = Vec::new();
        if let Ok(renames) = operators.get_document("$rename") {
            all.extend(renames.iter().map(|(from, to)| format!("{from} becomes {}", ejson::text(to))));
        }
        match operators.get("$unset") {
            Some(Bson::Document(fields)) => all.extend(fields.keys().map(|field| format!("{field} goes"))),
            Some(Bson::String(field)) => all.push(format!("{field} goes")),
            Some(Bson::Array(fields)) => {
                all.extend(fields.iter().filter_map(Bson::as_str).map(|field| format!("{field} goes")));
            }
            _ => {}
        }
        if let Ok(set) = operators.get_document("$set").or_else(|_| operators.get_document("$addFields")) {
            let retyped = set.iter().filter(|(field, value)| converts(value, &format!("${field}")));
            all.extend(retyped.map(|(field, _)| format!("{field} gets another type")));
        }
        all
    };
    match change {
        Bson::Document(operators) => of(operators),
        Bson::Array(stages) => stages.iter().filter_map(Bson::as_document).flat_map(of).collect(),
        _ => Vec::new(),
    }
}

/// Whether an expression makes another type of a field.
fn converts(expression: &Bson, field: &str) -> bool {
    match expression {
        Bson::Array(items) => items.iter().any(|item| converts(item, field)),
        Bson::Document(parts) => parts.iter().any(|(name, part)| {
            let is_conversion = name.starts_with("$to") && !matches!(name.as_str(), "$toLower" | "$toUpper");
            let is_conversion =
                is_conversion || matches!(name.as_str(), "$convert" | "$dateFromString" | "$dateToString");
            (is_conversion && reads(part, field)) || (name != "$literal" && converts(part, field))
        }),
        _ => false,
    }
}

/// Whether an expression reads a field.
fn reads(expression: &Bson, field: &str) -> bool {
    match expression {
        Bson::String(text) => text == field,
        Bson::Array(items) => items.iter().any(|item| reads(item, field)),
        Bson::Document(parts) => parts.iter().any(|(name, part)| name != "$literal" && reads(part, field)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_twice_is_found() {
        let set = Bson::Document(doc! { "a": 1 });
        for repeatable in ["$set", "$unset", "$max", "$addToSet", "$pull"] {
            assert_eq!(not_repeatable(repeatable, &set), None, "{repeatable}");
        }
        for not in ["$inc", "$mul", "$push", "$pop"] {
            assert_eq!(not_repeatable(not, &set), Some(not.to_owned()));
        }
        assert!(not_repeatable("$bit", &Bson::Document(doc! { "f": { "xor": 1 } })).is_some());
        assert!(not_repeatable("$bit", &Bson::Document(doc! { "f": { "or": 1 } })).is_none());
        assert!(not_repeatable("$set", &Bson::Document(doc! { "i.$.s": 1 })).is_some());
        assert!(not_repeatable("$set", &Bson::Document(doc! { "i.$[e].s": 1 })).is_none());
    }

    #[test]
    fn a_filter_excludes_what_is_done_by_what_is_set() {
        let inc = |filter: Document, set: Document| {
            excludes_done(&filter, &doc! { "$inc": { "n": 1 }, "$set": set }, true)
        };
        assert!(inc(doc! { "v": { "$exists": false } }, doc! { "v": 2 }));
        assert!(inc(doc! { "v": { "$ne": "b" } }, doc! { "v": "b" }));
        assert!(
            !excludes_done(&doc! { "v": "old" }, &doc! { "$set": { "v": "OLD" } }, false),
            "they may be equal"
        );
        assert!(inc(doc! { "state": "old" }, doc! { "state": "new" }));
        assert!(!inc(doc! { "v": { "$exists": false } }, doc! { "w": 2 }));
        assert!(!inc(doc! { "v": { "$ne": 3 } }, doc! { "v": 2 }));
        assert!(!inc(doc! { "state": "old" }, doc! { "state": "old" }));
        // `{n: null}` matches what is not there, and 1 matches 1.0.
        assert!(!inc(doc! { "v": null }, doc! { "v": "x" }));
        assert!(!inc(doc! { "v": 1 }, doc! { "v": 1.0 }));
    }

    #[test]
    fn fields_that_go_or_move_are_named() {
        let named = |change: Bson| moved(&change);
        assert_eq!(
            named(Bson::Document(doc! { "$rename": { "mail": "email" } })),
            ["mail becomes \"email\""]
        );
        assert_eq!(named(Bson::Document(doc! { "$unset": { "mail": "" } })), ["mail goes"]);
        let retype = Bson::Array(vec![Bson::Document(doc! { "$set": { "n": { "$toInt": "$n" } } })]);
        assert_eq!(named(retype), ["n gets another type"]);
        let clean = Bson::Array(vec![Bson::Document(doc! { "$set": { "n": { "$toLower": "$n" } } })]);
        assert!(named(clean).is_empty());
        let new = Bson::Array(vec![Bson::Document(doc! { "$set": { "m": { "$toInt": "$n" } } })]);
        assert!(named(new).is_empty());
    }
}
