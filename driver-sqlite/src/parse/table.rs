//! A `CREATE TABLE` text, cut so that one part can be changed and every other stays as it is written,
//! comments included.

use replank_core::{Error, ErrorKind, Result};

use super::column::Column;
use super::cursor::Cursor;
use super::token::{Token, tokens};
use crate::sql::ident;

/// A table's text in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableText {
    /// The table's name.
    pub name: String,
    /// The name as it is written, with what stands between it and the columns.
    name_text: String,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The table's own constraints, in order.
    pub constraints: Vec<Constraint>,
    /// What follows the closing parenthesis: `WITHOUT ROWID`, `STRICT`.
    pub options: String,
}

/// A constraint of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it is.
    pub kind: ConstraintKind,
    /// As it is written, with the comments around it.
    pub text: String,
}

/// What a constraint of the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstraintKind {
    /// `PRIMARY KEY (…)`.
    PrimaryKey,
    /// `UNIQUE (…)`.
    Unique,
    /// `CHECK (…)`.
    Check,
    /// `FOREIGN KEY (…) REFERENCES …`.
    ForeignKey,
}

impl TableText {
    /// Cuts a text.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for anything but a `CREATE TABLE` with a list of columns.
    pub fn parse(text: &str) -> Result<Self> {
        let mut cursor = Cursor::new(text)?;
        cursor.expect(&["CREATE"])?;
        if cursor.take(&["TEMP"]) || cursor.take(&["TEMPORARY"]) {
            return Err(Error::new(ErrorKind::Refused, "a temporary table belongs to its connection")
                .hint("only tables of the database file can be changed"));
        }
        cursor.expect(&["TABLE"])?;
        cursor.take(&["IF", "NOT", "EXISTS"]);
        let mut name_token = cursor.peek();
        let mut name = cursor.name("the table's name")?;
        if cursor.take_sign(".") {
            if !name.eq_ignore_ascii_case("main") {
                return Err(Error::new(ErrorKind::Refused, format!("`{name}` is another database"))
                    .hint("connect to that file"));
            }
            name_token = cursor.peek();
            name = cursor.name("the table's name")?;
        }
        if cursor.is_at(&["AS"]) {
            return Err(Error::new(ErrorKind::Usage, "a shape is a list of columns, not a query"));
        }
        let open = cursor.peek().ok_or_else(|| cursor.unexpected("`(`"))?;
        let name_text = text[name_token.map_or(open.start, |token| token.start)..open.start].to_owned();
        let body = cursor.parenthesised()?;
        let options =
            text[open.start + body.len()..].trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        let mut table = Self {
            name,
            name_text,
            columns: Vec::new(),
            constraints: Vec::new(),
            options: options.to_owned(),
        };
        for item in items(&body[1..body.len() - 1])? {
            table.add_item(item)?;
        }
        if table.columns.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "a table needs a column"));
        }
        Ok(table)
    }

    fn add_item(&mut self, item: &str) -> Result<()> {
        let found = tokens(item)?;
        let starts = constraint_starts(&found);
        if starts.first() != Some(&0) {
            self.columns.push(Column::parse(item)?);
            return Ok(());
        }
        // SQLite allows constraints of the table to follow each other without a comma.
        for (index, start) in starts.iter().enumerate() {
            let from = if index == 0 { 0 } else { found[*start].start };
            let to = starts.get(index + 1).map_or(item.len(), |next| found[*next].start);
            self.constraints.push(Constraint::parse(&item[from..to])?);
        }
        Ok(())
    }

    /// The text again.
    pub fn render(&self) -> String {
        self.write(&self.name_text, false)
    }

    /// The text under another name, without foreign keys (R10), and with columns no longer qualified by
    /// the old name.
    pub fn render_aside(&self, name: &str) -> String {
        unqualified(&self.write(&ident(name), true), &self.name)
    }

    fn write(&self, name_text: &str, without_foreign_keys: bool) -> String {
        let columns = self.columns.iter().map(|column| column.render(without_foreign_keys));
        let constraints = self
            .constraints
            .iter()
            .filter(|constraint| !(without_foreign_keys && constraint.kind == ConstraintKind::ForeignKey))
            .map(|constraint| constraint.text.clone());
        let items: Vec<String> = columns.chain(constraints).collect();
        format!("CREATE TABLE {name_text}({}){}", items.join(","), self.options)
    }

    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The column of a name, to be changed.
    pub fn column_mut(&mut self, name: &str) -> Option<&mut Column> {
        self.columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Every CHECK expression, with its parentheses.
    pub fn checks(&self) -> Result<Vec<String>> {
        let inline = self.columns.iter().flat_map(Column::checks);
        let own = self
            .constraints
            .iter()
            .filter(|constraint| constraint.kind == ConstraintKind::Check)
            .map(|constraint| constraint.text.clone());
        inline
            .chain(own)
            .map(|text| {
                let mut cursor = Cursor::new(&text)?;
                while !cursor.is_done() && !cursor.take(&["CHECK"]) {
                    cursor.next();
                }
                Ok(unqualified(cursor.parenthesised()?, &self.name))
            })
            .collect()
    }
}

impl Constraint {
    /// Reads one constraint of the table.
    pub fn parse(text: &str) -> Result<Self> {
        let mut cursor = Cursor::new(text)?;
        let name =
            if cursor.take(&["CONSTRAINT"]) { Some(cursor.name("the constraint's name")?) } else { None };
        let kind = if cursor.take(&["PRIMARY", "KEY"]) {
            ConstraintKind::PrimaryKey
        } else if cursor.take(&["UNIQUE"]) {
            ConstraintKind::Unique
        } else if cursor.take(&["CHECK"]) {
            ConstraintKind::Check
        } else if cursor.take(&["FOREIGN", "KEY"]) {
            ConstraintKind::ForeignKey
        } else {
            return Err(cursor.unexpected("PRIMARY KEY, UNIQUE, CHECK or FOREIGN KEY"));
        };
        cursor.parenthesised()?;
        Ok(Self { name, kind, text: text.to_owned() })
    }
}

/// The items between commas outside parentheses, with the comments around them.
fn items(body: &str) -> Result<Vec<&str>> {
    let mut depth = 0_usize;
    let mut start = 0;
    let mut found = Vec::new();
    for token in tokens(body)? {
        if token.is_sign("(") {
            depth += 1;
        } else if token.is_sign(")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && token.is_sign(",") {
            found.push(&body[start..token.start]);
            start = token.end();
        }
    }
    found.push(&body[start..]);
    Ok(found)
}

/// Where constraints of the table start, as places in the tokens of an item that holds nothing else.
fn constraint_starts(found: &[Token<'_>]) -> Vec<usize> {
    let mut depth = 0_usize;
    let mut starts = Vec::new();
    let mut named = false;
    for (place, token) in found.iter().enumerate() {
        if token.is_sign("(") {
            depth += 1;
        } else if token.is_sign(")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && token.is("CONSTRAINT") {
            starts.push(place);
            named = true;
        } else if depth == 0 && ["PRIMARY", "UNIQUE", "CHECK", "FOREIGN"].iter().any(|word| token.is(word)) {
            if !named {
                starts.push(place);
            }
            named = false;
        }
        if place == 0 && starts.is_empty() {
            break;
        }
    }
    starts
}

/// The text with `table.column` written as `column`: the qualifier means nothing under another name.
pub fn unqualified(text: &str, table: &str) -> String {
    let Ok(found) = tokens(text) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for pair in found.windows(2) {
        let is_table = pair[0].name().is_some_and(|name| name.eq_ignore_ascii_case(table));
        if is_table && pair[1].is_sign(".") {
            out.push_str(&text[copied..pair[0].start]);
            copied = pair[1].end();
        }
    }
    out.push_str(&text[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "CREATE TABLE \"my t\" (\n  id INTEGER PRIMARY KEY AUTOINCREMENT, -- the key\n  \
        \"a,b\" TEXT DEFAULT 'x,y' /* , */ NOT NULL,\n  c DECIMAL(10,2) CHECK (c > 0 AND \"my t\".c < 9),\n  \
        p INT REFERENCES p(id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED UNIQUE,\n  \
        CONSTRAINT u UNIQUE (\"a,b\", c) ON CONFLICT REPLACE FOREIGN KEY (c) REFERENCES q(x)\n) STRICT, WITHOUT ROWID;";

    #[test]
    fn untouched_parts_stay_as_they_are_written() {
        let table = TableText::parse(TEXT).expect("parses");
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["id", "a,b", "c", "p"]);
        assert_eq!(table.constraints.len(), 2);
        assert_eq!(table.options, " STRICT, WITHOUT ROWID");
        let again = TableText::parse(&table.render()).expect("parses");
        assert_eq!(again, table);
        assert!(table.render().contains("-- the key\n"), "{}", table.render());
    }

    #[test]
    fn the_table_that_is_not_live_has_no_foreign_keys_and_no_old_name() {
        let table = TableText::parse(TEXT).expect("parses");
        let aside = table.render_aside("_rp_x");
        assert!(!aside.contains("REFERENCES") && !aside.contains("DEFERR"), "{aside}");
        assert!(!aside.contains("my t"), "{aside}");
        assert!(aside.contains("UNIQUE"), "{aside}");
        let again = TableText::parse(&aside).expect("parses");
        assert_eq!(again.columns.len(), 4);
        assert_eq!(again.constraints.len(), 1);
    }

    #[test]
    fn checks_are_found_wherever_they_are() {
        let table = TableText::parse("CREATE TABLE t(a INT CHECK (a>0) CHECK (a<9), CHECK (t.a<>5))")
            .expect("parses");
        assert_eq!(table.checks().expect("parses"), ["(a>0)", "(a<9)", "(a<>5)"]);
    }
}
