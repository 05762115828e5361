//! Documents that would collide under a unique index: counted before it is built.

use bson::{Bson, Document, doc};
use replank_core::Result;
use replank_core::plan::Collision;

use crate::connect::Server;
use crate::ejson;
use crate::inspect::{index_name, number};
use crate::unique;

/// As many groups are named as a person reads; of each the first and the last document.
const SAMPLES: i64 = 3;

/// Values that more than one document has; `None` where each has its own.
///
/// Each document has a value for each element of an array, as the index does; a field that is not there counts as null, and of one
/// document nothing collides.
pub async fn duplicates(server: &Server, collection: &str, index: &Document) -> Result<Option<Collision>> {
    let mut stages = values(index);
    stages.push(doc! { "$facet": {
        "count": [{ "$count": "n" }],
        "samples": [{ "$limit": SAMPLES }],
    } });
    let found = unique::find(server, collection, index, stages).await?;
    let Some(found) = found.first() else { return Ok(None) };
    let list = |field: &str| found.get_array(field).cloned().unwrap_or_default();
    let groups =
        list("count").first().and_then(Bson::as_document).and_then(|count| count.get("n")).map_or(0, number);
    let samples = list("samples").iter().filter_map(Bson::as_document).map(sample).collect();
    let unique = index_name(index).to_owned();
    Ok((groups > 0).then_some(Collision { unique, groups, samples }))
}

fn sample(group: &Document) -> String {
    let value = group.get_document("_id").cloned().unwrap_or_default();
    let value: Vec<String> = value.values().map(ejson::text).collect();
    let ids = ["first", "last"].map(|id| group.get(id).map(ejson::text).unwrap_or_default());
    format!("{}: {}", value.join(", "), ids.join(", "))
}

/// Stages that leave one document for each value that two documents have.
fn values(index: &Document) -> Vec<Document> {
    let mut stages = unique::indexed(index);
    let mut unwound: Vec<String> = Vec::new();
    let mut value = Document::new();
    for (number, field) in unique::key(index).keys().enumerate() {
        let mut path = String::new();
        for part in field.split('.') {
            path = if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
            if !unwound.contains(&path) {
                stages.push(
                    doc! { "$unwind": { "path": format!("${path}"), "preserveNullAndEmptyArrays": true } },
                );
                unwound.push(path.clone());
            }
        }
        value.insert(format!("f{number}"), doc! { "$ifNull": [format!("${field}"), null] });
    }
    stages.extend(unique::by_value(value, Document::new()));
    stages.push(doc! { "$match": { "n": { "$gt": 1 } } });
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_of_an_array_is_a_value_and_what_is_not_indexed_is_none() {
        let index = doc! {
            "key": { "a.b": 1, "a.c": 1 }, "name": "i", "sparse": true,
            "partialFilterExpression": { "x": { "$gt": 1 } },
        };
        let stages = values(&index);
        let names: Vec<&str> =
            stages.iter().filter_map(|stage| stage.keys().next()).map(String::as_str).collect();
        assert_eq!(
            names,
            ["$match", "$match", "$unwind", "$unwind", "$unwind", "$group", "$group", "$match"]
        );
        let group = stages[5].get_document("$group").expect("a group");
        let value = group.get_document("_id").and_then(|id| id.get_document("value")).expect("a value");
        assert_eq!(value, &doc! { "f0": { "$ifNull": ["$a.b", null] }, "f1": { "$ifNull": ["$a.c", null] } });
    }
}
