//! Walking over tokens.

use replank_core::{Error, ErrorKind, Result};

use super::token::{Kind, Token, tokens};

/// A place in the tokens of a text.
pub struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of a text.
    pub fn new(text: &'a str) -> Result<Self> {
        Ok(Self { text, tokens: tokens(text)?, at: 0 })
    }

    /// The next token.
    pub fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    /// The token `ahead` places after the next.
    pub fn peek_at(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).copied()
    }

    /// Takes the next token.
    pub fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Whether the next tokens are these keywords.
    pub fn is_at(&self, keywords: &[&str]) -> bool {
        keywords
            .iter()
            .enumerate()
            .all(|(ahead, keyword)| self.peek_at(ahead).is_some_and(|token| token.is(keyword)))
    }

    /// Takes these keywords if they are next.
    pub fn take(&mut self, keywords: &[&str]) -> bool {
        let found = self.is_at(keywords);
        self.at += if found { keywords.len() } else { 0 };
        found
    }

    /// Takes this sign if it is next.
    pub fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_sign(sign));
        self.at += usize::from(found);
        found
    }

    /// Takes these keywords.
    pub fn expect(&mut self, keywords: &[&str]) -> Result<()> {
        if self.take(keywords) { Ok(()) } else { Err(self.unexpected(&keywords.join(" "))) }
    }

    /// Takes a name.
    pub fn name(&mut self, what: &str) -> Result<String> {
        let name = self.peek().and_then(|token| token.name()).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| self.unexpected(what))?;
        self.at += 1;
        Ok(name)
    }

    /// Takes tokens in balanced parentheses, the opening one being next; answers with them included.
    pub fn parenthesised(&mut self) -> Result<&'a str> {
        let open = self.peek().filter(|token| token.is_sign("(")).ok_or_else(|| self.unexpected("`(`"))?;
        let mut depth = 0_usize;
        while let Some(token) = self.next() {
            if token.is_sign("(") {
                depth += 1;
            } else if token.is_sign(")") {
                depth -= 1;
                if depth == 0 {
                    return Ok(&self.text[open.start..token.end()]);
                }
            }
        }
        Err(Error::new(ErrorKind::Usage, "a `(` is not closed"))
    }

    /// Takes everything up to a comma outside parentheses, a semicolon, the end, or a token that `stop`
    /// names outside parentheses; answers with the text as it is written.
    pub fn until(&mut self, stop: impl Fn(&Token<'a>) -> bool) -> Result<&'a str> {
        let first = self.at;
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            if depth == 0 && (token.is_sign(",") || token.is_sign(";") || stop(&token)) {
                break;
            }
            if token.is_sign("(") {
                depth += 1;
            } else if token.is_sign(")") {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| Error::new(ErrorKind::Usage, "a `)` without its `(`"))?;
            }
            self.at += 1;
        }
        if depth > 0 {
            return Err(Error::new(ErrorKind::Usage, "a `(` is not closed"));
        }
        match self.tokens.get(first..self.at) {
            Some([one, .., last]) => Ok(&self.text[one.start..last.end()]),
            Some([one]) => Ok(one.text),
            _ => Err(self.unexpected("more")),
        }
    }

    /// The error for what is next.
    pub fn unexpected(&self, wanted: &str) -> Error {
        let found = match self.peek() {
            Some(Token { kind: Kind::Literal | Kind::Text, .. }) => "a value".to_owned(),
            Some(token) => format!("`{}`", token.text),
            None => "the end".to_owned(),
        };
        Error::new(ErrorKind::Usage, format!("{wanted} is expected, {found} is there"))
    }
}
