//! D304: An index is dropped that queries may still need.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `drop_index_not_hidden.md`.
pub struct DropIndexNotHidden;

impl Rule for DropIndexNotHidden {
    fn code(&self) -> &'static str {
        "D304"
    }

    fn slug(&self) -> &'static str {
        "drop-index-not-hidden"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("drop_index_not_hidden.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let facts = Facts::of(subject);
        let needed =
            |name: &String| format!("a query may still need index {name}, which takes long to build again");
        let hidden =
            facts.hidden_indexes.iter().map(|name| Verdict::error(needed(name), "hide it first").handled());
        let bare = facts.bare_indexes.iter().map(|name| {
            Verdict::warning(needed(name), "this server cannot hide it first: look that nothing uses it")
        });
        let used = facts.used_indexes.iter().map(|what| {
            Verdict::warning(
                what,
                "look who uses it before it is made final: queries fall back to other indexes, or to none",
            )
        });
        hidden.chain(bare).chain(used).collect()
    }
}
