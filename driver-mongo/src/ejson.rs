//! Extended JSON as people type it, with the order of its fields kept: a command begins with its name, and an index is by
//! its fields in their order. (`serde_json::Value` sorts them.)
//!
//! Source: <https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/>.

use std::fmt;

use bson::{Bson, Document};
use replank_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// The keys with which a value that JSON lacks begins.
const TYPES: [&str; 17] = [
    "$oid",
    "$numberInt",
    "$numberLong",
    "$numberDouble",
    "$numberDecimal",
    "$binary",
    "$uuid",
    "$date",
    "$timestamp",
    "$regularExpression",
    "$minKey",
    "$maxKey",
    "$symbol",
    "$code",
    "$undefined",
    "$dbPointer",
    "$type",
];

/// Reads one value.
///
/// # Errors
/// [`ErrorKind::Usage`] for what is no JSON, or names a field twice.
pub fn parse(text: &str) -> Result<Bson> {
    let json: Json = serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Usage, format!("this is not JSON: {error}"))
            .hint("write the command in Extended JSON, as {\"createIndexes\": \"orders\", …}")
    })?;
    json.into_bson()
}

/// Writes a value on one line; relaxed where that loses nothing for a reader, with the order of its fields.
#[must_use]
pub fn text(value: &Bson) -> String {
    match value {
        Bson::Document(document) => document_text(document),
        Bson::Array(items) => {
            format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.clone().into_relaxed_extjson().to_string(),
    }
}

/// The same for a document.
#[must_use]
pub fn document_text(document: &Document) -> String {
    let fields: Vec<String> = document
        .iter()
        .map(|(name, value)| format!("{}: {}", serde_json::Value::from(name.as_str()), text(value)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

enum Json {
    Scalar(serde_json::Value),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn into_bson(self) -> Result<Bson> {
        match self {
            Self::Scalar(value) => converted(value),
            Self::Array(items) => {
                Ok(Bson::Array(items.into_iter().map(Self::into_bson).collect::<Result<_>>()?))
            }
            Self::Object(fields) if is_typed(&fields) => converted(Self::Object(fields).into_value()),
            Self::Object(fields) => {
                let mut document = Document::new();
                for (name, value) in fields {
                    if document.contains_key(&name) {
                        return Err(Error::new(
                            ErrorKind::Usage,
                            format!("the field `{name}` is there twice"),
                        ));
                    }
                    document.insert(name, value.into_bson()?);
                }
                Ok(Bson::Document(document))
            }
        }
    }

    fn into_value(self) -> serde_json::Value {
        match self {
            Self::Scalar(value) => value,
            Self::Array(items) => items.into_iter().map(Self::into_value).collect(),
            Self::Object(fields) => {
                fields.into_iter().map(|(name, value)| (name, value.into_value())).collect()
            }
        }
    }
}

/// Whether an object is a value of a type that JSON lacks. `{"$type": …}` alone is a query.
fn is_typed(fields: &[(String, Json)]) -> bool {
    fields.first().is_some_and(|(name, _)| name != "$type")
        && fields.iter().all(|(name, _)| TYPES.contains(&name.as_str()) || name == "$scope")
}

fn converted(value: serde_json::Value) -> Result<Bson> {
    Bson::try_from(value)
        .map_err(|error| Error::new(ErrorKind::Usage, format!("this is not Extended JSON: {error}")))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Scalar(serde_json::Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(field) = fields.next_entry()? {
            all.push(field);
        }
        Ok(Json::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId};

    use super::*;

    #[test]
    fn fields_keep_their_order_and_numbers_their_types() {
        let parsed = parse(r#"{"z": 1, "a": -1, "m": {"y": 1.5, "b": [2, {"q": null, "c": true}]}}"#);
        let expected = doc! { "z": 1, "a": -1, "m": { "y": 1.5, "b": [2, { "q": null, "c": true }] } };
        assert_eq!(parsed.expect("valid"), Bson::Document(expected.clone()));
        let order: Vec<&String> = expected.keys().collect();
        assert_eq!(order, ["z", "a", "m"]);
    }

    #[test]
    fn values_that_json_lacks_are_read_and_operators_are_not_taken_for_them() {
        let id = "65a1b2c3d4e5f60718293a4b";
        let typed = format!(r#"{{"_id": {{"$oid": "{id}"}}, "n": {{"$numberLong": "-1"}}}}"#);
        let expected = doc! { "_id": ObjectId::parse_str(id).expect("an id"), "n": -1_i64 };
        assert_eq!(parse(&typed).expect("valid"), Bson::Document(expected));
        let query = r#"{"$expr": {"$eq": ["$a", 1]}, "b": {"$type": "string"}, "c": {"$gt": 5}}"#;
        let expected = doc! { "$expr": { "$eq": ["$a", 1] }, "b": { "$type": "string" }, "c": { "$gt": 5 } };
        assert_eq!(parse(query).expect("valid"), Bson::Document(expected));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text_of =
            r#"{"createIndexes": "t", "indexes": [{"key": {"b": 1, "a": -1}, "name": "b_1_a_-1"}]}"#;
        assert_eq!(text(&parse(text_of).expect("valid")), text_of);
    }

    #[test]
    fn bad_input_is_named() {
        for (bad, says) in [("{", "not JSON"), (r#"{"a": 1, "a": 2}"#, "twice")] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
