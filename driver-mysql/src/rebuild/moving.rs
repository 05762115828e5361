//! Foreign keys and triggers follow the live name: under the swap's lock, each step known to the journal before the
//! first is made, and all of them made good by [`super::mend`] when the process ends in between.
//!
//! Invariants:
//! - While rows are copied and changes applied, the table that is not live has neither: a reverse write would fire a
//!   trigger once more, and a table that lags would refuse what the live one allows.
//! - Under the lock nobody sees the steps in between, and rows are equal on both sides: no key needs a scan.
//! - MySQL renames under the lock, so the new keys are added under names of ours before anything is dropped: wherever
//!   a process ends, every key is on. MariaDB renames behind the lock, and whoever comes between must find the keys as
//!   they will be: they are moved in front of the rename, and one can be off when a process ends there.
//! - Names are unique in a database. What the server names itself (`orders_ibfk_1`) follows a table's name, so the last
//!   step gives every key its own name again.
//! - An index that the server made for a key is not made anew: MySQL would, with every key that is added over the same
//!   columns, and writers would wait for it. One that has been renamed counts as the person's own, so such indexes have
//!   another name for the time being.

use replank_core::engine::boundary::{Boundary, reached};
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{Core, exists};
use crate::attached::{Attached, Inbound, Trigger, pointing_at, trigger_names};
use crate::connect::{Conn, Product};
use crate::definition;
use crate::foreign_key::{ForeignKey, column_names, foreign_keys};
use crate::lines::items;
use crate::spec::Side;
use crate::sql::{ident, run, table};
use crate::state::ObjectRole;

/// In front of our statements about tables that are not ours: the feed knows them by it.
pub const MARK: &str = "/* _rp_ */";
/// The journal's record, which is no table's.
const RECORD: &str = "-";

/// Which shape is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// That of before.
    Old,
    /// That of the change.
    New,
}

impl Shape {
    /// What the other table is while this one is live.
    pub fn role_of_other(self) -> ObjectRole {
        match self {
            Self::Old => ObjectRole::Shadow,
            Self::New => ObjectRole::Retired,
        }
    }
}

/// A table with a foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Holder {
    /// The original table, under whatever name.
    Original,
    /// Another: database and name.
    Child((String, String)),
}

/// What the journal knows of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// What hung on the name before.
    pub attached: Attached,
    /// Indexes that may be the server's own for a key: their names, each with its table.
    indexes: Vec<(Holder, String)>,
    /// A key was off while applications wrote: there may be rows without a parent.
    #[serde(default)]
    pub has_gap: bool,
}

impl Move {
    /// Reads what else has to be known, besides what hangs on the name.
    pub async fn planned(core: &Core, connection: &mut Conn, attached: Attached) -> Result<Self> {
        let mut indexes = Vec::new();
        let own = core.own_keys(Shape::Old);
        indexes.extend(made_for(&core.spec.old.sql, &own).into_iter().map(|name| (Holder::Original, name)));
        for (child, keys) in by_child(&attached.inbound) {
            let sql = definition::read(connection, &child.0, &child.1).await?.unwrap_or_default();
            let keys: Vec<ForeignKey> = keys.into_iter().map(|(_, key)| key.clone()).collect();
            let found = made_for(&sql, &keys).into_iter();
            indexes.extend(found.map(|name| (Holder::Child(child.clone()), name)));
        }
        Ok(Self { attached, indexes, has_gap: false })
    }

    /// The indexes of a table, each with its name and the one that it has for the time being.
    fn indexes_of(&self, core: &Core, holder: &Holder) -> Vec<Renamed<'_>> {
        let all = self.indexes.iter().enumerate().filter(|(_, (of, _))| of == holder);
        all.map(|(at, (_, own))| Renamed { own, brief: format!("{}i{at}", core.brief()) }).collect()
    }
}

/// An index that has another name while keys move.
struct Renamed<'a> {
    own: &'a str,
    brief: String,
}

impl Renamed<'_> {
    fn away(&self) -> String {
        format!("RENAME INDEX {} TO {}", ident(self.own), ident(&self.brief))
    }

    fn back(&self) -> String {
        format!("RENAME INDEX {} TO {}", ident(&self.brief), ident(self.own))
    }
}

impl std::fmt::Display for Move {
    /// What stands in `status` while nobody works on the run.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tables = self.attached.inbound.iter().map(|it| format!("`{}`", it.table));
        let triggers = self.attached.triggers.iter().map(|it| format!("`{}`", it.name));
        let named = |what: &str, names: Vec<String>| match names.is_empty() {
            true => String::new(),
            false => format!(", {what} {}", names.join(", ")),
        };
        write!(
            f,
            "a swap was interrupted while foreign keys and triggers moved{}{}: some may hang on the other table until the \
             next command on the run",
            named("keys of", tables.collect()),
            named("triggers", triggers.collect())
        )
    }
}

/// The names of indexes over just a key's columns that the server may have made for it.
fn made_for(sql: &str, keys: &[ForeignKey]) -> Vec<String> {
    let lines = items(sql).into_iter().filter_map(|line| {
        let (name, columns) = line.strip_prefix("KEY `")?.split_once("` (")?;
        Some((name.replace("``", "`"), column_names(&format!("({columns}"))))
    });
    lines
        .filter(|(name, columns)| {
            keys.iter().any(|key| {
                let own = column_names(&key.columns);
                let first = own.first().cloned().unwrap_or_default();
                own == *columns && (*name == key.name || name.starts_with(&first))
            })
        })
        .map(|(name, _)| name)
        .collect()
}

impl Core {
    fn side(&self, shape: Shape) -> &Side {
        match shape {
            Shape::Old => &self.spec.old,
            Shape::New => &self.spec.new,
        }
    }

    /// The live table's own keys when that shape is live.
    pub(super) fn own_keys(&self, shape: Shape) -> Vec<ForeignKey> {
        foreign_keys(&self.side(shape).sql)
    }

    fn is_self(&self, key: &ForeignKey) -> bool {
        key.points_at(self.schema(), self.schema(), &self.job.table.name)
    }

    /// In front of the names of keys that are there for moments only.
    fn brief(&self) -> String {
        format!("_rp_{}_", self.job.run.short())
    }

    /// The shape that is live before the swap of this direction, and the one that is written.
    pub(super) fn shapes(&self) -> (Shape, Shape) {
        match self.job.direction {
            Direction::Forward => (Shape::Old, Shape::New),
            Direction::Reverse => (Shape::New, Shape::Old),
        }
    }

    /// Whether anything has to follow the name.
    pub(super) fn follows(&self, attached: &Attached) -> bool {
        !attached.is_empty() || [Shape::Old, Shape::New].iter().any(|shape| !self.own_keys(*shape).is_empty())
    }

    /// Tables that keys join with the live one, each once: databases and names.
    pub(super) async fn joined(
        &self,
        connection: &mut Conn,
        inbound: &[Inbound],
    ) -> Result<Vec<(String, String)>> {
        let own = self.own_keys(Shape::Old).into_iter().chain(self.own_keys(Shape::New));
        let own = own.filter(|key| !self.is_self(key));
        let mut found: Vec<(String, String)> = own
            .map(|key| (key.schema.unwrap_or_else(|| self.schema().to_owned()), key.table))
            .chain(inbound.iter().map(|it| (it.schema.clone(), it.table.clone())))
            .collect();
        found.sort();
        found.dedup();
        let mut there = Vec::new();
        for (schema, name) in found {
            if exists(connection, &schema, &name).await? {
                there.push((schema, name));
            }
        }
        Ok(there)
    }

    /// Whether what hangs on the name is still what was read before the lock. Asked by the session that has it.
    pub(super) async fn is_attached(&self, connection: &mut Conn, attached: &Attached) -> Result<bool> {
        let (schema, live) = (self.schema(), &self.job.table.name);
        let names = attached.triggers.iter().map(|trigger| trigger.name.as_str());
        if !names.eq(trigger_names(connection, schema, live).await?.iter().map(String::as_str)) {
            return Ok(false);
        }
        Ok(pointing_at(connection, &self.spec.file).await? == attached.inbound.len() as u64)
    }
}

/// Writes down what is about to move.
pub async fn note(core: &Core, aside: &mut Conn, this: &Move) -> Result<()> {
    let extra = serde_json::to_value(this).map_err(|error| {
        Error::new(ErrorKind::Internal, "a move cannot be written as JSON").caused_by(error)
    })?;
    core.objects.put(aside, ObjectRole::Moving, RECORD, &extra).await
}

/// A move that was begun and may not have ended.
pub async fn noted(core: &Core, aside: &mut Conn) -> Result<Option<Move>> {
    let Some(object) = core.objects.one(aside, ObjectRole::Moving).await? else { return Ok(None) };
    let read = serde_json::from_value(object.extra);
    read.map(Some).map_err(|error| {
        Error::new(ErrorKind::Server, "the record of keys and triggers that move cannot be read")
            .caused_by(error)
    })
}

/// It has ended.
pub async fn forget(core: &Core, aside: &mut Conn) -> Result<()> {
    core.objects.remove(aside, ObjectRole::Moving, RECORD).await
}

/// What has to be done before the rename, on the session that holds the lock.
pub async fn begin(core: &Core, locked: &mut Conn, aside: &mut Conn, this: &Move) -> Result<()> {
    note(core, aside, this).await?;
    reached(Boundary::Moving);
    let attached = &this.attached;
    let (from, to) = core.shapes();
    let written = (core.written_home().to_owned(), core.written_name());
    let own = core.own_keys(to);
    let freed = match to {
        Shape::Old if !own.is_empty() => this.indexes_of(core, &Holder::Original),
        // The new table's indexes are all the person's own: they were made by name.
        _ => Vec::new(),
    };
    let mut added: Vec<String> = freed.iter().map(Renamed::away).collect();
    let mut steps = Vec::new();
    match locked.product() {
        Product::MySql => {
            let brief = |at: usize| format!("{}o{at}", core.brief());
            added.extend(own.iter().enumerate().map(|(at, key)| add(core, key, &brief(at), &written)));
            steps.push(alter(&written, added));
            for (child, keys) in by_child(&attached.inbound) {
                let freed = this.indexes_of(core, &Holder::Child(child.clone()));
                let mut clauses: Vec<String> = freed.iter().map(Renamed::away).collect();
                clauses.extend(keys.iter().map(|(at, key)| {
                    format!("ADD {}", key.clause(&format!("{}c{at}", core.brief()), &written.0, &written.1))
                }));
                steps.push(alter(&child, clauses));
            }
        }
        Product::MariaDb => {
            let live = (core.schema().to_owned(), core.job.table.name.clone());
            steps.push(alter(&live, core.own_keys(from).iter().map(|key| drop_key(&key.name)).collect()));
            added.extend(own.iter().map(|key| add(core, key, &key.name, &written)));
            steps.push(alter(&written, added));
            steps.push(alter(&written, freed.iter().map(Renamed::back).collect()));
            for (child, keys) in by_child(&attached.inbound) {
                let freed = this.indexes_of(core, &Holder::Child(child.clone()));
                let dropped = keys.iter().map(|(_, key)| drop_key(&key.name));
                steps.push(alter(&child, freed.iter().map(Renamed::away).chain(dropped).collect()));
                let added = keys
                    .iter()
                    .map(|(_, key)| format!("ADD {}", key.clause(&key.name, &written.0, &written.1)));
                steps.push(alter(&child, freed.iter().map(Renamed::back).chain(added).collect()));
            }
        }
    }
    let mut steps: Vec<Step> = steps.into_iter().flatten().collect();
    for trigger in &attached.triggers {
        steps.push(drop_trigger(core.schema(), &trigger.name));
        // A table with triggers cannot be renamed into another database: then they are made behind the rename.
        if written.0 == core.schema() {
            steps.push(Step::Create { trigger: trigger.clone(), on: written.1.clone() });
        }
    }
    carry_out(core, locked, &steps).await
}

/// A statement of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Just as it stands.
    Run(String),
    /// On a table in the live one's database.
    Create {
        /// Which.
        trigger: Trigger,
        /// That table.
        on: String,
    },
}

impl Step {
    /// Whether it gives applications a key that was off.
    fn closes_gap(&self) -> bool {
        matches!(self, Self::Run(sql) if sql.contains(" ADD CONSTRAINT ") && !sql.contains(" DROP FOREIGN KEY "))
    }
}

/// Whether a key was off before these steps.
pub fn have_gap(steps: &[Step]) -> bool {
    steps.iter().any(Step::closes_gap)
}

/// Carries steps out, in their order.
pub async fn carry_out(core: &Core, connection: &mut Conn, steps: &[Step]) -> Result<()> {
    for step in steps {
        match step {
            Step::Run(sql) => run(connection, sql).await.map(drop)?,
            Step::Create { trigger, on } => trigger.create(connection, core.schema(), on).await?,
        }
        reached(Boundary::Moving);
    }
    Ok(())
}

/// What is missing until everything hangs on the live table that shall, and nothing on the other, as the catalogue has
/// it now. Once all of it is carried out, this finds nothing.
pub async fn steps_left(
    core: &Core,
    connection: &mut Conn,
    shape: Shape,
    other: Option<&(String, String)>,
    this: &Move,
) -> Result<Vec<Step>> {
    let live = (core.schema().to_owned(), core.job.table.name.clone());
    let attached = &this.attached;
    let mut steps = Vec::new();
    let original = this.indexes_of(core, &Holder::Original);
    if let Some(other) = other {
        let sql = definition::read(connection, &other.0, &other.1).await?.unwrap_or_default();
        let keys: Vec<String> = foreign_keys(&sql).into_iter().map(|key| key.name).collect();
        let indexes = if shape == Shape::New { original.as_slice() } else { &[] };
        steps.extend(rehung(core, other, &sql, indexes, &keys, Vec::new()));
        for name in trigger_names(connection, &other.0, &other.1).await? {
            if attached.triggers.iter().any(|trigger| trigger.name == name) {
                steps.push(drop_trigger(&other.0, &name));
            }
        }
    }
    let sql = definition::read(connection, &live.0, &live.1).await?.unwrap_or_default();
    let present = foreign_keys(&sql);
    let wanted = core.own_keys(shape);
    let missing = wanted.iter().filter(|key| !present.iter().any(|it| it.name == key.name));
    let missing = missing.map(|key| add(core, key, &key.name, &live)).collect();
    let indexes = if shape == Shape::Old { original.as_slice() } else { &[] };
    steps.extend(rehung(core, &live, &sql, indexes, &[], missing));
    for (child, keys) in by_child(&attached.inbound) {
        let Some(sql) = definition::read(connection, &child.0, &child.1).await? else { continue };
        let present = foreign_keys(&sql);
        let is_right = |key: &&ForeignKey| {
            present.iter().any(|it| it.name == key.name && it.points_at(&child.0, &live.0, &live.1))
        };
        let wrong: Vec<&ForeignKey> = keys.iter().map(|(_, key)| *key).filter(|key| !is_right(key)).collect();
        let dropped = wrong.iter().filter(|key| present.iter().any(|it| it.name == key.name));
        let dropped: Vec<String> = dropped.map(|key| key.name.clone()).collect();
        let added = wrong.iter().map(|key| format!("ADD {}", key.clause(&key.name, &live.0, &live.1)));
        let indexes = this.indexes_of(core, &Holder::Child(child.clone()));
        steps.extend(rehung(core, &child, &sql, &indexes, &dropped, added.collect()));
    }
    let there = trigger_names(connection, &live.0, &live.1).await?;
    for trigger in attached.triggers.iter().filter(|trigger| !there.contains(&trigger.name)) {
        steps.push(Step::Create { trigger: trigger.clone(), on: live.1.clone() });
    }
    Ok(steps)
}

/// Keys of a table dropped, added, and rid of what was there for moments only; `sql` is its definition now. One name
/// cannot be dropped and added by one statement, so there may be two.
fn rehung(
    core: &Core,
    of: &(String, String),
    sql: &str,
    indexes: &[Renamed<'_>],
    dropped: &[String],
    added: Vec<String>,
) -> Vec<Step> {
    let has_index =
        |name: &str| items(sql).iter().any(|line| line.starts_with(&format!("KEY {} ", ident(name))));
    let mut first: Vec<String> = dropped.iter().map(|name| drop_key(name)).collect();
    let mut second: Vec<String> = foreign_keys(sql)
        .iter()
        .filter(|key| key.name.starts_with(&core.brief()) && !dropped.contains(&key.name))
        .map(|key| drop_key(&key.name))
        .collect();
    for index in indexes {
        let is_to_be_freed = !added.is_empty() && has_index(index.own);
        if is_to_be_freed {
            first.push(index.away());
        }
        if is_to_be_freed || has_index(&index.brief) {
            second.push(index.back());
        }
    }
    second.extend(added);
    [alter(of, first), alter(of, second)].into_iter().flatten().collect()
}

/// One statement for all of a table; none for nothing.
fn alter(of: &(String, String), clauses: Vec<String>) -> Option<Step> {
    let all = clauses.join(", ");
    let name = table(&of.0, &of.1);
    (!clauses.is_empty()).then(|| Step::Run(format!("{MARK} ALTER TABLE {name} {all}, ALGORITHM = INPLACE")))
}

/// A key of the live table's shape on a table that is, or will be, the live one.
fn add(core: &Core, key: &ForeignKey, name: &str, on: &(String, String)) -> String {
    let clause = match core.is_self(key) {
        true => key.clause(name, &on.0, &on.1),
        false => key.clause(name, key.schema.as_deref().unwrap_or(core.schema()), &key.table),
    };
    format!("ADD {clause}")
}

fn drop_key(name: &str) -> String {
    format!("DROP FOREIGN KEY {}", ident(name))
}

fn drop_trigger(schema: &str, name: &str) -> Step {
    Step::Run(format!("{MARK} DROP TRIGGER {}", table(schema, name)))
}

type OfChild<'a> = ((String, String), Vec<(usize, &'a ForeignKey)>);

/// Keys by the table that has them, each with its number among all.
fn by_child(inbound: &[Inbound]) -> Vec<OfChild<'_>> {
    let mut found: Vec<OfChild<'_>> = Vec::new();
    for (at, it) in inbound.iter().enumerate() {
        let child = (it.schema.clone(), it.table.clone());
        match found.last_mut().filter(|(last, _)| *last == child) {
            Some((_, keys)) => keys.push((at, &it.key)),
            None => found.push((child, vec![(at, &it.key)])),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_key_that_comes_where_none_goes() {
        let step = |sql: &str| Step::Run(sql.to_owned());
        assert!(have_gap(&[step("ALTER TABLE t ADD CONSTRAINT `k` FOREIGN KEY (`a`) REFERENCES `p` (`b`)")]));
        assert!(!have_gap(&[
            step("ALTER TABLE t DROP FOREIGN KEY `k`"),
            step(
                "ALTER TABLE t DROP FOREIGN KEY `_rp_1`, ADD CONSTRAINT `k` FOREIGN KEY (`a`) REFERENCES `p` (`b`)"
            ),
        ]));
    }

    #[test]
    fn indexes_that_the_server_made_for_a_key_are_told_by_name_and_columns() {
        let sql = "CREATE TABLE `t` (\n  `a` int,\n  KEY `k` (`a`,`b`),\n  KEY `a_2` (`a`),\n  KEY `mine` (`a`),\n  KEY `b` (`b`),\n  UNIQUE KEY `a` (`a`)\n) ENGINE";
        let key = |columns: &str| {
            ForeignKey::read(&format!("CONSTRAINT `k` FOREIGN KEY ({columns}) REFERENCES `p` (`x`)"))
                .expect("a key")
        };
        assert_eq!(made_for(sql, &[key("`a`, `b`")]), ["k"]);
        assert_eq!(made_for(sql, &[key("`a`")]), ["a_2"]);
    }

    #[test]
    fn keys_of_one_child_are_together() {
        let inbound = |table: &str, name: &str| Inbound {
            schema: "s".into(),
            table: table.into(),
            key: ForeignKey::read(&format!("CONSTRAINT `{name}` FOREIGN KEY (`a`) REFERENCES `p` (`b`)"))
                .expect("a key"),
        };
        let all = [inbound("a", "1"), inbound("a", "2"), inbound("b", "3")];
        let grouped: Vec<(String, Vec<usize>)> = by_child(&all)
            .into_iter()
            .map(|((_, table), keys)| (table, keys.into_iter().map(|(at, _)| at).collect()))
            .collect();
        assert_eq!(grouped, [("a".to_owned(), vec![0, 1]), ("b".to_owned(), vec![2])]);
    }
}
