//! What is said of a statement's words, with what the catalogue knows of them.

use replank_core::{ErrorKind, Result};

use super::Drafting;
use super::alter::unquoted;
use crate::lint::Seen;
use crate::object::What;
use crate::parse::{Statement, parse};
use crate::sql::{first, get, rows, text};
use crate::words::{DomainChange, Shape, against, shorter, words};

/// Columns that are named one by one. Chosen.
const NAMED_MAX: usize = 8;

impl Drafting<'_> {
    /// Notes what rules that judge words have to say.
    pub(super) async fn see_words(&mut self, statement: &str) -> Result<()> {
        let words = words(statement);
        for (column, kind) in &words.columns {
            if let Some(why) = against(kind) {
                self.note("P121", format!("column {column} is {kind}, which {why}"));
            }
        }
        if words.is_whole {
            self.see_padding(&words.columns).await?;
        }
        match words.domain {
            Some((domain, DomainChange::Made)) => {
                self.note(
                    "P123",
                    format!("a change of what {domain} takes is held against every table that uses it"),
                );
            }
            Some((domain, DomainChange::LooksAtRows)) => {
                self.note(
                    "P123!",
                    format!(
                        "writers of every table that uses {domain} would wait while its rows are looked at"
                    ),
                );
            }
            None => {}
        }
        match parse(statement) {
            Ok(Statement::AlterTable { table, .. }) => self.see_name(&table).await,
            Ok(Statement::CreateIndex(index)) => self.see_name(&index.table).await,
            Ok(Statement::Reindex { name, is_table: true, .. }) => self.see_name(&name).await,
            Ok(Statement::Object(object)) => match object.what {
                What::TableMade { .. } | What::TableDropped { .. } | What::Repacked { .. } => {
                    self.see_name(&object.name).await
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether a name without a schema is that of tables in several.
    pub(super) async fn see_name(&mut self, name: &str) -> Result<()> {
        let is_bare = match name.strip_prefix('"') {
            Some(rest) => rest.trim_end_matches('"').find('"').is_none(),
            None => !name.contains('.'),
        };
        if !is_bare {
            return Ok(());
        }
        let sql = format!(
            "WITH found AS (SELECT n.nspname::text AS schema, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE c.relname = {} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                            AND n.nspname NOT IN ('information_schema', {}) AND NOT starts_with(n.nspname, 'pg_'))
             SELECT (SELECT schema FROM found WHERE oid = to_regclass({})),
                    (SELECT string_agg(schema, ', ' ORDER BY schema) FROM found WHERE oid IS DISTINCT FROM to_regclass({}))",
            text(&unquoted(name)),
            text(self.names.schema()),
            text(name),
            text(name)
        );
        let Some(row) = first(self.connection, sql).await? else { return Ok(()) };
        let (taken, others): (Option<String>, Option<String>) = (get(&row, 0)?, get(&row, 1)?);
        if let Some(others) = others {
            let which = match taken {
                Some(taken) => format!("{name} is that of schema {taken}, first along search_path"),
                None => format!("{name} is in no schema of search_path"),
            };
            self.note("P132", format!("{which}; there is one in {others} as well"));
        }
        Ok(())
    }

    /// Whether the columns of a new table would take less room in another order.
    pub(super) async fn see_padding(&mut self, columns: &[(String, String)]) -> Result<()> {
        let kinds: Vec<String> = columns.iter().map(|(_, kind)| text(stored_as(kind))).collect();
        if kinds.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "SELECT t.typlen::int, CASE t.typalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END
             FROM unnest(ARRAY[{}]) WITH ORDINALITY AS k(kind, place) LEFT JOIN pg_type t ON t.oid = to_regtype(k.kind) ORDER BY k.place",
            kinds.join(", ")
        );
        let found = match rows(self.connection, sql).await {
            // What the server does not take for a type, it says of the statement itself.
            Err(error) if error.kind() != ErrorKind::ConnectionLost => return Ok(()),
            found => found?,
        };
        let mut shapes = Vec::new();
        for row in &found {
            let Some(size) = get::<Option<i32>>(row, 0)? else { return Ok(()) };
            let multiple = usize::try_from(get::<i32>(row, 1)?).unwrap_or(1);
            shapes.push(Shape { size: usize::try_from(size).ok(), multiple });
        }
        if let Some((order, less)) = shorter(&shapes) {
            let names: Vec<&str> = order.iter().map(|at| columns[*at].0.as_str()).collect();
            let order = match names.len() <= NAMED_MAX {
                true => format!("in the order {}", names.join(", ")),
                false => "with wide columns first, and those of varying length last,".to_owned(),
            };
            self.note("P133", format!("{order} each row is {less} bytes shorter"));
        }
        Ok(())
    }

    pub(super) fn note(&mut self, rule: &str, what: String) {
        self.seen.push(Seen { rule: rule.to_owned(), what });
    }
}

/// What a word that is no type stands for.
fn stored_as(kind: &str) -> &str {
    match kind.to_lowercase().as_str() {
        "smallserial" | "serial2" => "smallint",
        "serial" | "serial4" => "integer",
        "bigserial" | "serial8" => "bigint",
        _ => kind,
    }
}
