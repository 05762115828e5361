//! Rows of the written table that know something which the source does not, on the way back.
//!
//! All keys of a batch leave the written table before any is written, or two rows that exchanged a unique value
//! would stand in each other's way for ever. What only they know waits in a table of its own meanwhile, in the
//! same transaction: a row that is displaced finds it there in a later batch, also after a crash.

use replank_core::Result;
use replank_core::run::Direction;
use serde_json::json;

use super::Core;
use super::range::{Condition, same_key};
use super::slots::Slots;
use crate::connect::Conn;
use crate::definition;
use crate::sql::{ident, run, table};
use crate::state::ObjectRole;

impl Core {
    /// The name of the table of waiting rows. It bears no token: whoever writes here writes to the written table
    /// in the same transaction, whose name does.
    pub(super) fn parked_name(&self) -> String {
        format!("_rp_{}_0_parked", self.job.run.short())
    }

    pub(super) fn parked(&self) -> String {
        table(self.schema(), &self.parked_name())
    }

    /// Whether rows have to wait there in this direction.
    pub(super) fn parks(&self) -> Result<bool> {
        Ok(self.job.direction == Direction::Reverse && self.flow()?.keeps_something())
    }
}

/// Makes the table, with the shadow: it is needed from the swap on, and nothing is made under the lock. It has
/// the old shape's columns and only the key that tells its rows apart.
pub async fn make(connection: &mut Conn, core: &Core) -> Result<()> {
    let is_needed =
        core.job.revertible && core.spec.backward.as_ref().is_some_and(|flow| flow.keeps_something());
    if !is_needed {
        return Ok(());
    }
    let name = core.parked_name();
    core.objects.put(connection, ObjectRole::Parked, &name, &json!({})).await?;
    let old = &core.spec.old;
    let key: Vec<&str> =
        core.spec.backward.iter().flat_map(|flow| &flow.key).map(|column| column.written.as_str()).collect();
    let key: Vec<String> = key.into_iter().map(ident).collect();
    let tells_apart = |unique: &crate::spec::Unique| unique.parts.iter().all(|part| key.contains(part));
    let keep: Vec<&str> =
        old.unique.iter().filter(|unique| tells_apart(unique)).map(|unique| unique.name.as_str()).collect();
    let others: Vec<&str> = old
        .indexes
        .iter()
        .filter(|index| !keep.contains(&index.name.as_str()))
        .filter(|index| {
            !old.auto_increment.as_ref().is_some_and(|counter| index.clause.contains(&ident(counter)))
        })
        .map(|index| index.clause.as_str())
        .collect();
    // What satisfied them once need not do so while it waits, and their names are taken.
    let sql = definition::without_constraints(&definition::without(&old.sql, &others));
    let sql = definition::within(
        &definition::renamed(connection.product(), &sql, &core.job.table.name, &name),
        core.schema(),
    );
    run(connection, sql).await.map(drop)
}

/// Takes rows out of the written table; what only they know is kept. Rows that were absent in between leave
/// nothing.
pub async fn park(connection: &mut Conn, core: &Core, all: &Condition, afresh: &Condition) -> Result<()> {
    let (written, name) = (core.written(), ident(&core.written_name()));
    let keys = core.written_key()?;
    let flow = core.flow()?;
    let columns: Vec<String> = flow
        .columns
        .iter()
        .map(|column| &column.column)
        .chain(&flow.kept)
        .map(|column| ident(column))
        .collect();
    let columns = columns.join(", ");
    // A row that waits and is there, too, is there anew.
    run(
        connection,
        format!(
            "REPLACE INTO {} ({columns}) SELECT {columns} FROM {written} AS w WHERE {}",
            core.parked(),
            all.sql("w", &keys)
        ),
    )
    .await?;
    run(connection, format!("DELETE FROM {written} WHERE {}", all.sql(&name, &keys))).await?;
    let parked_name = ident(&core.parked_name());
    run(connection, format!("DELETE FROM {} WHERE {}", core.parked(), afresh.sql(&parked_name, &keys)))
        .await
        .map(drop)
}

/// Writes rows as the source has them now, with what only the parked ones know.
pub async fn bring_back(connection: &mut Conn, core: &Core, condition: &Condition) -> Result<()> {
    let flow = core.flow()?;
    let (source_key, written_key) = (core.source_key()?, core.written_key()?);
    let slots = Slots::of(&flow.key);
    let mut from_source = slots.keyed("s", &source_key);
    let mut from_parked = slots.keyed("p", &written_key);
    from_parked.push("1 AS `_rp_there`".to_owned());
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for (index, column) in flow.columns.iter().enumerate() {
        columns.push(ident(&column.column));
        from_source.push(format!("({}) AS `_rp_v{index}`", column.expression));
        match &column.original {
            None => values.push(format!("n.`_rp_v{index}`")),
            Some(original) => {
                from_source.push(format!("({}) AS `_rp_n{index}`", original.stored));
                from_parked.push(format!("({}) AS `_rp_n{index}`", original.expected));
                from_parked.push(format!("p.{} AS `_rp_o{index}`", ident(&column.column)));
                values.push(format!(
                    "IF(o.`_rp_there` = 1 AND o.`_rp_n{index}` <=> n.`_rp_n{index}`, o.`_rp_o{index}`, n.`_rp_v{index}`)"
                ));
            }
        }
    }
    let source = format!(
        "(SELECT {} FROM {} AS s WHERE {}) AS n",
        from_source.join(", "),
        core.source(),
        condition.sql("s", &source_key)
    );
    let mut with_kept = columns.clone();
    let mut kept_values = values.clone();
    for (index, column) in flow.kept.iter().enumerate() {
        with_kept.push(ident(column));
        from_parked.push(format!("p.{} AS `_rp_x{index}`", ident(column)));
        kept_values.push(format!("o.`_rp_x{index}`"));
    }
    let parked = format!("(SELECT {} FROM {} AS p) AS o", from_parked.join(", "), core.parked());
    let same = same_key("n", &slots.names(), "o", &slots.names());
    // Rows that were there, and then those that were not: their other columns get their defaults.
    run(
        connection,
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {source} JOIN {parked} ON {same}",
            core.written(),
            with_kept.join(", "),
            kept_values.join(", ")
        ),
    )
    .await?;
    let plain: Vec<String> = (0..flow.columns.len()).map(|index| format!("n.`_rp_v{index}`")).collect();
    let there = format!(
        "SELECT 1 FROM {} AS p2 WHERE {}",
        core.parked(),
        same_key("n", &slots.names(), "p2", &written_key)
    );
    run(
        connection,
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {source} WHERE NOT EXISTS ({there})",
            core.written(),
            columns.join(", "),
            plain.join(", ")
        ),
    )
    .await
    .map(drop)
}

/// Rows that are back, or gone from the source for good, wait no longer.
pub async fn forget(connection: &mut Conn, core: &Core, condition: &Condition) -> Result<()> {
    let name = ident(&core.parked_name());
    run(
        connection,
        format!("DELETE FROM {} WHERE {}", core.parked(), condition.sql(&name, &core.written_key()?)),
    )
    .await
    .map(drop)
}
