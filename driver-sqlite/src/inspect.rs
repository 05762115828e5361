//! What the catalogue says about a table.

use replank_core::Result;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::error::from_sqlx;
use crate::parse::{IndexText, PartKind, TableText, tokens};
use crate::sql::{ident, query};

/// A named object and the statement that makes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its statement, as SQLite keeps it.
    pub sql: String,
}

/// A table with all that belongs to it.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its statement in parts.
    pub text: TableText,
    /// Its statement, as SQLite keeps it.
    pub sql: String,
    /// Its columns, hidden and generated ones included.
    pub columns: Vec<Column>,
    /// Its unique keys, the row id's alias included.
    pub unique: Vec<Unique>,
    /// Its explicit indexes.
    pub indexes: Vec<Named>,
    /// Its triggers, in the order in which they were made.
    pub triggers: Vec<Named>,
    /// Whether it was made `WITHOUT ROWID`.
    pub without_rowid: bool,
    /// Whether it was made `STRICT`.
    pub strict: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type.
    pub declared: String,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// The expression of its default.
    pub default: Option<String>,
    /// Its place in the primary key, from 1; 0 if it is not in it.
    pub primary: i64,
    /// Its value is computed; nothing can be inserted there.
    pub generated: bool,
    /// Its collation.
    pub collation: String,
    /// What it does to values that are stored in it.
    pub affinity: Affinity,
}

/// See <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// Whole numbers where nothing is lost.
    Integer,
    /// Text.
    Text,
    /// As it comes.
    Blob,
    /// Floating point numbers.
    Real,
    /// Numbers where nothing is lost.
    Numeric,
}

/// A unique key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// How a reader knows it: the index's name, or its columns.
    pub label: String,
    /// What must be unique.
    pub terms: Vec<Term>,
    /// Only rows that meet this condition are in it.
    pub condition: Option<String>,
    /// It is the alias of the row id.
    pub is_row_id: bool,
}

/// One part of a unique key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The column, if it is one.
    pub column: Option<String>,
    /// The expression over the table's columns, not qualified.
    pub sql: String,
    /// The collation that decides what is equal.
    pub collation: String,
}

impl Table {
    /// Reads a table, its name in any case. `None` if there is no such ordinary table.
    pub async fn read(connection: &mut SqliteConnection, name: &str) -> Result<Option<Self>> {
        let found =
            query("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE")
                .bind(name.to_owned())
                .fetch_optional(&mut *connection)
                .await
                .map_err(from_sqlx)?;
        let Some(row) = found else { return Ok(None) };
        let (name, sql): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        let text = TableText::parse(&sql)?;
        let kind = query("SELECT wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ?")
            .bind(name.clone())
            .fetch_one(&mut *connection)
            .await
            .map_err(from_sqlx)?;
        let (without_rowid, strict) = (get::<i64>(&kind, 0)? != 0, get::<i64>(&kind, 1)? != 0);
        let columns = columns(connection, &name, &text, strict).await?;
        let indexes = named(connection, "index", &name).await?;
        let unique = unique(connection, &name, &columns, &indexes, without_rowid).await?;
        let mut triggers = named(connection, "trigger", &name).await?;
        // A run that was interrupted has left its capture here; that is no part of the table.
        triggers.retain(|trigger| !trigger.name.starts_with("_rp_"));
        Ok(Some(Self { name, text, sql, columns, unique, indexes, triggers, without_rowid, strict }))
    }

    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Columns that an INSERT can name.
    pub fn stored(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.generated)
    }

    /// A name under which the hidden row id can be read, if the table has one that no column aliases.
    pub fn hidden_row_id(&self) -> Option<&'static str> {
        if self.without_rowid || self.unique.iter().any(|unique| unique.is_row_id) {
            return None;
        }
        ["rowid", "_rowid_", "oid"].into_iter().find(|name| self.column(name).is_none())
    }

    /// The ids of new rows never repeat those of deleted ones.
    pub fn is_autoincrement(&self) -> bool {
        let has =
            |text: &str| tokens(text).is_ok_and(|found| found.iter().any(|token| token.is("AUTOINCREMENT")));
        self.text
            .columns
            .iter()
            .filter_map(|column| column.part(PartKind::PrimaryKey))
            .any(|part| has(&part.text))
            || self.text.constraints.iter().any(|constraint| has(&constraint.text))
    }
}

/// Reads a value that the query always gives in that type.
pub fn get<'r, T>(row: &'r SqliteRow, at: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Sqlite>,
{
    row.try_get_unchecked(at).map_err(from_sqlx)
}

/// Objects of an earlier run of ours on the table are no part of it.
async fn named(connection: &mut SqliteConnection, kind: &str, table: &str) -> Result<Vec<Named>> {
    let rows = query(
        "SELECT name, sql FROM sqlite_schema
         WHERE type = ? AND tbl_name = ? COLLATE NOCASE AND sql IS NOT NULL
         AND name NOT LIKE '\\_rp\\_%' ESCAPE '\\' ORDER BY rowid",
    )
    .bind(kind.to_owned())
    .bind(table.to_owned())
    .fetch_all(connection)
    .await
    .map_err(from_sqlx)?;
    rows.iter().map(|row| Ok(Named { name: get(row, 0)?, sql: get(row, 1)? })).collect()
}

async fn columns(
    connection: &mut SqliteConnection,
    table: &str,
    text: &TableText,
    strict: bool,
) -> Result<Vec<Column>> {
    let rows = query("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?)")
        .bind(table.to_owned())
        .fetch_all(connection)
        .await
        .map_err(from_sqlx)?;
    rows.iter()
        .map(|row| {
            let (name, declared): (String, String) = (get(row, 0)?, get(row, 1)?);
            let written = text.column(&name);
            let collation = written
                .and_then(|column| column.part(PartKind::Collate))
                .and_then(|part| tokens(&part.text).ok()?.last()?.name())
                .unwrap_or_else(|| "BINARY".to_owned());
            Ok(Column {
                affinity: if strict && declared.eq_ignore_ascii_case("ANY") {
                    Affinity::Blob
                } else {
                    Affinity::of(&declared)
                },
                not_null: get::<i64>(row, 2)? != 0,
                default: written.and_then(crate::parse::Column::default_expression),
                primary: get(row, 3)?,
                generated: get::<i64>(row, 4)? != 0,
                collation,
                declared,
                name,
            })
        })
        .collect()
}

async fn unique(
    connection: &mut SqliteConnection,
    table: &str,
    columns: &[Column],
    indexes: &[Named],
    without_rowid: bool,
) -> Result<Vec<Unique>> {
    let mut found = Vec::new();
    let rows = query("SELECT name, origin FROM pragma_index_list(?) WHERE \"unique\" = 1 ORDER BY seq DESC")
        .bind(table.to_owned())
        .fetch_all(&mut *connection)
        .await
        .map_err(from_sqlx)?;
    let mut has_primary_index = false;
    for row in &rows {
        let (name, origin): (String, String) = (get(row, 0)?, get(row, 1)?);
        has_primary_index |= origin == "pk";
        let explicit = indexes.iter().find(|index| index.name == name);
        let (expressions, condition) = match explicit {
            Some(index) => IndexText::parse(&index.sql)?.terms()?,
            None => (Vec::new(), None),
        };
        let parts = query("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key = 1 ORDER BY seqno")
            .bind(name.clone())
            .fetch_all(&mut *connection)
            .await
            .map_err(from_sqlx)?;
        let mut terms = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let column: Option<String> = get(part, 0)?;
            let sql = match &column {
                Some(column) => ident(column),
                None => expressions.get(place).map(|text| format!("({text})")).unwrap_or_default(),
            };
            terms.push(Term { column, sql, collation: get(part, 1)? });
        }
        let label = match explicit {
            Some(index) => index.name.clone(),
            None => terms.iter().filter_map(|term| term.column.clone()).collect::<Vec<_>>().join(", "),
        };
        found.push(Unique { label, terms, condition, is_row_id: false });
    }
    let primary: Vec<&Column> = columns.iter().filter(|column| column.primary > 0).collect();
    // A primary key without an index of its own is the row id's alias.
    if let ([column], false, false) = (&primary[..], without_rowid, has_primary_index) {
        let term =
            Term { column: Some(column.name.clone()), sql: ident(&column.name), collation: "BINARY".into() };
        found.push(Unique {
            label: column.name.clone(),
            terms: vec![term],
            condition: None,
            is_row_id: true,
        });
    }
    Ok(found)
}

impl Affinity {
    /// The affinity of a declared type.
    pub fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let holds = |part: &str| declared.contains(part);
        if holds("INT") {
            Self::Integer
        } else if holds("CHAR") || holds("CLOB") || holds("TEXT") {
            Self::Text
        } else if holds("BLOB") || declared.is_empty() {
            Self::Blob
        } else if holds("REAL") || holds("FLOA") || holds("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("INTEGER", Affinity::Integer)]
    #[case("BIGINT UNSIGNED", Affinity::Integer)]
    #[case("VARCHAR(20)", Affinity::Text)]
    #[case("", Affinity::Blob)]
    #[case("BLOB", Affinity::Blob)]
    #[case("double precision", Affinity::Real)]
    #[case("DECIMAL(10,2)", Affinity::Numeric)]
    #[case("BOOLEAN", Affinity::Numeric)]
    // SQLite's own oddity: INT is found first.
    #[case("CHARINT", Affinity::Integer)]
    #[case("FLOATING POINT", Affinity::Integer)]
    fn affinities(#[case] declared: &str, #[case] expected: Affinity) {
        assert_eq!(Affinity::of(declared), expected);
    }
}
