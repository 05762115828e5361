//! Rows of the written table that know something which the source does not, on the way back.
//!
//! All keys of a batch leave the written table before any is written, or two rows that exchanged a unique value would
//! stand in each other's way for ever. What only they know waits in a table of its own meanwhile, in the same
//! transaction: a row that is displaced finds it there in a later batch, also after a crash.

use replank_core::Result;
use replank_core::run::Direction;

use super::Core;
use super::prepare::make_helper;
use super::range::{Condition, encoded};
use crate::connect::Conn;
use crate::sql::{ident, table};
use crate::state::ObjectRole;

impl Core {
    /// The name of the table of waiting rows. It bears no token: whoever writes here writes to the written table in the
    /// same transaction, whose name does.
    pub(super) fn parked_name(&self) -> String {
        format!("_rp_{}_0_parked", self.job.run.short())
    }

    fn parked(&self) -> String {
        table(&self.spec.schema, &self.parked_name())
    }

    /// Whether rows have to wait there in this direction.
    pub(super) fn parks(&self) -> Result<bool> {
        Ok(self.job.direction == Direction::Reverse && self.flow()?.keeps_something())
    }
}

/// Makes the table, with the shadow: it is needed from the swap on, and nothing is made under the lock that can be made
/// before. It has the old shape's columns and only the key that tells its rows apart.
pub async fn make(connection: &mut Conn, core: &Core) -> Result<()> {
    let Some(back) = core.spec.backward.as_ref().filter(|flow| flow.keeps_something()) else { return Ok(()) };
    if !core.job.revertible {
        return Ok(());
    }
    let key: Vec<String> = back.key.iter().map(|column| ident(&column.written)).collect();
    let made = format!(
        "CREATE TABLE {} (LIKE {} INCLUDING GENERATED, PRIMARY KEY ({}))",
        core.parked(),
        core.source(),
        key.join(", ")
    );
    make_helper(connection, core, ObjectRole::Parked, &core.parked_name(), made).await
}

/// How many of [`statements`] come before anything is written.
pub const LEAVING: usize = 3;

/// What makes the written rows of `keys` equal to the source's, with what only they knew. `afresh` were absent in between
/// and know nothing. The last but one answers with the keys that had to stay out.
pub fn statements(core: &Core, keys: &str, afresh: &str) -> Result<Vec<String>> {
    let flow = core.flow()?;
    let (source_key, written_key) = (core.source_key()?, core.written_key()?);
    let (all, new) = (Condition::keys("rp_keys", &flow.key), Condition::keys("rp_afresh", &flow.key));
    let (written, parked) = (core.written(), core.parked());
    let mut columns = Vec::new();
    let mut from_source = Vec::new();
    let mut plain = Vec::new();
    let mut known = Vec::new();
    for (at, column) in flow.columns.iter().enumerate() {
        columns.push(ident(&column.column));
        from_source.push(format!("{} AS rp_v{at}", column.expression));
        plain.push(format!("s.rp_v{at}"));
        known.push(match &column.original {
            None => format!("s.rp_v{at}"),
            Some(original) => {
                from_source.push(format!("s.{} AS rp_n{at}", ident(&original.source)));
                format!(
                    "CASE WHEN ROW(p.rp_f{at})::record *= ROW(s.rp_n{at})::record THEN p.{} ELSE s.rp_v{at}::{} END",
                    ident(&column.column),
                    column.base
                )
            }
        });
    }
    let went_forward: Vec<String> = flow
        .columns
        .iter()
        .enumerate()
        .filter_map(|(at, column)| {
            let original = column.original.as_ref()?;
            Some(format!(", ({})::{} AS rp_f{at}", original.expression, original.kind))
        })
        .collect();
    let mut with_kept = columns.clone();
    for column in &flow.kept {
        with_kept.push(ident(column));
        known.push(format!("p.{}", ident(column)));
    }
    let key_columns: Vec<String> = written_key.iter().map(|name| ident(name)).collect();
    let all_columns: Vec<&String> = with_kept.iter().collect();
    let set: Vec<String> = all_columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let list: Vec<&str> = with_kept.iter().map(String::as_str).collect();
    let list = list.join(", ");
    let write = |target: &[String], values: &[String], join: &str| {
        format!(
            "INSERT INTO {written} AS w ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM rp_source AS s {join}
             {} RETURNING {} AS rp_key",
            target.join(", "),
            values.join(", "),
            core.leaving_out(),
            encoded("w", &written_key)
        )
    };
    Ok(vec![
        format!(
            "WITH rp_keys AS MATERIALIZED ({keys}) INSERT INTO {parked} ({list}) SELECT {list} FROM {written} AS w WHERE {}
             ON CONFLICT ({}) DO UPDATE SET {}",
            all.sql("w", &written_key),
            key_columns.join(", "),
            set.join(", ")
        ),
        format!(
            "WITH rp_keys AS MATERIALIZED ({keys}) DELETE FROM {written} AS w WHERE {}",
            all.sql("w", &written_key)
        ),
        format!(
            "WITH rp_afresh AS MATERIALIZED ({afresh}) DELETE FROM {parked} AS p WHERE {}",
            new.sql("p", &written_key)
        ),
        format!(
            "WITH rp_keys AS MATERIALIZED ({keys}),
             rp_source AS MATERIALIZED (SELECT {of_source} AS rp_key, {from_source} FROM {source} AS s WHERE {is_asked}),
             rp_parked AS MATERIALIZED (SELECT {of_parked} AS rp_key, p.*{went_forward} FROM {parked} AS p WHERE {is_parked}),
             rp_known AS ({known}),
             rp_new AS ({unknown})
             SELECT rp_key FROM rp_source AS s
             WHERE NOT EXISTS (SELECT FROM rp_known AS d WHERE d.rp_key = s.rp_key)
             AND NOT EXISTS (SELECT FROM rp_new AS d WHERE d.rp_key = s.rp_key)",
            of_source = encoded("s", &source_key),
            from_source = from_source.join(", "),
            source = core.source_rows(),
            is_asked = all.sql("s", &source_key),
            of_parked = encoded("p", &written_key),
            went_forward = went_forward.concat(),
            is_parked = all.sql("p", &written_key),
            known = write(&with_kept, &known, "JOIN rp_parked AS p ON p.rp_key = s.rp_key"),
            unknown = write(
                &columns,
                &plain,
                "WHERE NOT EXISTS (SELECT FROM rp_parked AS p WHERE p.rp_key = s.rp_key)"
            ),
        ),
        // Rows that are back, or gone from the source for good, wait no longer.
        format!(
            "WITH rp_keys AS MATERIALIZED ({keys}) DELETE FROM {parked} AS p WHERE {}
             AND (EXISTS (SELECT FROM {written} AS w WHERE {}) OR NOT EXISTS (SELECT FROM {} AS s WHERE {}))",
            all.sql("p", &written_key),
            super::range::same_key("w", &written_key, "p", &written_key),
            core.source_rows(),
            super::range::same_key("s", &source_key, "p", &written_key),
        ),
    ])
}
