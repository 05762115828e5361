//! The triggers that log the keys of changed rows, and the log.
//!
//! A log row becomes visible together with the change that it tells of (R1). The triggers run inside the
//! application's statements and with the application's version of SQLite, so they use nothing newer than
//! the tables themselves do.

use crate::inspect::{Named, Table, Unique};
use crate::sql::ident;

/// What to capture, and where it goes.
pub struct Capture<'a> {
    /// The table that applications write.
    pub table: &'a Table,
    /// The columns of its key.
    pub key: Vec<&'a str>,
    /// The log.
    pub log: &'a str,
    /// Set where the written table keeps values that the source lacks.
    pub mover: Option<Mover<'a>>,
}

/// Keeps rows of the written table under the key that the source's rows have.
pub struct Mover<'a> {
    /// The written table, and the one where its rows may wait.
    pub tables: Vec<&'a str>,
    /// The columns of their key.
    pub key: Vec<&'a str>,
}

/// When a row was logged, in milliseconds. `unixepoch` knows fractions only since SQLite 3.42.
const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";

/// The statements that make the log. Its first row tells nobody anything: a log that is empty is a log
/// that somebody else emptied.
pub fn log_statements(log: &str, key_count: usize) -> [String; 2] {
    let columns: Vec<String> = (0..key_count).map(|index| format!("k{index}")).collect();
    let log = ident(log);
    // The key's columns have no type, so that they hold every value as it is.
    let table = format!(
        "CREATE TABLE {log} (seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, removed INTEGER NOT NULL, {})",
        columns.join(", ")
    );
    [table, format!("INSERT INTO {log} (at_ms, removed) VALUES ({NOW}, 0)")]
}

impl Capture<'_> {
    /// The triggers.
    pub fn triggers(&self) -> Vec<Named> {
        let table = ident(&self.table.name);
        let log = |row: &str, removed: u8, condition: &str| {
            let keys: Vec<String> =
                self.key.iter().map(|column| format!("{row}.{}", ident(column))).collect();
            format!("{} SELECT {NOW}, {removed}, {}{condition};", self.log_head(), keys.join(", "))
        };
        let trigger = |suffix: &str, event: &str, body: String| {
            let name = format!("{}_{suffix}", self.log);
            let sql = format!("CREATE TRIGGER {} {event} ON {table} FOR EACH ROW{body}", ident(&name));
            Named { name, sql }
        };
        let mut triggers = vec![
            trigger(
                "ins",
                "AFTER INSERT",
                format!(" BEGIN {}{} END", log("NEW", 0, ""), self.moved_by_insert()),
            ),
            // The old key first: where a row moved onto the key of one that was replaced, the new key is
            // what stands last. A key that only looks different and is the same row was never absent.
            trigger(
                "upd",
                "AFTER UPDATE",
                format!(
                    " BEGIN {}{}{}{} END",
                    log(
                        "OLD",
                        0,
                        &format!(" WHERE {} AND NOT ({})", self.key_changed(true), self.key_changed(false))
                    ),
                    log("OLD", 1, &format!(" WHERE {}", self.key_changed(false))),
                    log("NEW", 0, ""),
                    self.moved_by_update()
                ),
            ),
            trigger(
                "del",
                "AFTER DELETE",
                format!(" BEGIN {}{} END", log("OLD", 1, ""), self.moved_by_delete()),
            ),
        ];
        // REPLACE, as a statement's or as a constraint's conflict clause, deletes the rows that stand in the
        // way without firing their delete triggers. Only before the write can it be told which they are.
        // Whether they will be deleted is not known yet; a key too many does no harm.
        let collisions: String = self.table.unique.iter().map(|unique| self.colliding(unique, "")).collect();
        let row_id = self.table.hidden_row_id();
        let by_row_id =
            |condition: &str| row_id.map(|name| self.colliding_row_id(name, condition)).unwrap_or_default();
        triggers.push(trigger("bins", "BEFORE INSERT", format!(" BEGIN {collisions}{} END", by_row_id(""))));
        let other = self.other_row();
        let collisions: String =
            self.table.unique.iter().map(|unique| self.colliding(unique, &other)).collect();
        triggers.push(trigger(
            "bupd",
            "BEFORE UPDATE",
            format!("{} BEGIN {collisions}{} END", self.unique_changed(), by_row_id(&other)),
        ));
        triggers.retain(|trigger| !trigger.sql.contains("BEGIN  END"));
        triggers
    }

    fn log_head(&self) -> String {
        let columns: String = (0..self.key.len()).map(|index| format!(", k{index}")).collect();
        format!("INSERT INTO {} (at_ms, removed{columns})", ident(self.log))
    }

    /// Whether the key is another one, to the byte or as the table's collations see it.
    fn key_changed(&self, to_the_byte: bool) -> String {
        let collate = if to_the_byte { " COLLATE BINARY" } else { "" };
        let one = |column: &&str| format!("OLD.{0} IS NOT NEW.{0}{collate}", ident(column));
        format!("({})", self.key.iter().map(one).collect::<Vec<_>>().join(" OR "))
    }

    /// Logs the rows that hold the new row's value of a unique key.
    fn colliding(&self, unique: &Unique, other: &str) -> String {
        let mut conditions = Vec::new();
        for term in &unique.terms {
            let new = match &term.column {
                Some(column) => self.new_value(column),
                None => self.new_expression(&term.sql),
            };
            let stated = term.column.as_deref().and_then(|name| self.table.column(name));
            let is_own = stated.is_some_and(|column| column.collation.eq_ignore_ascii_case(&term.collation));
            let collate = if is_own { String::new() } else { format!(" COLLATE {}", ident(&term.collation)) };
            let old = match &term.column {
                Some(column) => format!("t.{}", ident(column)),
                None => term.sql.clone(),
            };
            conditions.push(format!("{old}{collate} = {new}"));
        }
        // A partial index is only looked into where its own condition stands. What it does not hold cannot
        // stand in the way.
        conditions.extend(unique.condition.iter().map(|condition| format!("({condition})")));
        self.logged_where(&conditions.join(" AND "), other)
    }

    fn colliding_row_id(&self, name: &str, other: &str) -> String {
        self.logged_where(&format!("t.{name} = NEW.{name}"), other)
    }

    fn logged_where(&self, condition: &str, other: &str) -> String {
        let keys: Vec<String> = self.key.iter().map(|column| format!("t.{}", ident(column))).collect();
        format!(
            "{} SELECT {NOW}, 1, {} FROM {} AS t WHERE {condition}{other};",
            self.log_head(),
            keys.join(", "),
            ident(&self.table.name)
        )
    }

    /// The value that a column will get. REPLACE puts the default where NULL is refused.
    fn new_value(&self, column: &str) -> String {
        let name = format!("NEW.{}", ident(column));
        match self.table.column(column) {
            Some(column) if column.not_null => match &column.default {
                Some(default) => format!("coalesce({name}, {default})"),
                None => name,
            },
            _ => name,
        }
    }

    fn new_expression(&self, sql: &str) -> String {
        let columns: Vec<String> = self
            .table
            .columns
            .iter()
            .map(|column| format!("{} AS {}", self.new_value(&column.name), ident(&column.name)))
            .collect();
        format!("(SELECT {sql} FROM (SELECT {}))", columns.join(", "))
    }

    /// The row that collides is not the one that is written.
    fn other_row(&self) -> String {
        let one = |column: &&str| format!("t.{0} IS NOT OLD.{0}", ident(column));
        format!(" AND ({})", self.key.iter().map(one).collect::<Vec<_>>().join(" OR "))
    }

    /// Most updates touch no unique column: they need no look.
    fn unique_changed(&self) -> String {
        let mut columns: Vec<String> = Vec::new();
        for term in self.table.unique.iter().flat_map(|unique| &unique.terms) {
            let plain = term.column.as_deref().and_then(|name| self.table.column(name));
            match plain {
                Some(column) if !column.generated => columns.push(ident(&column.name)),
                // What an expression or a computed column depends on is not looked at here.
                _ => return String::new(),
            }
        }
        // Whether a row enters a partial index depends on more than its columns.
        if self.table.unique.iter().any(|unique| unique.condition.is_some()) {
            return String::new();
        }
        columns.extend(self.table.hidden_row_id().map(ToOwned::to_owned));
        columns.sort_unstable();
        columns.dedup();
        let one = |column: &String| format!("NEW.{column} IS NOT OLD.{column} COLLATE BINARY");
        match columns.len() {
            0 => String::new(),
            _ => format!(" WHEN {}", columns.iter().map(one).collect::<Vec<_>>().join(" OR ")),
        }
    }

    // Where the written table keeps values that the source lacks, its rows follow the source's at once, in
    // the application's own transaction and so exactly once and in order: from the log alone it could not be
    // told any more which of several rows a key stood for. What is written is only keys and absence, and the
    // plan made sure that no constraint of the written table can refuse that.

    fn moved_by_insert(&self) -> String {
        self.mover.as_ref().map(|mover| self.deleted(mover, "NEW", "")).unwrap_or_default()
    }

    fn moved_by_delete(&self) -> String {
        self.mover.as_ref().map(|mover| self.deleted(mover, "OLD", "")).unwrap_or_default()
    }

    fn moved_by_update(&self) -> String {
        let Some(mover) = &self.mover else { return String::new() };
        let really = format!(" AND {}", self.key_changed(false));
        let set: Vec<String> = self
            .key
            .iter()
            .zip(&mover.key)
            .map(|(source, written)| format!("{} = NEW.{}", ident(written), ident(source)))
            .collect();
        let moved: String = mover
            .tables
            .iter()
            .map(|table| {
                format!(
                    " UPDATE {} SET {} WHERE {} AND {};",
                    ident(table),
                    set.join(", "),
                    self.same_key(mover, "OLD"),
                    self.key_changed(true)
                )
            })
            .collect();
        format!("{}{moved}", self.deleted(mover, "NEW", &really))
    }

    fn deleted(&self, mover: &Mover<'_>, row: &str, condition: &str) -> String {
        let same = self.same_key(mover, row);
        mover
            .tables
            .iter()
            .map(|table| format!(" DELETE FROM {} WHERE {same}{condition};", ident(table)))
            .collect()
    }

    fn same_key(&self, mover: &Mover<'_>, row: &str) -> String {
        self.key
            .iter()
            .zip(&mover.key)
            .map(|(source, written)| format!("{} = {row}.{}", ident(written), ident(source)))
            .collect::<Vec<_>>()
            .join(" AND ")
    }
}
