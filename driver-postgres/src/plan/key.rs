//! The columns by which rows are told apart while they are copied, on both sides.

use replank_core::Result;

use super::mapping::Column;
use crate::connect::Conn;
use crate::spec::{KeyColumn, Mapped};
use crate::sql::{get, ident, rows};

/// A unique index that tells every row apart.
pub struct Key {
    index: String,
    is_primary: bool,
    /// Its columns, in the index's order.
    columns: Vec<String>,
}

/// Those of a table that may: of columns alone, for all rows, checked at once, without NULLs, and equal only if the same.
/// INCLUDE adds columns that are no part of the key.
pub async fn keys(connection: &mut Conn, table: i64) -> Result<Vec<Key>> {
    let sql = format!(
        "SELECT c.relname::text, i.indisprimary, k.names FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         CROSS JOIN LATERAL (
             SELECT array_agg(a.attname::text ORDER BY p.place) AS names,
                    bool_and(a.attnotnull AND coalesce(o.collisdeterministic, true)) AS is_good
             FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS p(attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = p.attnum
             LEFT JOIN pg_collation o ON o.oid = i.indcollation[p.place - 1]
             WHERE p.place <= i.indnkeyatts) AS k
         WHERE i.indrelid = {table} AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
         AND i.indexprs IS NULL AND k.is_good ORDER BY NOT i.indisprimary, c.relname"
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| Ok(Key { index: get(row, 0)?, is_primary: get(row, 1)?, columns: get(row, 2)? }))
        .collect()
}

/// Both shapes, and what becomes of columns.
pub struct Sides<'a> {
    /// The old columns.
    pub old: &'a [Column],
    /// The new ones.
    pub new: &'a [Column],
    /// How the new ones get their values.
    pub columns: &'a [Mapped],
}

/// The columns, and the index of each side.
type Found = (Vec<KeyColumn>, String, String);

impl Sides<'_> {
    /// The columns that tell rows apart on both sides, and the index of each; or why there are none. `may_grow`: one side's
    /// index may have more of them, as that of a partitioned table must.
    pub fn key(&self, old: &[Key], new: &[Key], may_grow: bool) -> std::result::Result<Found, String> {
        let mut why = "it has no primary key, and no unique index of columns that are NOT NULL".to_owned();
        for own in old {
            let key = match self.carried(&own.columns) {
                Ok(key) => key,
                Err(reason) => {
                    why = reason;
                    continue;
                }
            };
            let is_it = |other: &&Key| {
                other.columns.len() == key.len()
                    && key.iter().all(|column| other.columns.contains(&column.written))
            };
            if let Some(other) = new.iter().filter(is_it).max_by_key(|other| other.is_primary) {
                return Ok((key, own.index.clone(), other.index.clone()));
            }
            why = format!("the new shape has no unique index of {}", own.columns.join(", "));
            for other in new.iter().filter(|_| may_grow) {
                match self.grown(own, &key, other) {
                    Some(Ok(key)) => return Ok((key, own.index.clone(), other.index.clone())),
                    Some(Err(reason)) => why = reason,
                    None => {}
                }
            }
        }
        Err(why)
    }

    /// The columns of both indexes, if one has all those of the other. What is unique by fewer is unique by more, unless one of
    /// those takes NULL. The old side's order comes first: its chunks are read in that.
    fn grown(
        &self,
        own: &Key,
        key: &[KeyColumn],
        other: &Key,
    ) -> Option<std::result::Result<Vec<KeyColumn>, String>> {
        if key.iter().all(|column| other.columns.contains(&column.written)) {
            let is_more = |name: &&String| !key.iter().any(|column| column.written == **name);
            let more: Vec<String> = other.columns.iter().filter(is_more).cloned().collect();
            let takes_null =
                |name: &&String| self.old.iter().any(|column| column.name == **name && !column.is_not_null);
            if let Some(column) = more.iter().find(takes_null) {
                return Some(Err(format!(
                    "column {column} becomes a part of the key and takes NULL: first ALTER TABLE … ALTER COLUMN {} SET NOT NULL, which \
                     replank runs while others write",
                    ident(column)
                )));
            }
            return Some(self.carried(&[own.columns.clone(), more].concat()));
        }
        if !other.columns.iter().all(|name| key.iter().any(|column| column.written == *name)) {
            return None;
        }
        let takes_null =
            |column: &&KeyColumn| self.new.iter().any(|new| new.name == column.written && !new.is_not_null);
        Some(match key.iter().find(takes_null) {
            None => Ok(key.to_vec()),
            Some(column) => Err(format!(
                "rows are told apart by {}, of which {} takes NULL in the new shape: make it NOT NULL there",
                own.columns.join(", "),
                column.written
            )),
        })
    }

    /// Columns of the old side that stay as they are, well enough to tell rows apart.
    fn carried(&self, names: &[String]) -> std::result::Result<Vec<KeyColumn>, String> {
        let Self { old, new, columns } = self;
        names
            .iter()
            .map(|name| {
                let from = old.iter().find(|column| column.name == *name);
                let from = from.ok_or_else(|| format!("column {name} is not there"))?;
                let mapped = columns.iter().find(|mapped| mapped.expression == ident(name));
                let mapped =
                    mapped.ok_or_else(|| format!("column {name} of the key does not stay as it is"))?;
                let to = new.iter().find(|column| column.name == mapped.column);
                let to = to.ok_or_else(|| format!("the new shape has no column {}", mapped.column))?;
                let both_whole = from.width().is_some() && to.width().is_some();
                if !both_whole && (from.kind != to.kind || from.collation != to.collation) {
                    return Err(format!(
                        "column {name} of the key changes from {} to {}, and equal values may not stay equal",
                        from.kind, to.kind
                    ));
                }
                if !from.is_builtin {
                    return Err(format!(
                        "column {name} of the key has the type {}, which is not the server's own",
                        from.kind
                    ));
                }
                Ok(KeyColumn {
                    source: name.clone(),
                    written: to.name.clone(),
                    kind: from.kind.clone(),
                    is_exact: from.is_exact(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(number: i16, name: &str, is_not_null: bool) -> Column {
        Column {
            number,
            name: name.to_owned(),
            kind: "bigint".to_owned(),
            base: "bigint".to_owned(),
            collation: 0,
            is_not_null,
            is_generated: false,
            is_builtin: true,
            length: None,
        }
    }

    fn mapped(name: &str) -> Mapped {
        let (column, kind, base) = (name.to_owned(), "bigint".to_owned(), "bigint".to_owned());
        Mapped { column, kind, base, expression: ident(name), original: None }
    }

    fn index(columns: &[&str]) -> Vec<Key> {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        vec![Key { index: "i".to_owned(), is_primary: true, columns }]
    }

    #[test]
    fn a_key_grows_by_what_the_other_side_needs_and_only_there() {
        let (plain, strict) =
            ([column(1, "id", true), column(2, "at", false)], [column(1, "id", true), column(2, "at", true)]);
        let columns = [mapped("id"), mapped("at")];
        let key = |old: &[Column], new: &[Column], before: &[&str], after: &[&str], may_grow: bool| {
            let sides = Sides { old, new, columns: &columns };
            sides
                .key(&index(before), &index(after), may_grow)
                .map(|(key, ..)| key.into_iter().map(|column| column.source).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(key(&strict, &strict, &["id"], &["at", "id"], true).as_deref(), Ok("id at"));
        assert_eq!(key(&strict, &strict, &["at", "id"], &["id"], true).as_deref(), Ok("at id"));
        assert!(key(&strict, &strict, &["id"], &["id", "at"], false).is_err());
        assert!(
            key(&plain, &strict, &["id"], &["id", "at"], true).is_err_and(|why| why.contains("SET NOT NULL"))
        );
        assert!(
            key(&strict, &plain, &["id", "at"], &["id"], true)
                .is_err_and(|why| why.contains("NOT NULL there"))
        );
        assert!(key(&strict, &strict, &["id"], &["at"], true).is_err());
    }
}
