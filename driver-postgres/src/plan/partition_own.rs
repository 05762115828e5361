//! What a partition has by itself, and not from its table: in another shape it is nowhere.

use std::collections::BTreeSet;

use replank_core::Result;

use crate::connect::Conn;
use crate::definition::within_no_path;
use crate::sql::{get, rows};

/// What partitions have by themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Rejects rows, which the new shape would take: as a sentence each, with what to do.
    pub rejects: Vec<String>,
    /// Is gone with the shape.
    pub lost: Vec<String>,
}

impl Own {
    /// Reads it of the partitions of a table, for a shape that was made as the table `new`.
    pub async fn read(connection: &mut Conn, root: i64, new: i64) -> Result<Self> {
        let there: BTreeSet<String> =
            said(connection, new).await?.into_iter().map(|found| found.says).collect();
        Ok(judged(said(connection, root).await?, &there))
    }
}

/// One thing that a table has.
struct Found {
    /// The partition; none for the table itself, of which only what rejects rows is asked.
    partition: Option<String>,
    /// Rows are rejected by it.
    rejects: bool,
    name: String,
    /// What it is, whatever it is called and wherever it stands.
    says: String,
}

fn judged(all: Vec<Found>, there: &BTreeSet<String>) -> Own {
    let mut own = Own::default();
    for Found { partition, rejects, name, says } in all {
        let Some(partition) = partition else { continue };
        match rejects {
            true if there.contains(&says) => {}
            true => own.rejects.push(format!(
                "partition {partition} takes only rows that meet {name}, {says}, which nothing in the new shape says: add it to the \
                 file, or take it off the partition first"
            )),
            false => own.lost.push(format!("{name} of partition {partition}: {says}")),
        }
    }
    own
}

/// What a table's partitions have by themselves, and of the table itself what rejects rows.
async fn said(connection: &mut Conn, root: i64) -> Result<Vec<Found>> {
    let index = "regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || 'USING ')";
    let sql = format!(
        "WITH RECURSIVE d AS (
             SELECT {root}::oid AS oid, NULL::oid AS parent
             UNION ALL SELECT h.inhrelid, h.inhparent FROM pg_inherits h JOIN d ON h.inhparent = d.oid),
         t AS (SELECT d.oid, d.parent, CASE WHEN d.parent IS NOT NULL THEN c.relname::text END AS name, c.relowner, c.relacl
               FROM d JOIN pg_class c ON c.oid = d.oid)
         SELECT t.name, true, o.conname::text, pg_get_constraintdef(o.oid) FROM t JOIN pg_constraint o ON o.conrelid = t.oid
         WHERE o.contype = 'c' AND o.coninhcount = 0
         UNION ALL
         SELECT t.name, i.indisunique OR i.indisexclusion, c.relname::text, {index} FROM t JOIN pg_index i ON i.indrelid = t.oid
         JOIN pg_class c ON c.oid = i.indexrelid
         WHERE NOT c.relispartition AND (t.parent IS NOT NULL OR i.indisunique OR i.indisexclusion)
         UNION ALL
         SELECT t.name, true, a.attname::text, format('%I NOT NULL', a.attname) FROM t JOIN pg_attribute a ON a.attrelid = t.oid
         WHERE a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
         AND NOT EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = t.parent AND p.attname = a.attname AND p.attnotnull)
         UNION ALL
         SELECT t.name, false, 'the default of column ' || a.attname, coalesce(pg_get_expr(f.adbin, f.adrelid), 'none')
         FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
         LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
         JOIN pg_attribute p ON p.attrelid = t.parent AND p.attname = a.attname
         LEFT JOIN pg_attrdef pf ON pf.adrelid = p.attrelid AND pf.adnum = p.attnum
         WHERE pg_get_expr(f.adbin, f.adrelid) IS DISTINCT FROM pg_get_expr(pf.adbin, pf.adrelid)
         UNION ALL
         SELECT t.name, false, 'the rights of ' || g.grantee, g.rights
         FROM t CROSS JOIN LATERAL (
             SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END AS grantee,
                    string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS rights
             FROM aclexplode(t.relacl) AS a WHERE a.grantee <> t.relowner GROUP BY a.grantee) AS g
         WHERE t.parent IS NOT NULL
         ORDER BY 1, 3, 4"
    );
    rows(connection, within_no_path(&sql))
        .await?
        .iter()
        .map(|row| {
            Ok(Found {
                partition: get(row, 0)?,
                rejects: get(row, 1)?,
                name: get(row, 2)?,
                says: get(row, 3)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(partition: Option<&str>, rejects: bool, name: &str, says: &str) -> Found {
        Found {
            partition: partition.map(ToOwned::to_owned),
            rejects,
            name: name.to_owned(),
            says: says.to_owned(),
        }
    }

    #[test]
    fn what_rejects_rows_must_be_in_the_new_shape_and_the_rest_is_told() {
        let there = BTreeSet::from(["CHECK ((n > 0))".to_owned()]);
        let own = judged(
            vec![
                found(None, true, "pk", "UNIQUE USING btree (id)"),
                found(Some("p"), true, "small", "CHECK ((n < 9))"),
                found(Some("p"), true, "other_name", "CHECK ((n > 0))"),
                found(Some("p"), false, "by_n", "USING btree (n)"),
            ],
            &there,
        );
        assert_eq!(own.rejects.len(), 1);
        assert!(own.rejects[0].starts_with("partition p takes only rows that meet small, CHECK ((n < 9))"));
        assert_eq!(own.lost, ["by_n of partition p: USING btree (n)"]);
    }
}
