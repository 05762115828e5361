//! Tables and indexes as the catalogue has them.

use replank_core::{Error, ErrorKind, Result};

use crate::connect::Conn;
use crate::partitions::whole;
use crate::sql::{first, get, number, rows, table as qualified, text};

/// A table that can be changed.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its number, which stays when it is renamed.
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `r` for a plain one, `p` for a partitioned one.
    pub kind: String,
    /// Rows as the planner thinks; negative when nobody ever counted.
    pub rows: i64,
    /// Bytes of rows and indexes.
    pub bytes: i64,
    /// Bytes of the largest index: about what its build puts on the disk to sort, and takes away again.
    pub largest_index: i64,
    /// The columns of its primary key.
    pub key: Vec<String>,
}

impl Table {
    /// Its quoted name.
    pub fn full_name(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// Whether its rows are in partitions.
    pub fn is_partitioned(&self) -> bool {
        self.kind == "p"
    }

    /// The table that a person named.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is not there; [`ErrorKind::Refused`] for what is no table, or none that can be
    /// changed.
    pub async fn named(connection: &mut Conn, name: &str) -> Result<Self> {
        // What a partitioned table has is in its partitions.
        let table = format!("to_regclass({})", text(name));
        let sql = format!(
            "{}
             SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text,
                    CASE WHEN c.relkind <> 'p' THEN c.reltuples::bigint
                         ELSE (SELECT coalesce(sum(nullif(p.reltuples, -1)), -1)::bigint FROM d JOIN pg_class p USING (oid)
                               WHERE p.relkind <> 'p') END,
                    CASE WHEN c.relkind <> 'p' THEN pg_total_relation_size(c.oid)
                         ELSE (SELECT coalesce(sum(pg_total_relation_size(d.oid)), 0)::bigint FROM d) END,
                    c.relpersistence::text, pg_has_role(c.relowner, 'USAGE'),
                    (SELECT coalesce(max(pg_relation_size(i.indexrelid)), 0)::bigint FROM pg_index i WHERE i.indrelid IN (SELECT oid FROM d))
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table}",
            whole(&table)
        );
        let row = first(connection, sql)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no table {name}")))?;
        let kind: String = get(&row, 3)?;
        let schema: String = get(&row, 1)?;
        let refused = |what: String| Err(Error::new(ErrorKind::Refused, what));
        if schema == "pg_catalog" || schema == "information_schema" || schema.starts_with("pg_toast") {
            return refused(format!("{name} is a table of the server's own"));
        }
        match kind.as_str() {
            "r" | "p" => {}
            "v" => return refused(format!("{name} is a view, not a table")),
            "m" => return refused(format!("{name} is a materialized view, not a table")),
            "f" => return refused(format!("{name} is a foreign table: its rows are elsewhere")),
            "S" => return refused(format!("{name} is a sequence, not a table")),
            _ => return refused(format!("{name} is no table")),
        }
        if !get::<bool>(&row, 7)? {
            return refused(format!("{name} belongs to another login, and only its owner can change it"));
        }
        if get::<String>(&row, 6)? == "t" {
            return refused(format!("{name} is a temporary table of another session"));
        }
        let oid: i64 = get(&row, 0)?;
        let (name, rows_known, bytes) = (get(&row, 2)?, get(&row, 4)?, get(&row, 5)?);
        let largest_index = get(&row, 8)?;
        let key = rows(
            connection,
            format!(
                "SELECT a.attname::text FROM pg_index i
                 CROSS JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY AS k(attnum, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                 WHERE i.indrelid = {oid} AND i.indisprimary ORDER BY k.place"
            ),
        )
        .await?;
        let key = key.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
        Ok(Self { oid, schema, name, kind, rows: rows_known, bytes, largest_index, key })
    }
}

/// A query for the columns of a table, given by an expression for its number, that count by themselves, each with its
/// sequence and what that counts as.
pub fn identities(table: &str) -> String {
    format!(
        "SELECT a.attname, q.seqrelid, q.seqtypid FROM pg_attribute a
         JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
             AND d.classid = 'pg_class'::regclass AND d.deptype = 'i'
         JOIN pg_sequence q ON q.seqrelid = d.objid WHERE a.attrelid = {table}"
    )
}

/// The columns of a table, given by an expression for its number, that are computed from others, each with how.
pub async fn computed(connection: &mut Conn, table: &str) -> Result<Vec<(String, String)>> {
    let sql = format!(
        "SELECT a.attname::text, pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a
         JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = {table} AND a.attnum > 0 AND a.attgenerated <> '' AND NOT a.attisdropped ORDER BY a.attnum"
    );
    rows(connection, sql).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// Every row, counted.
pub async fn count(connection: &mut Conn, schema: &str, name: &str) -> Result<u64> {
    let counted = number(connection, format!("SELECT count(*) FROM {}", qualified(schema, name))).await?;
    Ok(u64::try_from(counted).unwrap_or_default())
}

/// An index.
#[derive(Debug, Clone)]
pub struct Index {
    /// Its number: another one after it was built anew.
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The table that it is on, as it would be typed.
    pub table: String,
    /// The statement that makes it.
    pub definition: String,
    /// Queries may use it.
    pub is_valid: bool,
    /// The constraint that it stands behind.
    pub constraint: Option<String>,
}

impl Index {
    /// Its quoted name.
    pub fn full_name(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

/// Indexes that a condition on `c` (their `pg_class`) and `i` (their `pg_index`) is true for.
pub async fn indexes(connection: &mut Conn, condition: &str) -> Result<Vec<Index>> {
    let sql = format!(
        "SELECT c.oid::bigint, n.nspname::text, c.relname::text, i.indrelid::regclass::text, pg_get_indexdef(c.oid),
                i.indisvalid, o.conname::text
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_constraint o ON o.conindid = c.oid AND o.contype IN ('p', 'u', 'x')
         WHERE {condition} ORDER BY c.relname"
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| {
            Ok(Index {
                oid: get(row, 0)?,
                schema: get(row, 1)?,
                name: get(row, 2)?,
                table: get(row, 3)?,
                definition: get(row, 4)?,
                is_valid: get(row, 5)?,
                constraint: get(row, 6)?,
            })
        })
        .collect()
}

/// The index that a person named, if there is one.
pub async fn index(connection: &mut Conn, name: &str) -> Result<Option<Index>> {
    Ok(indexes(connection, &format!("c.oid = to_regclass({})", text(name))).await?.into_iter().next())
}
