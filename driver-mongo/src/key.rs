//! The `_id` of a document as the engine's key.
//!
//! The encoding is injective over values, types and bytes: Extended JSON where that gives the same bytes back, else the bytes
//! themselves in hex digits.

use bson::{Bson, Document, RawDocumentBuf, doc};
use replank_core::value::{Change, Key, Lane, hex, unhex};
use replank_core::{Error, ErrorKind, Result};

use crate::collation::Collation;

/// In front of the bytes of a key that JSON would not give back.
const BYTES: &str = "bson:";

/// The key of a document with this `_id`.
pub fn encode(id: &Bson) -> Result<Key> {
    let bytes = bytes(id)?;
    let text = id.clone().into_canonical_extjson().to_string();
    let again =
        serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|value| Bson::try_from(value).ok());
    Ok(match again.map(|again| self::bytes(&again)) {
        Some(Ok(same)) if same == bytes => Key(text),
        _ => Key(format!("{BYTES}{}", hex(&bytes))),
    })
}

/// The `_id` of a key.
///
/// # Errors
/// [`ErrorKind::Internal`] for a key of another driver.
pub fn decode(key: &Key) -> Result<Bson> {
    let foreign = || Error::new(ErrorKind::Internal, "a key of another driver").with("key", key);
    if let Some(digits) = key.0.strip_prefix(BYTES) {
        let raw = RawDocumentBuf::from_bytes(unhex(digits).ok_or_else(foreign)?).map_err(|_| foreign())?;
        let document = Document::try_from(raw).map_err(|_| foreign())?;
        return document.get("_id").cloned().ok_or_else(foreign);
    }
    let value: serde_json::Value = serde_json::from_str(&key.0).map_err(|_| foreign())?;
    Bson::try_from(value).map_err(|_| foreign())
}

/// Those of some keys.
pub fn decode_all<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Result<Vec<Bson>> {
    keys.into_iter().map(decode).collect()
}

/// A value as the bytes of a document that holds it.
pub fn bytes(id: &Bson) -> Result<Vec<u8>> {
    let raw = RawDocumentBuf::try_from(&doc! { "_id": id.clone() }).map_err(|error| {
        Error::new(ErrorKind::Internal, "a key cannot be written as BSON").caused_by(error)
    })?;
    Ok(raw.into_bytes())
}

/// The document of such bytes.
pub fn from_bytes(bytes: Vec<u8>) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(bytes)
        .map_err(|error| Error::new(ErrorKind::Internal, "these bytes are no document").caused_by(error))
}

/// A change of the document with this `_id`.
pub fn change(id: &Bson, removed: bool, collation: &Collation) -> Result<Change> {
    Ok(Change { key: encode(id)?, lane: lane(id, collation), removed })
}

/// The lanes that there are.
pub const LANES: u16 = 4;

fn lane(id: &Bson, collation: &Collation) -> Lane {
    let digest = blake3::hash(class(id, collation).as_bytes());
    Lane(u16::from(digest.as_bytes()[0]) % LANES)
}

/// A text that two values share whenever the server calls them equal; it may be shared by more. 1, 1.0 and a decimal 1 are
/// one `_id`, and what texts are equal is the collation's to say.
pub fn class(id: &Bson, collation: &Collation) -> String {
    match id {
        Bson::Int32(number) => number_class(f64::from(*number)),
        #[expect(
            clippy::cast_precision_loss,
            reason = "equal numbers become equal, and that is all that is asked"
        )]
        Bson::Int64(number) => number_class(*number as f64),
        Bson::Double(number) => number_class(*number),
        Bson::Decimal128(number) => number_class(number.to_string().parse().unwrap_or(f64::NAN)),
        Bson::String(text) | Bson::Symbol(text) if collation.is_simple() => format!("s{}:{text}", text.len()),
        Bson::String(_) | Bson::Symbol(_) => "s".to_owned(),
        Bson::Document(document) => {
            let fields: Vec<String> = document
                .iter()
                .map(|(name, value)| format!("{}:{name}={}", name.len(), class(value, collation)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Bson::Array(items) => {
            format!("[{}]", items.iter().map(|item| class(item, collation)).collect::<Vec<_>>().join(","))
        }
        Bson::Null | Bson::Undefined => "null".to_owned(),
        other => other.clone().into_canonical_extjson().to_string(),
    }
}

fn number_class(number: f64) -> String {
    // 0 and -0 are equal, and so are all that are no numbers.
    if number.is_nan() { "nan".to_owned() } else { format!("n{:?}", number + 0.0) }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::spec::BinarySubtype;
    use bson::{Binary, DateTime, Decimal128, Timestamp};

    use super::*;

    fn of_every_type() -> Vec<Bson> {
        let binary = |subtype| Bson::Binary(Binary { subtype, bytes: vec![1, 2, 3] });
        vec![
            Bson::MinKey,
            Bson::Null,
            Bson::Double(f64::NAN),
            Bson::Double(f64::NEG_INFINITY),
            Bson::Double(-0.0),
            Bson::Double(1.0),
            Bson::Int32(1),
            Bson::Int64(1),
            Bson::Double(3.5),
            Bson::Decimal128("1.0".parse::<Decimal128>().expect("a number")),
            Bson::Decimal128("1.00".parse::<Decimal128>().expect("a number")),
            Bson::String(String::new()),
            Bson::String("a".into()),
            Bson::Document(doc! { "b": 1, "a": 2_i64 }),
            binary(BinarySubtype::Generic),
            binary(BinarySubtype::Uuid),
            Bson::ObjectId(ObjectId::from_bytes([7; 12])),
            Bson::Boolean(true),
            Bson::DateTime(DateTime::from_millis(-1)),
            Bson::Timestamp(Timestamp { time: 1, increment: 2 }),
            Bson::MaxKey,
        ]
    }

    #[test]
    fn keys_of_every_type_come_back_to_the_byte_and_none_is_anothers() {
        let mut seen = std::collections::BTreeSet::new();
        for id in of_every_type() {
            let key = encode(&id).expect("encoded");
            let back = decode(&key).expect("decoded");
            assert_eq!(bytes(&back).expect("bytes"), bytes(&id).expect("bytes"), "{key}");
            assert!(seen.insert(key.clone()), "{key} is there twice");
        }
        assert!(decode(&Key("bson:zz".into())).is_err());
    }

    #[test]
    fn what_the_server_calls_equal_shares_a_class() {
        let class_of = |id: Bson| class(&id, &Collation::of(&doc! {}));
        let one = class_of(Bson::Int32(1));
        assert_eq!(class_of(Bson::Int64(1)), one);
        assert_eq!(class_of(Bson::Double(1.0)), one);
        assert_eq!(class_of(Bson::Decimal128("1.00".parse().expect("a number"))), one);
        assert_eq!(class_of(Bson::Double(-0.0)), class_of(Bson::Int32(0)));
        let within = |number: Bson| class_of(Bson::Document(doc! { "a": number }));
        assert_eq!(within(Bson::Int32(1)), within(Bson::Double(1.0)));
        assert_ne!(class_of(Bson::String("a".into())), class_of(Bson::String("A".into())));
        let folded = Collation::of(&doc! { "collation": { "locale": "en", "strength": 2 } });
        assert_eq!(class(&Bson::String("a".into()), &folded), class(&Bson::String("A".into()), &folded));
    }
}
