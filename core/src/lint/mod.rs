//! Rules: each one file, one code, one page that `replank explain` prints.

pub mod rules;
mod run;
mod waive;

pub use run::{judge, refusals};
pub use waive::Waiver;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Draft, Strategy};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Think twice.
    Warning,
    /// Refused, unless waived.
    Error,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The rule's code.
    pub code: String,
    /// The rule's name.
    pub slug: String,
    /// How much it weighs.
    pub severity: Severity,
    /// What was found, with names and counts.
    pub message: String,
    /// The safe rewrite, or what to do.
    pub advice: String,
    /// Set when the plan turns the danger into a safe form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_by: Option<Strategy>,
    /// Set when a person waived it, with the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<String>,
}

/// What a rule looks at: plain facts, no clock and no I/O.
pub struct Subject<'a> {
    /// The statement against the live target.
    pub draft: &'a Draft,
    /// The strategy that would be taken.
    pub strategy: Strategy,
    /// Data that is gone for good once it ran, as `table …` or `column …`.
    pub discards: &'a [String],
    /// Room that it needs.
    pub disk_bytes: Option<u64>,
    /// The lock budget.
    pub lock_budget: Duration,
}

/// A rule.
pub trait Rule: Send + Sync {
    /// Its code, such as `C010`.
    fn code(&self) -> &'static str;

    /// Its name, such as `unique-on-existing`.
    fn slug(&self) -> &'static str;

    /// The severity that it starts with.
    fn severity(&self) -> Severity;

    /// The page that `explain` prints, in Markdown.
    fn page(&self) -> &'static str;

    /// Every finding, as `(severity, message, advice)`.
    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict>;
}

/// One thing that a rule has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How much it weighs here.
    pub severity: Severity,
    /// What was found.
    pub message: String,
    /// What to do.
    pub advice: String,
    /// The strategy that was chosen makes it safe.
    pub handled: bool,
}

impl Verdict {
    /// A finding that refuses the change.
    pub fn error(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), advice: advice.into(), handled: false }
    }

    /// A finding that only warns.
    pub fn warning(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message, advice) }
    }

    /// The strategy that was chosen makes it safe.
    #[must_use]
    pub fn handled(mut self) -> Self {
        self.handled = true;
        self.severity = Severity::Info;
        self
    }
}
