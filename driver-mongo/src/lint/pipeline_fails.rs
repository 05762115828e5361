//! D308: A conversion fails for values that are there.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `pipeline_fails.md`.
pub struct PipelineFails;

impl Rule for PipelineFails {
    fn code(&self) -> &'static str {
        "D308"
    }

    fn slug(&self) -> &'static str {
        "convert-without-onerror"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("pipeline_fails.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let fails = Facts::of(subject).pipeline_fails.into_iter();
        fails
            .map(|what| {
                Verdict::error(
                    format!("the pipeline fails for a document that is there: {what}"),
                    "say by $convert what becomes of such values (onError, onNull); or waive the rule and give --throttle quarantine_max=N: documents that it fails for are then noted and left as they are",
                )
            })
            .collect()
    }
}
