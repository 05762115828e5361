//! Words, names, texts and signs of a statement.
//! See <https://dev.mysql.com/doc/refman/9.7/en/language-structure.html>.

use std::ops::Range;

use replank_core::{Error, ErrorKind, Result};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word without quotes: a keyword, a name, a number.
    Word,
    /// A name in backticks.
    Name,
    /// A text in quotes. In ANSI mode double quotes would be names; our sessions are not in that mode.
    Text,
    /// One sign.
    Sign(char),
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its text, without quotes.
    pub text: String,
    /// Where it stands.
    pub span: Range<usize>,
}

impl Token {
    /// It is this keyword.
    pub fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// It is this sign.
    pub fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

/// The tokens of a text, without comments. The text of an executable comment (`/*! … */`) counts.
///
/// # Errors
/// [`ErrorKind::Usage`] for a quote or comment that is not closed.
pub fn tokens(sql: &str) -> Result<Vec<Token>> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &sql[at..];
        let next = bytes[at];
        if next.is_ascii_whitespace() {
            at += 1;
        } else if next == b'#' || rest.starts_with("-- ") || rest.starts_with("--\n") || rest == "--" {
            at = rest.find('\n').map_or(bytes.len(), |end| at + end + 1);
        } else if let Some(executable) = rest.strip_prefix("/*!") {
            // The version is passed over, and the text counts; its end is found as a sign.
            at += 3 + executable.bytes().take_while(u8::is_ascii_digit).count();
        } else if rest.starts_with("*/") {
            at += 2;
        } else if rest.starts_with("/*") {
            at += rest.find("*/").ok_or_else(|| open("a comment", at))? + 2;
        } else if matches!(next, b'`' | b'\'' | b'"') {
            let (text, end) = quoted(sql, at)?;
            let kind = if next == b'`' { Kind::Name } else { Kind::Text };
            found.push(Token { kind, text, span: at..end });
            at = end;
        } else if is_word(rest.chars().next()) {
            let length = rest.find(|c: char| !is_word(Some(c))).unwrap_or(rest.len());
            found.push(Token { kind: Kind::Word, text: rest[..length].to_owned(), span: at..at + length });
            at += length;
        } else {
            let sign = rest.chars().next().unwrap_or(' ');
            let end = at + sign.len_utf8();
            found.push(Token { kind: Kind::Sign(sign), text: sign.to_string(), span: at..end });
            at = end;
        }
    }
    Ok(found)
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '@'))
}

fn quoted(sql: &str, start: usize) -> Result<(String, usize)> {
    let quote = sql.as_bytes()[start] as char;
    let mut text = String::new();
    let mut rest = sql[start + 1..].char_indices().peekable();
    while let Some((at, next)) = rest.next() {
        if next == '\\' && quote != '`' {
            if let Some((_, escaped)) = rest.next() {
                text.push(escaped);
            }
        } else if next != quote {
            text.push(next);
        } else if rest.next_if(|(_, following)| *following == quote).is_some() {
            text.push(quote);
        } else {
            return Ok((text, start + 1 + at + 1));
        }
    }
    Err(open(&format!("a {quote}"), start))
}

fn open(what: &str, at: usize) -> Error {
    Error::new(ErrorKind::Usage, format!("{what} is not closed: it begins at character {}", at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        tokens(sql).expect(sql).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_go_and_executable_ones_stay() {
        assert_eq!(texts("a /* b */ c -- d\ne # f\n/*!80013 g */ h"), ["a", "c", "e", "g", "h"]);
        assert_eq!(texts("5--1"), ["5", "-", "-", "1"], "two signs and no comment");
    }

    #[test]
    fn quotes_of_all_kinds() {
        assert_eq!(texts(r#"`a``b` 'it''s' "x\"y" 'a\'b'"#), ["a`b", "it's", "x\"y", "a'b"]);
        for open in ["'abc", "`a", "\"a\\\"", "/* a"] {
            assert_eq!(tokens(open).expect_err(open).kind(), ErrorKind::Usage);
        }
    }
}
