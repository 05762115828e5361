//! D307: A field that is in use goes, gets another name, or another type.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `moved_field.md`.
pub struct MovedField;

impl Rule for MovedField {
    fn code(&self) -> &'static str {
        "D307"
    }

    fn slug(&self) -> &'static str {
        "rename-or-unset-live-field"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("moved_field.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let fields = Facts::of(subject).moved_fields.into_iter();
        fields
            .map(|what| {
                Verdict::error(
                    format!("{what} while applications use it: some documents have the old form and some the new, until it is done"),
                    "`replank rebuild COLLECTION --pipeline FILE` changes all documents in one moment; or waive the rule when no application reads or writes the field",
                )
            })
            .collect()
    }
}
