//! A table becomes a partition, and a partition a table of its own, while others read and write.
//!
//! The server would look at every row under its lock, to see that it is within the bounds. A CHECK that says the same,
//! looked at beforehand while others write, saves it that; and so do indexes, keys and constraints of the parent that are
//! there already.

use replank_core::ident::stable_hash;
use replank_core::plan::{Draft, Strategy, Unfit};
use replank_core::{Error, ErrorKind, Result};

use super::bounds::{self, Bounds, DefaultPartition};
use super::step::{Kind, NOTHING, locking, locking_back, long, recorded, step};
use super::{Drafting, Way, catalogue_lock, gentle_lock, nothing};
use crate::inspect::{Index, Table, indexes};
use crate::parse::{Added, AddedKind, CreateIndex};
use crate::shape::shape;
use crate::sql::{first, get, is_so, rows};
use crate::trial::Trial;

impl Drafting<'_> {
    pub(super) async fn attach(
        &mut self,
        text: &str,
        parent: &Table,
        child: &str,
        bound: &str,
    ) -> Result<Draft> {
        refuse_plain(parent)?;
        let child = self.table(child).await?;
        let mut way = Way {
            strategy: Strategy::NativeOnline,
            reason: "the server looks at the rows while others read and write, and believes it afterwards"
                .to_owned(),
            undo: "`revert` detaches it, and takes off what was added to it for this".to_owned(),
            ..nothing()
        };
        if child.is_partitioned() {
            way.impossible =
                Some(format!("{} is partitioned itself: attach its partitions, one by one", child.name));
        }
        if self.is_captured(&child).await? {
            let why = "triggers of an earlier run log the keys of this table: make that run final first";
            way.impossible.get_or_insert(why.to_owned());
        }
        let trial = Trial::begin(self.connection, &child).await?;
        let bounds = bounds::tried(self.connection, parent, bound).await?;
        let default = bounds::default_of(self.connection, parent).await?;
        self.like_its_parent(&trial, parent, &child, &mut way).await?;
        if !bounds::is_believed(self.connection, trial.name(), bound, &bounds).await? {
            way.impossible.get_or_insert(
                "the server would look at every row under its lock, whatever CHECK there is: it does so for a hash of text"
                    .to_owned(),
            );
        }
        trial.end(self.connection).await?;
        way.changes.push(format!("{} becomes a partition of {}: {bound}", child.name, parent.name));
        let ready = self.within_bounds(&child, &bounds, &mut way).await?;
        let cleared = match &default {
            Some(default) => self.out_of_default(default, &bounds, &mut way).await?,
            None => None,
        };
        let mut statement =
            format!("ALTER TABLE {} ATTACH PARTITION {} {bound}", parent.full_name(), child.full_name());
        for (table, helper) in ready.iter().chain(&cleared) {
            statement.push_str(&format!("; ALTER TABLE {table} DROP CONSTRAINT {helper}"));
        }
        let mut inverse =
            format!("ALTER TABLE {} DETACH PARTITION {}", parent.full_name(), child.full_name());
        if self.is_referred_to(parent).await? {
            inverse.clear();
            way.no_way_back = Some(referred_to(parent));
        }
        let attached = recorded(format!("attach {}", child.name), child.oid, statement, inverse);
        let mut others: Vec<i64> = default.iter().map(|default| default.oid).collect();
        others.extend(self.referred_to(parent).await?);
        way.steps.push(locking_back(locking(attached, &others), &[parent.oid]));
        way.seen("P126", format!("every row of {} would be looked at under a lock", child.name));
        way.locks.push(gentle_lock(&format!("SHARE UPDATE EXCLUSIVE on {}", parent.name)));
        way.locks.push(catalogue_lock(&format!("ACCESS EXCLUSIVE on {}", child.name)));
        self.finish(text, parent, Some(way), None).await
    }

    async fn is_referred_to(&mut self, parent: &Table) -> Result<bool> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = {})",
            parent.oid
        );
        is_so(self.connection, sql).await
    }

    /// Tables that foreign keys of the parent refer to: they get a trigger for each partition.
    async fn referred_to(&mut self, parent: &Table) -> Result<Vec<i64>> {
        let sql = format!(
            "SELECT DISTINCT confrelid::bigint FROM pg_constraint WHERE contype = 'f' AND conrelid = {}",
            parent.oid
        );
        rows(self.connection, sql).await?.iter().map(|row| get(row, 0)).collect()
    }

    /// What the parent has and the server would otherwise build or look at while it attaches.
    async fn like_its_parent(
        &mut self,
        trial: &Trial,
        parent: &Table,
        child: &Table,
        way: &mut Way,
    ) -> Result<()> {
        let lacking = format!(
            "SELECT quote_ident(p.attname) FROM pg_attribute p JOIN pg_attribute c USING (attname)
             WHERE p.attrelid = {} AND c.attrelid = {} AND p.attnum > 0 AND p.attnotnull AND NOT c.attnotnull",
            parent.oid, child.oid
        );
        for row in rows(self.connection, lacking).await? {
            self.set_not_null(trial, child, &get::<String>(&row, 0)?, way).await?;
        }
        for added in self.lacking_constraints(parent, child).await? {
            self.add_constraint(trial, child, &added, way).await?;
        }
        let own = indexes(self.connection, &format!("i.indrelid = {} AND i.indisvalid", child.oid)).await?;
        for wanted in indexes(self.connection, &format!("i.indrelid = {}", parent.oid)).await? {
            let is_like = |index: &Index| {
                shape(&index.definition) == shape(&wanted.definition)
                    && (wanted.constraint.is_none() || index.constraint.is_some())
            };
            if own.iter().any(is_like) {
                continue;
            }
            match &wanted.constraint {
                Some(constraint) => {
                    let added = self.as_added(parent, constraint).await?;
                    self.add_constraint(trial, child, &added, way).await?;
                }
                None => {
                    let made = self.create_index_on(trial, child, &like(child, &wanted)).await?;
                    way.steps.extend(made.steps);
                    way.changes.extend(made.changes);
                    way.evidence.collisions.extend(made.evidence.collisions);
                }
            }
        }
        Ok(())
    }

    /// CHECKs and foreign keys of the parent that the child has not.
    async fn lacking_constraints(&mut self, parent: &Table, child: &Table) -> Result<Vec<Added>> {
        let sql = format!(
            "SELECT quote_ident(conname), pg_get_constraintdef(oid), contype = 'f', confrelid::regclass::text
             FROM pg_constraint p WHERE conrelid = {0} AND NOT connoinherit
             AND (contype = 'c' AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = {1} AND c.conname = p.conname)
                  OR contype = 'f' AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = {1} AND c.convalidated
                                                   AND pg_get_constraintdef(c.oid) = pg_get_constraintdef(p.oid)))
             ORDER BY conname",
            parent.oid, child.oid
        );
        let found = rows(self.connection, sql).await?;
        found
            .iter()
            .map(|row| {
                let is_key: bool = get(row, 2)?;
                let (text, refers_to): (String, String) = (get(row, 1)?, get(row, 3)?);
                Ok(Added {
                    name: Some(get(row, 0)?),
                    not_valid: text.ends_with("NOT VALID"),
                    text,
                    kind: if is_key { AddedKind::ForeignKey } else { AddedKind::Check },
                    refers_to: is_key.then_some(refers_to),
                })
            })
            .collect()
    }

    /// A key of the parent, to be added to the child.
    async fn as_added(&mut self, parent: &Table, constraint: &str) -> Result<Added> {
        let sql = format!(
            "SELECT pg_get_constraintdef(oid), contype::text FROM pg_constraint WHERE conrelid = {} AND conname = {}",
            parent.oid,
            crate::sql::text(constraint)
        );
        let row = first(self.connection, sql).await?;
        let row =
            row.ok_or_else(|| Error::new(ErrorKind::ForeignDdl, format!("constraint {constraint} is gone")))?;
        let kind = match get::<String>(&row, 1)?.as_str() {
            "p" => AddedKind::PrimaryKey,
            "u" => AddedKind::Unique,
            _ => AddedKind::Exclude,
        };
        Ok(Added { name: None, text: get(&row, 0)?, kind, not_valid: false, refers_to: None })
    }

    /// A CHECK that says what the bounds say; answers with the table that has it, and its name.
    async fn within_bounds(
        &mut self,
        child: &Table,
        bounds: &Bounds,
        way: &mut Way,
    ) -> Result<Option<(String, String)>> {
        let Some(condition) = &bounds.condition else { return Ok(None) };
        let outside = format!("SELECT EXISTS (SELECT FROM {} WHERE NOT ({condition}))", child.full_name());
        if is_so(self.connection, outside).await? {
            let what = format!("rows of {} are out of the bounds", child.name);
            way.evidence.unfit.push(Unfit { what, rows: 1, samples: Vec::new() });
        }
        let name = helper(child.oid, "bounds");
        hold(
            way,
            child.oid,
            &child.full_name(),
            &name,
            condition,
            &format!("rows of {} within the bounds", child.name),
        );
        Ok(Some((child.full_name(), name)))
    }

    /// A CHECK on the default partition, which the server would look through otherwise.
    pub(super) async fn out_of_default(
        &mut self,
        default: &DefaultPartition,
        bounds: &Bounds,
        way: &mut Way,
    ) -> Result<Option<(String, String)>> {
        let Some(own) = &bounds.own else { return Ok(None) };
        let inside = format!("SELECT EXISTS (SELECT FROM {} WHERE {own})", default.full_name);
        if is_so(self.connection, inside).await? {
            let what = format!("rows of the default partition {} are within the bounds", default.full_name);
            way.evidence.unfit.push(Unfit { what, rows: 1, samples: Vec::new() });
        }
        way.changes.push(format!(
            "until it is attached, {} takes no row that is within the bounds: whoever writes one is turned away",
            default.full_name
        ));
        let name = helper(default.oid, "default");
        let condition = format!("NOT ({own})");
        hold(
            way,
            default.oid,
            &default.full_name,
            &name,
            &condition,
            "rows of the default partition out of the bounds",
        );
        way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the default partition"));
        Ok(Some((default.full_name.clone(), name)))
    }

    pub(super) async fn detach(&mut self, text: &str, parent: &Table, child: &str) -> Result<Draft> {
        refuse_plain(parent)?;
        let child = self.table(child).await?;
        let sql = format!(
            "SELECT pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending, pg_get_partition_constraintdef(c.oid)
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = {} AND i.inhrelid = {}",
            parent.oid, child.oid
        );
        let Some(row) = first(self.connection, sql).await? else {
            let what = format!("{} is no partition of {}", child.name, parent.name);
            return Err(Error::new(ErrorKind::NotFound, what));
        };
        let (bound, is_pending): (String, bool) = (get(&row, 0)?, get(&row, 1)?);
        let default = bounds::default_of(self.connection, parent).await?;
        let mut way = Way {
            changes: vec![format!("{} is no partition of {} any more: {bound}", child.name, parent.name)],
            strategy: Strategy::NativeOnline,
            ..nothing()
        };
        if self.is_referred_to(parent).await? {
            way.impossible = Some(referred_to(parent));
        }
        way.seen("P126", format!("whoever uses {} would wait", parent.name));
        let detach = format!("ALTER TABLE {} DETACH PARTITION {}", parent.full_name(), child.full_name());
        let attach =
            format!("ALTER TABLE {} ATTACH PARTITION {} {bound}", parent.full_name(), child.full_name());
        let title = format!("detach {}", child.name);
        if default.is_some() && !is_pending {
            // The server refuses CONCURRENTLY there.
            way.reason =
                "only the catalogue changes; there is a default partition, so not CONCURRENTLY".to_owned();
            way.no_way_back = Some("the default partition takes rows of its bounds from then on".to_owned());
            way.locks.push(catalogue_lock(&format!(
                "ACCESS EXCLUSIVE on {}, {} and the default partition",
                parent.name, child.name
            )));
            let mut others = vec![parent.oid];
            others.extend(default.map(|default| default.oid));
            way.steps.push(locking(recorded(title, child.oid, detach, String::new()), &others));
            return self.finish(text, parent, Some(way), None).await;
        }
        way.reason = "the server detaches it while others read and write".to_owned();
        way.undo = "`revert` attaches it again, without a look at its rows: a CHECK keeps the bounds until `finalize`".to_owned();
        if let (Some(condition), false) = (get::<Option<String>>(&row, 2)?, is_pending) {
            let name = helper(child.oid, "bounds");
            let what = format!("rows of {} within the bounds, for the way back", child.name);
            hold(&mut way, child.oid, &child.full_name(), &name, &condition, &what);
            if let Some(held) = way.steps.first_mut() {
                held.finalize.clone_from(&held.inverse);
            }
        }
        way.locks.push(gentle_lock(&format!("SHARE UPDATE EXCLUSIVE on {}", parent.name)));
        way.locks.push(catalogue_lock(&format!("ACCESS EXCLUSIVE on {}", child.name)));
        let kind = Kind::Detached {
            parent: parent.oid,
            name: child.full_name(),
            rest: format!("{detach} FINALIZE"),
        };
        let detached = step(title, child.oid, format!("{detach} CONCURRENTLY"), attach, kind, String::new());
        way.steps.push(locking(detached, &[parent.oid]));
        self.finish(text, parent, Some(way), None).await
    }
}

/// Holds a condition for all writes to come, then against the rows that are there.
fn hold(way: &mut Way, oid: i64, table: &str, name: &str, condition: &str, what: &str) {
    way.steps.push(recorded(
        format!("keep {what}"),
        oid,
        format!("ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"),
        format!("ALTER TABLE IF EXISTS {table} DROP CONSTRAINT IF EXISTS {name}"),
    ));
    way.steps.push(long(
        format!("look for {what}"),
        oid,
        format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"),
        NOTHING.to_owned(),
    ));
}

/// Why a partition cannot be detached.
fn referred_to(parent: &Table) -> String {
    format!(
        "foreign keys refer to {}, and to detach a partition of it the server would look at every row that has them under a lock",
        parent.name
    )
}

fn helper(oid: i64, what: &str) -> String {
    format!("_rp_{:08x}_{what}", stable_hash(&format!("{oid} {what}")) >> 32)
}

/// An index of the parent, to be built on the child under a name that the server would give it.
fn like(child: &Table, wanted: &Index) -> CreateIndex {
    let shape = shape(&wanted.definition);
    let tail = shape.strip_prefix("UNIQUE ");
    CreateIndex {
        name: None,
        table: child.full_name(),
        only: false,
        is_unique: tail.is_some(),
        if_not_exists: false,
        is_concurrent: true,
        tail: tail.unwrap_or(&shape).to_owned(),
    }
}

fn refuse_plain(parent: &Table) -> Result<()> {
    match parent.is_partitioned() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Usage, format!("{} is not partitioned", parent.name))),
    }
}
