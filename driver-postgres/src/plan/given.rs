//! The shape that a person gave, tried: empty temporary tables as the file has them.

use replank_core::{Error, ErrorKind, Result};

use super::alter::unquoted;
use super::mapping;
use crate::connect::Conn;
use crate::definition::{Definition, Index};
use crate::given_shape::{GivenPartition, Shape};
use crate::inspect::Table;
use crate::partitions::{Part, Partition, planned};
use crate::sql::{get, ident, rows, run, text};
use crate::zones::refuse_times_without_offset;

/// What the server makes of a shape.
pub struct Tried {
    /// The empty table, quoted.
    pub full: String,
    /// Its partitions, each with the statement that makes it.
    pub partitions: Vec<Partition>,
}

/// Tries a shape. Indexes that stand behind no constraint stay, unless the file says otherwise of their names; but for unique
/// ones that the server does not have of a table with these partitions.
pub async fn tried(connection: &mut Conn, table: &Table, shape: &Shape, old: &Definition) -> Result<Tried> {
    let full = format!("pg_temp.{}", ident(&table.name));
    let mut making = vec![format!("CREATE TEMPORARY TABLE {} {}", ident(&table.name), shape.tail)];
    let mut names = vec![table.name.clone()];
    for partition in &shape.partitions {
        let (name, parent) = placed(table, partition, &names)?;
        let (name_quoted, parent) = (ident(&name), ident(&parent));
        let tail = &partition.tail;
        making.push(format!("CREATE TEMPORARY TABLE {name_quoted} PARTITION OF pg_temp.{parent} {tail}"));
        names.push(name);
    }
    for index in &shape.indexes {
        let unique = if index.is_unique { "UNIQUE " } else { "" };
        let name = index.name.as_deref().unwrap_or_default();
        making.push(format!("CREATE {unique}INDEX {name} ON {full} {}", index.tail));
    }
    refuse_times_without_offset(connection, &making).await?;
    for statement in making {
        run(connection, statement).await?;
    }
    let number = mapping::number(connection, &full).await?;
    keep_indexes(connection, shape, old, &full, number).await?;
    let parts = Part::all(connection, number).await?;
    if let Some(part) = parts.iter().find(|part| part.indexes.iter().any(|index| index.of.is_none())) {
        return Err(usage(format!(
            "partition {} would have an index of its own: make it afterwards",
            part.name
        )));
    }
    let mut partitions = planned(number, &parts);
    for partition in &mut partitions {
        let at = names.iter().skip(1).position(|name| *name == partition.name);
        partition.made_by = at.and_then(|at| shape.partitions.get(at)).map(|given| given.tail.clone());
    }
    Ok(Tried { full, partitions })
}

/// How many indexes the table of a shape will have, before it is tried: the file's, and those that stay.
pub fn index_count(shape: &Shape, old: &Definition) -> usize {
    let is_given = |index: &&Index| {
        let given = shape.indexes.iter().filter_map(|given| given.name.as_deref());
        given.map(unquoted).any(|name| name == index.name)
    };
    shape.indexes.len() + old.indexes.iter().filter(|index| !is_given(index)).count()
}

/// A partition's name, and that of the table that it is a part of: one that the file makes before.
fn placed(table: &Table, partition: &GivenPartition, known: &[String]) -> Result<(String, String)> {
    let here = |name: &str| {
        let (schema, name) = split(name);
        match schema.filter(|schema| *schema != table.schema) {
            None => Ok(name),
            Some(schema) => {
                let wrong = format!(
                    "partitions are made in the table's own schema, {}, and not in {schema}",
                    table.schema
                );
                Err(usage(wrong))
            }
        }
    };
    let (name, parent) = (here(&partition.name)?, here(&partition.parent)?);
    if !known.contains(&parent) {
        return Err(usage(format!(
            "{name} is to be a partition of {parent}, which the file does not make before it"
        )));
    }
    Ok((name, parent))
}

/// The schema of a name, if it has one, and the name.
fn split(name: &str) -> (Option<String>, String) {
    let mut is_quoted = false;
    for (at, letter) in name.char_indices() {
        match letter {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => return (Some(unquoted(name[..at].trim())), unquoted(name[at + 1..].trim())),
            _ => {}
        }
    }
    (None, unquoted(name.trim()))
}

fn usage(what: String) -> Error {
    Error::new(ErrorKind::Usage, what)
}

async fn keep_indexes(
    connection: &mut Conn,
    shape: &Shape,
    old: &Definition,
    full: &str,
    number: i64,
) -> Result<()> {
    let made = Definition::read(connection, number).await?;
    for index in old.indexes.iter().filter(|index| index.constraint.is_none()) {
        let is_it = |made: &Index| made.is_unique == index.is_unique && made.tail == index.tail;
        if made.indexes.iter().any(is_it) {
            continue;
        }
        if made.indexes.iter().any(|made| made.name == index.name) {
            let given = shape.indexes.iter().filter_map(|given| given.name.as_deref());
            if given.map(unquoted).any(|given| given == index.name) {
                continue;
            }
            let name = &index.name;
            return Err(usage(format!(
                "the shape makes an index that would be called {name}, as another one is: give it a name in the file"
            )));
        }
        let making = index.making(full, &ident(&index.name));
        if !(index.is_unique && made.is_partitioned()) {
            run(connection, making).await?;
            continue;
        }
        // Where it does not have the columns that rows are divided by, no server can hold it: the plan says that it goes.
        run(connection, "SAVEPOINT rp_unique").await?;
        match run(connection, making).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Server => {
                run(connection, "ROLLBACK TO SAVEPOINT rp_unique").await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Names that the new table's partitions and indexes will have, and that something else has now. The swap frees those of the
/// old table's own.
pub async fn taken(
    connection: &mut Conn,
    table: &Table,
    new: &Definition,
    partitions: &[Partition],
) -> Result<Vec<String>> {
    let parts = Part::all(connection, table.oid).await?;
    let own: Vec<String> =
        parts.iter().map(|part| part.oid).chain([table.oid]).map(|oid| oid.to_string()).collect();
    let of_parts = partitions.iter().flat_map(|part| part.indexes.iter().map(|index| &index.name));
    let names = new.indexes.iter().map(|index| &index.name).chain(of_parts);
    let relations: Vec<String> =
        names.chain(partitions.iter().map(|part| &part.name)).map(|name| text(name)).collect();
    let types: Vec<String> = partitions.iter().map(|part| text(&part.name)).collect();
    let (own, schema) = (own.join(", "), text(&table.schema));
    let sql = format!(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = {schema} AND c.relname = ANY (ARRAY[{}]::text[]) AND c.oid NOT IN ({own})
         AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND i.indrelid IN ({own}))
         UNION ALL
         SELECT t.typname::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE n.nspname = {schema} AND t.typname = ANY (ARRAY[{}]::text[]) AND t.typrelid = 0 AND t.typelem = 0",
        relations.join(", "),
        types.join(", ")
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_at_the_dot_outside_of_quotes() {
        for (name, schema, plain) in [
            ("Orders_1", None, "orders_1"),
            ("\"a.b\"", None, "a.b"),
            ("Public.t", Some("public"), "t"),
            ("\"S.x\".\"T\"\"u\"", Some("S.x"), "T\"u"),
        ] {
            assert_eq!(split(name), (schema.map(ToOwned::to_owned), plain.to_owned()), "{name}");
        }
    }
}
