//! Constraints: held for all writes to come first, and against the rows that are there while others write.

use replank_core::{Error, ErrorKind, Result};

use super::alter::{NO_REBUILD, alter, long, recorded, unquoted};
use super::parent_key::Key;
use super::step::{NOTHING, locking};
use super::{Drafting, Way, catalogue_lock};
use crate::connect::Conn;
use crate::inspect::Table;
use crate::parse::{Action, Added, AddedKind, CreateIndex};
use crate::sql::{first, get, ident, is_so, rows, run, text};
use crate::trial::Trial;

/// Foreign keys of partitioned tables can be NOT VALID, and NOT NULL is a constraint like others.
const FK_NOT_VALID: u32 = 180_000;
const NAMED_NOT_NULL: u32 = 180_000;

impl Drafting<'_> {
    pub(super) async fn add_constraint(
        &mut self,
        trial: &Trial,
        table: &Table,
        added: &Added,
        way: &mut Way,
    ) -> Result<()> {
        match added.kind {
            AddedKind::Check | AddedKind::ForeignKey => {
                let name = match &added.name {
                    None => self.constraint_name(trial, added).await?,
                    Some(name) => name.clone(),
                };
                // A foreign key would lock the table that it refers to.
                if added.kind == AddedKind::Check {
                    trial.alter(self.connection, &format!("ADD CONSTRAINT {name} {}", added.text)).await?;
                }
                if added.kind == AddedKind::ForeignKey
                    && table.is_partitioned()
                    && self.version < FK_NOT_VALID
                {
                    way.seen("P127", format!("{} is partitioned", table.name));
                    way.impossible.get_or_insert(
                        "before PostgreSQL 18 a foreign key of a partitioned table is never NOT VALID: add it to each \
                         partition, and then to the table, which looks at no row again"
                            .to_owned(),
                    );
                }
                let others = match &added.refers_to {
                    Some(other) => vec![Table::named(self.connection, other).await?.oid],
                    None => Vec::new(),
                };
                let not_valid = if added.not_valid { "" } else { " NOT VALID" };
                let drop = alter(table, &format!("DROP CONSTRAINT {name}"));
                way.changes.push(format!("constraint {name} is added: {}", added.text));
                let rule = if added.kind == AddedKind::Check { "P113" } else { "P111" };
                if !added.not_valid {
                    way.seen(rule, format!("every row would be held against {name} under a lock"));
                }
                if added.kind == AddedKind::ForeignKey {
                    self.see_index_of_key(table, added, way).await?;
                }
                let held = recorded(
                    format!("hold {name} for all writes to come"),
                    table,
                    alter(table, &format!("ADD CONSTRAINT {name} {}{not_valid}", added.text)),
                    drop,
                );
                way.steps.push(locking(held, &others));
                if !added.not_valid {
                    way.steps.push(long(
                        format!("hold {name} against the rows that are there"),
                        table,
                        alter(table, &format!("VALIDATE CONSTRAINT {name}")),
                        "-- what was looked at stays looked at".to_owned(),
                    ));
                }
                self.looks_at_rows(way);
                if added.kind == AddedKind::ForeignKey {
                    way.locks.push(catalogue_lock("SHARE ROW EXCLUSIVE on the table that is referred to"));
                }
                Ok(())
            }
            AddedKind::Unique | AddedKind::PrimaryKey => self.add_key(trial, table, added, way).await,
            AddedKind::UsingIndex => {
                if added.text.to_uppercase().contains("PRIMARY") {
                    way.impossible.get_or_insert(
                        "a primary key by an index that is there is not run by replank yet".to_owned(),
                    );
                }
                let Some(name) = &added.name else {
                    return Err(Error::new(ErrorKind::Usage, "a constraint by an index needs a name")
                        .hint("ADD CONSTRAINT name UNIQUE USING INDEX …"));
                };
                way.changes.push(format!("constraint {name} is added: {}", added.text));
                let statement = alter(table, &format!("ADD CONSTRAINT {name} {}", added.text));
                way.no_way_back.get_or_insert("the index would go with the constraint".to_owned());
                way.steps.push(recorded(format!("add constraint {name}"), table, statement, String::new()));
                way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
                Ok(())
            }
            AddedKind::NotNull => self.add_not_null(trial, table, added, way).await,
            AddedKind::Exclude => {
                way.seen("P110", format!("the index of `{}` would be built under a lock", added.text));
                way.impossible.get_or_insert(format!(
                    "the server would build the index of an EXCLUDE under a lock, and {NO_REBUILD}"
                ));
                Ok(())
            }
        }
    }

    /// NOT NULL with a name, which is NOT VALID at first.
    async fn add_not_null(
        &mut self,
        trial: &Trial,
        table: &Table,
        added: &Added,
        way: &mut Way,
    ) -> Result<()> {
        if self.version < NAMED_NOT_NULL {
            way.impossible.get_or_insert(
                "before PostgreSQL 18 NOT NULL is no constraint: write ALTER COLUMN … SET NOT NULL"
                    .to_owned(),
            );
            return Ok(());
        }
        let name = match &added.name {
            Some(name) => name.clone(),
            None => self.constraint_name(trial, added).await?,
        };
        trial.alter(self.connection, &format!("ADD CONSTRAINT {name} {}", added.text)).await?;
        way.changes.push(format!("constraint {name} is added: {}", added.text));
        let not_valid = if added.not_valid { "" } else { " NOT VALID" };
        way.steps.push(recorded(
            format!("hold {name} for all writes to come"),
            table,
            alter(table, &format!("ADD CONSTRAINT {name} {}{not_valid}", added.text)),
            alter(table, &format!("DROP CONSTRAINT {name}")),
        ));
        if !added.not_valid {
            way.steps.push(long(
                format!("hold {name} against the rows that are there"),
                table,
                alter(table, &format!("VALIDATE CONSTRAINT {name}")),
                NOTHING.to_owned(),
            ));
        }
        self.looks_at_rows(way);
        Ok(())
    }

    /// By an index that is built while others write.
    async fn add_key(&mut self, trial: &Trial, table: &Table, added: &Added, way: &mut Way) -> Result<()> {
        let is_primary = added.kind == AddedKind::PrimaryKey;
        let word = if is_primary { "PRIMARY KEY" } else { "UNIQUE" };
        let columns = added.text.get(word.len()..).unwrap_or_default().trim();
        let Some(end) = columns.starts_with('(').then(|| columns.find(')')).flatten() else {
            way.impossible.get_or_insert(format!("`{}` is not taken apart by replank yet", added.text));
            return Ok(());
        };
        let (columns, options) = columns.split_at(end + 1);
        if !options.trim().is_empty()
            && !options.trim().to_uppercase().starts_with("DEFERRABLE")
            && !options.trim().to_uppercase().starts_with("NOT DEFERRABLE")
            && !options.trim().to_uppercase().starts_with("INITIALLY")
        {
            way.impossible.get_or_insert(format!("`{}` is not taken apart by replank yet", added.text));
            return Ok(());
        }
        if is_primary {
            if !table.key.is_empty() {
                way.impossible.get_or_insert("the table has a primary key".to_owned());
                return Ok(());
            }
            let names: Vec<&str> = columns[1..columns.len() - 1].split(',').map(str::trim).collect();
            if table.is_partitioned() {
                self.remember_nullable(table, &names, way).await?;
            }
            for column in names {
                let before = way.seen.len();
                self.set_not_null(trial, table, column, way).await?;
                // It was not said, and comes with the key.
                for seen in way.seen.iter_mut().skip(before).filter(|seen| seen.rule == "P114") {
                    "P108".clone_into(&mut seen.rule);
                }
            }
        }
        let name = match &added.name {
            Some(name) => name.clone(),
            None => self.constraint_name(trial, added).await?,
        };
        let rule = if is_primary { "P107" } else { "P109" };
        way.seen(rule, format!("the index of {name} would be built under a lock"));
        let wanted = CreateIndex {
            name: Some(name.clone()),
            table: table.full_name(),
            only: false,
            is_unique: true,
            if_not_exists: false,
            is_concurrent: true,
            tail: columns.to_owned(),
        };
        if table.is_partitioned() {
            let key = Key { name: &name, word, options: options.trim(), index: &wanted };
            self.parent_key(trial, table, &key, way).await?;
            self.looks_at_rows(way);
            return Ok(());
        }
        let index = self.create_index_on(trial, table, &wanted).await?;
        way.evidence.collisions.extend(index.evidence.collisions);
        way.steps.extend(index.steps);
        way.changes.push(format!("constraint {name} is added: {}", added.text));
        let statement =
            alter(table, &format!("ADD CONSTRAINT {name} {word} USING INDEX {name} {}", options.trim()));
        // The index goes with the constraint, and the step before finds nothing left to drop.
        let inverse = alter(table, &format!("DROP CONSTRAINT {name}"));
        way.steps.push(recorded(
            format!("make the index the constraint {name}"),
            table,
            statement.trim().to_owned(),
            inverse,
        ));
        self.looks_at_rows(way);
        Ok(())
    }

    pub(super) async fn drop_constraint(
        &mut self,
        trial: &Trial,
        table: &Table,
        name: &str,
        action: &Action,
        way: &mut Way,
    ) -> Result<()> {
        let sql = format!(
            "SELECT pg_get_constraintdef(oid), contype::text, convalidated, confrelid::bigint FROM pg_constraint WHERE conrelid = {} AND conname = {}",
            table.oid,
            text(&unquoted(name))
        );
        let row = first(self.connection, sql).await?;
        if row.is_none() && action.text.to_uppercase().contains("IF EXISTS") {
            return Ok(());
        }
        let row = row.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no constraint {name} on {}", table.name))
        })?;
        let (definition, kind, is_valid): (String, String, bool) =
            (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        trial.alter(self.connection, &format!("DROP CONSTRAINT IF EXISTS {name}")).await?;
        way.changes.push(format!("constraint {name} is dropped: {definition}"));
        if action.text.to_uppercase().ends_with("CASCADE") {
            way.impossible
                .get_or_insert("DROP CONSTRAINT … CASCADE: drop what depends on it first".to_owned());
        }
        let mut inverse = String::new();
        if kind == "f" && table.is_partitioned() && self.version < 180_000 {
            way.no_way_back.get_or_insert(format!(
                "before PostgreSQL 18 the foreign key {name} of a partitioned table could only come back with a look at every row under a lock"
            ));
        } else if matches!(kind.as_str(), "c" | "f") {
            let not_valid = if definition.ends_with("NOT VALID") { "" } else { " NOT VALID" };
            inverse = alter(table, &format!("ADD CONSTRAINT {name} {definition}{not_valid}"));
            if is_valid {
                way.steps.push(long(
                    format!("remember that {name} holds for every row"),
                    table,
                    "-- nothing is done on the way there".to_owned(),
                    alter(table, &format!("VALIDATE CONSTRAINT {name}")),
                ));
            }
        } else {
            way.no_way_back.get_or_insert(format!("the index of {name} would have to be built under a lock"));
        }
        let dropped = recorded(format!("drop constraint {name}"), table, alter(table, &action.text), inverse);
        let referred: i64 = get(&row, 3)?;
        if kind == "f" {
            way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table that is referred to"));
            way.steps.push(locking(dropped, &[referred]));
        } else {
            way.steps.push(dropped);
        }
        way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
        Ok(())
    }

    /// Whether an index begins with the columns of a foreign key.
    async fn see_index_of_key(&mut self, table: &Table, added: &Added, way: &mut Way) -> Result<()> {
        let columns = added.text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
        let Some((columns, _)) = columns else { return Ok(()) };
        let names: Vec<String> = columns.split(',').map(|column| text(&unquoted(column.trim()))).collect();
        let indexed = format!(
            "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = {} AND i.indisvalid AND i.indpred IS NULL
             AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM unnest((i.indkey::int[])[0:{}]) AS k
                  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k)
                 = (SELECT array_agg(n ORDER BY n) FROM unnest(ARRAY[{}]) AS n))",
            table.oid,
            names.len() - 1,
            names.join(", ")
        );
        if !is_so(self.connection, indexed).await? {
            way.seen("P135", format!("no index of {} begins with {columns}", table.name));
        }
        Ok(())
    }

    /// The name that the server would give a constraint.
    async fn constraint_name(&mut self, trial: &Trial, added: &Added) -> Result<String> {
        if added.kind == AddedKind::ForeignKey {
            return Err(Error::new(ErrorKind::Usage, "a foreign key needs a name here")
                .hint("write ADD CONSTRAINT name FOREIGN KEY …: it is added and looked at in two steps"));
        }
        let before = constraint_names(self.connection, trial.name()).await?;
        run(self.connection, "SAVEPOINT name").await?;
        trial.alter(self.connection, &format!("ADD {}", added.text)).await?;
        let after = constraint_names(self.connection, trial.name()).await?;
        run(self.connection, "ROLLBACK TO SAVEPOINT name").await?;
        let name = after.into_iter().find(|name| !before.contains(name));
        name.map(|name| ident(&name))
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a constraint was made and is not there"))
    }
}

/// Those of a copy.
pub async fn constraint_names(connection: &mut Conn, copy: &str) -> Result<Vec<String>> {
    let sql = format!("SELECT conname::text FROM pg_constraint WHERE conrelid = to_regclass({})", text(copy));
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}
