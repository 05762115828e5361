//! A rule of this driver.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// One rule.
pub struct Own {
    pub code: &'static str,
    pub slug: &'static str,
    pub severity: Severity,
    pub page: &'static str,
    pub advice: &'static str,
    pub judged: Judged,
}

/// What becomes of what was seen.
pub enum Judged {
    /// The steps of the plan do it safely.
    Handled,
    /// A rebuild does it safely, and nothing else.
    ByRebuild,
    /// Of the server's own way and of nothing else, and it is not done.
    OfServer,
    /// It is done all the same.
    Warned,
    /// It is not done.
    Refused,
    /// It is done, and no worse than that.
    Noted,
    /// Of how a rebuild learns of changes, and of nothing else; it copes.
    CaptureHandled,
    /// The same, which it may not cope with.
    CaptureWarned,
}

impl Rule for Own {
    fn code(&self) -> &'static str {
        self.code
    }

    fn slug(&self) -> &'static str {
        self.slug
    }

    fn severity(&self) -> Severity {
        self.severity
    }

    fn page(&self) -> &'static str {
        self.page
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let seen = Facts::of(subject).seen;
        let is_of_capture = matches!(self.judged, Judged::CaptureHandled | Judged::CaptureWarned);
        if matches!(self.judged, Judged::OfServer) && subject.strategy == Strategy::Shadow {
            return Vec::new();
        }
        if is_of_capture && subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        let own = seen.into_iter().filter_map(|seen| {
            let is_refused = seen.rule.strip_suffix('!') == Some(self.code);
            if !is_refused && seen.rule != self.code {
                return None;
            }
            let error = Verdict::error(seen.what.clone(), self.advice);
            Some(match self.judged {
                _ if is_refused => error,
                Judged::Handled | Judged::CaptureHandled => error.handled(),
                Judged::ByRebuild if subject.strategy == Strategy::Shadow => error.handled(),
                Judged::ByRebuild | Judged::Refused | Judged::OfServer => error,
                Judged::Warned | Judged::CaptureWarned => Verdict::warning(seen.what, self.advice),
                Judged::Noted => Verdict { severity: Severity::Info, ..error },
            })
        });
        own.collect()
    }
}
