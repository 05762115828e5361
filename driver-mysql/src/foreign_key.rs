//! Foreign keys, as a definition's lines have them.

use serde::{Deserialize, Serialize};

use crate::lines::items;
use crate::parse::{Kind, Token, tokens};
use crate::sql::{ident, table};

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Unique in the database of the table that has it.
    pub name: String,
    /// Its columns, quoted and in parentheses.
    pub columns: String,
    /// The database of the table that it points at; `None` for its own.
    pub schema: Option<String>,
    /// The table that it points at.
    pub table: String,
    /// The columns there, quoted and in parentheses.
    pub referenced: String,
    /// `ON DELETE …` and `ON UPDATE …`, or nothing.
    pub actions: String,
}

impl ForeignKey {
    /// Reads a line of `SHOW CREATE TABLE`; `None` for any other than a foreign key's.
    pub fn read(line: &str) -> Option<Self> {
        // MariaDB does not double the quotes of this name, so it cannot be read as others are.
        let (name, line) = line.strip_prefix("CONSTRAINT `")?.split_once("` FOREIGN KEY ")?;
        let name = name.replace("``", "`");
        let all = tokens(line).ok()?;
        let references = all.iter().position(|token| token.is("REFERENCES"))?;
        let columns = span(line, all.get(..references)?)?;
        let mut rest = all.get(references + 1..)?;
        let (schema, table) = match rest {
            [schema, dot, table, ..] if dot.is_sign('.') => {
                rest = &rest[3..];
                (Some(schema.text.clone()), table.text.clone())
            }
            [table, ..] => {
                rest = &rest[1..];
                (None, table.text.clone())
            }
            [] => return None,
        };
        let end = rest.iter().position(|token| token.is_sign(')'))? + 1;
        let referenced = span(line, &rest[..end])?;
        let actions = span(line, &rest[end..]).unwrap_or_default();
        Some(Self { name, columns, schema, table, referenced, actions })
    }

    /// The definition's line under another name, and to another table, as it follows ADD in an ALTER TABLE.
    pub fn clause(&self, name: &str, schema: &str, to: &str) -> String {
        let Self { columns, referenced, actions, .. } = self;
        let clause = format!(
            "CONSTRAINT {} FOREIGN KEY {columns} REFERENCES {} {referenced} {actions}",
            ident(name),
            table(schema, to)
        );
        clause.trim_end().to_owned()
    }

    /// Whether it changes rows of its table by itself, when rows change that it points at.
    pub fn cascades(&self) -> bool {
        ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|action| self.actions.contains(action))
    }

    /// Whether it points at a table; `home` is the database of the table that has it.
    pub fn points_at(&self, home: &str, schema: &str, name: &str) -> bool {
        self.schema.as_deref().unwrap_or(home) == schema && self.table == name
    }
}

/// Those of a definition.
pub fn foreign_keys(sql: &str) -> Vec<ForeignKey> {
    items(sql).into_iter().filter_map(ForeignKey::read).collect()
}

/// Whether a line of a definition is a foreign key's.
pub fn is_foreign_key(line: &str) -> bool {
    ForeignKey::read(line).is_some()
}

/// The names in a list of columns, quoted and in parentheses.
pub fn column_names(list: &str) -> Vec<String> {
    // The server wrote it, so it can be read.
    let all = tokens(list).unwrap_or_default();
    all.into_iter().filter(|token| token.kind == Kind::Name).map(|token| token.text).collect()
}

fn span(line: &str, tokens: &[Token]) -> Option<String> {
    let (first, last) = (tokens.first()?, tokens.last()?);
    Some(line[first.span.start..last.span.end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_and_written_with_another_name_and_target() {
        let line = "CONSTRAINT `a``b` FOREIGN KEY (`x`,`REFERENCES`) REFERENCES `p) q` (`i`, `ON DELETE CASCADE`) ON DELETE SET NULL ON UPDATE CASCADE";
        let key = ForeignKey::read(line).expect("a key");
        assert_eq!((key.name.as_str(), key.schema.as_deref(), key.table.as_str()), ("a`b", None, "p) q"));
        assert_eq!(
            key.clause("n", "s", "t"),
            "CONSTRAINT `n` FOREIGN KEY (`x`,`REFERENCES`) REFERENCES `s`.`t` (`i`, `ON DELETE CASCADE`) ON DELETE SET NULL ON UPDATE CASCADE"
        );
        let undoubled = ForeignKey::read("CONSTRAINT `a`b` FOREIGN KEY (`x`) REFERENCES `p` (`i`)");
        assert_eq!(undoubled.expect("a key").name, "a`b");
        assert!(
            key.cascades() && key.points_at("shop", "shop", "p) q") && !key.points_at("shop", "s", "p) q")
        );
    }

    #[test]
    fn what_restricts_does_not_cascade_and_other_lines_are_no_keys() {
        let key =
            ForeignKey::read("CONSTRAINT `k` FOREIGN KEY (`x`) REFERENCES `d`.`p` (`ON UPDATE CASCADE`)")
                .expect("a key");
        assert!(!key.cascades() && key.points_at("shop", "d", "p"));
        assert_eq!(key.actions, "");
        for line in ["KEY `k` (`x`)", "CONSTRAINT `c` CHECK ((`x` > 0))", "`REFERENCES` int NOT NULL"] {
            assert!(!is_foreign_key(line), "{line}");
        }
    }
}
