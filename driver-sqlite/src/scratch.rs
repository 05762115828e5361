//! A copy of the schema without rows, in memory: SQLite itself says there what a definition means, and
//! whether anything else in the schema would break.

use replank_core::{Error, ErrorKind, Result};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::error::from_sqlx;
use crate::inspect::{Named, Table, get};
use crate::parse::{Column, Cursor, Kind, TableText, tokens};
use crate::sql::{ident, query, run};
use crate::state::Names;

/// The copy.
pub struct Scratch {
    connection: SqliteConnection,
    /// What could not be made here, with SQLite's own words.
    left_out: Vec<(String, String)>,
}

impl Scratch {
    /// Copies the schema of a database. Objects that cannot be made here, such as those of an extension's
    /// virtual table, are left out; ours too.
    pub async fn of(source: &mut SqliteConnection, names: &Names) -> Result<Self> {
        let rows = query(
            "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END, rowid",
        )
        .fetch_all(source)
        .await
        .map_err(from_sqlx)?;
        let mut connection = SqliteConnectOptions::new()
            .foreign_keys(false)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(from_sqlx)?;
        let mut left_out = Vec::new();
        for row in &rows {
            let (name, sql): (String, String) = (get(row, 0)?, get(row, 1)?);
            if names.is_own(&name) {
                continue;
            }
            if let Err(error) = run(&mut connection, sql).await {
                left_out.push((name, said(&error)));
            }
        }
        Ok(Self { connection, left_out })
    }

    /// Fails for a table whose definition, or an index of it, means nothing here: it needs a function or a
    /// collation that only the application defines, and rows could be neither compared nor written.
    pub fn check_known(&self, table: &Table) -> Result<()> {
        let own = |name: &str| table.name == name || table.indexes.iter().any(|index| index.name == name);
        match self.left_out.iter().find(|(name, _)| own(name)) {
            None => Ok(()),
            Some((name, said)) => Err(Error::new(
                ErrorKind::Refused,
                format!("`{name}` needs what only the application defines"),
            )
            .with("sqlite", said)
            .hint("change it with the application's own connection")),
        }
    }

    /// To run statements on.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Whether SQLite takes a statement; its own words if not.
    pub async fn tries(&mut self, sql: &str) -> Result<Option<String>> {
        run(&mut self.connection, "SAVEPOINT _rp_try").await?;
        let tried = run(&mut self.connection, sql).await;
        run(&mut self.connection, "ROLLBACK TO _rp_try").await?;
        run(&mut self.connection, "RELEASE _rp_try").await?;
        Ok(tried.err().map(|error| said(&error)))
    }

    /// Every object's name and statement, those of one table left out.
    pub async fn others(&mut self, table: &str) -> Result<Vec<Named>> {
        let rows = query(
            "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name <> ? COLLATE NOCASE ORDER BY name",
        )
        .bind(table.to_owned())
        .fetch_all(&mut self.connection)
        .await
        .map_err(from_sqlx)?;
        rows.iter().map(|row| Ok(Named { name: get(row, 0)?, sql: get(row, 1)? })).collect()
    }

    /// Puts a new definition in the place of a table's, and reads back what SQLite makes of it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where SQLite refuses it, [`ErrorKind::Refused`] where another object would not
    /// work with it any more.
    pub async fn replace(
        &mut self,
        old: &Table,
        text: &TableText,
        indexes: &[Named],
        triggers: &[Named],
    ) -> Result<Table> {
        let broken_before = self.broken(&old.name).await?;
        let mismatched_before = self.mismatched_children(&old.name).await?;
        run(&mut self.connection, "PRAGMA legacy_alter_table = ON").await?;
        run(&mut self.connection, format!("DROP TABLE {}", ident(&old.name))).await?;
        let refused = |error: Error| {
            Error::new(ErrorKind::Usage, format!("SQLite refuses the new definition: {}", said(&error)))
        };
        run(&mut self.connection, text.render()).await.map_err(refused)?;
        for index in indexes {
            run(&mut self.connection, index.sql.clone()).await.map_err(|error| {
                Error::new(
                    ErrorKind::Usage,
                    format!("index `{}` does not fit the new definition", index.name),
                )
                .with("sqlite", said(&error))
                .hint("drop that index in the same statement: `DROP INDEX …`")
            })?;
        }
        for trigger in triggers {
            run(&mut self.connection, trigger.sql.clone()).await.map_err(refused)?;
        }
        run(&mut self.connection, "PRAGMA legacy_alter_table = OFF").await?;
        if let Some(broken) = self.broken(&old.name).await?
            && broken_before.as_ref() != Some(&broken)
        {
            return Err(Error::new(ErrorKind::Refused, "another object does not fit the new definition")
                .with("sqlite", broken)
                .hint("change or drop that view or trigger first"));
        }
        for child in self.mismatched_children(&old.name).await? {
            if !mismatched_before.contains(&child) {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("a foreign key of `{child}` needs a unique key that the new definition lacks"),
                )
                .hint("keep that key, or drop the foreign key first"));
            }
        }
        Table::read(&mut self.connection, &old.name)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the new definition makes no table"))
    }

    /// What SQLite says of views and triggers when a table is renamed: it reads all of them then.
    async fn broken(&mut self, table: &str) -> Result<Option<String>> {
        let probe = format!("ALTER TABLE {} RENAME TO \"_rp_probe_name\"", ident(table));
        self.tries(&probe).await
    }

    /// Tables with a foreign key on this one for which there is no unique key.
    async fn mismatched_children(&mut self, table: &str) -> Result<Vec<String>> {
        let rows = query(
            "SELECT DISTINCT m.name FROM sqlite_schema AS m, pragma_foreign_key_list(m.name) AS f
             WHERE m.type = 'table' AND f.\"table\" = ? COLLATE NOCASE",
        )
        .bind(table.to_owned())
        .fetch_all(&mut self.connection)
        .await
        .map_err(from_sqlx)?;
        let mut found = Vec::new();
        for row in &rows {
            let child: String = get(row, 0)?;
            let check = format!("PRAGMA foreign_key_check({})", ident(&child));
            if query(check).persistent(false).fetch_all(&mut self.connection).await.is_err() {
                found.push(child);
            }
        }
        Ok(found)
    }

    /// Checks that an expression depends on one row of a table and on nothing else, for ever (R8).
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for one that SQLite does not understand, [`ErrorKind::Refused`] for one that
    /// gives another value another time.
    pub async fn check_expression(&mut self, table: &Table, expression: &str) -> Result<()> {
        let mut cursor = Cursor::new(expression)?;
        cursor.until(|_| false)?;
        if !cursor.is_done() {
            return Err(cursor.unexpected("the end of the expression"));
        }
        if let Some(word) = volatile_word(expression)? {
            return Err(Error::new(ErrorKind::Refused, format!("`{word}` gives another value another time"))
                .with("expression", expression)
                .hint("rows are read several times and compared: write the value itself"));
        }
        // SQLite allows in a computed column just what is meant here, and says what is wrong otherwise.
        let mut text = table.text.clone();
        text.columns.push(Column::parse(&format!("\"_rp_expression\" ANY AS ({expression})"))?);
        let create = text.render_aside("_rp_expression_of");
        match self.tries(&create).await? {
            None => Ok(()),
            Some(words) => {
                let kind =
                    if words.contains("non-deterministic") { ErrorKind::Refused } else { ErrorKind::Usage };
                Err(Error::new(kind, "the expression cannot be used")
                    .with("expression", expression)
                    .with("sqlite", words))
            }
        }
    }
}

/// SQLite's own words.
fn said(error: &Error) -> String {
    error.message().trim_start_matches("sqlite: ").to_owned()
}

/// What depends on the clock or the time zone: SQLite finds that only when it runs.
fn volatile_word(expression: &str) -> Result<Option<String>> {
    let found = tokens(expression)?;
    let clocks = ["CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"];
    let functions = ["DATE", "TIME", "DATETIME", "JULIANDAY", "UNIXEPOCH"];
    for (place, token) in found.iter().enumerate() {
        let next_is =
            |ahead: usize, sign: &str| found.get(place + ahead).is_some_and(|next| next.is_sign(sign));
        let is_text = |word: &str| {
            matches!(token.kind, Kind::Text | Kind::Quoted)
                && token.name().is_some_and(|name| name.eq_ignore_ascii_case(word))
        };
        let of_now = functions.iter().any(|name| token.is(name)) && next_is(1, "(") && next_is(2, ")");
        if clocks.iter().any(|word| token.is(word)) || of_now || is_text("now") || is_text("localtime") {
            return Ok(Some(token.text.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a + 1", None)]
    #[case("date(a)", None)]
    #[case("datetime('now')", Some("'now'"))]
    #[case("date()", Some("date"))]
    #[case("coalesce(a, CURRENT_TIMESTAMP)", Some("CURRENT_TIMESTAMP"))]
    #[case("strftime('%s', a, 'localtime')", Some("'localtime'"))]
    fn clocks_are_found(#[case] expression: &str, #[case] expected: Option<&str>) {
        assert_eq!(volatile_word(expression).expect("lexes").as_deref(), expected);
    }
}
