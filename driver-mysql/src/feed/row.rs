//! Key values out of row events. Only the key's columns are decoded; of the others the length is enough.
//! Formats: <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Table__map__event.html>.

use mysql_async::binlog::events::{RowsEventData, TableMapEvent};
use replank_core::{Error, ErrorKind, Result};

use crate::key::{Value, Values};
use crate::spec::{KeyColumn, KeyKind};

/// A column's type in the log, with what is needed to find its end and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// So many bytes.
    Fixed(usize),
    /// A length of so many bytes, and as many bytes as it says.
    Counted(usize),
    /// Digits before and after the point.
    Decimal(usize, usize),
    /// Seconds of the kind, and digits of a second.
    Timestamp2(u8),
    Datetime2(u8),
    Time2(u8),
}

/// Where the bytes of a row event end is not where they should.
fn torn() -> Error {
    Error::new(ErrorKind::FeedGap, "a row event of the log cannot be read to its end")
        .hint("please report this with the server's version")
}

/// The keys of one changed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Before; `None` for a new row.
    pub old: Option<Values>,
    /// Afterwards; `None` for a row that is gone.
    pub new: Option<Values>,
}

/// The key columns of each row of an event.
///
/// # Errors
/// [`ErrorKind::FeedGap`] when a key column is not in the event (`binlog_row_image=MINIMAL` in some session and
/// a key that is not the primary one), or the event cannot be understood.
pub fn keys(event: &RowsEventData<'_>, map: &TableMapEvent<'_>, key: &[KeyColumn]) -> Result<Vec<Changed>> {
    let count = usize::try_from(event.num_columns()).map_err(|_| torn())?;
    let columns: Vec<Held> = (0..count).map(|column| held(map, column)).collect::<Result<_>>()?;
    let before: Option<Vec<bool>> =
        event.columns_before_image().map(|bits| bits.iter().by_vals().take(count).collect());
    let after: Option<Vec<bool>> =
        event.columns_after_image().map(|bits| bits.iter().by_vals().take(count).collect());
    let is_partial = matches!(event, RowsEventData::PartialUpdateRowsEvent(_));
    let jsons = (0..count).filter(|column| is_json(map, *column)).count();
    let mut rest = event.rows_data();
    let mut changed = Vec::new();
    while !rest.is_empty() {
        let old = match &before {
            Some(included) => Some(image(&mut rest, &columns, included, map, key)?),
            None => None,
        };
        let new = match &after {
            Some(included) => {
                if is_partial {
                    skip_partial(&mut rest, jsons)?;
                }
                Some(image(&mut rest, &columns, included, map, key)?)
            }
            None => None,
        };
        changed.push(both(old, new, key)?);
    }
    Ok(changed)
}

/// A column that is not in the image afterwards has not changed.
fn both(
    old: Option<Vec<Option<Value>>>,
    new: Option<Vec<Option<Value>>>,
    key: &[KeyColumn],
) -> Result<Changed> {
    let complete = |values: Vec<Option<Value>>| -> Result<Values> {
        let missing =
            key.iter().zip(&values).find(|(_, value)| value.is_none()).map(|(column, _)| &column.source);
        match missing {
            None => Ok(Values(values.into_iter().flatten().collect())),
            Some(column) => Err(Error::new(
                ErrorKind::FeedGap,
                format!("the log does not say what `{column}` was in a changed row"),
            )
            .hint("some session writes with binlog_row_image other than FULL; `replank abort`, set it to FULL, and apply again")),
        }
    };
    let new = match (&old, new) {
        (Some(old), Some(new)) => {
            Some(new.into_iter().zip(old).map(|(new, old)| new.or_else(|| old.clone())).collect())
        }
        (_, new) => new,
    };
    Ok(Changed { old: old.map(complete).transpose()?, new: new.map(complete).transpose()? })
}

/// The key's values in one image of a row; `None` for those that are not in it.
fn image(
    rest: &mut &[u8],
    columns: &[Held],
    included: &[bool],
    map: &TableMapEvent<'_>,
    key: &[KeyColumn],
) -> Result<Vec<Option<Value>>> {
    let present = included.iter().filter(|is_there| **is_there).count();
    let nulls = take(rest, present.div_ceil(8))?;
    let mut values = vec![None; key.len()];
    let mut index = 0;
    for (column, held) in columns.iter().enumerate() {
        if !included[column] {
            continue;
        }
        let is_null = nulls[index / 8] & (1 << (index % 8)) != 0;
        index += 1;
        if is_null {
            continue;
        }
        let bytes = value_bytes(rest, *held)?;
        for (slot, key) in key.iter().enumerate().filter(|(_, key)| key.ordinal == column) {
            values[slot] = Some(value(bytes, *held, map, column, &key.kind)?);
        }
    }
    Ok(values)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count).ok_or_else(torn)?;
    *rest = left;
    Ok(taken)
}

/// `binlog_row_value_options`: an option, and which JSON columns are differences. Both have lengths.
fn skip_partial(rest: &mut &[u8], jsons: usize) -> Result<()> {
    let options = take(rest, 1)?[0];
    match options {
        0 => Ok(()),
        1 => take(rest, jsons.div_ceil(8)).map(drop),
        _ => Err(torn()),
    }
}

fn value_bytes<'a>(rest: &mut &'a [u8], held: Held) -> Result<&'a [u8]> {
    let count = match held {
        Held::Fixed(count) => count,
        Held::Counted(width) => little_endian(take(rest, width)?) as usize,
        Held::Decimal(whole, fraction) => decimal_bytes(whole) + decimal_bytes(fraction),
        Held::Timestamp2(digits) => 4 + fraction_bytes(digits),
        Held::Datetime2(digits) => 5 + fraction_bytes(digits),
        Held::Time2(digits) => 3 + fraction_bytes(digits),
    };
    take(rest, count)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

fn decimal_bytes(digits: usize) -> usize {
    const LEFT: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    digits / 9 * 4 + LEFT[digits % 9]
}

fn fraction_bytes(digits: u8) -> usize {
    usize::from(digits).div_ceil(2)
}

// The numbers are the protocol's: enum_field_types.
const TINY: u8 = 1;
const SHORT: u8 = 2;
const LONG: u8 = 3;
const FLOAT: u8 = 4;
const DOUBLE: u8 = 5;
const TIMESTAMP: u8 = 7;
const LONGLONG: u8 = 8;
const INT24: u8 = 9;
const DATE: u8 = 10;
const TIME: u8 = 11;
const DATETIME: u8 = 12;
const YEAR: u8 = 13;
const NEWDATE: u8 = 14;
const VARCHAR: u8 = 15;
const BIT: u8 = 16;
const TIMESTAMP2: u8 = 17;
const DATETIME2: u8 = 18;
const TIME2: u8 = 19;
const VECTOR: u8 = 242;
const JSON: u8 = 245;
const NEWDECIMAL: u8 = 246;
const ENUM: u8 = 247;
const SET: u8 = 248;
const BLOBS: std::ops::RangeInclusive<u8> = 249..=252;
const VAR_STRING: u8 = 253;
const STRING: u8 = 254;
const GEOMETRY: u8 = 255;

fn raw_type(map: &TableMapEvent<'_>, column: usize) -> Option<u8> {
    map.get_raw_column_type(column).ok().flatten().map(|kind| kind as u8)
}

fn is_json(map: &TableMapEvent<'_>, column: usize) -> bool {
    raw_type(map, column) == Some(JSON)
}

fn held(map: &TableMapEvent<'_>, column: usize) -> Result<Held> {
    let kind = raw_type(map, column).ok_or_else(torn)?;
    let meta = map.get_column_metadata(column).unwrap_or(&[]);
    let meta_at = |index: usize| meta.get(index).copied().ok_or_else(torn);
    Ok(match kind {
        TINY | YEAR => Held::Fixed(1),
        SHORT => Held::Fixed(2),
        INT24 | DATE | NEWDATE | TIME => Held::Fixed(3),
        LONG | FLOAT | TIMESTAMP => Held::Fixed(4),
        LONGLONG | DOUBLE | DATETIME => Held::Fixed(8),
        TIMESTAMP2 => Held::Timestamp2(meta_at(0)?),
        DATETIME2 => Held::Datetime2(meta_at(0)?),
        TIME2 => Held::Time2(meta_at(0)?),
        NEWDECIMAL => {
            let (precision, scale) = (usize::from(meta_at(0)?), usize::from(meta_at(1)?));
            Held::Decimal(precision.checked_sub(scale).ok_or_else(torn)?, scale)
        }
        BIT => Held::Fixed((usize::from(meta_at(1)?) * 8 + usize::from(meta_at(0)?)).div_ceil(8)),
        JSON | GEOMETRY | VECTOR => Held::Counted(usize::from(meta_at(0)?)),
        kind if BLOBS.contains(&kind) => Held::Counted(usize::from(meta_at(0)?)),
        VARCHAR | VAR_STRING => {
            let length = u16::from_le_bytes([meta_at(0)?, meta_at(1)?]);
            Held::Counted(if length < 256 { 1 } else { 2 })
        }
        ENUM | SET => Held::Fixed(usize::from(meta_at(1)?)),
        // The real type is in the metadata, and bits of a length over 255 are folded into it.
        STRING => match (meta_at(0)?, meta_at(1)?) {
            (ENUM | SET, length) => Held::Fixed(usize::from(length)),
            (kind, length) => {
                let long = usize::from((kind & 0x30) ^ 0x30) << 4;
                Held::Counted(if long | usize::from(length) < 256 { 1 } else { 2 })
            }
        },
        _ => {
            return Err(Error::new(
                ErrorKind::FeedGap,
                format!("the log has a column type that is not known: {kind}"),
            )
            .hint("please report this with the table's definition"));
        }
    })
}

fn value(bytes: &[u8], held: Held, map: &TableMapEvent<'_>, column: usize, kind: &KeyKind) -> Result<Value> {
    let other = || {
        Error::new(ErrorKind::ForeignDdl, "a key column has another type in the log than in the plan")
            .with("column", column)
            .with("in the log", raw_type(map, column).unwrap_or_default())
            .hint("somebody changed the table")
    };
    Ok(match (kind, held) {
        (KeyKind::Integer { unsigned }, Held::Fixed(width)) => {
            let raw = little_endian(bytes);
            if *unsigned {
                Value::Number(raw.to_string())
            } else {
                let shift = 64 - 8 * width;
                Value::Number((((raw << shift) as i64) >> shift).to_string())
            }
        }
        (KeyKind::Year, Held::Fixed(1)) => {
            let year = if bytes[0] == 0 { 0 } else { 1900 + u32::from(bytes[0]) };
            Value::Number(format!("{year:04}"))
        }
        (KeyKind::Decimal, Held::Decimal(whole, fraction)) => Value::Number(decimal(bytes, whole, fraction)),
        (KeyKind::Date, Held::Fixed(3)) => {
            let raw = little_endian(bytes);
            Value::Time(format!("{:04}-{:02}-{:02}", raw >> 9, (raw >> 5) & 15, raw & 31))
        }
        (KeyKind::DateTime { .. }, Held::Datetime2(digits)) => Value::Time(datetime(bytes, digits)),
        (KeyKind::Timestamp { .. }, Held::Timestamp2(digits)) => {
            Value::Time(timestamp(big_endian(&bytes[..4]), &bytes[4..], digits).ok_or_else(torn)?)
        }
        (KeyKind::Time { .. }, Held::Time2(digits)) => Value::Time(time(bytes, digits)),
        (KeyKind::Text { .. }, Held::Counted(_)) => Value::of_bytes(kind, bytes.to_vec()),
        (KeyKind::Binary { length }, Held::Counted(_)) => {
            let mut held = bytes.to_vec();
            if let Some(length) = length {
                // The log drops the zeros at the end of BINARY.
                held.resize(*length, 0);
            }
            Value::Bytes(held)
        }
        _ => return Err(other()),
    })
}

/// Digits in groups of nine, four bytes each; the first bit is turned over, and all bits of negative numbers.
fn decimal(bytes: &[u8], whole: usize, fraction: usize) -> String {
    let is_negative = bytes[0] & 0x80 == 0;
    let mask = if is_negative { 0xff } else { 0 };
    let mut plain: Vec<u8> = bytes.iter().map(|byte| byte ^ mask).collect();
    plain[0] ^= 0x80;
    let mut rest = &plain[..];
    let mut group = |digits: usize| -> String {
        let (taken, left) = rest.split_at(decimal_bytes(digits));
        rest = left;
        format!("{:0digits$}", big_endian(taken))
    };
    let mut before = String::new();
    if !whole.is_multiple_of(9) {
        before.push_str(&group(whole % 9));
    }
    for _ in 0..whole / 9 {
        before.push_str(&group(9));
    }
    let mut after = String::new();
    for _ in 0..fraction / 9 {
        after.push_str(&group(9));
    }
    if !fraction.is_multiple_of(9) {
        after.push_str(&group(fraction % 9));
    }
    let before = before.trim_start_matches('0');
    let before = if before.is_empty() { "0" } else { before };
    let sign = if is_negative { "-" } else { "" };
    if fraction == 0 { format!("{sign}{before}") } else { format!("{sign}{before}.{after}") }
}

/// The fraction of a second as written after the point, `.12` of two digits.
fn fraction(bytes: &[u8], digits: u8) -> String {
    match digits {
        0 => String::new(),
        _ => {
            // The bytes hold an even number of digits.
            let even = usize::from(digits).div_ceil(2) * 2;
            let written = format!("{:0even$}", big_endian(bytes));
            format!(".{}", &written[..usize::from(digits)])
        }
    }
}

fn datetime(bytes: &[u8], digits: u8) -> String {
    // 1 bit sign, 17 bits year and month, 5 day, 5 hour, 6 minute, 6 second.
    let raw = big_endian(&bytes[..5]) & 0x7f_ffff_ffff;
    let (date, clock) = (raw >> 17, raw & 0x1_ffff);
    let (months, day) = (date >> 5, date & 31);
    format!(
        "{:04}-{:02}-{day:02} {:02}:{:02}:{:02}{}",
        months / 13,
        months % 13,
        clock >> 12,
        (clock >> 6) & 63,
        clock & 63,
        fraction(&bytes[5..], digits)
    )
}

fn timestamp(seconds: u64, rest: &[u8], digits: u8) -> Option<String> {
    let fraction = fraction(rest, digits);
    if seconds == 0 {
        return Some(format!("0000-00-00 00:00:00{fraction}"));
    }
    let at = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(format!("{}{fraction}", at.strftime("%Y-%m-%d %H:%M:%S")))
}

/// Negative times are held as what is missing to zero, fraction and all.
fn time(bytes: &[u8], digits: u8) -> String {
    let width = bytes.len();
    let zero = 1_u64 << (8 * width - 1);
    let raw = big_endian(bytes);
    let (sign, raw) = if raw < zero { ("-", zero - raw) } else { ("", raw - zero) };
    let bits = 8 * (width - 3);
    let clock = raw >> bits;
    let rest = raw & ((1_u64 << bits) - 1);
    let rest = rest.to_be_bytes();
    format!(
        "{sign}{:02}:{:02}:{:02}{}",
        clock >> 12,
        (clock >> 6) & 63,
        clock & 63,
        fraction(&rest[8 - (width - 3)..], digits)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_all_their_digits() {
        // From the manual's example: DECIMAL(14, 4) of 1234567890.1234.
        let bytes = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(decimal(&bytes, 10, 4), "1234567890.1234");
        let negative: Vec<u8> = bytes.iter().map(|byte| byte ^ 0xff).collect();
        assert_eq!(decimal(&negative, 10, 4), "-1234567890.1234");
        assert_eq!(decimal(&[0x80, 0x05], 2, 2), "0.05");
    }

    #[test]
    fn times_before_zero_and_fractions() {
        assert_eq!(time(&[0x80, 0x00, 0x00], 0), "00:00:00");
        assert_eq!(time(&[0x7f, 0xff, 0xff], 0), "-00:00:01");
        assert_eq!(time(&[0x7f, 0xff, 0xff, 0xff], 2), "-00:00:00.01");
        assert_eq!(timestamp(1, &[0x32], 2).as_deref(), Some("1970-01-01 00:00:01.50"));
        assert_eq!(timestamp(0, &[], 0).as_deref(), Some("0000-00-00 00:00:00"));
    }

    #[test]
    fn what_ends_too_early_is_an_error() {
        let mut rest: &[u8] = &[5, 1, 2];
        assert_eq!(value_bytes(&mut rest, Held::Counted(1)).expect_err("torn").kind(), ErrorKind::FeedGap);
    }
}
