//! Indexes of partitioned tables. The server has no way to build one while others write: the parent's is declared, each
//! partition's is built by itself, and the parent's counts once it has them all.

use replank_core::Result;
use replank_core::plan::{Draft, Evidence, Step, Strategy};

use super::index::server_name;
use super::step::{Kind, NOTHING, locking, locking_back, noted_index, recorded, shaped, step};
use super::{Drafting, Way, catalogue_lock, gentle_lock, nothing};
use crate::inspect::{Index, Table, indexes};
use crate::parse::CreateIndex;
use crate::shape::shape;
use crate::sql::{get, ident, rows, table as qualified};

/// A table below a partitioned one.
pub(super) struct Below {
    pub oid: i64,
    parent: i64,
    pub kind: String,
    pub schema: String,
    pub name: String,
}

impl Below {
    pub fn full_name(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

impl Drafting<'_> {
    /// The numbers of all that is below a partitioned table.
    pub(super) async fn partitions(&mut self, table: &Table) -> Result<Vec<i64>> {
        Ok(self.below(table).await?.iter().map(|below| below.oid).collect())
    }

    /// All that is below a partitioned table, level by level.
    pub(super) async fn below(&mut self, table: &Table) -> Result<Vec<Below>> {
        let sql = format!(
            "SELECT c.oid::bigint, t.parentrelid::oid::bigint, c.relkind::text, n.nspname::text, c.relname::text
             FROM pg_partition_tree({}) t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE t.level > 0 ORDER BY t.level, c.oid",
            table.oid
        );
        rows(self.connection, sql)
            .await?
            .iter()
            .map(|row| {
                Ok(Below {
                    oid: get(row, 0)?,
                    parent: get(row, 1)?,
                    kind: get(row, 2)?,
                    schema: get(row, 3)?,
                    name: get(row, 4)?,
                })
            })
            .collect()
    }

    /// The steps for an index that a trial has made on a copy of the table.
    pub(super) async fn parent_index(
        &mut self,
        table: &Table,
        wanted: &CreateIndex,
        made: &Index,
    ) -> Result<Way> {
        let below = self.below(table).await?;
        let all: Vec<i64> = below.iter().map(|below| below.oid).collect();
        let unique = if wanted.is_unique { "UNIQUE " } else { "" };
        let shape = shape(&made.definition);
        let full = qualified(&table.schema, &made.name);
        let gone = format!("DROP INDEX IF EXISTS {full}");
        let about =
            |step: Step, oid: i64, full: &str| noted_index(locking_back(step, &all), oid, full, &shape);
        let declare =
            |name: &str, on: &str| format!("CREATE {unique}INDEX {name} ON ONLY {on} {}", wanted.tail);
        let declared = recorded(
            format!("declare index {}", made.name),
            table.oid,
            declare(&ident(&made.name), &table.full_name()),
            gone.clone(),
        );
        let mut way = Way {
            changes: vec![format!("index {} is added, on {} partitions: {shape}", made.name, below.len())],
            steps: vec![about(declared, table.oid, &full)],
            strategy: Strategy::NativeOnline,
            reason: "the server builds it partition by partition while others read and write".to_owned(),
            locks: vec![
                catalogue_lock("SHARE on the partitioned table"),
                gentle_lock("SHARE UPDATE EXCLUSIVE on each partition"),
            ],
            undo: "`revert` drops it, under a lock on all partitions for a moment".to_owned(),
            ..nothing()
        };
        if wanted.only {
            way.undo = "`revert` drops it".to_owned();
            return Ok(way);
        }
        if let Some(foreign) = below.iter().find(|below| below.kind == "f") {
            way.impossible =
                Some(format!("the partition {} is a foreign table, and can have no index", foreign.name));
        }
        // By the number of the table.
        let mut names = vec![(table.oid, full.clone())];
        for part in &below {
            let name = server_name(&part.name, &table.name, &made.name);
            let name = self.free_name(&part.schema, &name).await?;
            let (own, oid) = (qualified(&part.schema, &name), part.oid);
            let above = names.iter().find(|(oid, _)| *oid == part.parent).map(|(_, name)| name.clone());
            let title = format!("build index {name}");
            if part.kind == "p" {
                let statement = declare(&ident(&name), &part.full_name());
                let back = format!("DROP INDEX IF EXISTS {own}");
                way.steps.push(about(
                    recorded(format!("declare index {name}"), oid, statement, back),
                    oid,
                    &own,
                ));
            } else {
                let statement = format!(
                    "CREATE {unique}INDEX CONCURRENTLY {} ON {} {}",
                    ident(&name),
                    part.full_name(),
                    wanted.tail
                );
                let back = format!("DROP INDEX CONCURRENTLY {own}");
                let built = step(title, oid, statement, back, Kind::IndexMade, own.clone());
                way.steps.push(shaped(built, shape.clone()));
            }
            let attach = format!("ALTER INDEX {} ATTACH PARTITION {own}", above.unwrap_or_default());
            // Only with the whole can a part of it be dropped.
            let attached = recorded(format!("attach index {name}"), table.oid, attach, gone.clone());
            way.steps.push(about(locking(attached, &[oid]), table.oid, &full));
            names.push((oid, own));
        }
        let whole = step(
            format!("see that index {} counts", made.name),
            table.oid,
            format!("-- {full} is to be valid"),
            NOTHING.to_owned(),
            Kind::IndexWhole,
            full.clone(),
        );
        way.steps.push(whole);
        Ok(way)
    }

    /// What drops an index of a partitioned table, and builds it again partition by partition.
    pub(super) async fn drop_parent_index(
        &mut self,
        text: &str,
        table: &Table,
        found: &Index,
    ) -> Result<Draft> {
        let below = self.below(table).await?;
        let all: Vec<i64> = below.iter().map(|below| below.oid).collect();
        let tree = format!("c.oid IN (SELECT relid FROM pg_partition_tree({}) WHERE level > 0)", found.oid);
        let parts = indexes(self.connection, &tree).await?;
        let above = format!(
            "SELECT i.inhrelid::bigint, p.relname::text, n.nspname::text, i.inhparent::bigint, x.indrelid::bigint
             FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace
             JOIN pg_index x ON x.indexrelid = i.inhrelid
             WHERE i.inhrelid IN (SELECT relid FROM pg_partition_tree({}) WHERE level > 0)",
            found.oid
        );
        let (mut attached, mut built) = (Vec::new(), Vec::new());
        for row in rows(self.connection, above).await? {
            let (oid, on): (i64, i64) = (get(&row, 0)?, get(&row, 4)?);
            let Some(part) = parts.iter().find(|part| part.oid == oid) else { continue };
            let above = qualified(&get::<String>(&row, 2)?, &get::<String>(&row, 1)?);
            let back = format!("ALTER INDEX {above} ATTACH PARTITION {}", part.full_name());
            let title = format!("index {} goes with the whole", part.name);
            attached.push(locking(recorded(title.clone(), on, NOTHING.to_owned(), back), &[]));
            let is_parent = below.iter().any(|below| below.oid == on && below.kind == "p");
            built.push(if is_parent {
                recorded(title, on, NOTHING.to_owned(), part.definition.clone())
            } else {
                let back = part.definition.replacen("INDEX ", "INDEX CONCURRENTLY ", 1);
                let gone = format!("DROP INDEX CONCURRENTLY {}", part.full_name());
                shaped(
                    step(title, on, gone, back, Kind::IndexDropped, part.full_name()),
                    shape(&part.definition),
                )
            });
        }
        // Taken back last first: each is built, the parent's declared, and then all are attached.
        let mut steps = vec![step(
            format!("see on the way back that index {} counts", found.name),
            table.oid,
            NOTHING.to_owned(),
            format!("-- {} is to be valid", found.full_name()),
            Kind::IndexWhole,
            found.full_name(),
        )];
        steps.extend(attached);
        let dropped = recorded(
            format!("drop index {}", found.name),
            table.oid,
            format!("DROP INDEX {}", found.full_name()),
            found.definition.clone(),
        );
        steps.push(locking(dropped, &all));
        steps.extend(built);
        let way = Way {
            changes: vec![format!(
                "index {} is dropped, with those of {} partitions",
                found.name,
                parts.len()
            )],
            steps,
            reason: "only the catalogue changes; no index of a partitioned table is dropped CONCURRENTLY"
                .to_owned(),
            locks: vec![catalogue_lock(&format!(
                "ACCESS EXCLUSIVE on the table and its {} partitions",
                all.len()
            ))],
            undo: "`revert` builds it again, partition by partition, while others read and write".to_owned(),
            strategy: Strategy::NativeOnline,
            evidence: Evidence::default(),
            ..nothing()
        };
        self.finish(text, table, Some(way), None).await
    }
}
