//! Values of one type in a column of another: how they are compared, and which do not fit.

use super::facts::members;
use crate::connect::Product;
use crate::inspect::Column;
use crate::sql::{ident, text};

/// What the written column must hold, and what it holds, in one form that tells apart all that the column can
/// tell apart. `from` is the column that `expression` only names, if it does.
pub fn comparable(
    product: Product,
    expression: &str,
    from: Option<&Column>,
    to: &Column,
) -> (String, String) {
    let stored = ident(&to.name);
    let is_same = from.is_some_and(|from| {
        from.column_type == to.column_type && from.charset == to.charset && from.collation == to.collation
    });
    if is_same {
        return (same(product, expression, to), same(product, &stored, to));
    }
    // The server compares them exactly, whatever their widths and signs.
    if to.is_integer() && from.is_some_and(Column::is_integer) {
        return (expression.to_owned(), stored);
    }
    (converted(expression, to), converted(&stored, to))
}

/// A value of the column's own type. Texts are compared as bytes: their collation may call others equal. A collation
/// that does just that, without padding, takes a third of the time that a conversion takes.
fn same(product: Product, value: &str, column: &Column) -> String {
    if column.is_text() && column.charset.as_deref() == Some("utf8mb4") {
        let by_bytes = match product {
            Product::MySql => "utf8mb4_0900_bin",
            Product::MariaDb => "utf8mb4_nopad_bin",
        };
        return format!("{value} COLLATE {by_bytes}");
    }
    if column.is_text() {
        return format!("CAST({value} AS BINARY)");
    }
    match column.data_type.as_str() {
        // Some values of other types are written like it.
        "json" => format!("CAST(CONCAT(JSON_TYPE({value}), ' ', CAST({value} AS CHAR)) AS BINARY)"),
        // By its number: a member may be written as what is no member.
        "enum" | "set" | "bit" => format!("({value} + 0)"),
        "float" | "double" => written_out(value),
        _ => value.to_owned(),
    }
}

/// Every digit, and the sign of zero, which a comparison of numbers passes over.
fn written_out(value: &str) -> String {
    format!("CAST({value} * 1e0 AS CHAR)")
}

/// A value of any type, as the column will hold it.
fn converted(value: &str, column: &Column) -> String {
    let charset = column.charset.as_deref().unwrap_or("utf8mb4");
    let (precision, scale) = column.precision;
    match column.data_type.as_str() {
        // CHAR gives its values back without the spaces at their end.
        "char" => format!("CAST(TRIM(TRAILING ' ' FROM CONVERT({value} USING {charset})) AS BINARY)"),
        "enum" | "set" => format!("CAST(CONVERT({value} USING {charset}) AS BINARY)"),
        _ if column.is_text() => format!("CAST(CONVERT({value} USING {charset}) AS BINARY)"),
        "binary" => format!("RPAD(CAST({value} AS BINARY), {}, 0x00)", column.length.unwrap_or(0)),
        _ if column.is_binary() => format!("CAST({value} AS BINARY)"),
        _ if column.is_integer() => format!("CAST({value} AS DECIMAL(30, 0))"),
        "decimal" => format!("CAST({value} AS DECIMAL({precision}, {scale}))"),
        "float" => written_out(&format!("CAST({value} AS FLOAT)")),
        "double" => written_out(&format!("CAST({value} AS DOUBLE)")),
        "date" => format!("CAST({value} AS DATE)"),
        "datetime" | "timestamp" => format!("CAST({value} AS DATETIME({}))", column.digits),
        "time" => format!("CAST({value} AS TIME({}))", column.digits),
        "year" => format!("CAST({value} AS UNSIGNED)"),
        "json" => format!("CAST(CAST(CAST({value} AS JSON) AS CHAR) AS BINARY)"),
        "bit" => format!("({value} + 0)"),
        _ => value.to_owned(),
    }
}

/// Whether every value of one type comes back just as it was after it was held by the other.
pub fn is_lossless(from: &Column, to: &Column) -> bool {
    if from.is_integer() && to.is_integer() {
        return true;
    }
    if from.is_text() && to.is_text() {
        return from.charset == to.charset && from.data_type == "varchar" && to.data_type != "char"
            || from.data_type == to.data_type && from.charset == to.charset;
    }
    if from.data_type != to.data_type {
        return false;
    }
    match from.data_type.as_str() {
        "decimal" => {
            let whole = |column: &Column| column.precision.0.saturating_sub(column.precision.1);
            whole(from) <= whole(to) && from.precision.1 <= to.precision.1
        }
        "datetime" | "timestamp" | "time" => from.digits <= to.digits,
        "varbinary" => true,
        _ => false,
    }
}

/// A value as a unique key of the new shape would see it, collation and all.
pub fn as_column(expression: &str, to: &Column) -> String {
    match (&to.charset, &to.collation) {
        (Some(charset), Some(collation)) if to.is_text() => {
            format!("CONVERT({expression} USING {charset}) COLLATE {collation}")
        }
        _ => expression.to_owned(),
    }
}

/// A condition that is true for values that the column cannot hold; `None` where every value of `from` fits, or
/// it is not known how to tell (then the copy tells).
pub fn does_not_fit(value: &str, from: &Column, to: &Column) -> Option<String> {
    if from.column_type == to.column_type && from.charset == to.charset {
        return None;
    }
    if to.is_integer() {
        let (least, most) = integer_range(to);
        if from.is_integer() {
            let (from_least, from_most) = integer_range(from);
            if from_least >= least && from_most <= most {
                return None;
            }
            return Some(format!("{value} NOT BETWEEN {least} AND {most}"));
        }
        if from.is_text() {
            return Some(format!(
                "NOT (CONVERT({value} USING utf8mb4) REGEXP '^ *[+-]?[0-9]+ *$')
                 OR CAST({value} AS DECIMAL(65, 0)) NOT BETWEEN {least} AND {most}"
            ));
        }
        if from.data_type == "decimal" {
            return Some(format!("ROUND({value}) NOT BETWEEN {least} AND {most}"));
        }
        return None;
    }
    if to.data_type == "decimal" && (from.is_integer() || from.data_type == "decimal") {
        let (precision, scale) = to.precision;
        let whole = precision.saturating_sub(scale);
        if from.data_type == "decimal"
            && from.precision.0.saturating_sub(from.precision.1) <= whole
            && from.precision.1 <= scale
        {
            return None;
        }
        let limit = format!("1{}", "0".repeat(usize::try_from(whole).unwrap_or(0)));
        return Some(format!("ABS(ROUND({value}, {scale})) >= {limit}"));
    }
    if to.is_text() || to.is_binary() {
        let length = to.length?;
        let mut conditions = Vec::new();
        let fits = (from.is_text() && to.is_text() || from.is_binary() && to.is_binary())
            && from.length.is_some_and(|from| from <= length);
        if !fits && from.data_type != "json" {
            conditions.push(match to.is_text() {
                true => format!("CHAR_LENGTH(CONVERT({value} USING utf8mb4)) > {length}"),
                false => format!("LENGTH({value}) > {length}"),
            });
        }
        if let (Some(old), Some(new)) = (&from.charset, &to.charset)
            && old != new
            && new != "utf8mb4"
        {
            conditions.push(format!(
                "CAST(CONVERT(CONVERT({value} USING {new}) USING utf8mb4) AS BINARY)
                 <> CAST(CONVERT({value} USING utf8mb4) AS BINARY)"
            ));
        }
        return (!conditions.is_empty()).then(|| conditions.join(" OR "));
    }
    if matches!(to.data_type.as_str(), "enum") {
        let members = to.column_type.strip_prefix("enum(")?.strip_suffix(')')?;
        return Some(format!("CONVERT({value} USING utf8mb4) NOT IN ({members})"));
    }
    if from.data_type == "set" && to.data_type == "set" {
        let (before, after) = (members(&from.column_type)?, members(&to.column_type)?);
        let gone: Vec<String> = before
            .iter()
            .filter(|member| !after.contains(member))
            .map(|member| format!("FIND_IN_SET({}, {value}) > 0", text(member)))
            .collect();
        return (!gone.is_empty()).then(|| gone.join(" OR "));
    }
    if from.is_text() && matches!(to.data_type.as_str(), "date" | "datetime" | "timestamp") {
        return Some(format!("CAST({value} AS DATETIME(6)) IS NULL"));
    }
    if from.is_text() && to.data_type == "json" {
        return Some(format!("NOT JSON_VALID({value})"));
    }
    None
}

fn integer_range(column: &Column) -> (i128, i128) {
    let bits = match column.data_type.as_str() {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        _ => 64,
    };
    match column.is_unsigned() {
        true => (0, (1_i128 << bits) - 1),
        false => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
    }
}
