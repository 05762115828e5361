//! `collMod` of a collection or a view.

use bson::{Bson, Document, doc};
use replank_core::{Error, ErrorKind, Result};

use super::Drafting;
use crate::ejson;
use crate::native::{Act, are_options};
use crate::plan::breaking;
use crate::spec::Stored;

/// What a validator is made of.
const VALIDATION: [&str; 3] = ["validator", "validationLevel", "validationAction"];

impl Drafting<'_> {
    pub(super) async fn change_options(&mut self, set: Document) -> Result<()> {
        let found = self.there().options;
        if are_options(&found, &set) {
            return Ok(());
        }
        self.because("the server notes it in its catalogue");
        self.moment();
        let (validation, others): (Vec<_>, Vec<_>) =
            set.into_iter().partition(|(name, _)| VALIDATION.contains(&name.as_str()));
        if !others.is_empty() {
            self.other_options(&found, others.into_iter().collect())?;
        }
        let validation: Document = validation.into_iter().collect();
        if !validation.is_empty() && !are_options(&found, &validation) {
            self.validate(&found, &validation).await?;
        }
        Ok(())
    }

    fn options_act(&self, set: Document, clean: Option<Document>) -> Act {
        Act::Options { collection: self.name.clone(), set: Stored(set), clean: clean.map(Stored) }
    }

    fn other_options(&mut self, found: &Document, set: Document) -> Result<()> {
        for (name, value) in &set {
            self.changes.push(format!("{name} becomes {}", ejson::text(value)));
        }
        let mut before = Document::new();
        for name in set.keys() {
            let (name, old) = match name.as_str() {
                "cappedSize" => (name, found.get("size").cloned()),
                "cappedMax" => (name, Some(found.get("max").cloned().unwrap_or(Bson::Int32(0)))),
                "changeStreamPreAndPostImages" => {
                    let off = Bson::Document(doc! { "enabled": false });
                    (name, Some(found.get(name).cloned().unwrap_or(off)))
                }
                "expireAfterSeconds" => {
                    (name, Some(found.get(name).cloned().unwrap_or(Bson::String("off".to_owned()))))
                }
                _ => (name, found.get(name).cloned()),
            };
            match old {
                Some(old) => {
                    before.insert(name, old);
                }
                None if name == "cappedSize" => self
                    .cannot("the collection is not capped, and no command makes it so while others use it"),
                None => self.for_good(&format!("what `{name}` was is not known")),
            }
            if name.starts_with("capped") {
                self.for_good(
                    "where a capped collection becomes smaller, its oldest documents are gone for good",
                );
            }
            if name == "timeseries" {
                self.for_good("the buckets of a time series only grow");
            }
        }
        let names: Vec<&str> = set.keys().map(String::as_str).collect();
        let title = format!("set {} of {}", names.join(", "), self.name);
        let back = (before.len() == set.len()).then(|| self.options_act(before, None));
        let forward = self.options_act(set, None);
        self.step(title, forward, back, None)?;
        self.undone("`revert` sets back what it was");
        Ok(())
    }

    /// A validator comes in steps: first it refuses nothing, then only what is new, and it is strict once nothing is left that breaks
    /// it. Strict at once, a document that breaks it could not be updated any more.
    async fn validate(&mut self, found: &Document, set: &Document) -> Result<()> {
        let text =
            |options: &Document, name: &str, usual: &str| options.get_str(name).unwrap_or(usual).to_owned();
        let wanted = |name: &str, usual: &str| match set.get(name) {
            Some(Bson::String(text)) => Ok(text.clone()),
            Some(other) => Err(Error::new(
                ErrorKind::Usage,
                format!("`{name}` is a text, and not {}", ejson::text(other)),
            )),
            None => Ok(text(found, name, usual)),
        };
        let (level, action) = (wanted("validationLevel", "strict")?, wanted("validationAction", "error")?);
        let is_level = matches!(level.as_str(), "strict" | "moderate" | "off");
        let is_action = matches!(action.as_str(), "error" | "warn" | "errorAndLog");
        if !is_level || !is_action {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("there is no validation by `{level}` and `{action}`"),
            )
            .hint("validationLevel is strict, moderate or off; validationAction is error or warn"));
        }
        let before = found.get_document("validator").cloned().unwrap_or_default();
        let validator = match set.get("validator") {
            None => before.clone(),
            Some(Bson::Document(validator)) => validator.clone(),
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("`validator` is an object, and not {}", ejson::text(other)),
                ));
            }
        };
        let all = |level: &str, action: &str| {
            doc! { "validator": validator.clone(), "validationLevel": level, "validationAction": action }
        };
        self.changes.push(match validator.is_empty() {
            true => "no document is validated any more".to_owned(),
            false => {
                format!("documents are validated ({level}, {action}) by {}", ejson::document_text(&validator))
            }
        });
        let old = doc! {
            "validator": before.clone(),
            "validationLevel": text(found, "validationLevel", "strict"),
            "validationAction": text(found, "validationAction", "error"),
        };
        let refuses = level != "off" && action != "warn" && !validator.is_empty();
        let is_strict = refuses && level == "strict";
        if refuses && !self.is_made {
            let what = format!("the validator of `{}`", self.name);
            let unfit = breaking(self.server, &self.name, &[], &validator, what).await?;
            if is_strict {
                self.facts.breaking_strict = unfit;
            } else {
                self.facts.breaking = unfit;
            }
        }
        let mut at = old;
        let mut ways = Vec::new();
        // One that refuses already is not put to sleep while its successor is tried.
        let had_none = before.is_empty()
            || text(found, "validationAction", "error") == "warn"
            || text(found, "validationLevel", "strict") == "off";
        if refuses && had_none && !self.is_made {
            ways.push((
                "moderate",
                "warn".to_owned(),
                "note writes that would be refused, and refuse none",
                false,
            ));
        }
        if is_strict && !self.is_made {
            ways.push(("moderate", action.clone(), "refuse new documents that break it", true));
        }
        let title = if refuses { "validate every write" } else { "set the validator" };
        ways.push((level.as_str(), action.clone(), title, is_strict));
        for (level, action, title, needs_clean) in ways {
            let set = all(level, &action);
            if are_options(&at, &set) {
                continue;
            }
            let clean = needs_clean.then(|| validator.clone());
            let (forward, back) = (self.options_act(set.clone(), clean), self.options_act(at, None));
            self.step(format!("{title} ({level}, {action})"), forward, Some(back), None)?;
            at = set;
        }
        self.undone("`revert` sets the old validator again");
        Ok(())
    }
}
