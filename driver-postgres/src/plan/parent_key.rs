//! Keys of partitioned tables: each partition gets its own, by an index that is built while others write, and the key of the
//! whole then finds them all there.

use replank_core::{Error, ErrorKind, Result};

use super::alter::unquoted;
use super::index::{in_schema, server_name};
use super::step::{Kind, NOTHING, recorded, shaped, step};
use super::{Drafting, Way, catalogue_lock, gentle_lock};
use crate::inspect::{Table, index};
use crate::parse::CreateIndex;
use crate::shape::shape;
use crate::sql::{get, ident, rows, table as qualified, text};
use crate::trial::Trial;

/// A UNIQUE or PRIMARY KEY.
pub struct Key<'a> {
    /// As it is typed.
    pub name: &'a str,
    /// Which of both.
    pub word: &'a str,
    /// When it is looked at.
    pub options: &'a str,
    /// The index that stands behind it, on the whole.
    pub index: &'a CreateIndex,
}

impl Drafting<'_> {
    /// The key of a partition makes its columns NOT NULL by themselves, and not only because they are so in the whole.
    pub(super) async fn remember_nullable(
        &mut self,
        table: &Table,
        columns: &[&str],
        way: &mut Way,
    ) -> Result<()> {
        let names: Vec<String> = columns.iter().map(|column| text(&unquoted(column))).collect();
        let sql = format!(
            "SELECT format('ALTER TABLE %I.%I ALTER COLUMN %I DROP NOT NULL', n.nspname, c.relname, a.attname)
             FROM pg_partition_tree({}) t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE t.isleaf AND c.relkind = 'r' AND NOT a.attnotnull AND a.attname IN ({}) ORDER BY c.oid, a.attnum",
            table.oid,
            names.join(", ")
        );
        let back: Vec<String> =
            rows(self.connection, sql).await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
        if !back.is_empty() {
            let title = "remember which columns of partitions take NULL".to_owned();
            way.steps.push(recorded(title, table.oid, NOTHING.to_owned(), back.join("; ")));
        }
        Ok(())
    }

    pub(super) async fn parent_key(
        &mut self,
        trial: &Trial,
        table: &Table,
        key: &Key<'_>,
        way: &mut Way,
    ) -> Result<()> {
        let Key { name, word, options, index: wanted } = *key;
        let columns = &wanted.tail;
        if let Some(found) = index(self.connection, &in_schema(table, name)).await? {
            let what = format!("there is an index {name} on {} already", found.table);
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let made = self.tried_index(trial, table, wanted).await?;
        way.evidence.collisions.extend(self.collisions(table, &made).await?);
        let shape = shape(&made.definition);
        let below = self.below(table).await?;
        for part in &below {
            match part.kind.as_str() {
                // It finds those of its own partitions, as the whole does.
                "p" => continue,
                "f" => {
                    let what = format!("the partition {} is a foreign table, and can have no key", part.name);
                    way.impossible.get_or_insert(what);
                    continue;
                }
                _ => {}
            }
            let own = server_name(&part.name, &table.name, &made.name);
            let own = self.free_name(&part.schema, &own).await?;
            let (quoted, full, on) = (ident(&own), qualified(&part.schema, &own), part.full_name());
            let built = step(
                format!("build index {own}"),
                part.oid,
                format!("CREATE UNIQUE INDEX CONCURRENTLY {quoted} ON {on} {columns}"),
                format!("DROP INDEX CONCURRENTLY {full}"),
                Kind::IndexMade,
                full,
            );
            way.steps.push(shaped(built, shape.clone()));
            let statement =
                format!("ALTER TABLE {on} ADD CONSTRAINT {quoted} {word} USING INDEX {quoted} {options}");
            // The index goes with it, and the step before finds nothing left to drop.
            way.steps.push(recorded(
                format!("make the index the constraint {own}"),
                part.oid,
                statement.trim().to_owned(),
                format!("ALTER TABLE {on} DROP CONSTRAINT IF EXISTS {quoted}"),
            ));
        }
        let full = table.full_name();
        let statement = format!("ALTER TABLE {full} ADD CONSTRAINT {name} {word} {columns} {options}");
        way.steps.push(recorded(
            format!("make {name} a constraint of the whole, which finds those of its partitions"),
            table.oid,
            statement.trim().to_owned(),
            format!("ALTER TABLE {full} DROP CONSTRAINT IF EXISTS {name}"),
        ));
        way.changes
            .push(format!("constraint {name} is added, on {} partitions: {word} {columns}", below.len()));
        way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
        way.locks.push(gentle_lock("SHARE UPDATE EXCLUSIVE on each partition"));
        Ok(())
    }
}
