//! A pipeline that makes one document of each: what `--pipeline` and `--reverse-pipeline` give.

use bson::{Bson, Document};
use replank_core::{Error, ErrorKind, Result};

use crate::ejson;

/// Stages that make one document of each document, of nothing but that document.
const STAGES: [&str; 7] =
    ["$addFields", "$project", "$redact", "$replaceRoot", "$replaceWith", "$set", "$unset"];
/// What gives another value each time, or runs code that nobody can judge: the comparison would find other values than
/// the copy.
const VOLATILE: [&str; 8] = [
    "$$NOW",
    "$$CLUSTER_TIME",
    "$rand",
    "$sampleRate",
    "$function",
    "$accumulator",
    "$where",
    "$createObjectId",
];

/// Reads a pipeline.
///
/// # Errors
/// [`ErrorKind::Usage`] for what is no pipeline, [`ErrorKind::Refused`] for one that a rebuild cannot follow.
pub fn parse(text: &str) -> Result<Vec<Document>> {
    let Bson::Array(stages) = ejson::parse(text)? else {
        return Err(Error::new(ErrorKind::Usage, "a pipeline is an array of stages")
            .hint(r#"write [{"$set": {"price": {"$toDecimal": "$price"}}}]"#));
    };
    stages.into_iter().map(stage).collect()
}

fn stage(stage: Bson) -> Result<Document> {
    let Bson::Document(stage) = stage else {
        return Err(Error::new(ErrorKind::Usage, format!("`{}` is no stage", ejson::text(&stage))));
    };
    let mut fields = stage.iter();
    let (Some((name, body)), None) = (fields.next(), fields.next()) else {
        return Err(Error::new(ErrorKind::Usage, "a stage has one field, which is its name")
            .with("stage", ejson::document_text(&stage)));
    };
    if !STAGES.contains(&name.as_str()) {
        return Err(refused(format!("the stage `{name}` does not make one document of each"))
            .hint(format!("a rebuild takes {}", STAGES.join(", "))));
    }
    if let Some(word) = volatile(body) {
        return Err(refused(format!("`{word}` gives another value each time that it is asked"))
            .hint("write the value itself, or fill the field by an update after the rebuild"));
    }
    if changes_id(name, body) {
        return Err(refused("the pipeline changes `_id`, by which a document is found again".to_owned())
            .hint("a rebuild with another `_id` is not there yet"));
    }
    Ok(stage)
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Refused, message)
}

fn volatile(value: &Bson) -> Option<&'static str> {
    let says = |text: &str| {
        VOLATILE
            .into_iter()
            .find(|word| text == *word || text.strip_prefix(word).is_some_and(|rest| rest.starts_with('.')))
    };
    match value {
        Bson::String(text) => says(text),
        Bson::Array(items) => items.iter().find_map(volatile),
        Bson::Document(document) if document.contains_key("$literal") => None,
        Bson::Document(document) => {
            document.iter().find_map(|(name, value)| says(name).or_else(|| volatile(value)))
        }
        _ => None,
    }
}

/// Whether a stage touches `_id`, as far as its text shows. What a stage that builds whole documents does, the preflight tries.
fn changes_id(name: &str, body: &Bson) -> bool {
    let touches = |field: &str| field == "_id" || field.starts_with("_id.");
    match (name, body) {
        ("$unset", Bson::String(field)) => touches(field),
        ("$unset", Bson::Array(fields)) => fields.iter().filter_map(Bson::as_str).any(touches),
        ("$set" | "$addFields", Bson::Document(fields)) => fields.keys().any(|field| touches(field)),
        ("$project", Bson::Document(fields)) => fields.iter().any(|(field, value)| {
            touches(field) && !matches!(value, Bson::Int32(1) | Bson::Int64(1) | Bson::Boolean(true))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_read_in_order() {
        let stages = parse(r#"[{"$set": {"v": {"$toInt": "$v"}}}, {"$unset": "old"}]"#).expect("valid");
        assert_eq!(stages.len(), 2);
        assert!(stages[0].contains_key("$set") && stages[1].contains_key("$unset"));
    }

    #[test]
    fn what_a_rebuild_cannot_follow_is_refused_by_name() {
        let cases = [
            (r#"[{"$match": {"a": 1}}]"#, "$match"),
            (r#"[{"$set": {"at": "$$NOW"}}]"#, "$$NOW"),
            (r#"[{"$set": {"at": {"$dateToString": {"date": "$$NOW.x"}}}}]"#, "$$NOW"),
            (r#"[{"$set": {"r": {"$rand": {}}}}]"#, "$rand"),
            (r#"[{"$set": {"_id": {"$toString": "$_id"}}}]"#, "_id"),
            (r#"[{"$project": {"_id": 0}}]"#, "_id"),
            (r#"[{"$unset": ["a", "_id.b"]}]"#, "_id"),
        ];
        for (text, says) in cases {
            let error = parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
            assert!(error.to_string().contains(says), "{error}");
        }
        parse(r#"[{"$project": {"_id": 1, "a": 1}}, {"$set": {"t": {"$literal": "$$NOW"}}}]"#)
            .expect("allowed");
        assert_eq!(parse("{}").expect_err("no array").kind(), ErrorKind::Usage);
    }
}
