//! A rule that a person sets aside, with the reason.

use crate::{Error, ErrorKind, Result};

/// `waive=C004 reason="…" until=2027-01-31`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The rule.
    pub code: String,
    /// Why: kept in the run's record.
    pub reason: String,
}

impl Waiver {
    /// A waiver from its parts, on a day.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] without a reason, for a date that is none, or once `until` has passed.
    pub fn new(
        code: &str,
        reason: Option<&str>,
        until: Option<&str>,
        today: jiff::civil::Date,
    ) -> Result<Self> {
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty()).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`waive={code}` has no reason"))
                .hint(format!("write -D 'waive={code} reason=\"why it is safe here\"'"))
        })?;
        if let Some(until) = until {
            let day: jiff::civil::Date = until.parse().map_err(|_| {
                Error::new(ErrorKind::Usage, format!("`until={until}` is not a date such as 2027-01-31"))
            })?;
            if day < today {
                return Err(Error::new(ErrorKind::Usage, format!("the waiver of {code} ended on {until}"))
                    .hint("decide again whether it is safe, and write a new date"));
            }
        }
        Ok(Self { code: code.to_owned(), reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiver_needs_a_reason_and_ends() {
        let today = jiff::civil::date(2027, 1, 1);
        assert!(Waiver::new("C004", None, None, today).is_err());
        assert!(Waiver::new("C004", Some("  "), None, today).is_err());
        assert!(Waiver::new("C004", Some("one app"), Some("2026-12-31"), today).is_err());
        assert!(Waiver::new("C004", Some("one app"), Some("2027-01-01"), today).is_ok());
        assert!(Waiver::new("C004", Some("one app"), Some("soon"), today).is_err());
    }
}
