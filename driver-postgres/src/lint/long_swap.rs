//! P139: In a swap each partition gets another name, and so do its indexes: with hundreds that takes longer than others may be kept
//! out.

use std::time::Duration;

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

/// What the swap of a table without partitions is said to take: it is never refused for that.
const PLAIN_MS: u64 = 60;

/// See `long_swap.md`.
pub const RULE: LongSwap = LongSwap;

pub struct LongSwap;

impl Rule for LongSwap {
    fn code(&self) -> &'static str {
        "P139"
    }

    fn slug(&self) -> &'static str {
        "swap-over-budget"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("long_swap.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        let shadow = subject.draft.candidates.iter().find(|candidate| candidate.strategy == Strategy::Shadow);
        let held = shadow
            .into_iter()
            .flat_map(|candidate| &candidate.locks)
            .map(|lock| lock.hold_ms)
            .max()
            .unwrap_or_default();
        if held <= PLAIN_MS || Duration::from_millis(held) <= subject.lock_budget {
            return Vec::new();
        }
        let budget = subject.lock_budget.as_millis();
        let what = format!(
            "the swap would keep everybody out for about {held} ms, and may for {budget} ms (--lock-budget)"
        );
        let room = held + held / 2;
        vec![Verdict::error(
            what,
            format!("say --lock-budget {room}ms where that is bearable, or have fewer partitions"),
        )]
    }
}
