//! A column's definition in parts.

use replank_core::{Error, ErrorKind, Result};

use super::cursor::Cursor;
use super::token::{Kind, Token, tokens};

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The name as it is written.
    pub name_text: String,
    /// Its declared type; empty if there is none.
    pub type_text: String,
    /// Its constraints, in order.
    pub parts: Vec<Part>,
    /// As it is written, while nothing was changed.
    raw: Option<String>,
    /// White space and comments before it, and behind it.
    around: (String, String),
}

/// A constraint of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it is.
    pub kind: PartKind,
    /// As it is written.
    pub text: String,
}

/// What a constraint of a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// `PRIMARY KEY`, perhaps with `AUTOINCREMENT`.
    PrimaryKey,
    /// `NOT NULL`.
    NotNull,
    /// `NULL`, which means nothing.
    Null,
    /// `UNIQUE`.
    Unique,
    /// `CHECK (…)`.
    Check,
    /// `DEFAULT …`.
    Default,
    /// `COLLATE …`.
    Collate,
    /// `REFERENCES …`.
    References,
    /// `GENERATED ALWAYS AS (…)`.
    Generated,
}

impl Column {
    /// Reads a definition.
    pub fn parse(text: &str) -> Result<Self> {
        let found = tokens(text)?;
        let name_token = found.first().copied().ok_or_else(|| usage("a column's definition is empty"))?;
        let name = name_token
            .name()
            .filter(|_| name_token.kind != Kind::Literal)
            .ok_or_else(|| usage(&format!("`{}` is not a column's name", name_token.text)))?;
        let starts = part_starts(&found);
        let type_end = starts.first().map_or(found.len(), |(place, _)| *place);
        let type_text = match &found[1..type_end] {
            [] => String::new(),
            [one] => one.text.to_owned(),
            [one, .., last] => text[one.start..last.end()].to_owned(),
        };
        if let Some(stray) = found[1..type_end].iter().find(|token| token.is("AFTER") || token.is("FIRST")) {
            return Err(usage(&format!("SQLite has no `{}` for a new column", stray.text))
                .hint("a new column is the last one; `rebuild --as` takes any order"));
        }
        let mut parts = Vec::new();
        for (index, (place, _)) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(found.len(), |(next, _)| *next);
            let tokens = &found[*place..end];
            let last = tokens.last().expect("a part holds the token that it starts with");
            parts.push(Part::read(tokens, &text[tokens[0].start..last.end()])?);
        }
        let end = found.last().map_or(text.len(), Token::end);
        Ok(Self {
            name,
            name_text: name_token.text.to_owned(),
            type_text,
            parts,
            raw: Some(text[name_token.start..end].to_owned()),
            around: (text[..name_token.start].to_owned(), text[end..].to_owned()),
        })
    }

    /// The definition as text.
    pub fn render(&self, without_foreign_keys: bool) -> String {
        let strip = without_foreign_keys && self.has(PartKind::References);
        let (before, behind) = &self.around;
        if let (Some(raw), false) = (&self.raw, strip) {
            return format!("{before}{raw}{behind}");
        }
        let mut out = format!("{before}{}", self.name_text);
        if !self.type_text.is_empty() {
            out.push(' ');
            out.push_str(&self.type_text);
        }
        for part in self.parts.iter().filter(|part| !(strip && part.kind == PartKind::References)) {
            out.push(' ');
            out.push_str(&part.text);
        }
        out.push_str(behind);
        out
    }

    /// Takes over the place of another column, with the comments around it.
    pub fn take_place_of(&mut self, other: &Self) {
        self.around.clone_from(&other.around);
    }

    /// Whether it has such a constraint.
    pub fn has(&self, kind: PartKind) -> bool {
        self.part(kind).is_some()
    }

    /// The first constraint of a kind.
    pub fn part(&self, kind: PartKind) -> Option<&Part> {
        self.parts.iter().find(|part| part.kind == kind)
    }

    /// Removes every constraint of a kind.
    pub fn remove(&mut self, kind: PartKind) {
        self.raw = None;
        self.parts.retain(|part| part.kind != kind);
    }

    /// Removes the constraint of a name; whether there was one.
    pub fn remove_named(&mut self, name: &str) -> bool {
        let count = self.parts.len();
        let is_named = |part: &Part| part.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        self.parts.retain(|part| !is_named(part));
        let found = self.parts.len() < count;
        if found {
            self.raw = None;
        }
        found
    }

    /// Adds a constraint without a name.
    pub fn add(&mut self, kind: PartKind, text: String) {
        self.raw = None;
        self.parts.push(Part { name: None, kind, text });
    }

    /// Sets the declared type.
    pub fn set_type(&mut self, type_text: &str) {
        self.raw = None;
        type_text.clone_into(&mut self.type_text);
    }

    /// The texts of its CHECKs.
    pub fn checks(&self) -> Vec<String> {
        self.parts.iter().filter(|part| part.kind == PartKind::Check).map(|part| part.text.clone()).collect()
    }

    /// The expression of its default, in a form that stands anywhere.
    pub fn default_expression(&self) -> Option<String> {
        let part = self.part(PartKind::Default)?;
        let found = tokens(&part.text).ok()?;
        let value = found.iter().position(|token| token.is("DEFAULT"))? + 1;
        let first = found.get(value)?;
        let text = &part.text[first.start..];
        // `DEFAULT abc` means the text 'abc'.
        let is_bare_text = found.len() == value + 1
            && (first.kind == Kind::Quoted
                || (first.kind == Kind::Word
                    && !["NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"]
                        .iter()
                        .any(|word| first.is(word))));
        Some(if is_bare_text { crate::sql::text(&first.name()?) } else { format!("({text})") })
    }
}

impl Part {
    fn read(found: &[Token<'_>], text: &str) -> Result<Self> {
        let mut cursor = Cursor::new(text)?;
        let name =
            if cursor.take(&["CONSTRAINT"]) { Some(cursor.name("the constraint's name")?) } else { None };
        let kind = cursor
            .peek()
            .and_then(|token| part_kind(&token))
            .ok_or_else(|| usage(&format!("`{}` starts no constraint", found[0].text)))?;
        Ok(Self { name, kind, text: text.to_owned() })
    }
}

fn part_kind(token: &Token<'_>) -> Option<PartKind> {
    let kinds = [
        ("PRIMARY", PartKind::PrimaryKey),
        ("NOT", PartKind::NotNull),
        ("NULL", PartKind::Null),
        ("UNIQUE", PartKind::Unique),
        ("CHECK", PartKind::Check),
        ("DEFAULT", PartKind::Default),
        ("COLLATE", PartKind::Collate),
        ("REFERENCES", PartKind::References),
        ("GENERATED", PartKind::Generated),
        ("AS", PartKind::Generated),
    ];
    kinds.iter().find(|(word, _)| token.is(word)).map(|(_, kind)| *kind)
}

/// Where each constraint of a column starts, as places in its tokens.
fn part_starts(found: &[Token<'_>]) -> Vec<(usize, PartKind)> {
    let mut starts = Vec::new();
    let mut depth = 0_usize;
    let mut named = None;
    for (place, token) in found.iter().enumerate().skip(1) {
        if token.is_sign("(") {
            depth += 1;
        } else if token.is_sign(")") {
            depth = depth.saturating_sub(1);
        }
        let before = &found[place - 1];
        // Words that go on with the constraint before: ON DELETE SET NULL, SET DEFAULT, DEFAULT NULL, NOT
        // NULL, NOT DEFERRABLE, GENERATED ALWAYS AS, and a name after CONSTRAINT or COLLATE.
        let is_set_default = place >= 2 && found[place - 2].is("SET");
        let continues = before.is("SET")
            || (before.is("DEFAULT") && !is_set_default)
            || (before.is("NOT") && token.is("NULL"))
            || (token.is("NOT") && found.get(place + 1).is_some_and(|next| next.is("DEFERRABLE")))
            || before.is("ALWAYS")
            || before.is("CONSTRAINT")
            || before.is("COLLATE")
            || before.is("REFERENCES");
        if depth > 0 || continues {
            continue;
        }
        if token.is("CONSTRAINT") {
            named = Some(place);
        } else if let Some(kind) = part_kind(token) {
            starts.push((named.take().unwrap_or(place), kind));
        }
    }
    starts
}

fn usage(message: &str) -> Error {
    Error::new(ErrorKind::Usage, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a", "", &[])]
    #[case("a VARCHAR(10, 2) NOT NULL", "VARCHAR(10, 2)", &[PartKind::NotNull])]
    #[case("a UNSIGNED BIG INT DEFAULT NULL UNIQUE", "UNSIGNED BIG INT", &[PartKind::Default, PartKind::Unique])]
    #[case("a INT CONSTRAINT x NOT NULL ON CONFLICT REPLACE DEFAULT -1", "INT", &[PartKind::NotNull, PartKind::Default])]
    #[case("a INT REFERENCES p ON DELETE SET NULL ON UPDATE SET DEFAULT NOT DEFERRABLE NULL", "INT",
        &[PartKind::References, PartKind::Null])]
    #[case("a INT REFERENCES p ON DELETE SET DEFAULT NOT NULL", "INT", &[PartKind::References, PartKind::NotNull])]
    #[case("a INT GENERATED ALWAYS AS (b+1) STORED", "INT", &[PartKind::Generated])]
    #[case("a AS (b+1)", "", &[PartKind::Generated])]
    #[case("a INT CHECK (a IS NOT NULL) COLLATE nocase", "INT", &[PartKind::Check, PartKind::Collate])]
    fn columns(#[case] text: &str, #[case] type_text: &str, #[case] kinds: &[PartKind]) {
        let column = Column::parse(text).expect("parses");
        assert_eq!(column.type_text, type_text);
        let found: Vec<PartKind> = column.parts.iter().map(|part| part.kind).collect();
        assert_eq!(found, kinds);
        assert_eq!(column.render(false), text);
    }

    #[rstest]
    #[case("a DEFAULT 5", "(5)")]
    #[case("a DEFAULT -5", "(-5)")]
    #[case("a DEFAULT 'x'", "('x')")]
    #[case("a DEFAULT \"x y\"", "'x y'")]
    #[case("a DEFAULT abc", "'abc'")]
    #[case("a DEFAULT true", "(true)")]
    #[case("a DEFAULT (1+1) NOT NULL", "((1+1))")]
    fn defaults(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(Column::parse(text).expect("parses").default_expression().as_deref(), Some(expected));
    }

    #[test]
    fn a_removed_constraint_leaves_the_others() {
        let mut column = Column::parse(" a INT CONSTRAINT n NOT NULL UNIQUE -- why\n").expect("parses");
        assert!(column.remove_named("N"));
        assert_eq!(column.render(false), " a INT UNIQUE -- why\n");
    }
}
