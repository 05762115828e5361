//! A `CREATE INDEX` text in parts.

use replank_core::Result;

use super::cursor::Cursor;
use super::table::unqualified;
use super::token::{Kind, tokens};
use crate::sql::ident;

/// An index's text in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexText {
    /// Whether it is unique.
    pub unique: bool,
    /// `IF NOT EXISTS` was given.
    pub if_not_exists: bool,
    /// Its name.
    pub name: String,
    /// Its table.
    pub table: String,
    /// The columns and what follows, as they are written.
    pub body: String,
}

impl IndexText {
    /// Cuts a text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut cursor = Cursor::new(text)?;
        cursor.expect(&["CREATE"])?;
        let unique = cursor.take(&["UNIQUE"]);
        cursor.expect(&["INDEX"])?;
        let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
        let mut name = cursor.name("the index's name")?;
        if cursor.take_sign(".") {
            name = cursor.name("the index's name")?;
        }
        cursor.expect(&["ON"])?;
        let table = cursor.name("the table's name")?;
        let open = cursor.peek().ok_or_else(|| cursor.unexpected("`(`"))?;
        cursor.parenthesised()?;
        let body = text[open.start..].trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_owned();
        Ok(Self { unique, if_not_exists, name, table, body })
    }

    /// The text of the same index under another name, on another table.
    pub fn render(&self, name: &str, table: &str) -> String {
        let unique = if self.unique { "UNIQUE " } else { "" };
        let body = if table.eq_ignore_ascii_case(&self.table) {
            self.body.clone()
        } else {
            unqualified(&self.body, &self.table)
        };
        format!("CREATE {unique}INDEX {} ON {}{body}", ident(name), ident(table))
    }

    /// What is indexed, one expression for each column of the index, without collation and order, not
    /// qualified; and the condition of a partial index.
    pub fn terms(&self) -> Result<(Vec<String>, Option<String>)> {
        let mut cursor = Cursor::new(&self.body)?;
        let list = cursor.parenthesised()?;
        let condition = if cursor.take(&["WHERE"]) {
            Some(unqualified(cursor.until(|_| false)?, &self.table))
        } else {
            None
        };
        let mut inner = Cursor::new(&list[1..list.len() - 1])?;
        let mut terms = Vec::new();
        loop {
            let text = inner.until(|_| false)?;
            terms.push(unqualified(term(text)?, &self.table));
            if !inner.take_sign(",") {
                break;
            }
        }
        Ok((terms, condition))
    }
}

/// An indexed expression without `COLLATE x`, `ASC` or `DESC` behind it.
fn term(text: &str) -> Result<&str> {
    let found = tokens(text)?;
    let mut end = found.len();
    if end > 1 && (found[end - 1].is("ASC") || found[end - 1].is("DESC")) {
        end -= 1;
    }
    while end > 2 && found[end - 2].is("COLLATE") && found[end - 1].kind != Kind::Sign {
        end -= 2;
    }
    Ok(&text[found[0].start..found[end - 1].end()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_moves_to_another_table() {
        let index = IndexText::parse(
            "CREATE UNIQUE INDEX IF NOT EXISTS main.\"i x\" ON t(a COLLATE nocase DESC, lower(t.b) ASC, (c, 1)) WHERE t.d > 1;",
        )
        .expect("parses");
        assert!(index.unique && index.if_not_exists);
        assert_eq!(
            index.render("j", "u"),
            "CREATE UNIQUE INDEX \"j\" ON \"u\"(a COLLATE nocase DESC, lower(b) ASC, (c, 1)) WHERE d > 1"
        );
        let (terms, condition) = index.terms().expect("parses");
        assert_eq!(terms, ["a", "lower(b)", "(c, 1)"]);
        assert_eq!(condition.as_deref(), Some("d > 1"));
    }
}
