//! Tables that come and go.

use replank_core::ident::aside_name;
use replank_core::plan::{Candidate, Draft, Strategy};
use replank_core::{Error, ErrorKind, Result};

use super::bounds;
use super::object::unknown;
use super::step::{Kind, locking, locking_back, recorded, step};
use super::{Drafting, Way, catalogue_lock, nothing};
use crate::inspect::Table;
use crate::object::Object;
use crate::sql::{first, get, ident, is_so, table as qualified, text};

impl Drafting<'_> {
    pub(super) async fn make_table(
        &mut self,
        statement: &str,
        object: &Object,
        if_not_exists: bool,
        part: Option<&(String, String, Option<String>)>,
        locked: &[i64],
    ) -> Result<Draft> {
        if is_so(self.connection, format!("SELECT to_regclass({}) IS NOT NULL", text(&object.name))).await? {
            return match if_not_exists {
                true => self.nothing_to_do(statement, &object.name).await,
                false => {
                    Err(Error::new(ErrorKind::Usage, format!("there is a table {} already", object.name)))
                }
            };
        }
        let mut way = Way {
            changes: vec![format!("table {} is made", object.name)],
            reason: "nobody uses it yet".to_owned(),
            undo: format!("`revert` drops {}, unless it has rows", object.name),
            ..nothing()
        };
        let gone = dropped_if_empty(&object.name);
        let title = format!("make table {}", object.name);
        let Some((parent, bound, rest)) = part else {
            if !locked.is_empty() {
                way.locks.push(catalogue_lock("SHARE ROW EXCLUSIVE on tables that are referred to"));
            }
            way.steps.push(locking(recorded(title, 0, object.text.clone(), gone), locked));
            return self.finish_facts(statement, unknown(&object.name), Some(way), None).await;
        };
        let parent = self.table(parent).await?;
        let Some(rest) = rest else {
            return Err(Error::new(
                ErrorKind::Refused,
                "columns of a partition are not described by replank",
            )
            .hint(format!(
                "CREATE TABLE {} (LIKE {} INCLUDING ALL), then ATTACH PARTITION",
                object.name, parent.name
            )));
        };
        // PARTITION OF would keep everybody out of the parent, and look through its default partition.
        crate::sql::run(self.connection, "BEGIN; SET LOCAL TimeZone TO DEFAULT").await?;
        let tried = bounds::tried(self.connection, &parent, bound).await;
        crate::sql::run(self.connection, "ROLLBACK").await?;
        let tried = tried?;
        let default = bounds::default_of(self.connection, &parent).await?;
        way.reason = "it is made by itself, and then attached: the parent is locked against nobody who reads or writes".to_owned();
        way.seen(
            "P126",
            format!(
                "{} is made and then attached, where PARTITION OF would lock {}",
                object.name, parent.name
            ),
        );
        let made = format!(
            "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING COMMENTS EXCLUDING IDENTITY EXCLUDING STATISTICS) {rest}",
            object.name,
            parent.full_name()
        );
        way.steps.push(recorded(title, 0, made.trim().to_owned(), gone));
        let cleared = match &default {
            Some(default) => self.out_of_default(default, &tried, &mut way).await?,
            None => None,
        };
        let mut attach =
            format!("ALTER TABLE {} ATTACH PARTITION {} {bound}", parent.full_name(), object.name);
        if let Some((table, helper)) = &cleared {
            attach.push_str(&format!("; ALTER TABLE {table} DROP CONSTRAINT {helper}"));
        }
        // Rows that came would be gone from the parent, and nobody would have asked for that.
        let detach = format!(
            "LOCK TABLE {0} IN ACCESS EXCLUSIVE MODE; {1}; ALTER TABLE {0} DETACH PARTITION {2}",
            parent.full_name(),
            empty(&object.name),
            object.name
        );
        let attached = recorded(format!("attach {}", object.name), 0, attach, detach);
        let others: Vec<i64> = default.iter().map(|default| default.oid).collect();
        way.steps.push(locking_back(locking(attached, &others), &[parent.oid]));
        way.locks.push(super::gentle_lock(&format!("SHARE UPDATE EXCLUSIVE on {}", parent.name)));
        self.finish(statement, &parent, Some(way), None).await
    }

    /// For good where the person gave up the way back, else out of the way until `finalize`.
    pub(super) async fn drop_table(&mut self, statement: &str, name: &str, if_exists: bool) -> Result<Draft> {
        let table = match self.table(name).await {
            Err(error) if if_exists && error.kind() == ErrorKind::NotFound => {
                return self.nothing_to_do(statement, name).await;
            }
            table => table?,
        };
        if let Some(user) = self.user_of_table(&table).await? {
            return Err(Error::new(ErrorKind::Refused, format!("{user} uses {name}"))
                .hint("drop or change that first: DROP TABLE without CASCADE would not do it either"));
        }
        // Out of the way it would still hold rows of the other table, or lose some with them.
        let key = format!(
            "SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND conrelid = {0} AND confrelid <> {0} LIMIT 1",
            table.oid
        );
        if let Some(row) = first(self.connection, key).await? {
            let key = get::<String>(&row, 0)?;
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the foreign key {key} of {name} would be kept with it"),
            )
            .hint(format!("first: ALTER TABLE {name} DROP CONSTRAINT {}", ident(&key))));
        }
        let all = if table.is_partitioned() { self.partitions(&table).await? } else { Vec::new() };
        let full = table.full_name();
        let aside = aside_name(&format!("{full} {}", table.oid));
        let (schema, kept) = (ident(self.names.schema()), qualified(self.names.schema(), &aside));
        let moved = recorded(
            format!("take table {} out of the way as {kept}", table.name),
            0,
            format!(
                "ALTER TABLE {full} RENAME TO {0}; ALTER TABLE {1}.{0} SET SCHEMA {schema}",
                ident(&aside),
                ident(&table.schema)
            ),
            format!(
                "ALTER TABLE {kept} SET SCHEMA {0}; ALTER TABLE {0}.{1} RENAME TO {2}",
                ident(&table.schema),
                ident(&aside),
                ident(&table.name)
            ),
        );
        let mut moved = locking(locking(moved, &all), &[table.oid]);
        moved.finalize = format!("DROP TABLE {kept}");
        let way = Way {
            changes: vec![format!("table {} is dropped", table.name)],
            steps: vec![moved],
            reason: "the table is put out of the way, and dropped by `finalize`".to_owned(),
            locks: vec![catalogue_lock("ACCESS EXCLUSIVE on the table")],
            undo: "`revert` gives it its name again; its rows are kept until `finalize`".to_owned(),
            ..nothing()
        };
        let gone = step(
            format!("drop table {}", table.name),
            0,
            format!("DROP TABLE {full}"),
            String::new(),
            Kind::Recorded,
            String::new(),
        );
        let gone = locking(locking(gone, &all), &[table.oid]);
        let mut draft = self.finish(statement, &table, Some(way), None).await?;
        draft.candidates.insert(
            0,
            Candidate {
                strategy: Strategy::Instant,
                impossible: None,
                unasked: None,
                reason: "its files are removed".to_owned(),
                steps: vec![gone],
                locks: vec![catalogue_lock("ACCESS EXCLUSIVE on the table")],
                discards: vec![format!("table {}", table.name)],
                no_way_back: None,
                disk_bytes: None,
                undo: "cannot be undone".to_owned(),
                spec: serde_json::Value::Null,
            },
        );
        Ok(draft)
    }

    /// What would be in the way of a table's going.
    async fn user_of_table(&mut self, table: &Table) -> Result<Option<String>> {
        let sql = format!(
            "SELECT 'the view ' || w.ev_class::regclass::text FROM pg_depend d
             JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.ev_class <> d.refobjid
             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = {oid}
             UNION ALL
             SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass::text FROM pg_constraint
             WHERE contype = 'f' AND confrelid = {oid} AND conrelid <> {oid}
             UNION ALL
             SELECT 'the partitioned table ' || inhparent::regclass::text FROM pg_inherits WHERE inhrelid = {oid}
             UNION ALL
             SELECT 'the table ' || i.inhrelid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = {oid} AND NOT c.relispartition
             UNION ALL
             SELECT 'triggers of an earlier run, which is not final,' FROM pg_trigger
             WHERE tgrelid = {oid} AND starts_with(tgname, '_rp_')
             LIMIT 1",
            oid = table.oid
        );
        first(self.connection, sql).await?.map(|row| get(&row, 0)).transpose()
    }
}

/// Drops a table that nobody has written.
fn dropped_if_empty(name: &str) -> String {
    format!("{}; DROP TABLE {name}", empty(name))
}

/// Fails for a table with rows, and keeps others from writing some.
fn empty(name: &str) -> String {
    format!(
        "LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE; DO $$ BEGIN IF EXISTS (SELECT FROM {name}) THEN
         RAISE EXCEPTION 'the table % has rows, and is not dropped: keep it, or drop it yourself', {}; END IF; END $$",
        text(name)
    )
}
