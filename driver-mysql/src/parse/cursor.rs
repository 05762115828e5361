//! Reading a statement token by token.

use replank_core::{Error, ErrorKind, Result};

use super::token::{Kind, Token};

/// What cannot be meant.
pub fn usage(what: &str) -> Error {
    Error::new(ErrorKind::Usage, what).hint(
        "one ALTER TABLE, CREATE INDEX, DROP INDEX, RENAME TABLE, OPTIMIZE TABLE or DROP TABLE is taken",
    )
}

/// Tokens of a text, and how far they are read.
pub struct Cursor<'a> {
    /// What they are read from.
    pub sql: &'a str,
    /// All of them.
    pub tokens: &'a [Token],
    /// The next one.
    pub at: usize,
}

impl Cursor<'_> {
    /// The next token.
    pub fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    /// Reads a keyword, if it comes next.
    pub fn word(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|token| token.is(word));
        self.at += usize::from(is);
        is
    }

    /// Reads several, or none of them.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let from = self.at;
        let all = words.iter().all(|word| self.word(word));
        if !all {
            self.at = from;
        }
        all
    }

    /// Reads a sign, if it comes next.
    pub fn skip_sign(&mut self, sign: char) -> bool {
        let is = self.peek().is_some_and(|token| token.is_sign(sign));
        self.at += usize::from(is);
        is
    }

    /// Reads a keyword that must come next.
    pub fn expect(&mut self, word: &str) -> Result<()> {
        if self.word(word) {
            return Ok(());
        }
        let found = self.peek().map_or("the end", |token| token.text.as_str());
        Err(usage(&format!("{word} is expected where there is `{found}`")))
    }

    /// A name without a database.
    pub fn part(&mut self) -> Result<String> {
        let token = self.peek().filter(|token| matches!(token.kind, Kind::Word | Kind::Name)).cloned();
        let token = token.ok_or_else(|| usage("a name is expected there"))?;
        self.at += 1;
        Ok(token.text)
    }

    /// A name, with a database in front or none.
    pub fn name(&mut self) -> Result<(Option<String>, String)> {
        let first = self.part()?;
        if self.skip_sign('.') {
            return Ok((Some(first), self.part()?));
        }
        Ok((None, first))
    }

    /// `ALGORITHM = x` or `LOCK = x`.
    pub fn skip_algorithm_and_lock(&mut self) -> bool {
        let mut any = false;
        while self.word("ALGORITHM") || self.word("LOCK") {
            self.skip_sign('=');
            self.at += 1;
            any = true;
        }
        any
    }

    /// The text from one token to another, exclusive.
    pub fn text(&self, from: usize, to: usize) -> String {
        match self.tokens.get(from..to) {
            Some([first, .., last]) => self.sql[first.span.start..last.span.end].to_owned(),
            Some([only]) => self.sql[only.span.clone()].to_owned(),
            _ => String::new(),
        }
    }
}
