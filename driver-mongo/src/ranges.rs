//! Ranges of `_id`s: where they end, and a filter that an aggregation can use an index for.
//!
//! Comparisons of the query language stay within a type: `{$gt: 5}` never finds a text. So a range is one branch for each
//! type that it touches. NaN is a type of its own here: it sorts before all numbers, and `$gt` and `$lt` never find it.
//!
//! Source: <https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/>.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::options::Hint;
use replank_core::Result;
use replank_core::value::{Bounds, Key};

use crate::connect::Server;
use crate::error::from_mongo;
use crate::inspect::number;
use crate::key;

/// Types in the server's order; those that sort together are one.
const BRACKETS: [&[&str]; 16] = [
    &["minKey"],
    &["undefined", "null"],
    &[NAN],
    &[NUMBERS],
    &["symbol", "string"],
    &["object"],
    &["array"],
    &["binData"],
    &["objectId"],
    &["bool"],
    &["date"],
    &["timestamp"],
    &["regex"],
    &["dbPointer"],
    &["javascript", "javascriptWithScope"],
    &["maxKey"],
];
const NAN: &str = "NaN";
const NUMBERS: &str = "number";

/// The index that a range is read by.
pub fn by_id() -> Hint {
    Hint::Keys(doc! { "_id": 1 })
}

/// The `_id` of the `rows`th document behind `after`.
pub async fn next_bound(server: &Server, name: &str, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
    let bounds = Bounds { lower: after.cloned(), upper: None };
    let found = server
        .database()
        .collection::<Document>(name)
        .find(filter(&bounds)?)
        .projection(doc! { "_id": 1 })
        .sort(doc! { "_id": 1 })
        .hint(by_id())
        .skip(rows.saturating_sub(1))
        .limit(1)
        .await
        .map_err(from_mongo)?;
    let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
    found.first().and_then(|found| found.get("_id")).map(key::encode).transpose()
}

/// Documents in a range, by the index of `_id` alone.
pub async fn counted(server: &Server, name: &str, range: &Document) -> Result<u64> {
    let stages =
        vec![doc! { "$match": range.clone() }, doc! { "$project": { "_id": 1 } }, doc! { "$count": "n" }];
    let found = server.database().collection::<Document>(name).aggregate(stages).hint(by_id()).await;
    let found: Vec<Document> = found.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)?;
    Ok(found.first().and_then(|found| found.get("n")).map_or(0, number))
}

/// Documents with `lower < _id <= upper`.
///
/// # Errors
/// Those of [`key::decode`].
pub fn filter(bounds: &Bounds) -> Result<Document> {
    let lower = bounds.lower.as_ref().map(key::decode).transpose()?;
    let upper = bounds.upper.as_ref().map(key::decode).transpose()?;
    Ok(between(lower.as_ref(), upper.as_ref()))
}

fn between(lower: Option<&Bson>, upper: Option<&Bson>) -> Document {
    if lower.is_none() && upper.is_none() {
        return Document::new();
    }
    let first = lower.map_or(0, bracket);
    let last = upper.map_or(BRACKETS.len() - 1, bracket);
    let mut branches = Vec::new();
    for at in first..=last {
        let from = lower.filter(|_| at == first);
        let to = upper.filter(|_| at == last);
        branches.extend(within(at, from, to));
    }
    match branches.len() {
        // A lower bound above the upper one: there is nothing between them.
        0 => doc! { "_id": { "$in": [] } },
        1 => branches.remove(0),
        _ => doc! { "$or": branches },
    }
}

/// The part of a range that lies in one bracket; `None` where nothing can.
fn within(at: usize, from: Option<&Bson>, to: Option<&Bson>) -> Option<Document> {
    let types = BRACKETS[at];
    // Brackets of one value each: what is above it is in the next one.
    let is_single = matches!(types[0], "minKey" | "undefined" | "maxKey" | NAN);
    if is_single {
        return from.is_none().then(|| match types[0] {
            NAN => doc! { "_id": f64::NAN },
            _ => doc! { "_id": { "$type": types } },
        });
    }
    let mut condition = Document::new();
    if let Some(from) = from {
        condition.insert("$gt", from.clone());
    }
    if let Some(to) = to {
        condition.insert("$lte", to.clone());
    }
    if condition.is_empty() {
        match types[0] {
            // `$type` would find NaN as well.
            NUMBERS => condition.insert("$gte", f64::NEG_INFINITY),
            _ => condition.insert("$type", types),
        };
    }
    Some(doc! { "_id": condition })
}

fn bracket(value: &Bson) -> usize {
    let name = match value {
        Bson::MinKey => "minKey",
        Bson::Null | Bson::Undefined => "null",
        Bson::Double(number) if number.is_nan() => NAN,
        Bson::Decimal128(number) if number.to_string().eq_ignore_ascii_case("nan") => NAN,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => NUMBERS,
        Bson::String(_) | Bson::Symbol(_) => "string",
        Bson::Document(_) => "object",
        Bson::Array(_) => "array",
        Bson::Binary(_) => "binData",
        Bson::ObjectId(_) => "objectId",
        Bson::Boolean(_) => "bool",
        Bson::DateTime(_) => "date",
        Bson::Timestamp(_) => "timestamp",
        Bson::RegularExpression(_) => "regex",
        Bson::DbPointer(_) => "dbPointer",
        Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_) => "javascript",
        Bson::MaxKey => "maxKey",
    };
    BRACKETS.iter().position(|types| types.contains(&name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_within_a_type_is_one_condition() {
        let filter = between(Some(&Bson::Int32(3)), Some(&Bson::Int64(9)));
        assert_eq!(filter, doc! { "_id": { "$gt": 3, "$lte": 9_i64 } });
        assert_eq!(between(None, None), doc! {});
    }

    #[test]
    fn a_range_over_types_has_a_branch_for_each() {
        let filter = between(Some(&Bson::Int32(3)), Some(&Bson::String("m".into())));
        let branches = doc! { "$or": [{ "_id": { "$gt": 3 } }, { "_id": { "$lte": "m" } }] };
        assert_eq!(filter, branches);
        let open = between(Some(&Bson::String("m".into())), None);
        let branches = open.get_array("$or").expect("branches");
        assert_eq!(branches.len(), BRACKETS.len() - 4, "texts and everything after them: {open}");
        assert_eq!(branches[0], Bson::Document(doc! { "_id": { "$gt": "m" } }));
        assert_eq!(branches[1], Bson::Document(doc! { "_id": { "$type": ["object"] } }));
    }

    #[test]
    fn not_a_number_is_by_itself_and_before_all_numbers() {
        let nan = Bson::Double(f64::NAN);
        let after = between(Some(&nan), Some(&Bson::Int32(5)));
        assert_eq!(after, doc! { "_id": { "$lte": 5 } });
        let up_to = between(None, Some(&nan));
        let branches = up_to.get_array("$or").expect("branches");
        let last = branches.last().and_then(Bson::as_document).expect("a branch");
        assert!(last.get_f64("_id").expect("a number").is_nan(), "{up_to}");
        let numbers = between(Some(&Bson::Null), Some(&Bson::String("a".into())));
        let second = &numbers.get_array("$or").expect("branches")[1];
        assert_eq!(*second, Bson::Document(doc! { "_id": { "$gte": f64::NEG_INFINITY } }));
    }
}
