//! The partitions of a table, of all levels: as the catalogue has them, and as a plan holds them.
//!
//! A partition is known by what it is a part of and by its bounds: names differ while a table is not live, and numbers
//! are another table's in the trial.

use replank_core::Result;
use serde::{Deserialize, Serialize};

use crate::connect::Conn;
use crate::definition::within_no_path;
use crate::sql::{get, listed, rows};

/// A partition, as a plan holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name, in the table's schema.
    pub name: String,
    /// Which of the partitions it is a part of; none: of the table itself.
    pub parent: Option<usize>,
    /// `FOR VALUES …`, or `DEFAULT`, as the server says it.
    pub bound: String,
    /// How it is partitioned itself.
    pub key: Option<String>,
    /// Its indexes.
    pub indexes: Vec<PartIndex>,
    /// Its constraints, as of [`Part::constraints`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<(String, String)>,
    /// What stands behind `PARTITION OF …` in the statement that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

impl Partition {
    /// For a person.
    pub fn told(&self) -> String {
        let key = self.key.as_ref().map(|key| format!(" partitioned by {key}")).unwrap_or_default();
        format!("partition {} {}{key}", self.name, self.bound)
    }
}

/// An index of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartIndex {
    /// Its name.
    pub name: String,
    /// The index of the table that it is a part of.
    pub of: Option<String>,
    /// It is the partition's own, and keeps a row out for the sake of another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_out: bool,
}

/// A partition, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub oid: i64,
    /// Its name.
    pub name: String,
    /// What it is a part of.
    pub parent: i64,
    /// Its bounds, as the server says them.
    pub bound: String,
    /// How it is partitioned itself.
    pub key: Option<String>,
    /// Its indexes, by name: their numbers change with REINDEX.
    pub indexes: Vec<PartIndex>,
    /// The names of CHECKs, and of NOT NULLs where they have one, that it has by itself, and what they say.
    pub constraints: Vec<(String, String)>,
}

/// The head of a query: `d` has the number of a table, which an expression gives, and those of all its partitions, each with
/// what it is a part of and how far below the table.
pub fn whole(table: &str) -> String {
    format!(
        "WITH RECURSIVE d AS (
             SELECT {table}::oid AS oid, NULL::oid AS parent, 0 AS level
             UNION ALL SELECT h.inhrelid, h.inhparent, d.level + 1 FROM pg_inherits h JOIN d ON h.inhparent = d.oid)"
    )
}

impl Part {
    /// All those of a table, each behind what it is a part of. Inside of a transaction the `search_path` is the session's
    /// own afterwards.
    pub async fn all(connection: &mut Conn, root: i64) -> Result<Vec<Self>> {
        let sql = format!(
            "{}, x AS (
                 SELECT i.indexrelid AS oid, c.relname::text AS root FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 WHERE i.indrelid = {root}
                 UNION ALL SELECT h.inhrelid, x.root FROM pg_inherits h JOIN x ON h.inhparent = x.oid)
             SELECT d.oid::bigint, c.relname::text, d.parent::bigint, coalesce(pg_get_expr(c.relpartbound, c.oid), ''),
                    pg_get_partkeydef(c.oid),
                    (SELECT coalesce(json_agg(json_build_array(ic.relname, x.root, x.root IS NULL AND (i.indisunique OR i.indisexclusion)) ORDER BY ic.relname), '[]')::text
                     FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid LEFT JOIN x ON x.oid = i.indexrelid
                     WHERE i.indrelid = d.oid),
                    (SELECT coalesce(json_agg(json_build_array(o.conname, pg_get_constraintdef(o.oid)) ORDER BY o.conname), '[]')::text
                     FROM pg_constraint o WHERE o.conrelid = d.oid AND o.contype IN ('c', 'n') AND o.coninhcount = 0)
             FROM d JOIN pg_class c ON c.oid = d.oid WHERE d.level > 0 ORDER BY d.level, d.oid",
            whole(&root.to_string())
        );
        rows(connection, within_no_path(&sql))
            .await?
            .iter()
            .map(|row| {
                let indexes: Vec<(String, Option<String>, bool)> = listed(&get::<String>(row, 5)?)?;
                Ok(Self {
                    oid: get(row, 0)?,
                    name: get(row, 1)?,
                    parent: get(row, 2)?,
                    bound: get(row, 3)?,
                    key: get(row, 4)?,
                    indexes: indexes
                        .into_iter()
                        .map(|(name, of, keeps_out)| PartIndex { name, of, keeps_out })
                        .collect(),
                    constraints: listed(&get::<String>(row, 6)?)?,
                })
            })
            .collect()
    }
}

/// Constraints of a partition that has a name of ours, and what each is to be called: those of one text have their names in
/// order. What has no name in the statement that made it was named after the partition.
pub fn to_be_named(made: &[(String, String)], planned: &[(String, String)]) -> Vec<(String, String)> {
    let mut free: Vec<&(String, String)> = planned.iter().filter(|one| !made.contains(one)).collect();
    let mut named = Vec::new();
    for (name, says) in made.iter().filter(|one| !planned.contains(one)) {
        if let Some(at) = free.iter().position(|(_, other)| other == says) {
            named.push((name.clone(), free.remove(at).0.clone()));
        }
    }
    named
}

/// As a plan holds them.
pub fn planned(root: i64, parts: &[Part]) -> Vec<Partition> {
    parts
        .iter()
        .map(|part| Partition {
            name: part.name.clone(),
            parent: (part.parent != root)
                .then(|| parts.iter().position(|other| other.oid == part.parent))
                .flatten(),
            bound: part.bound.clone(),
            key: part.key.clone(),
            indexes: part.indexes.clone(),
            constraints: part.constraints.clone(),
            made_by: None,
        })
        .collect()
}

/// For each partition of a plan the one that there is; or what is there and not in the plan, and the other way round.
pub fn paired<'a>(
    root: i64,
    parts: &'a [Part],
    plan: &[Partition],
) -> std::result::Result<Vec<&'a Part>, (Vec<String>, Vec<String>)> {
    let mut found: Vec<Option<&Part>> = Vec::new();
    let mut gone = Vec::new();
    for wanted in plan {
        let parent = match wanted.parent {
            None => Some(root),
            Some(at) => found.get(at).copied().flatten().map(|part| part.oid),
        };
        let there = parts
            .iter()
            .find(|part| Some(part.parent) == parent && part.bound == wanted.bound && part.key == wanted.key);
        if there.is_none() {
            gone.push(format!("{} {}", wanted.name, wanted.bound));
        }
        found.push(there);
    }
    let is_found = |part: &Part| found.iter().flatten().any(|found| found.oid == part.oid);
    let new: Vec<String> = parts
        .iter()
        .filter(|part| !is_found(part))
        .map(|part| format!("{} {}", part.name, part.bound))
        .collect();
    match gone.is_empty() && new.is_empty() {
        true => Ok(found.into_iter().flatten().collect()),
        false => Err((gone, new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(oid: i64, parent: i64, bound: &str) -> Part {
        Part {
            oid,
            name: format!("p{oid}"),
            parent,
            bound: bound.to_owned(),
            key: None,
            indexes: Vec::new(),
            constraints: Vec::new(),
        }
    }

    #[test]
    fn constraints_get_the_names_that_the_server_would_have_given() {
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(name, says)| ((*name).to_owned(), (*says).to_owned())).collect()
        };
        let made = pairs(&[
            ("_rp_1_id_check", "CHECK (id > 0)"),
            ("_rp_1_id_check1", "CHECK (id > 0)"),
            ("own", "CHECK (n > 0)"),
        ]);
        let planned = pairs(&[
            ("own", "CHECK (n > 0)"),
            ("p_id_check", "CHECK (id > 0)"),
            ("p_id_check1", "CHECK (id > 0)"),
        ]);
        assert_eq!(
            to_be_named(&made, &planned),
            pairs(&[("_rp_1_id_check", "p_id_check"), ("_rp_1_id_check1", "p_id_check1")])
        );
        assert!(to_be_named(&planned, &planned).is_empty());
    }

    #[test]
    fn a_partition_is_known_by_its_place_and_its_bounds() {
        let there = [part(2, 1, "A"), part(3, 1, "B"), part(4, 3, "A")];
        let plan = planned(1, &there);
        assert_eq!(plan.iter().map(|part| part.parent).collect::<Vec<_>>(), [None, None, Some(1)]);
        let renamed = [part(13, 11, "B"), part(12, 11, "A"), part(14, 13, "A")];
        let found = paired(11, &renamed, &plan).expect("the same");
        assert_eq!(found.iter().map(|part| part.oid).collect::<Vec<_>>(), [12, 13, 14]);
        let fewer = paired(1, &there[..2], &plan).expect_err("one is gone");
        assert_eq!(fewer, (vec!["p4 A".to_owned()], Vec::new()));
        let moved = [part(2, 1, "A"), part(3, 1, "B"), part(4, 2, "A")];
        assert_eq!(paired(1, &moved, &plan).expect_err("another place").1, ["p4 A"]);
    }
}
