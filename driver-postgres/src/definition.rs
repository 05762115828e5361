//! What a table is, in words that do not depend on its own name, its indexes' order or anybody's `search_path`: so a copy
//! can be compared with the original, and the original with what it was (R7).
//!
//! Newer servers keep a stamp of their own among the options of columns, `pg_attver`: it says nothing of the table.

use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::attached::place_query;
use crate::connect::Conn;
use crate::sql::{get, rows, text};

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The table itself, its columns, and the constraints that are no index.
    pub lines: Vec<String>,
    /// Its indexes, in the order in which they were made.
    pub indexes: Vec<Index>,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name, as the catalogue has it.
    pub name: String,
    /// It lets no value in twice.
    pub is_unique: bool,
    /// From `USING` on.
    pub tail: String,
    /// The constraint behind which it stands.
    pub constraint: Option<String>,
    /// The tablespace, if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What makes it of no use as a unique index, or cannot be built otherwise.
    pub flaw: Option<String>,
}

impl Definition {
    /// That of the table with this number. Inside of a transaction its `search_path` is the session's own afterwards.
    pub async fn read(connection: &mut Conn, oid: i64) -> Result<Self> {
        let lines = rows(connection, within_no_path(&lines(oid))).await?;
        let lines = lines.iter().map(|row| get(row, 0)).collect::<Result<Vec<String>>>()?;
        if lines.is_empty() {
            return Err(Error::new(ErrorKind::ForeignDdl, "the table is gone"));
        }
        let found = rows(connection, within_no_path(&indexes(oid))).await?;
        let indexes = found.iter().map(index).collect::<Result<_>>()?;
        Ok(Self { lines, indexes })
    }

    /// What one has and the other lacks, and the other way round.
    pub fn differences<'a>(&'a self, other: &'a Self) -> (Vec<String>, Vec<String>) {
        let said = |definition: &Self| {
            let indexes = definition.indexes.iter().map(|index| {
                let unique = if index.is_unique { "unique " } else { "" };
                let constraint = index.constraint.as_deref().unwrap_or_default();
                let place = index.place.as_ref().map(|place| format!("in {place}")).unwrap_or_default();
                format!("{unique}index {} {} {constraint} {place}", index.name, index.tail)
                    .trim_end()
                    .to_owned()
            });
            definition.lines.iter().cloned().chain(indexes).collect::<Vec<_>>()
        };
        let (own, others) = (said(self), said(other));
        let without = |all: &[String], some: &[String]| -> Vec<String> {
            all.iter().filter(|line| !some.contains(line)).cloned().collect()
        };
        (without(&own, &others), without(&others, &own))
    }

    /// A crash empties it.
    pub fn is_unlogged(&self) -> bool {
        self.lasting() == Some("u")
    }

    /// Its rows are in partitions.
    pub fn is_partitioned(&self) -> bool {
        self.lines.first().is_some_and(|line| line.split(' ').nth(1) == Some("p"))
    }

    /// Makes it that of a table which a crash empties, or does not.
    pub fn lasts_as(&mut self, is_unlogged: bool) {
        self.say_lasting(if is_unlogged { "u" } else { "p" });
    }

    fn lasting(&self) -> Option<&str> {
        self.lines.first()?.split(' ').nth(2)
    }

    /// Of a table that was made as a temporary copy: the one that comes of it is as lasting as the original.
    pub fn is_no_copy(&mut self, original: &Self) {
        if let Some(lasting) = original.lasting() {
            self.say_lasting(lasting);
        }
    }

    fn say_lasting(&mut self, lasting: &str) {
        if let Some(line) = self.lines.first_mut() {
            let words = line.split(' ').enumerate();
            *line =
                words.map(|(at, word)| if at == 2 { lasting } else { word }).collect::<Vec<_>>().join(" ");
        }
    }

    /// Whether both are the same, in whatever order the indexes were made.
    pub fn is_same(&self, other: &Self) -> bool {
        let sorted = |definition: &Self| {
            let mut indexes = definition.indexes.clone();
            indexes.sort_by(|a, b| a.name.cmp(&b.name));
            indexes
        };
        self.lines == other.lines && sorted(self) == sorted(other)
    }
}

impl Index {
    /// The statements that make it on a table, under a name; both as they are typed. To be sent as one message.
    pub fn making(&self, on: &str, name: &str) -> String {
        let (index, constraint) = self.making_in_parts(on, name);
        constraint.map_or_else(|| index.clone(), |constraint| format!("{index}; {constraint}"))
    }

    /// The same in two: the index, beside which others read the table, and the constraint, a moment that has it alone.
    pub fn making_in_parts(&self, on: &str, name: &str) -> (String, Option<String>) {
        let unique = if self.is_unique { "UNIQUE " } else { "" };
        let create = format!("CREATE {unique}INDEX {name} ON {on} {}", self.tail);
        match &self.constraint {
            None => (self.in_its_place(on, create), None),
            // There is no other way to make one.
            Some(constraint) if !self.gets_a_constraint() => {
                (self.in_its_place(on, format!("ALTER TABLE {on} ADD CONSTRAINT {name} {constraint}")), None)
            }
            Some(constraint) => {
                let kind = if constraint.starts_with("PRIMARY") { "PRIMARY KEY" } else { "UNIQUE" };
                let deferring = self.deferring().unwrap_or_default();
                let adding =
                    format!("ALTER TABLE {on} ADD CONSTRAINT {name} {kind} USING INDEX {name}{deferring}");
                (self.in_its_place(on, create), Some(adding))
            }
        }
    }

    /// A constraint comes to stand before the index, which can be there without it.
    pub fn gets_a_constraint(&self) -> bool {
        self.constraint.as_ref().is_some_and(|constraint| !constraint.starts_with("EXCLUDE"))
    }

    /// The same of a partitioned table, where no index that is there already becomes one of a constraint.
    pub fn making_of_all(&self, on: &str, name: &str) -> String {
        let Some(constraint) = &self.constraint else { return self.making(on, name) };
        let deferring = self.deferring().unwrap_or_default();
        let what = constraint.strip_suffix(deferring).unwrap_or(constraint);
        let options = self.tail.find(" WITH (").map_or("", |at| &self.tail[at..]);
        let options = if self.gets_a_constraint() { options } else { "" };
        self.in_its_place(on, format!("ALTER TABLE {on} ADD CONSTRAINT {name} {what}{options}{deferring}"))
    }

    /// Unique values may meet until the end of a transaction, or of a statement: ON CONFLICT knows nothing of such an index.
    pub fn is_deferrable(&self) -> bool {
        self.deferring().is_some()
    }

    fn deferring(&self) -> Option<&'static str> {
        let constraint = self.constraint.as_deref()?;
        // Behind whatever a predicate of an exclusion constraint says.
        [" DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"]
            .into_iter()
            .find(|words| constraint.ends_with(words))
    }

    /// A setting serves a constraint as well. Of a temporary copy it is another one, which says of a table that stays where its
    /// sorting spills.
    fn in_its_place(&self, on: &str, making: String) -> String {
        let Some(place) = &self.place else { return making };
        let setting = if on.starts_with("pg_temp.") { "temp_tablespaces" } else { "default_tablespace" };
        format!("SET LOCAL {setting} = {}; {making}; SET LOCAL {setting} = ''", text(place))
    }
}

/// The names and texts of a table's checks.
pub async fn checks(connection: &mut Conn, table: i64) -> Result<Vec<(String, String)>> {
    let sql = format!(
        "SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint
         WHERE conrelid = {table} AND contype = 'c' ORDER BY oid"
    );
    rows(connection, within_no_path(&sql)).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// The line of a definition that is this check.
pub fn check_line(name: &str, check: &str) -> String {
    format!("constraint {name} {check}")
}

/// The name of the check that a line is, if it is this one.
pub fn check_name<'a>(line: &'a str, check: &str) -> Option<&'a str> {
    line.strip_prefix("constraint ")?.strip_suffix(check)?.strip_suffix(' ')
}

fn index(row: &sqlx::postgres::PgRow) -> Result<Index> {
    Ok(Index {
        name: get(row, 0)?,
        is_unique: get(row, 1)?,
        tail: get(row, 2)?,
        constraint: get(row, 3)?,
        flaw: get(row, 4)?,
        place: get(row, 5)?,
    })
}

/// Names of other objects come with their schema then, whoever asks.
pub fn within_no_path(query: &str) -> String {
    format!("SET LOCAL search_path = ''; {query}; SET LOCAL search_path TO DEFAULT")
}

fn lines(oid: i64) -> String {
    format!(
        "SELECT line FROM (
         SELECT 0 AS part, 0 AS place, concat_ws(' ', 'table', c.relkind, c.relpersistence, coalesce(am.amname, '-'),
                coalesce(ts.spcname, '-')) AS line
         FROM pg_class c LEFT JOIN pg_am am ON am.oid = c.relam LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
         WHERE c.oid = {oid}
         UNION ALL
         SELECT 0, 1, concat_ws(' ', 'options', array_to_string(c.reloptions, ','), array_to_string(t.reloptions, ','))
         FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = {oid}
         UNION ALL
         SELECT 0, 2, place FROM ({}) AS p(place) WHERE place IS NOT NULL
         UNION ALL
         SELECT 0, 3, 'partitioned by ' || pg_get_partkeydef({oid}) WHERE pg_get_partkeydef({oid}) IS NOT NULL
         UNION ALL
         SELECT 1, row_number() OVER (ORDER BY a.attnum)::int, concat_ws(' ', 'column', quote_ident(a.attname),
                format_type(a.atttypid, a.atttypmod), 'collate ' || nullif(a.attcollation, 0)::regcollation::text,
                CASE WHEN a.attnotnull THEN 'not null' END,
                CASE WHEN a.attidentity <> '' THEN 'identity ' || a.attidentity::text END,
                CASE WHEN a.attgenerated <> '' THEN 'generated ' || a.attgenerated::text ELSE 'default' END
                || ' ' || pg_get_expr(d.adbin, d.adrelid),
                'storage ' || a.attstorage::text, nullif(a.attcompression::text, ''),
                'statistics ' || nullif(a.attstattarget, -1),
                (SELECT string_agg(o, ',') FROM unnest(a.attoptions) AS o WHERE NOT starts_with(o, 'pg_')))
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
         UNION ALL
         SELECT 2, row_number() OVER (ORDER BY o.conname)::int,
                concat_ws(' ', 'constraint', quote_ident(o.conname), pg_get_constraintdef(o.oid))
         FROM pg_constraint o WHERE o.conrelid = {oid} AND o.contype IN ('c', 'n')
         ) AS all_lines ORDER BY part, place",
        place_query(oid)
    )
}

fn indexes(oid: i64) -> String {
    format!(
        "SELECT name, is_unique, CASE WHEN starts_with(whole, head) THEN substr(whole, length(head) + 1) ELSE whole END,
                constraint_def,
                CASE WHEN NOT starts_with(whole, head) THEN 'its definition is not understood'
                     WHEN NOT is_valid THEN 'it is not valid' END,
                place
         FROM (SELECT c.oid, c.relname::text AS name, i.indisunique AS is_unique, pg_get_indexdef(c.oid) AS whole,
                      format('CREATE %sINDEX %I ON %s%I.%I ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, c.relname,
                             CASE WHEN c.relkind = 'I' THEN 'ONLY ' ELSE '' END,
                             CASE WHEN n.oid = pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname END, t.relname) AS head,
                      pg_get_constraintdef(o.oid) AS constraint_def, i.indisvalid AND i.indisready AS is_valid,
                      ts.spcname::text AS place
               FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
               JOIN pg_namespace n ON n.oid = t.relnamespace LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
               LEFT JOIN pg_constraint o ON o.conindid = c.oid AND o.contype IN ('p', 'u', 'x') AND o.conrelid = t.oid
               WHERE i.indrelid = {oid}) AS found ORDER BY oid"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(constraint: &str, place: Option<&str>) -> Index {
        Index {
            name: "once".to_owned(),
            is_unique: true,
            tail: "USING btree (n) WITH (fillfactor='70')".to_owned(),
            constraint: Some(constraint.to_owned()),
            place: place.map(str::to_owned),
            flaw: None,
        }
    }

    #[test]
    fn a_constraint_that_may_be_deferred_says_so_behind_all_else() {
        let index = once("UNIQUE (n) DEFERRABLE INITIALLY DEFERRED", None);
        assert!(index.is_deferrable());
        let (create, add) = index.making_in_parts("t", "x");
        assert_eq!(create, "CREATE UNIQUE INDEX x ON t USING btree (n) WITH (fillfactor='70')");
        assert_eq!(
            add.as_deref(),
            Some("ALTER TABLE t ADD CONSTRAINT x UNIQUE USING INDEX x DEFERRABLE INITIALLY DEFERRED")
        );
        assert_eq!(
            index.making_of_all("t", "x"),
            "ALTER TABLE t ADD CONSTRAINT x UNIQUE (n) WITH (fillfactor='70') DEFERRABLE INITIALLY DEFERRED"
        );
        assert!(!once("UNIQUE (n)", None).is_deferrable());
    }

    #[test]
    fn an_index_is_made_in_its_tablespace_and_sorts_where_others_do() {
        let index = once("UNIQUE (n)", Some("fast"));
        assert!(
            index
                .making("t", "x")
                .starts_with("SET LOCAL default_tablespace = 'fast'; CREATE UNIQUE INDEX x")
        );
        assert!(index.making("pg_temp.t", "x").starts_with("SET LOCAL temp_tablespaces = 'fast'; CREATE"));
    }
}
