//! What the catalogue says of a table.

use replank_core::Result;

use crate::connect::Conn;
use crate::definition;
use crate::key::is_floating;
use crate::lines::items;
use crate::spec::{Index, KeyKind, Unique};
use crate::sql::{first, get, ident, number, rows, table as qualified, text};

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its place in a row event, from 0.
    pub ordinal: usize,
    /// `varchar`, `int` and so on.
    pub data_type: String,
    /// `varchar(20)`, `int unsigned` and so on.
    pub column_type: String,
    /// Of texts.
    pub charset: Option<String>,
    /// Of texts.
    pub collation: Option<String>,
    /// NULL may be stored.
    pub is_nullable: bool,
    /// It is computed from other columns.
    pub is_generated: bool,
    /// It counts by itself.
    pub is_counter: bool,
    /// It has a default, or NULL is one.
    pub has_default: bool,
    /// Characters of texts, bytes of binaries.
    pub length: Option<u64>,
    /// Of DECIMAL: all digits, and those after the point.
    pub precision: (u64, u64),
    /// Digits of a second.
    pub digits: u8,
}

impl Column {
    /// Unsigned, as far as numbers go.
    pub fn is_unsigned(&self) -> bool {
        self.column_type.contains("unsigned")
    }

    /// CHAR, VARCHAR and the TEXTs.
    pub fn is_text(&self) -> bool {
        matches!(
            self.data_type.as_str(),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext"
        )
    }

    /// BINARY, VARBINARY and the BLOBs.
    pub fn is_binary(&self) -> bool {
        matches!(
            self.data_type.as_str(),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob"
        )
    }

    /// The whole numbers.
    pub fn is_integer(&self) -> bool {
        matches!(self.data_type.as_str(), "tinyint" | "smallint" | "mediumint" | "int" | "bigint")
    }

    /// How its values travel when it tells rows apart; `None` for types that cannot.
    pub fn key_kind(&self) -> Option<KeyKind> {
        let digits = self.digits;
        Some(match self.data_type.as_str() {
            _ if self.is_integer() => KeyKind::Integer { unsigned: self.is_unsigned() },
            "decimal" => KeyKind::Decimal,
            _ if self.is_text() => KeyKind::Text { charset: self.charset.clone().unwrap_or_default() },
            "binary" => {
                KeyKind::Binary { length: self.length.and_then(|length| usize::try_from(length).ok()) }
            }
            _ if self.is_binary() => KeyKind::Binary { length: None },
            "date" => KeyKind::Date,
            "datetime" => KeyKind::DateTime { digits },
            "timestamp" => KeyKind::Timestamp { digits },
            "time" => KeyKind::Time { digits },
            "year" => KeyKind::Year,
            _ => return None,
        })
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its database.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What SHOW CREATE TABLE says, without the counter.
    pub sql: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its keys and indexes but the primary key, with their lines of the definition.
    pub indexes: Vec<Index>,
    /// Its unique keys.
    pub unique: Vec<Unique>,
    /// Rows, as the server estimates.
    pub rows: u64,
    /// Bytes of rows and indexes, as the server estimates.
    pub bytes: u64,
}

impl Table {
    /// Reads a table under its name; `None` where it is not there.
    pub async fn read(connection: &mut Conn, schema: &str, name: &str) -> Result<Option<Self>> {
        let Some(sql) = definition::read(connection, schema, name).await? else { return Ok(None) };
        let columns = columns(connection, schema, name).await?;
        let unique = unique(connection, schema, name).await?;
        let indexes = index_lines(&sql, &unique);
        let size = first(
            connection,
            format!(
                "SELECT table_rows, data_length + index_length FROM information_schema.tables
                 WHERE table_schema = {} AND table_name = {}",
                text(schema),
                text(name)
            ),
        )
        .await?;
        let (rows, bytes) = match &size {
            Some(row) => (get::<Option<u64>>(row, 0)?, get::<Option<u64>>(row, 1)?),
            None => (None, None),
        };
        Ok(Some(Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            sql,
            columns,
            indexes,
            unique,
            rows: rows.unwrap_or(0),
            bytes: bytes.unwrap_or(0),
        }))
    }

    /// A column; names are compared as MySQL does.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// One line a column of the definition.
    pub fn column_line(&self, name: &str) -> Option<&str> {
        let head = format!("{} ", ident(name));
        items(&self.sql).into_iter().find(|line| line.starts_with(&head))
    }
}

fn index_lines(sql: &str, unique: &[Unique]) -> Vec<Index> {
    let is_index = |line: &&str| {
        ["KEY ", "UNIQUE KEY ", "FULLTEXT KEY ", "SPATIAL KEY "].iter().any(|start| line.starts_with(start))
    };
    items(sql)
        .into_iter()
        .filter(is_index)
        .filter_map(|line| {
            let name = line.split('`').nth(1)?;
            Some(Index {
                name: name.to_owned(),
                clause: line.to_owned(),
                is_unique: unique.iter().any(|unique| unique.name == name),
                is_deferred: !line.starts_with("FULLTEXT"),
            })
        })
        .collect()
}

async fn columns(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<Column>> {
    let sql = format!(
        "SELECT column_name, data_type, column_type, character_set_name, collation_name, is_nullable = 'YES',
                COALESCE(generation_expression, '') <> '', extra LIKE '%auto_increment%',
                column_default IS NOT NULL OR is_nullable = 'YES' OR extra LIKE '%DEFAULT_GENERATED%',
                COALESCE(IF(character_set_name IS NULL, character_octet_length, character_maximum_length), 0),
                COALESCE(numeric_precision, 0), COALESCE(numeric_scale, 0), COALESCE(datetime_precision, 0)
         FROM information_schema.columns WHERE table_schema = {} AND table_name = {} ORDER BY ordinal_position",
        text(schema),
        text(name)
    );
    rows(connection, sql)
        .await?
        .iter()
        .enumerate()
        .map(|(ordinal, row)| {
            let length: u64 = get(row, 9)?;
            Ok(Column {
                name: get(row, 0)?,
                ordinal,
                data_type: get::<String>(row, 1)?.to_ascii_lowercase(),
                column_type: get::<String>(row, 2)?.to_ascii_lowercase(),
                charset: get(row, 3)?,
                collation: get(row, 4)?,
                is_nullable: get(row, 5)?,
                is_generated: get(row, 6)?,
                is_counter: get(row, 7)?,
                has_default: get(row, 8)?,
                length: (length > 0).then_some(length),
                precision: (get(row, 10)?, get(row, 11)?),
                digits: u8::try_from(get::<u64>(row, 12)?).unwrap_or(0),
            })
        })
        .collect()
}

async fn unique(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<Unique>> {
    // MariaDB has no keys over expressions.
    let expression = if connection.is_mariadb() { "NULL" } else { "expression" };
    let sql = format!(
        "SELECT index_name, column_name, sub_part, {expression} FROM information_schema.statistics
         WHERE table_schema = {} AND table_name = {} AND non_unique = 0
         ORDER BY index_name = 'PRIMARY' DESC, index_name, seq_in_index",
        text(schema),
        text(name)
    );
    let mut found: Vec<Unique> = Vec::new();
    for row in rows(connection, sql).await? {
        let name: String = get(&row, 0)?;
        let (column, length): (Option<String>, Option<u64>) = (get(&row, 1)?, get(&row, 2)?);
        let expression: Option<String> = get(&row, 3)?;
        let part = match (column, length, expression) {
            (Some(column), None, _) => ident(&column),
            (Some(column), Some(length), _) => format!("LEFT({}, {length})", ident(&column)),
            (None, _, expression) => {
                // The catalogue escapes quotes in it.
                format!("({})", expression.unwrap_or_default().replace("\\'", "'"))
            }
        };
        match found.last_mut() {
            Some(last) if last.name == name => last.parts.push(part),
            _ => found.push(Unique { name, parts: vec![part] }),
        }
    }
    Ok(found)
}

/// Why a table has no key that tells rows apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoKey {
    /// A column of its unique key may be NULL.
    Nullable(String),
    /// A part of its unique key is computed.
    Computed(String),
    /// Anything else, as a sentence.
    Other(String),
}

impl std::fmt::Display for NoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Nullable(why) | Self::Computed(why) | Self::Other(why)) = self;
        f.write_str(why)
    }
}

/// The columns of the key that tells rows apart: the primary one, else a unique one of whole columns that are
/// never NULL. Or why there is none.
pub fn usable_key(table: &Table) -> std::result::Result<Vec<&Column>, NoKey> {
    let mut why =
        NoKey::Other("it has no primary key, and no unique key of columns that are NOT NULL".to_owned());
    for unique in &table.unique {
        match key_columns(table, unique) {
            Ok(columns) => return Ok(columns),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

/// The columns of a unique key, if it can tell rows apart.
pub fn key_columns<'a>(table: &'a Table, unique: &Unique) -> std::result::Result<Vec<&'a Column>, NoKey> {
    unique
        .parts
        .iter()
        .map(|part| {
            let column = table.columns.iter().find(|column| ident(&column.name) == *part);
            let Some(column) = column else {
                return Err(match part.starts_with('(') {
                    true => {
                        NoKey::Computed(format!("the unique key `{}` is over an expression", unique.name))
                    }
                    false => {
                        NoKey::Other(format!("the unique key `{}` is over a part of a column", unique.name))
                    }
                });
            };
            let name = &column.name;
            if column.is_generated {
                return Err(NoKey::Computed(format!(
                    "column {name} of the key `{}` is computed",
                    unique.name
                )));
            }
            if column.is_nullable {
                let why = format!("column {name} of the unique key `{}` may be NULL", unique.name);
                return Err(NoKey::Nullable(why));
            }
            if is_floating(&column.data_type) {
                let why = format!("column {name} is floating point: equal values may be written unequally");
                return Err(NoKey::Other(why));
            }
            if column.key_kind().is_none() {
                return Err(NoKey::Other(format!(
                    "a key of type {} is not supported yet",
                    column.column_type
                )));
            }
            Ok(column)
        })
        .collect()
}

/// What is under a name in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The database and the name as the server keeps them: with `lower_case_table_names` in small letters.
    pub schema: String,
    /// Its name, likewise.
    pub name: String,
    /// `BASE TABLE`, `VIEW` and so on.
    pub kind: String,
    /// Of tables.
    pub engine: Option<String>,
}

/// Looks a name up, as the server compares names.
pub async fn named(connection: &mut Conn, schema: &str, name: &str) -> Result<Option<Named>> {
    let sql = format!(
        "SELECT table_schema, table_name, table_type, engine FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        text(schema),
        text(name)
    );
    let Some(row) = first(connection, sql).await? else { return Ok(None) };
    Ok(Some(Named { schema: get(&row, 0)?, name: get(&row, 1)?, kind: get(&row, 2)?, engine: get(&row, 3)? }))
}

/// Tables whose names differ from this one's by the case of their letters only.
pub async fn twins(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<String>> {
    let (schema, name) = (text(schema), text(name));
    let sql = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}
         AND LOWER(table_name) = LOWER({name}) AND CAST(table_name AS BINARY) <> CAST({name} AS BINARY)"
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

/// All rows of a table, counted.
pub async fn count(connection: &mut Conn, schema: &str, name: &str) -> Result<u64> {
    number(connection, format!("SELECT COUNT(*) FROM {}", qualified(schema, name))).await
}

/// An exact count where the table is small, else the server's estimate.
pub async fn size(connection: &mut Conn, table: &Table) -> Result<(u64, bool)> {
    // The estimate is off by a factor of two at most; a count of so many rows takes a moment. Chosen.
    const EXACT_MAX: u64 = 200_000;
    if table.rows > EXACT_MAX {
        return Ok((table.rows, false));
    }
    Ok((count(connection, &table.schema, &table.name).await?, true))
}
