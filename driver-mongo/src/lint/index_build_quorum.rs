//! D302: An index build waits for its quorum of members.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `index_build_quorum.md`.
pub struct IndexBuildQuorum;

impl Rule for IndexBuildQuorum {
    fn code(&self) -> &'static str {
        "D302"
    }

    fn slug(&self) -> &'static str {
        "index-build-quorum"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("index_build_quorum.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let down = Facts::of(subject).members_down.into_iter();
        down.map(|member| {
            Verdict::error(
                format!(
                    "{member}, and the build of an index waits for every member that votes and holds data"
                ),
                "bring the member back, or say how many must be ready: \"commitQuorum\": \"majority\"",
            )
        })
        .collect()
    }
}
