//! What the rows that are there say of a new shape.

use replank_core::plan::{Collision, Evidence, NullColumn, Unfit};
use replank_core::run::Direction;
use replank_core::{ErrorKind, Result};

use super::mapping::Column;
use crate::connect::Conn;
use crate::inspect::Table;
use crate::inspect::computed;
use crate::misfits;
use crate::rebuild::{grouped, with_computed};
use crate::spec::{Mapped, Spec};
use crate::sql::{first_keys, get, ident, listed, number, rows, run};

/// What the rows that are there say of the new shape, which is tried as the table `made`.
pub async fn evidence(
    connection: &mut Conn,
    table: &Table,
    spec: &Spec,
    (old, new): (&[Column], &[Column]),
    made: i64,
) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    let source = table.full_name();
    let flow = spec.flow(Direction::Forward)?;
    let rows_of_source = format!("{source} AS m");
    let own_key: Vec<String> = flow.key.iter().map(|column| column.source.clone()).collect();
    for mapped in &flow.columns {
        let Some(column) = new.iter().find(|column| column.name == mapped.column) else { continue };
        let from = old.iter().find(|from| from.number == column.number);
        let value = format!("({})::{}", mapped.expression, mapped.kind);
        // What only widens is not looked for among the rows, however many they are.
        let is_same =
            from.is_some_and(|from| from.is_lossless_into(column) && mapped.expression == ident(&from.name));
        if !is_same {
            let what = format!("column {}", column.name);
            match too_long(connection, &source, &own_key, mapped, column).await {
                Ok((0, _)) => {}
                Ok((rows, samples)) => evidence.unfit.push(Unfit { what: what.clone(), rows, samples }),
                Err(error) if error.kind() == ErrorKind::Unfit => {
                    run(connection, "ROLLBACK TO SAVEPOINT rp_evidence").await?;
                    let samples = vec![error.message().to_owned()];
                    evidence.unfit.push(Unfit { what, rows: 1, samples });
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        if column.is_not_null && !from.is_some_and(|from| from.is_not_null && is_same) {
            let is_null = format!("{value} IS NULL");
            let (rows, samples) = first_keys(connection, "", &own_key, &rows_of_source, &is_null).await?;
            if rows > 0 {
                evidence.nulls.push(NullColumn { column: column.name.clone(), rows, samples });
            }
        }
    }
    if !evidence.unfit.is_empty() {
        return Ok(evidence);
    }
    let key: Vec<String> =
        flow.key.iter().map(|column| format!("s.{}::text", ident(&column.source))).collect();
    let all = format!(
        "SELECT concat_ws(', ', {}) AS rp_key, true AS rp_asked, {} FROM {source} AS s",
        key.join(", "),
        flow.written().join(", ")
    );
    let computed = computed(connection, &made.to_string()).await?;
    for unique in &spec.new.unique {
        // What was unique and is as it was stays unique.
        let was = spec.old.unique.iter().any(|old| {
            old.parts == unique.parts
                && old.condition == unique.condition
                && old.nulls_equal == unique.nulls_equal
        });
        let changes = flow.columns.iter().any(|mapped| {
            mapped.expression != ident(&mapped.column)
                || new.iter().any(|column| {
                    let is_other =
                        |from: &Column| !from.is_lossless_into(column) || from.collation != column.collation;
                    column.name == mapped.column
                        && old.iter().any(|from| from.number == column.number && is_other(from))
                })
        });
        let is_key = unique.name == spec.new.key_index && !spec.new.tells_apart_fewer(&spec.forward.key);
        if was && !changes || is_key {
            continue;
        }
        run(connection, "SAVEPOINT rp_evidence").await?;
        let groups =
            match rows(connection, grouped(unique, &with_computed(&all, unique, &computed), false)).await {
                // A column is in it that is not written, and gets a default.
                Err(error) if error.kind() == ErrorKind::ForeignDdl => {
                    run(connection, "ROLLBACK TO SAVEPOINT rp_evidence").await?;
                    continue;
                }
                done => done?,
            };
        if !groups.is_empty() {
            let samples = groups
                .iter()
                .take(5)
                .map(|row| {
                    Ok(format!(
                        "{}: {}",
                        get::<String>(row, 0)?,
                        listed::<String>(&get::<String>(row, 1)?)?.join("; ")
                    ))
                })
                .collect::<Result<_>>()?;
            evidence.collisions.push(Collision {
                unique: unique.parts.join(", "),
                groups: u64::try_from(groups.len()).unwrap_or(u64::MAX),
                samples,
            });
        }
    }
    Ok(evidence)
}

/// Rows that no partition of the new shape takes, which is tried as the table `new`.
pub async fn outside(connection: &mut Conn, table: &Table, spec: &Spec, new: i64) -> Result<Option<Unfit>> {
    if !spec.new.is_partitioned() {
        return Ok(None);
    }
    let Some(outside) = misfits::outside(connection, new).await? else { return Ok(None) };
    let source = format!("{} AS s", table.full_name());
    let (rows, samples) = misfits::count(connection, &spec.forward.key, "", &source, &outside).await?;
    let what = "any partition of the new shape, which needs one more for them or a DEFAULT".to_owned();
    Ok((rows > 0).then_some(Unfit { what, rows, samples }))
}

/// Rows whose text does not fit: a cast would cut them off. Any other value that is none fails the question.
async fn too_long(
    connection: &mut Conn,
    source: &str,
    key: &[String],
    mapped: &Mapped,
    column: &Column,
) -> Result<(u64, Vec<String>)> {
    run(connection, "SAVEPOINT rp_evidence").await?;
    if let Some(length) = column.length {
        let is_long = format!("char_length(rtrim(({})::text, ' ')) > {length}", mapped.expression);
        return first_keys(connection, "", key, &format!("{source} AS m"), &is_long).await;
    }
    let asked = format!("SELECT count(({})::{}) FROM {source}", mapped.expression, mapped.kind);
    number(connection, asked).await?;
    Ok((0, Vec::new()))
}
