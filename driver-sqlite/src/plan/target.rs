//! Finding the object that a statement names, and saying why it cannot be changed.

use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use crate::error::from_sqlx;
use crate::inspect::{Table, get};
use crate::sql::query;
use crate::state::Names;

/// An object of the catalogue.
pub struct Object {
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The table that it belongs to.
    pub table: String,
}

/// The object of a name, in any case.
pub async fn object(connection: &mut SqliteConnection, name: &str) -> Result<Option<Object>> {
    let found = query("SELECT type, name, tbl_name FROM sqlite_schema WHERE name = ? COLLATE NOCASE")
        .bind(name.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(from_sqlx)?;
    found.map(|row| Ok(Object { kind: get(&row, 0)?, name: get(&row, 1)?, table: get(&row, 2)? })).transpose()
}

/// The ordinary table of a name.
///
/// # Errors
/// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Refused`] for what cannot be changed.
pub async fn table(connection: &mut SqliteConnection, names: &Names, name: &str) -> Result<Table> {
    if name.to_ascii_lowercase().starts_with("sqlite_") {
        return Err(refused(
            format!("`{name}` is SQLite's own"),
            "only tables of the application can be changed",
        ));
    }
    own_name(names, name)?;
    let Some(found) =
        object(connection, name).await?.filter(|found| found.kind == "table" || found.kind == "view")
    else {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no table `{name}`"))
            .hint("`SELECT name FROM sqlite_schema WHERE type = 'table'` lists them"));
    };
    let kind = query("SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?")
        .bind(found.name.clone())
        .fetch_one(&mut *connection)
        .await
        .map_err(from_sqlx)?;
    match get::<String>(&kind, 0)?.as_str() {
        "table" => {}
        "view" => return Err(refused(format!("`{}` is a view", found.name), "drop it and create it anew")),
        "virtual" => {
            return Err(refused(format!("`{}` is a virtual table", found.name), "its module keeps its data"));
        }
        _ => {
            return Err(refused(
                format!("`{}` belongs to a virtual table", found.name),
                "its module keeps its data",
            ));
        }
    }
    Table::read(connection, &found.name)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no table `{name}`")))
}

/// Fails for a name that is kept for our own objects.
pub fn own_name(names: &Names, name: &str) -> Result<()> {
    if names.is_own(name) {
        return Err(refused(
            format!("`{name}` is a name of replank's own"),
            "`replank status` shows whose it is",
        ));
    }
    Ok(())
}

/// Fails unless a new table can have this name.
pub async fn free_name(connection: &mut SqliteConnection, names: &Names, name: &str) -> Result<()> {
    own_name(names, name)?;
    match object(connection, name).await? {
        Some(found) => {
            Err(Error::new(ErrorKind::Usage, format!("there is a {} `{}` already", found.kind, found.name)))
        }
        None => Ok(()),
    }
}

fn refused(message: String, hint: &str) -> Error {
    Error::new(ErrorKind::Refused, message).hint(hint)
}
