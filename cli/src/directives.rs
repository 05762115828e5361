//! `-D key=value`: what the statement's own language cannot say.

use std::time::Duration;

use replank_core::lint::Waiver;
use replank_core::plan::Strategy;
use replank_core::run::CutoverGate;
use replank_core::{Error, ErrorKind, Result};

use crate::{gate, length};

/// Every key that is meant to exist, and whether this version knows what to do with it.
const KEYS: [(&str, bool); 20] = [
    ("strategy", true),
    ("cutover", true),
    ("lock_budget", true),
    ("fence_budget", true),
    ("forward", true),
    ("reverse", true),
    ("capture", true),
    ("waive", true),
    ("reason", true),
    ("until", true),
    ("rows", true),
    ("mode", false),
    ("revert_window", false),
    ("drain", false),
    ("retain", false),
    ("transaction", false),
    ("nulls_ok", false),
    ("outage", false),
    ("versions", false),
    ("irreversible", false),
];

/// What was said by directives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// `strategy=shadow`.
    pub strategy: Option<Strategy>,
    /// `cutover=manual`, or a time.
    pub cutover: Option<CutoverGate>,
    /// `lock_budget=500ms`.
    pub lock_budget: Option<Duration>,
    /// `fence_budget=500ms`.
    pub fence_budget: Option<Duration>,
    /// `forward="column=expression"`.
    pub forward: Vec<(String, String)>,
    /// `reverse="column=expression"`.
    pub reverse: Vec<(String, String)>,
    /// `capture=slot`: a word that the driver knows.
    pub capture: Option<String>,
    /// `rows=exact`: all are counted. `rows=estimate`, as it is unless something is said: only where that takes a moment.
    pub counts_rows: bool,
    /// `waive=CODE reason="…" until=DATE`.
    pub waivers: Vec<Waiver>,
}

/// Reads every `-D` of a command line. Each may hold several pairs; `reason` and `until` belong to the
/// `waive` before them.
///
/// # Errors
/// [`ErrorKind::Usage`] for a key that is not known, with the known ones, for one that is not supported
/// yet, and for a value that cannot be meant.
pub fn parse(texts: &[String], today: jiff::civil::Date) -> Result<Directives> {
    let mut directives = Directives::default();
    for text in texts {
        let mut waiver: Option<Waiving> = None;
        for (key, value) in pairs(text)? {
            match key.as_str() {
                "waive" => {
                    finish(waiver.take(), today, &mut directives)?;
                    waiver = Some(Waiving { code: value, reason: None, until: None });
                }
                "reason" => waiving(&mut waiver, &key)?.reason = Some(value),
                "until" => waiving(&mut waiver, &key)?.until = Some(value),
                _ => set(&mut directives, &key, &value)?,
            }
        }
        finish(waiver, today, &mut directives)?;
    }
    Ok(directives)
}

struct Waiving {
    code: String,
    reason: Option<String>,
    until: Option<String>,
}

fn waiving<'a>(waiver: &'a mut Option<Waiving>, key: &str) -> Result<&'a mut Waiving> {
    waiver.as_mut().ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("`{key}` belongs to a waiver"))
            .hint("write -D 'waive=CODE reason=\"why it is safe here\" until=2027-01-31'")
    })
}

fn finish(waiver: Option<Waiving>, today: jiff::civil::Date, directives: &mut Directives) -> Result<()> {
    if let Some(Waiving { code, reason, until }) = waiver {
        directives.waivers.push(Waiver::new(&code, reason.as_deref(), until.as_deref(), today)?);
    }
    Ok(())
}

fn set(directives: &mut Directives, key: &str, value: &str) -> Result<()> {
    match key {
        "strategy" => directives.strategy = Some(strategy(value)?),
        "cutover" => directives.cutover = Some(gate::parse(value)?),
        "lock_budget" => directives.lock_budget = Some(length::parse(value)?),
        "fence_budget" => directives.fence_budget = Some(length::parse(value)?),
        "forward" => directives.forward.push(expression(key, value)?),
        "reverse" => directives.reverse.push(expression(key, value)?),
        "capture" => directives.capture = Some(value.to_owned()),
        "rows" => {
            directives.counts_rows = match value {
                "exact" => true,
                "estimate" => false,
                _ => {
                    return Err(Error::new(ErrorKind::Usage, format!("`rows` cannot be `{value}`"))
                        .hint("write rows=exact, or rows=estimate"));
                }
            }
        }
        _ if KEYS.iter().any(|(name, _)| *name == key) => {
            return Err(Error::new(ErrorKind::Usage, format!("directive `{key}` is not supported yet"))
                .hint(format!("supported now: {}", supported())));
        }
        _ => {
            return Err(Error::new(ErrorKind::Usage, format!("no directive is called `{key}`"))
                .hint(format!("the directives are {}", supported())));
        }
    }
    Ok(())
}

fn supported() -> String {
    let names: Vec<&str> = KEYS.iter().filter(|(_, known)| *known).map(|(name, _)| *name).collect();
    names.join(", ")
}

fn strategy(value: &str) -> Result<Strategy> {
    const ALL: [Strategy; 4] =
        [Strategy::Instant, Strategy::NativeOnline, Strategy::ColumnSwap, Strategy::Shadow];
    ALL.into_iter().find(|strategy| strategy.word() == value).ok_or_else(|| {
        let words: Vec<&str> = ALL.iter().map(|strategy| strategy.word()).collect();
        Error::new(ErrorKind::Usage, format!("no strategy is called `{value}`"))
            .hint(format!("the strategies are {}", words.join(", ")))
    })
}

fn expression(key: &str, value: &str) -> Result<(String, String)> {
    match value.split_once('=') {
        Some((column, expression)) if !column.trim().is_empty() && !expression.trim().is_empty() => {
            Ok((column.trim().to_owned(), expression.trim().to_owned()))
        }
        _ => Err(Error::new(ErrorKind::Usage, format!("`{key}` names no column and expression"))
            .hint(format!("write -D '{key}=\"column = expression\"'"))),
    }
}

/// Cuts `key=value key="va lue"` into pairs. Inside quotes, `\"` is a quote and `\\` a backslash.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .filter(|(key, _)| !key.is_empty() && !key.contains(char::is_whitespace))
            .ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("`{rest}` is not key=value")).hint(
                    "a value with spaces stands in quotes: -D 'waive=CODE reason=\"why it is safe here\"'",
                )
            })?;
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            unquote(quoted).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("the value of `{key}` has no closing quote"))
            })?
        } else {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (value, after) = after.split_at(end);
            (value.to_owned(), after)
        };
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Directives> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        parse(&texts, jiff::civil::date(2026, 6, 1))
    }

    #[test]
    fn several_pairs_in_one_text_and_several_texts() {
        let read =
            read(&["strategy=shadow cutover=manual", "lock_budget=1s fence_budget=2s"]).expect("valid");
        assert_eq!(read.strategy, Some(Strategy::Shadow));
        assert_eq!(read.cutover, Some(CutoverGate::Manual));
        assert_eq!(read.lock_budget, Some(Duration::from_secs(1)));
        assert_eq!(read.fence_budget, Some(Duration::from_secs(2)));
    }

    #[test]
    fn expressions_keep_their_quotes_and_signs() {
        let read = read(&[r#"forward="amount = round(amount * 100)""#, r#"reverse="a = \"a\" || '='""#]);
        let read = read.expect("valid");
        assert_eq!(read.forward, [("amount".to_owned(), "round(amount * 100)".to_owned())]);
        assert_eq!(read.reverse, [("a".to_owned(), "\"a\" || '='".to_owned())]);
    }

    #[test]
    fn waivers_carry_their_reason_and_end() {
        let read = read(&[r#"waive=C004 reason="one app" until=2026-06-30 waive=C010 reason=none"#]);
        let read = read.expect("valid");
        let codes: Vec<&str> = read.waivers.iter().map(|waiver| waiver.code.as_str()).collect();
        assert_eq!(codes, ["C004", "C010"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        let cases = [
            ("speed=9", "no directive is called `speed`"),
            ("mode=expand-contract", "not supported yet"),
            ("strategy=magic", "no strategy"),
            ("cutover=later", "neither"),
            ("rows=many", "`rows` cannot be"),
            ("waive=C004", "no reason"),
            ("waive=C004 reason=x until=2026-05-31", "ended"),
            ("reason=x", "belongs to a waiver"),
            ("forward=amount", "names no column"),
            ("forward=\"amount", "closing quote"),
            ("shadow", "not key=value"),
            ("reason \"x\"=1", "not key=value"),
        ];
        for (text, expected) in cases {
            let error = read(&[text]).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let hint = read(&["speed=9"]).expect_err("unknown").hint_text().map(ToOwned::to_owned);
        assert!(hint.is_some_and(|hint| hint.contains("strategy") && hint.contains("waive")));
    }
}
