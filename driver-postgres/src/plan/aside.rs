//! Tables that go: they are kept out of the way until `finalize`, with everything that has a name in their schema.

use replank_core::ident::aside_name;
use replank_core::plan::{Candidate, Draft, Strategy};
use replank_core::{Error, ErrorKind, Result};

use super::step::{Kind, locking, recorded, step};
use super::{Drafting, Way, catalogue_lock, nothing};
use crate::inspect::Table;
use crate::sql::{first, get, ident, rows, table as qualified};

/// Statements that move a table, its partitions, indexes, sequences and statistics, all under names that nobody else has.
struct Aside {
    there: String,
    back: String,
    /// Where the table is then.
    kept: String,
}

impl Drafting<'_> {
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
            "{}
             SELECT conname::text, conrelid::regclass::text FROM pg_constraint
             WHERE contype = 'f' AND conrelid IN (SELECT oid FROM whole) AND confrelid NOT IN (SELECT oid FROM whole) LIMIT 1",
            whole(&table)
        );
        if let Some(row) = first(self.connection, key).await? {
            let (key, of): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the foreign key {key} of {of} would be kept with it"),
            )
            .hint(format!("first: ALTER TABLE {of} DROP CONSTRAINT {}", ident(&key))));
        }
        let theirs = format!(
            "{} SELECT oid::regclass::text FROM pg_class WHERE oid IN (SELECT oid FROM whole) AND NOT pg_has_role(relowner, 'USAGE') LIMIT 1",
            whole(&table)
        );
        if let Some(row) = first(self.connection, theirs).await? {
            let part = get::<String>(&row, 0)?;
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the partition {part} belongs to another login"),
            )
            .hint("a member of its owner can drop the table"));
        }
        let all = if table.is_partitioned() { self.partitions(&table).await? } else { Vec::new() };
        let aside = self.aside(&table).await?;
        let title = format!("take table {} out of the way as {}", table.name, aside.kept);
        let mut moved = locking(locking(recorded(title, 0, aside.there, aside.back), &all), &[table.oid]);
        moved.finalize = format!("DROP TABLE {}", aside.kept);
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
            format!("DROP TABLE {}", table.full_name()),
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

    /// Indexes and sequences move into the other schema with their table, where those of others have names as well: so
    /// they are renamed first. Statistics move by themselves.
    async fn aside(&mut self, table: &Table) -> Result<Aside> {
        let sql = format!(
            "{}, parts AS (
                 SELECT oid, oid AS of, 0 AS place FROM whole
                 UNION ALL SELECT i.indexrelid, i.indrelid, -2 FROM pg_index i WHERE i.indrelid IN (SELECT oid FROM whole)
                 UNION ALL SELECT d.objid, d.refobjid, -1 FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
                 AND d.refobjid IN (SELECT oid FROM whole))
             SELECT n.nspname::text, c.relname::text, c.oid::bigint,
                    CASE place WHEN -2 THEN 'INDEX' WHEN -1 THEN 'SEQUENCE' ELSE 'TABLE' END, of, place
             FROM parts JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
             UNION ALL
             SELECT n.nspname::text, stxname::text, s.oid::bigint, 'STATISTICS', stxrelid, -3
             FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace
             WHERE stxrelid IN (SELECT oid FROM whole) AND pg_has_role(stxowner, 'USAGE')
             ORDER BY 5, 6, 3",
            whole(table)
        );
        let kept_in = ident(self.names.schema());
        let (mut there, mut back, mut kept, mut all) = (Vec::new(), Vec::new(), String::new(), Vec::new());
        for row in rows(self.connection, sql).await? {
            let (schema, name, oid, kind): (String, String, i64, String) =
                (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?, get(&row, 3)?);
            let other = aside_name(&format!("{} {oid}", qualified(&schema, &name)));
            let (schema, name, other) = (ident(&schema), ident(&name), ident(&other));
            there.push(format!("ALTER {kind} {schema}.{name} RENAME TO {other}"));
            back.push(format!("ALTER {kind} {schema}.{other} RENAME TO {name}"));
            // The others go where their table goes.
            if matches!(kind.as_str(), "TABLE" | "STATISTICS") {
                there.push(format!("ALTER {kind} {schema}.{other} SET SCHEMA {kept_in}"));
                back.push(format!("ALTER {kind} {kept_in}.{other} SET SCHEMA {schema}"));
                if kind == "TABLE" {
                    all.push(format!("{schema}.{name}"));
                }
                if kind == "TABLE" && oid == table.oid {
                    kept = format!("{kept_in}.{other}");
                }
            }
        }
        back.reverse();
        // All of them within one wait: whoever uses the first would wait for each of the others.
        there.insert(0, format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", all.join(", ONLY ")));
        Ok(Aside { there: there.join("; "), back: back.join("; "), kept })
    }

    /// What would be in the way of a table's going, now or when it is made final.
    async fn user_of_table(&mut self, table: &Table) -> Result<Option<String>> {
        let sql = format!(
            "{}, own AS (
                 SELECT oid FROM whole
                 UNION ALL SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
                 AND deptype IN ('a', 'i') AND refobjid IN (SELECT oid FROM whole)),
             types AS (
                 SELECT t.oid FROM pg_type t WHERE t.typrelid IN (SELECT oid FROM whole)
                 UNION ALL SELECT t.typarray FROM pg_type t WHERE t.typrelid IN (SELECT oid FROM whole) AND t.typarray <> 0),
             users AS (
                 SELECT d.classid, d.objid, d.objsubid FROM pg_depend d
                 WHERE d.deptype = 'n' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM own)
                                         OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT oid FROM types)))
             SELECT 'the view ' || w.ev_class::regclass::text FROM users u
             JOIN pg_rewrite w ON u.classid = 'pg_rewrite'::regclass AND w.oid = u.objid AND w.ev_class NOT IN (SELECT oid FROM whole)
             UNION ALL
             SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass::text FROM pg_constraint
             WHERE contype = 'f' AND confrelid IN (SELECT oid FROM whole) AND conrelid NOT IN (SELECT oid FROM whole)
             UNION ALL
             SELECT 'the partitioned table ' || inhparent::regclass::text FROM pg_inherits WHERE inhrelid = {oid}
             UNION ALL
             SELECT 'the table ' || i.inhrelid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = {oid} AND NOT c.relispartition
             UNION ALL
             SELECT 'the default of ' || a.adrelid::regclass::text FROM users u
             JOIN pg_attrdef a ON u.classid = 'pg_attrdef'::regclass AND a.oid = u.objid AND a.adrelid NOT IN (SELECT oid FROM whole)
             UNION ALL
             SELECT pg_describe_object(u.classid, u.objid, u.objsubid) FROM users u
             WHERE u.classid = 'pg_proc'::regclass
                OR u.classid = 'pg_class'::regclass AND u.objid NOT IN (SELECT oid FROM own)
                OR u.classid = 'pg_type'::regclass AND u.objid NOT IN (SELECT oid FROM types)
                OR u.classid = 'pg_policy'::regclass
                   AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.oid = u.objid AND p.polrelid IN (SELECT oid FROM whole))
             UNION ALL
             SELECT 'triggers of an earlier run, which is not final,' FROM pg_trigger
             WHERE tgrelid IN (SELECT oid FROM whole) AND starts_with(tgname, '_rp_')
             LIMIT 1",
            whole(table),
            oid = table.oid
        );
        first(self.connection, sql).await?.map(|row| get(&row, 0)).transpose()
    }
}

/// The table with its partitions: the beginning of a query.
fn whole(table: &Table) -> String {
    format!(
        "WITH whole AS (SELECT {0}::oid AS oid UNION SELECT relid FROM pg_partition_tree({0}))",
        table.oid
    )
}
