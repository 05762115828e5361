//! When a table may be swapped, as a person writes it: `auto`, `manual`, or a time.

use jiff::civil::Time;
use jiff::{Timestamp, ToSpan as _, ZonedDateTime};
use replank_core::run::CutoverGate;
use replank_core::{Error, ErrorKind, Result};

/// Reads a gate. A time of day is the next one here.
///
/// # Errors
/// [`ErrorKind::Usage`] for anything else.
pub fn parse(text: &str) -> Result<CutoverGate> {
    read(text, &ZonedDateTime::now())
}

fn read(text: &str, now: &ZonedDateTime) -> Result<CutoverGate> {
    match text.trim() {
        "auto" => return Ok(CutoverGate::Auto),
        "manual" => return Ok(CutoverGate::Manual),
        _ => {}
    }
    let unreadable = |_error: jiff::Error| {
        Error::new(ErrorKind::Usage, format!("`cutover={text}` is neither auto nor manual nor a time"))
            .hint("write a time as 2027-01-31T03:00:00+01:00, or as 03:00")
    };
    if let Ok(moment) = text.trim().parse::<Timestamp>() {
        return Ok(CutoverGate::At(moment));
    }
    let time: Time = text.trim().parse().map_err(unreadable)?;
    let today =
        now.date().to_datetime(time).to_zoned_datetime(now.time_zone().clone()).map_err(unreadable)?;
    let next = if today > *now { today } else { today.checked_add(1.day()).map_err(unreadable)? };
    Ok(CutoverGate::At(next.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let now: ZonedDateTime = "2026-03-28T22:00:00+01:00[Europe/Berlin]".parse().expect("a moment");
        let at = |text: &str| match read(text, &now).expect(text) {
            CutoverGate::At(at) => at.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(at("23:30"), "2026-03-28T22:30:00Z");
        assert_eq!(at("21:00"), "2026-03-29T19:00:00Z", "the next day, in summer time");
        assert_eq!(at("2027-01-31T03:00:00+01:00"), "2027-01-31T02:00:00Z");
        assert_eq!(read("auto", &now).expect("a word"), CutoverGate::Auto);
        for text in ["soon", "25:00", "2027-01-31", ""] {
            assert_eq!(read(text, &now).expect_err(text).kind(), ErrorKind::Usage, "{text}");
        }
    }
}
