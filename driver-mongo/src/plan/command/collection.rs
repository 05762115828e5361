//! `create`, `renameCollection` and `drop`.

use bson::Document;
use replank_core::ident::aside_name;
use replank_core::{Error, ErrorKind, Result};

use super::Drafting;
use crate::capability;
use crate::ejson;
use crate::inspect;
use crate::native::Act;
use crate::spec::Stored;

impl Drafting<'_> {
    pub(super) fn create(&mut self, options: Document) -> Result<()> {
        if let Some(there) = &self.collection {
            let has_all = options.iter().all(|(name, wanted)| {
                there.options.get(name).is_some_and(|found| ejson::text(found) == ejson::text(wanted))
            });
            return match has_all && options.is_empty() == there.options.is_empty() {
                true => Ok(()),
                false => Err(Error::new(
                    ErrorKind::Refused,
                    format!("there is a {} `{}` already", there.kind, self.name),
                )
                .with("with", super::super::described(&there.options))),
            };
        }
        let kind = if options.contains_key("viewOn") { "view" } else { "collection" };
        self.changes.push(format!("{kind} {} comes, with {}", self.name, super::super::described(&options)));
        let aside = aside_name(&format!("{}.{}", self.server.database_name(), self.name));
        let is_time_series = options.contains_key("timeseries");
        let forward = Act::Create { collection: self.name.clone(), options: Stored(options) };
        // A view has no other name, and nothing in it.
        let back = match kind {
            "view" => Act::Drop { collection: self.name.clone(), kind: "view".to_owned() },
            _ => Act::Unmake { collection: self.name.clone(), aside },
        };
        self.step(format!("make {kind} {}", self.name), forward, Some(back), None)?;
        self.because("nothing is there yet that could be in the way");
        self.undone("`revert` drops it, as long as nothing was written to it");
        if is_time_series {
            self.for_good("the server renames no time series, by which it would be seen whether something was written to it");
        }
        self.is_made = true;
        Ok(())
    }

    pub(super) async fn rename(&mut self, to: &str, drops_target: bool) -> Result<()> {
        if self.is_view() || self.there().kind == "timeseries" {
            self.cannot("the server renames no views and no time series");
        }
        let to = super::super::plain_name(self.server, to)?.to_owned();
        let is_taken = inspect::exists(self.server, &to).await?;
        if drops_target && is_taken {
            self.facts.drops_target = Some(to.clone());
        } else if is_taken {
            return Err(Error::new(ErrorKind::Refused, format!("there is a collection `{to}` already"))
                .hint(format!("drop it first: `replank apply -e '{{\"drop\": \"{to}\"}}'` keeps it until that is made final")));
        }
        self.changes.push(format!("collection {} becomes {to}", self.name));
        self.evidence.renames.push((format!("table {}", self.name), to.clone()));
        let uuid = self.lasting_identity().await?;
        let forward = Act::Rename { from: self.name.clone(), to: to.clone(), uuid: uuid.clone() };
        let back = Act::Rename { from: to.clone(), to: self.name.clone(), uuid };
        self.step(format!("rename {} to {to}", self.name), forward, Some(back), None)?;
        self.because("the server renames a collection in a moment");
        self.undone("`revert` gives it its name again; a collection that others have made of the old name by writing to it must be moved first");
        self.moment();
        Ok(())
    }

    pub(super) async fn drop(&mut self) -> Result<()> {
        let there = self.there();
        self.changes.push(format!("{} {} goes", there.kind, self.name));
        let gone = Act::Drop { collection: self.name.clone(), kind: there.kind.clone() };
        if there.kind == "view" {
            let again = Act::Create { collection: self.name.clone(), options: Stored(there.options) };
            self.step(format!("drop view {}", self.name), gone, Some(again), None)?;
            self.because("a view has no documents of its own");
            self.undone("`revert` makes the view again");
            return Ok(());
        }
        self.facts.dropped = Some(self.name.clone());
        if there.kind == "timeseries" {
            self.step(format!("drop time series {}", self.name), gone, None, None)?;
            self.discards.push(format!("collection {} with its documents", self.name));
            self.because("the server renames no time series, so it cannot be kept under another name");
            return Ok(());
        }
        // By its identity: a collection that was made anew since the last drop gets another name.
        let aside = aside_name(&format!("{}.{}.{}", self.server.database_name(), self.name, there.uuid));
        let uuid = self.lasting_identity().await?;
        let away = Act::Rename { from: self.name.clone(), to: aside.clone(), uuid: uuid.clone() };
        let back = Act::Rename { from: aside.clone(), to: self.name.clone(), uuid };
        let last = Act::Drop { collection: aside.clone(), kind: "collection".to_owned() };
        // What is kept would go on expiring under its other name.
        for index in there.indexes.iter().filter(|index| index.contains_key("expireAfterSeconds")) {
            self.stop_expiring(index)?;
        }
        self.step(format!("take {} out of the way as {aside}", self.name), away, Some(back), Some(last))?;
        self.because("the collection is renamed out of the way, and dropped when that is made final");
        self.undone("`revert` gives it its name again, with its documents and indexes; they are kept until `finalize`");
        self.moment();
        Ok(())
    }

    /// The identity by which a collection is known again under another name, where the server keeps it.
    async fn lasting_identity(&self) -> Result<Option<String>> {
        let uuid = self.there().uuid;
        Ok((!uuid.is_empty() && capability::keeps_identity(self.server).await?).then_some(uuid))
    }
}
