//! Views that a rebuild makes anew: they are made on the empty copy of the new shape, and from what comes out of that on the
//! old one. A cast that does nothing in one of the shapes is not in the server's text of a view, so that another view, or
//! none, would come back.

use replank_core::Result;

use super::foresight::{After, is_of_shape};
use super::mapping::tried;
use crate::attached::views_made_anew;
use crate::connect::Conn;
use crate::inspect::Table;
use crate::sql::{first, get, ident, rows, run, text};

/// A view, by its own name, and what it shows.
struct View {
    name: String,
    definition: String,
}

/// Why the swap, or the swap back, would fail. `before` is the empty copy of the old shape.
pub async fn obstacle(
    connection: &mut Conn,
    table: &Table,
    after: After<'_>,
    before: &str,
) -> Result<Option<String>> {
    let all = rows(connection, views_made_anew(table.oid, after.number)).await?;
    if all.is_empty() {
        return Ok(None);
    }
    let schema = ident(&table.schema);
    let mut views = Vec::new();
    run(connection, format!("SAVEPOINT rp_views; SET LOCAL search_path = {schema}, pg_temp")).await?;
    for row in &all {
        let (name, may_make): (String, Option<String>) = (get(row, 1)?, get(row, 2)?);
        if let Some(why) = may_make {
            run(connection, "ROLLBACK TO SAVEPOINT rp_views").await?;
            return Ok(Some(why));
        }
        let definition = definition(connection, &get::<i64>(row, 0)?.to_string()).await?;
        views.push(View { name, definition });
    }
    // The copy has the table's own name, and is found first.
    run(connection, format!("SET LOCAL search_path = pg_temp, {schema}")).await?;
    let found = there_and_back(connection, table, &views, before).await;
    run(connection, "ROLLBACK TO SAVEPOINT rp_views").await?;
    found
}

async fn there_and_back(
    connection: &mut Conn,
    table: &Table,
    views: &[View],
    before: &str,
) -> Result<Option<String>> {
    let mut came = Vec::new();
    for view in views {
        match make(connection, view).await? {
            Ok(definition) => came.push(View { name: view.name.clone(), definition }),
            Err(why) => {
                return Ok(Some(format!("the new shape does not take the view {}: {why}", view.name)));
            }
        }
    }
    let names: Vec<String> = views.iter().map(|view| format!("pg_temp.{}", ident(&view.name))).collect();
    run(
        connection,
        format!(
            "DROP VIEW {}; ALTER TABLE pg_temp.{1} RENAME TO _rp_aside; ALTER TABLE {before} RENAME TO {1}",
            names.join(", "),
            ident(&table.name)
        ),
    )
    .await?;
    for (view, came) in views.iter().zip(&came) {
        let back = make(connection, came).await?;
        if !matches!(&back, Ok(definition) if *definition == view.definition) {
            let why = back.err().map(|why| format!(": {why}")).unwrap_or_default();
            return Ok(Some(format!(
                "the view {} would not come back as it is, since a cast in it does nothing in the new shape{why}; drop it first, \
                 and make it again afterwards",
                view.name
            )));
        }
    }
    Ok(None)
}

/// The server's text of what it made of a text; or why it made nothing.
async fn make(connection: &mut Conn, view: &View) -> Result<std::result::Result<String, String>> {
    let name = ident(&view.name);
    let making = format!("CREATE TEMPORARY VIEW {name} AS {}", view.definition);
    if let Some(error) = tried(connection, making.clone()).await? {
        return match is_of_shape(&error) {
            true => Ok(Err(error.message().to_owned())),
            false => Err(error),
        };
    }
    run(connection, making).await?;
    definition(connection, &format!("to_regclass({})", text(&format!("pg_temp.{name}")))).await.map(Ok)
}

async fn definition(connection: &mut Conn, view: &str) -> Result<String> {
    let row = first(connection, format!("SELECT pg_get_viewdef({view}::oid)")).await?;
    row.map(|row| get(&row, 0)).transpose().map(Option::unwrap_or_default)
}
