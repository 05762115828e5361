//! SQLite's lexical rules, see <https://www.sqlite.org/draft/tokenreq.html>.

use replank_core::{Error, ErrorKind, Result};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bare word: a keyword or a name.
    Word,
    /// A name in `"…"`, `` `…` `` or `[…]`.
    Quoted,
    /// Text in `'…'`. SQLite takes it as a name where only a name can stand.
    Text,
    /// A number or a blob.
    Literal,
    /// One or two signs that mean something.
    Sign,
}

/// A token with its place in the text. White space and comments lie between tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As it is written.
    pub text: &'a str,
    /// Where it starts, in bytes.
    pub start: usize,
}

impl<'a> Token<'a> {
    /// Where it ends, in bytes.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is this keyword, given in capitals.
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// Whether it is this sign.
    pub fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    /// The name that it stands for, without quotes.
    pub fn name(&self) -> Option<String> {
        let inner = |close: char| {
            let body = &self.text[1..self.text.len() - 1];
            if close == ']' {
                body.to_owned()
            } else {
                body.replace(&format!("{close}{close}"), &close.to_string())
            }
        };
        match self.kind {
            Kind::Word => Some(self.text.to_owned()),
            Kind::Quoted | Kind::Text => match self.text.as_bytes()[0] {
                b'[' => Some(inner(']')),
                quote => Some(inner(char::from(quote))),
            },
            Kind::Literal | Kind::Sign => None,
        }
    }
}

/// Cuts a text into tokens.
///
/// # Errors
/// [`ErrorKind::Usage`] for a quote or comment that is not closed, a parameter, or a character that means
/// nothing to SQLite.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(length) = trivia(rest)? {
            at += length;
            continue;
        }
        let (kind, length) = token(rest)?;
        found.push(Token { kind, text: &rest[..length], start: at });
        at += length;
    }
    Ok(found)
}

/// The length of the white space or comment that a text starts with.
fn trivia(rest: &str) -> Result<Option<usize>> {
    if rest.starts_with("--") {
        return Ok(Some(rest.find('\n').map_or(rest.len(), |newline| newline + 1)));
    }
    if let Some(comment) = rest.strip_prefix("/*") {
        // SQLite takes a comment that is not closed as closed at the end. In a statement that somebody
        // typed it is far more likely a mistake.
        return match comment.find("*/") {
            Some(close) => Ok(Some(close + 4)),
            None => Err(usage("a comment is not closed")),
        };
    }
    let length = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c', '\u{feff}']).len();
    Ok((length > 0).then_some(length))
}

fn token(rest: &str) -> Result<(Kind, usize)> {
    let first = rest.chars().next().expect("the caller has a character left");
    match first {
        '\'' => Ok((Kind::Text, quoted(rest, '\'')?)),
        '"' | '`' => Ok((Kind::Quoted, quoted(rest, first)?)),
        '[' => match rest.find(']') {
            Some(close) => Ok((Kind::Quoted, close + 1)),
            None => Err(usage("a `[` is not closed")),
        },
        'x' | 'X' if rest[1..].starts_with('\'') => Ok((Kind::Literal, 1 + quoted(&rest[1..], '\'')?)),
        '0'..='9' => Ok((Kind::Literal, number(rest))),
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Ok((Kind::Literal, number(rest))),
        '?' | ':' | '@' | '#' => Err(usage("a parameter has no value here")),
        // `$name` is a parameter; inside a word the sign is allowed.
        '$' => Err(usage("a parameter has no value here")),
        c if is_word_start(c) => {
            Ok((Kind::Word, rest.find(|c: char| !is_word_part(c)).unwrap_or(rest.len())))
        }
        _ => sign(rest),
    }
}

fn sign(rest: &str) -> Result<(Kind, usize)> {
    // Longest first.
    const SIGNS: [&str; 31] = [
        "->>", "->", "||", "<<", ">>", "<=", ">=", "<>", "==", "!=", "(", ")", ",", ";", ".", "+", "-", "*",
        "/", "%", "=", "<", ">", "&", "|", "~", "!", "{", "}", "\\", "^",
    ];
    SIGNS
        .iter()
        .find(|sign| rest.starts_with(**sign))
        .map(|sign| (Kind::Sign, sign.len()))
        .ok_or_else(|| usage("a character that SQL does not know"))
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

/// The length of a quoted text; the quote inside it is written twice.
fn quoted(rest: &str, quote: char) -> Result<usize> {
    let mut at = 1;
    loop {
        let Some(close) = rest[at..].find(quote) else {
            return Err(usage(&format!("a {quote} is not closed")));
        };
        at += close + 1;
        if !rest[at..].starts_with(quote) {
            return Ok(at);
        }
        at += 1;
    }
}

fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let exponent_sign = (bytes[at] == b'+' || bytes[at] == b'-')
            && at > 0
            && matches!(bytes[at - 1], b'e' | b'E')
            && !rest.starts_with("0x")
            && !rest.starts_with("0X");
        if bytes[at].is_ascii_alphanumeric() || bytes[at] == b'.' || bytes[at] == b'_' || exponent_sign {
            at += 1;
        } else {
            break;
        }
    }
    at
}

fn usage(what: &str) -> Error {
    Error::new(ErrorKind::Usage, what.to_owned()).hint("check the statement's quotes, comments and signs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::ident;
    use proptest::prelude::*;

    fn texts(sql: &str) -> Vec<&str> {
        tokens(sql).expect("lexes").iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_white_space_lie_between_tokens() {
        assert_eq!(texts("a/*x*/b -- c\n\t d--"), ["a", "b", "d"]);
        assert_eq!(
            texts("1e-5+.5 x'0F' 'it''s' \"a\"\"b\" [c d] `e``f`"),
            ["1e-5", "+", ".5", "x'0F'", "'it''s'", "\"a\"\"b\"", "[c d]", "`e``f`"]
        );
        assert_eq!(texts("a->>'$.x' <> b||c"), ["a", "->>", "'$.x'", "<>", "b", "||", "c"]);
    }

    #[test]
    fn what_is_open_or_has_no_value_is_refused() {
        for sql in ["'a", "\"a", "[a", "/* a", "a = ?1", "a = :b", "a = $b", "a = @b"] {
            assert_eq!(tokens(sql).expect_err(sql).kind(), ErrorKind::Usage, "{sql}");
        }
    }

    #[test]
    fn names_lose_their_quotes() {
        let names: Vec<_> =
            tokens("a \"b\"\"c\" [d e] `f` 'g'").expect("lexes").iter().map(Token::name).collect();
        let names: Vec<_> = names.into_iter().flatten().collect();
        assert_eq!(names, ["a", "b\"c", "d e", "f", "g"]);
    }

    proptest! {
        #[test]
        fn any_quoted_name_is_one_token_and_comes_back(name in "\\PC{1,20}") {
            let quoted = ident(&name);
            let tokens = tokens(&quoted).expect("lexes");
            prop_assert_eq!(tokens.len(), 1);
            prop_assert_eq!(tokens[0].name(), Some(name));
        }

        #[test]
        fn lexing_never_panics_and_loses_no_token_text(text in "\\PC{0,60}") {
            if let Ok(tokens) = tokens(&text) {
                for token in tokens {
                    prop_assert_eq!(&text[token.start..token.end()], token.text);
                }
            }
        }
    }
}
