//! The collections of a rebuild, and whether what it follows is still what was planned.

use bson::{Document, doc};
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, Target, guard};
use crate::connect::{answer, majority_document};
use crate::error::from_mongo;
use crate::inspect::{self, Collection, index_name};
use crate::rebuild::log::MARK;
use crate::spec::{Side, documents};
use crate::state::ObjectRole;

/// Makes the collections that are written, empty and without indexes, and the one that tells where the oplog is.
pub async fn prepare(core: &Core) -> Result<()> {
    core.check_token().await?;
    check_source(core).await?;
    let targets = core.targets()?;
    for name in targets.iter().map(|target| target.name.clone()).chain([core.log()]) {
        if inspect::exists(&core.server, &name).await? {
            return Err(Error::new(ErrorKind::Server, format!("`{name}` is there already")));
        }
    }
    core.objects.put(&core.server, ObjectRole::Log, &core.log(), Document::new()).await?;
    make(core, &core.log(), &Document::new()).await?;
    core.collection(&core.log()).insert_one(doc! { "_id": MARK, "n": 0_i64 }).await.map_err(from_mongo)?;
    let mut identity = Document::new();
    for target in &targets {
        core.objects.put(&core.server, target.role, &target.name, Document::new()).await?;
        make(core, &target.name, &target.side.options.0).await?;
        let made = Collection::expect(&core.server, &target.name).await?;
        as_planned(target, &made)?;
        identity.insert(target.role.word(), made.uuid);
    }
    // Between the look at the token and here somebody may have taken over: what was made bears our token in its name.
    core.check_token().await?;
    core.objects.put(&core.server, ObjectRole::Identity, core.live(), identity).await
}

async fn make(core: &Core, name: &str, options: &Document) -> Result<()> {
    let mut command = doc! { "create": name };
    command.extend(options.clone());
    command.insert("writeConcern", majority_document());
    answer(core.server.database().run_command(command).await).map(|_| ())
}

/// A server may say that all is well and make something else.
fn as_planned(target: &Target<'_>, made: &Collection) -> Result<()> {
    if normal(&made.options) == normal(&target.side.options.0) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, "the new collection came out different from the plan")
        .with("planned", crate::ejson::document_text(&target.side.options.0))
        .with("made", crate::ejson::document_text(&made.options))
        .hint("this server does not keep such an option; leave it out of the new shape"))
}

/// Reads back what a collection is after its swap. Not every server keeps the options of a collection that it renames; those that
/// `collMod` sets are set again.
///
/// # Errors
/// [`ErrorKind::Server`] where they are not kept even then.
pub async fn keep_options(core: &Core, side: &Side) -> Result<()> {
    let planned = normal(&side.options.0);
    let differs = async || -> Result<bool> {
        let live = Collection::expect(&core.server, core.live()).await?;
        Ok(normal(&live.options) != planned)
    };
    if !differs().await? {
        return Ok(());
    }
    let mut command = doc! { "collMod": core.live() };
    for option in ["validator", "validationLevel", "validationAction", "changeStreamPreAndPostImages"] {
        if let Some(value) = planned.get(option) {
            command.insert(option, value.clone());
        }
    }
    command.insert("writeConcern", majority_document());
    answer(core.server.database().run_command(command).await)?;
    if differs().await? {
        return Err(Error::new(
            ErrorKind::Server,
            format!("`{}` does not have the options that it is to have", core.job.table),
        )
        .with("wanted", crate::ejson::document_text(&planned))
        .hint("set them by collMod; every document is as it should be"));
    }
    Ok(())
}

/// Options as they mean the same: an empty validator is none, and the levels that it would have say nothing.
fn normal(options: &Document) -> Document {
    let mut options = options.clone();
    if options.get_document("validator").is_ok_and(Document::is_empty) {
        options.remove("validator");
    }
    if !options.contains_key("validator") {
        options.remove("validationLevel");
        options.remove("validationAction");
    }
    if options.get_str("validationLevel").ok() == Some("strict") {
        options.remove("validationLevel");
    }
    if options.get_str("validationAction").ok() == Some("error") {
        options.remove("validationAction");
    }
    let mut sorted: Vec<_> = options.into_iter().collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    sorted.into_iter().collect()
}

/// Whether the live collection is as the plan saw it, or as the swap left it (R7).
pub async fn check_source(core: &Core) -> Result<()> {
    let live = Collection::read(&core.server, core.live()).await?;
    let Some(live) = live else {
        return Err(changed(core, "it is not there any more"));
    };
    let side = core.spec.live(core.job.direction);
    if core.job.direction == Direction::Forward && core.spec.uuids_last && live.uuid != core.spec.uuid {
        return Err(changed(core, "it was dropped, and another one bears its name"));
    }
    // While a fence of ours stands the validator is ours.
    if guard::whose(&live.options).is_none() && normal(&live.options) != normal(&side.options.0) {
        let (was, is) = (normal(&side.options.0), normal(&live.options));
        let says = format!(
            "its options were {} and are {}",
            crate::ejson::document_text(&was),
            crate::ejson::document_text(&is)
        );
        return Err(changed(core, &says));
    }
    let planned = documents(&side.indexes);
    let differs = |one: &Document, of: &[Document]| !of.iter().any(|other| same_index(one, other));
    let gone = planned.iter().find(|index| differs(index, &live.indexes));
    let come = live.indexes.iter().find(|index| differs(index, &planned));
    match gone.map(|index| (index, "is gone or was changed")).or(come.map(|index| (index, "has come"))) {
        None => Ok(()),
        Some((index, what)) => Err(changed(core, &format!("its index `{}` {what}", index_name(index)))),
    }
}

/// The same key, in order, with the same options.
pub fn same_index(one: &Document, other: &Document) -> bool {
    let sorted = |index: &Document| {
        let mut fields: Vec<_> = index.iter().map(|(name, value)| (name.clone(), loose(value))).collect();
        fields.sort();
        fields
    };
    sorted(one) == sorted(other)
}

/// A value as text, with numbers that are equal written alike: `1`, `1.0` and a long 1 are one direction of an index.
fn loose(value: &bson::Bson) -> String {
    use bson::Bson;
    match value {
        Bson::Int32(number) => f64::from(*number).to_string(),
        #[expect(clippy::cast_precision_loss, reason = "an option of an index, which is small")]
        Bson::Int64(number) => (*number as f64).to_string(),
        Bson::Double(number) => number.to_string(),
        Bson::Document(document) => {
            let fields: Vec<String> =
                document.iter().map(|(name, value)| format!("{name}:{}", loose(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Bson::Array(items) => format!("[{}]", items.iter().map(loose).collect::<Vec<_>>().join(",")),
        other => crate::ejson::text(other),
    }
}

fn changed(core: &Core, what: &str) -> Error {
    Error::new(ErrorKind::ForeignDdl, format!("somebody changed `{}`: {what}", core.job.table))
        .hint(format!("`replank abort {}` and begin again with the collection as it is now", core.job.run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_by_its_fields_in_order_and_by_its_options() {
        let index = doc! { "key": { "a": 1, "b": -1 }, "name": "i", "unique": true };
        let longs = doc! { "name": "i", "unique": true, "key": { "a": 1_i64, "b": -1.0 } };
        assert!(same_index(&index, &longs));
        let turned = doc! { "key": { "b": -1, "a": 1 }, "name": "i", "unique": true };
        assert!(!same_index(&index, &turned));
        assert!(!same_index(&index, &doc! { "key": { "a": 1, "b": -1 }, "name": "i" }));
    }

    #[test]
    fn options_that_mean_the_same_are_the_same() {
        let nothing = doc! {};
        assert_eq!(
            normal(&doc! { "validator": {}, "validationLevel": "off", "validationAction": "error" }),
            nothing
        );
        let validator = doc! { "validator": { "a": 1 } };
        let said = doc! { "validationAction": "error", "validator": { "a": 1 }, "validationLevel": "strict" };
        assert_eq!(normal(&said), validator);
        assert_ne!(normal(&doc! { "validator": { "a": 1 }, "validationAction": "warn" }), validator);
    }
}
