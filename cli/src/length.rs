//! Lengths of time as a person writes them: `200ms`, `2s`, `24h`.

use std::time::Duration;

use replank_core::{Error, ErrorKind, Result};

/// Reads a length of time.
///
/// # Errors
/// [`ErrorKind::Usage`] for a text without a unit, or a negative one.
pub fn parse(text: &str) -> Result<Duration> {
    let unreadable = || {
        Error::new(ErrorKind::Usage, format!("`{text}` is not a length of time"))
            .hint("write a number and a unit, such as 200ms, 2s or 24h")
    };
    let length: jiff::SignedDuration = text.trim().parse().map_err(|_unit| unreadable())?;
    Duration::try_from(length).map_err(|_negative| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (text, millis) in [("200ms", 200), ("2s", 2000), ("24h", 86_400_000), ("1m 30s", 90_000)] {
            assert_eq!(parse(text).expect(text), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "200", "soon", "-3s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
