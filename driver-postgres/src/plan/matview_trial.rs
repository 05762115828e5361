//! Materialized views that a rebuild makes anew: each is made as a view on the empty copy of the new shape, and its indexes on an
//! empty table of what that shows.

use replank_core::{ErrorKind, Result};

use super::foresight::{After, is_of_shape};
use super::mapping::tried;
use crate::attached::{Matview, said_otherwise};
use crate::connect::Conn;
use crate::definition::Definition;
use crate::inspect::Table;
use crate::rebuild::{other_columns, reads_the_same};
use crate::sql::{first, get, ident, is_so, number, run};

/// What the plan says of those that follow.
#[derive(Debug, Default)]
pub struct Followed {
    /// Their names, as they are typed.
    pub names: Vec<String>,
    /// What those with rows take up.
    pub bytes: u64,
}

impl Followed {
    /// Looks at them.
    pub async fn read(connection: &mut Conn, matviews: &[Matview]) -> Result<Self> {
        let mut all = Self::default();
        for matview in matviews {
            all.names.push(name_of(connection, matview.oid).await?);
            let bytes = number(connection, format!("SELECT pg_total_relation_size({})", matview.oid)).await?;
            all.bytes = all.bytes.saturating_add(u64::try_from(bytes).unwrap_or_default());
        }
        Ok(all)
    }
}

/// Why one of them could not be made anew.
pub async fn obstacle(
    connection: &mut Conn,
    table: &Table,
    after: After<'_>,
    matviews: &[Matview],
) -> Result<Option<String>> {
    for matview in matviews {
        let name = name_of(connection, matview.oid).await?;
        run(connection, "SAVEPOINT rp_matviews").await?;
        let found = of_one(connection, table, after, matview.oid, &name).await;
        run(connection, "ROLLBACK TO SAVEPOINT rp_matviews").await?;
        if let Some(why) = found? {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

async fn name_of(connection: &mut Conn, number: i64) -> Result<String> {
    let row = first(connection, format!("SELECT {number}::regclass::text")).await?;
    row.map(|row| get(&row, 0)).transpose().map(Option::unwrap_or_default)
}

async fn of_one(
    connection: &mut Conn,
    table: &Table,
    after: After<'_>,
    matview: i64,
    name: &str,
) -> Result<Option<String>> {
    let anew = "drop it first, and make it again afterwards";
    if let Some(why) = said_otherwise(connection, matview).await? {
        return Ok(Some(format!("the materialized view {name}, {why}")));
    }
    let definition = Definition::read(connection, matview).await?;
    let schema = ident(&table.schema);
    let told = format!("SET LOCAL search_path = {schema}, pg_temp; SELECT pg_get_viewdef({matview}::oid)");
    let row = first(connection, told).await?;
    let told: String = row.map(|row| get(&row, 0)).transpose()?.unwrap_or_default();
    // The copy has the table's own name, and is found first.
    run(connection, format!("SET LOCAL search_path = pg_temp, {schema}")).await?;
    let making = format!("CREATE TEMPORARY VIEW _rp_matview AS {told}");
    if let Some(why) = refusal(connection, making.clone()).await? {
        return Ok(Some(format!("the new shape does not take the materialized view {name}: {why}; {anew}")));
    }
    run(connection, making).await?;
    let made = number(connection, "SELECT to_regclass('pg_temp._rp_matview')::oid::bigint").await?;
    // Over a column of another type the same words may mean a conversion that was none before.
    if let Some(why) = said_otherwise(connection, made).await? {
        return Ok(Some(format!("the materialized view {name} over the new shape, {why}")));
    }
    if !is_so(connection, reads_the_same(matview, made, (table.oid, after.number))).await? {
        return Ok(Some(format!(
            "the materialized view {name}: its text cannot be led to another table; {anew}"
        )));
    }
    if let Some(row) = first(connection, other_columns(matview, made)).await? {
        return Ok(Some(format!(
            "{}: drop the view first, and make it again afterwards",
            get::<String>(&row, 0)?
        )));
    }
    run(
        connection,
        "CREATE TEMPORARY TABLE _rp_rows ON COMMIT DROP AS SELECT * FROM pg_temp._rp_matview WITH NO DATA",
    )
    .await?;
    for (at, index) in definition.indexes.iter().enumerate() {
        let making = index.making("pg_temp._rp_rows", &format!("_rp_index{at}"));
        if let Some(why) = refusal(connection, making).await? {
            let index = &index.name;
            return Ok(Some(format!(
                "the new shape does not take the index {index} of the materialized view {name}: {why}; {anew}"
            )));
        }
    }
    Ok(None)
}

/// What the server says against a statement, if it is about the shape.
async fn refusal(connection: &mut Conn, sql: String) -> Result<Option<String>> {
    match tried(connection, sql).await? {
        None => Ok(None),
        Some(error) if is_of_shape(&error) || error.kind() == ErrorKind::Unfit => {
            Ok(Some(error.message().to_owned()))
        }
        Some(error) => Err(error),
    }
}
