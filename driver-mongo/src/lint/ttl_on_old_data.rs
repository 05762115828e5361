//! D305: A TTL index finds many old documents.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::{Facts, documents};

/// More than this is a storm. Chosen: some seconds of deletes.
const STORM: u64 = 10_000;

/// See `ttl_on_old_data.md`.
pub struct TtlOnOldData;

impl Rule for TtlOnOldData {
    fn code(&self) -> &'static str {
        "D305"
    }

    fn slug(&self) -> &'static str {
        "ttl-on-old-data"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("ttl_on_old_data.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        match Facts::of(subject).expiring {
            0 => Vec::new(),
            expiring => {
                let expire = documents(expiring, "expires", "expire");
                let what =
                    format!("{expire} at once, deleted one by one, and what expired does not come back");
                let advice = "begin with a longer limit, and shorten it in steps by collMod";
                vec![if expiring > STORM {
                    Verdict::error(what, advice)
                } else {
                    Verdict::warning(what, advice)
                }]
            }
        }
    }
}
