//! Whether what the catalogue has is what was asked for. Servers say more than they were told: defaults of a collation, versions
//! of formats, weights of a text index.

use bson::{Bson, Document};

/// What makes an index another one where it was not asked for.
const TELLING: [&str; 6] =
    ["unique", "sparse", "partialFilterExpression", "expireAfterSeconds", "hidden", "prepareUnique"];

/// Whether an index of the catalogue is the one that was asked for.
pub fn is_index(found: &Document, wanted: &Document) -> bool {
    // What is not so may be said or not.
    let says = |index: &Document, option: &str| {
        index.get(option).is_some_and(|value| !matches!(value, Bson::Boolean(false)))
    };
    let told = TELLING.iter().all(|option| says(found, option) == says(wanted, option));
    told && is_key(found, wanted)
        && wanted
            .iter()
            .filter(|(name, _)| *name != "key")
            .all(|(name, value)| found.get(name).is_some_and(|found| contains(found, value)))
}

/// Whether two indexes are of the same fields, in their order. A text index says its fields as weights.
pub fn is_key(found: &Document, wanted: &Document) -> bool {
    let key = |index: &Document| index.get_document("key").cloned().unwrap_or_default();
    let (found_key, wanted_key) = (key(found), key(wanted));
    let is_text = |key: &Document| key.values().any(|kind| kind.as_str() == Some("text"));
    if is_text(&wanted_key)
        && is_text(&found_key)
        && found_key.contains_key("_fts")
        && !wanted_key.contains_key("_fts")
    {
        let weights = found.get_document("weights").cloned().unwrap_or_default();
        let mut fields = wanted_key.iter().filter(|(_, kind)| kind.as_str() == Some("text"));
        return fields.all(|(field, _)| weights.contains_key(field));
    }
    found_key.len() == wanted_key.len()
        && found_key
            .iter()
            .zip(&wanted_key)
            .all(|((one, found), (other, wanted))| one == other && equal(found, wanted))
}

/// Whether a value of the catalogue holds what was asked for: of an object each field, and perhaps others.
pub fn contains(found: &Bson, wanted: &Bson) -> bool {
    match (found, wanted) {
        (Bson::Document(found), Bson::Document(wanted)) => {
            wanted.iter().all(|(name, wanted)| found.get(name).is_some_and(|found| contains(found, wanted)))
        }
        _ => equal(found, wanted),
    }
}

/// Equal, whatever type a number is of.
pub fn equal(one: &Bson, other: &Bson) -> bool {
    match (number(one), number(other)) {
        #[expect(clippy::float_cmp, reason = "the very same number is meant")]
        (Some(one), Some(other)) => one == other,
        _ => match (one, other) {
            (Bson::Document(one), Bson::Document(other)) => {
                one.len() == other.len()
                    && one.iter().zip(other).all(|((a, x), (b, y))| a == b && equal(x, y))
            }
            (Bson::Array(one), Bson::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(x, y)| equal(x, y))
            }
            _ => one == other,
        },
    }
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        #[expect(clippy::cast_precision_loss, reason = "an option, which is small")]
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    }
}

/// Whether a collection's options are as `collMod` was to make them.
pub fn are_options(found: &Document, set: &Document) -> bool {
    set.iter().all(|(name, wanted)| is_option(found, name, wanted))
}

fn is_option(found: &Document, name: &str, wanted: &Bson) -> bool {
    let text = |option: &str, usual: &str| found.get_str(option).unwrap_or(usual).to_owned();
    match name {
        "validationLevel" => wanted.as_str() == Some(&text(name, "strict")),
        "validationAction" => wanted.as_str() == Some(&text(name, "error")),
        "validator" => {
            let none = Bson::Document(Document::new());
            equal(found.get(name).unwrap_or(&none), wanted)
        }
        "changeStreamPreAndPostImages" => {
            let is_on = |images: Option<&Document>| {
                images.and_then(|images| images.get_bool("enabled").ok()) == Some(true)
            };
            is_on(found.get_document(name).ok()) == is_on(wanted.as_document())
        }
        "capped" => found.get_bool(name).unwrap_or(false) == wanted.as_bool().unwrap_or(false),
        "idIndex" => true,
        "cappedSize" | "size" => {
            found.get("size").and_then(number).zip(number(wanted)).is_some_and(|(found, wanted)| {
                // Servers before 6.2 round it up to whole blocks of 256 bytes.
                found >= wanted && found < wanted + 256.0
            })
        }
        // Nothing or less is no limit; 2^31 - 1 is what some servers write for that.
        "cappedMax" | "max" => match (found.get("max").and_then(number), number(wanted)) {
            (Some(found), Some(wanted)) if wanted > 0.0 => equal(&Bson::Double(found), &Bson::Double(wanted)),
            (found, Some(wanted)) => {
                wanted <= 0.0 && found.is_none_or(|found| found <= 0.0 || found >= f64::from(i32::MAX))
            }
            _ => false,
        },
        "expireAfterSeconds" if wanted.as_str() == Some("off") => !found.contains_key(name),
        _ => found.get(name).is_some_and(|found| contains(found, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn an_index_is_what_was_asked_for_whatever_else_the_server_says() {
        let wanted =
            doc! { "key": { "a": 1, "b": -1 }, "name": "i", "collation": { "locale": "de", "strength": 2 } };
        let found = doc! { "key": { "a": 1.0, "b": -1_i64 }, "name": "i",
        "collation": { "locale": "de", "caseLevel": false, "strength": 2_i64, "version": "57.1" } };
        assert!(is_index(&found, &wanted));
        let mut unique = found.clone();
        unique.insert("unique", true);
        assert!(!is_index(&unique, &wanted), "nobody asked for it to be unique");
        let mut order = found.clone();
        order.insert("key", doc! { "b": -1, "a": 1 });
        assert!(!is_index(&order, &wanted));
        let mut strength = found;
        strength.insert("collation", doc! { "locale": "de", "strength": 3 });
        assert!(!is_index(&strength, &wanted));
    }

    #[test]
    fn a_text_index_is_known_by_its_weights() {
        let wanted = doc! { "key": { "title": "text", "body": "text" }, "name": "t" };
        let found = doc! { "key": { "_fts": "text", "_ftsx": 1 }, "name": "t", "weights": { "body": 1, "title": 1 },
        "default_language": "english", "textIndexVersion": 3 };
        assert!(is_index(&found, &wanted));
        let other = doc! { "key": { "_fts": "text", "_ftsx": 1 }, "name": "t", "weights": { "body": 1 } };
        assert!(!is_index(&other, &wanted));
    }

    #[test]
    fn options_that_are_not_said_have_their_usual_values() {
        let strict =
            doc! { "validator": { "a": 1 }, "validationLevel": "strict", "validationAction": "error" };
        assert!(are_options(&doc! { "validator": { "a": 1_i64 } }, &strict));
        assert!(!are_options(&doc! { "validator": { "a": 1 }, "validationLevel": "moderate" }, &strict));
        assert!(are_options(&doc! {}, &doc! { "validator": {} }));
        let off = doc! { "changeStreamPreAndPostImages": { "enabled": false } };
        assert!(are_options(&doc! {}, &off));
        assert!(!are_options(&doc! { "changeStreamPreAndPostImages": { "enabled": true } }, &off));
        assert!(are_options(&doc! { "size": 100_096 }, &doc! { "cappedSize": 100_000 }));
        assert!(!are_options(&doc! { "size": 100_000 }, &doc! { "cappedSize": 200_000 }));
        let capped = doc! { "capped": true, "size": 1_000, "max": 0, "validator": {} };
        assert!(are_options(&doc! { "capped": true, "size": 1_024, "max": i32::MAX }, &capped));
        assert!(are_options(&doc! {}, &doc! { "capped": false }));
        let plain = doc! { "key": { "a": 1 }, "name": "a" };
        assert!(is_index(&doc! { "key": { "a": 1 }, "name": "a", "sparse": false }, &plain));
    }
}
