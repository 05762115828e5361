//! What a partition has by itself, and not from its table: in another shape it is nowhere.

use std::collections::BTreeSet;

use replank_core::Result;

use crate::connect::Conn;
use crate::definition::within_no_path;
use crate::inspect::Table;
use crate::partitions::whole;
use crate::sql::{get, rows, run};

/// What partitions have by themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Rejects rows, which the new shape would take, and can be said there: as a sentence each, with what to do.
    pub rejects: Vec<String>,
    /// Is gone with the shape. A unique index is among it: no shape says one of a partition by itself.
    pub lost: Vec<String>,
}

impl Own {
    /// Reads it of the partitions of a table, for a shape that was made as the table `new`.
    pub async fn read(connection: &mut Conn, table: &Table, new: i64) -> Result<Self> {
        let there: BTreeSet<String> =
            said(connection, new).await?.into_iter().map(|found| found.says).collect();
        let own = said(connection, table.oid).await?;
        Ok(judged(beyond_bounds(connection, table, own).await?, &there))
    }
}

/// One thing that a table has.
struct Found {
    /// The partition; none for the table itself, of which only what rejects rows is asked.
    partition: Option<String>,
    kind: Kind,
    name: String,
    /// What it is, whatever it is called and wherever it stands.
    says: String,
    /// Of a CHECK: its condition, and that of the partition's bounds.
    within: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Rejects a row for what is in it.
    Rejects,
    /// Rejects a row for the sake of another one.
    Unique,
    /// The same, where ON CONFLICT fails with it: the way back could not be written.
    Deferrable,
    /// Rejects nothing.
    Other,
}

fn judged(all: Vec<Found>, there: &BTreeSet<String>) -> Own {
    let mut own = Own::default();
    for Found { partition, kind, name, says, .. } in all {
        let Some(partition) = partition else { continue };
        let is_said = there.contains(&says);
        match kind {
            Kind::Rejects if is_said => {}
            Kind::Rejects => own.rejects.push(format!(
                "partition {partition} takes only rows that meet {name}, {says}, which nothing in the new shape says: add it to the \
                 file, or take it off the partition first"
            )),
            Kind::Deferrable => own.rejects.push(format!(
                "partition {partition} has {name}, {says}, by itself, which may be deferred: take it off the partition first"
            )),
            Kind::Unique if is_said => {}
            Kind::Unique => own.lost.push(format!(
                "{name} of partition {partition}: {says}; what it keeps out comes in from the swap on: make it afterwards"
            )),
            Kind::Other => own.lost.push(format!("{name} of partition {partition}: {says}")),
        }
    }
    own
}

/// Leaves out CHECKs that say no more than the bounds do, such as one that saved ATTACH a look at the rows: the server's planner
/// says so of the two conditions.
async fn beyond_bounds(connection: &mut Conn, table: &Table, all: Vec<Found>) -> Result<Vec<Found>> {
    let mut beyond = Vec::new();
    let made = format!(
        "SET LOCAL constraint_exclusion = on; CREATE TEMPORARY TABLE _rp_own (LIKE {}) ON COMMIT DROP",
        table.full_name()
    );
    run(connection, made).await?;
    for found in all {
        let is_within = match &found.within {
            None => false,
            Some((check, bounds)) => {
                let sql = format!(
                    "EXPLAIN (COSTS off) SELECT FROM pg_temp._rp_own WHERE ({bounds}) AND NOT ({check})"
                );
                let plan = rows(connection, sql).await?;
                let lines: Vec<String> = plan.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
                lines.iter().any(|line| line.trim() == "One-Time Filter: false")
            }
        };
        if !is_within {
            beyond.push(found);
        }
    }
    Ok(beyond)
}

/// What a table's partitions have by themselves, and of the table itself what rejects rows.
async fn said(connection: &mut Conn, root: i64) -> Result<Vec<Found>> {
    let index = "regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || 'USING ')";
    let sql = format!(
        "{}, t AS (SELECT d.oid, d.parent, CASE WHEN d.parent IS NOT NULL THEN c.relname::text END AS name, c.relowner, c.relacl
               FROM d JOIN pg_class c ON c.oid = d.oid)
         SELECT t.name, 'rejects', o.conname::text, pg_get_constraintdef(o.oid), pg_get_expr(o.conbin, t.oid), pg_get_partition_constraintdef(t.oid)
         FROM t JOIN pg_constraint o ON o.conrelid = t.oid
         WHERE o.contype = 'c' AND o.coninhcount = 0
         UNION ALL
         SELECT t.name, CASE WHEN NOT (i.indisunique OR i.indisexclusion) THEN 'other' WHEN i.indimmediate THEN 'unique' ELSE 'deferrable' END,
                c.relname::text, {index}, NULL, NULL FROM t JOIN pg_index i ON i.indrelid = t.oid
         JOIN pg_class c ON c.oid = i.indexrelid
         WHERE NOT c.relispartition AND (t.parent IS NOT NULL OR i.indisunique OR i.indisexclusion)
         UNION ALL
         SELECT t.name, 'rejects', a.attname::text, format('%I NOT NULL', a.attname), NULL, NULL FROM t JOIN pg_attribute a ON a.attrelid = t.oid
         WHERE a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
         AND NOT EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = t.parent AND p.attname = a.attname AND p.attnotnull)
         UNION ALL
         SELECT t.name, 'other', 'the default of column ' || a.attname, coalesce(pg_get_expr(f.adbin, f.adrelid), 'none'), NULL, NULL
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
         LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
         JOIN pg_attribute p ON p.attrelid = t.parent AND p.attname = a.attname
         LEFT JOIN pg_attrdef pf ON pf.adrelid = p.attrelid AND pf.adnum = p.attnum
         WHERE pg_get_expr(f.adbin, f.adrelid) IS DISTINCT FROM pg_get_expr(pf.adbin, pf.adrelid)
         UNION ALL
         SELECT t.name, 'other', 'the rights of ' || g.grantee, g.rights, NULL, NULL
         FROM t CROSS JOIN LATERAL (
             SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END AS grantee,
                    string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS rights
             FROM aclexplode(t.relacl) AS a WHERE a.grantee <> t.relowner GROUP BY a.grantee) AS g
         WHERE t.parent IS NOT NULL
         ORDER BY 1, 3, 4",
        whole(&root.to_string())
    );
    rows(connection, within_no_path(&sql))
        .await?
        .iter()
        .map(|row| {
            Ok(Found {
                partition: get(row, 0)?,
                kind: match get::<String>(row, 1)?.as_str() {
                    "rejects" => Kind::Rejects,
                    "unique" => Kind::Unique,
                    "deferrable" => Kind::Deferrable,
                    _ => Kind::Other,
                },
                name: get(row, 2)?,
                says: get(row, 3)?,
                within: get::<Option<String>>(row, 4)?.zip(get(row, 5)?),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(partition: Option<&str>, kind: Kind, name: &str, says: &str) -> Found {
        Found {
            partition: partition.map(ToOwned::to_owned),
            kind,
            name: name.to_owned(),
            says: says.to_owned(),
            within: None,
        }
    }

    #[test]
    fn what_rejects_rows_must_be_in_the_new_shape_and_the_rest_is_told() {
        let there = BTreeSet::from(["CHECK ((n > 0))".to_owned(), "UNIQUE USING btree (n)".to_owned()]);
        let own = judged(
            vec![
                found(None, Kind::Unique, "pk", "UNIQUE USING btree (id)"),
                found(Some("p"), Kind::Rejects, "small", "CHECK ((n < 9))"),
                found(Some("p"), Kind::Rejects, "other_name", "CHECK ((n > 0))"),
                found(Some("p"), Kind::Unique, "once", "UNIQUE USING btree (m)"),
                found(Some("p"), Kind::Unique, "everywhere", "UNIQUE USING btree (n)"),
                found(Some("p"), Kind::Other, "by_n", "USING btree (n)"),
            ],
            &there,
        );
        assert_eq!(own.rejects.len(), 1);
        assert!(own.rejects[0].starts_with("partition p takes only rows that meet small, CHECK ((n < 9))"));
        assert_eq!(own.lost.len(), 2);
        assert!(own.lost[0].starts_with("once of partition p: UNIQUE USING btree (m); "));
        assert_eq!(own.lost[1], "by_n of partition p: USING btree (n)");
    }
}
