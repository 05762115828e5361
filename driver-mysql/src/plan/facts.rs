//! What the two definitions say, for the driver's rules.

use super::renames::Renames;
use crate::inspect::{Column, Table};
use crate::lint::{Facts, PrimaryKey, ZeroDefault};
use crate::parse::Clause;

/// Fills in what both definitions, side by side, tell.
pub fn compare(old: &Table, new: &Table, renames: &Renames, clauses: &[Clause], facts: &mut Facts) {
    for column in &new.columns {
        let from = renames.origin(old, column);
        let has_zeros = |table: &Table, name: &str| {
            table.column_line(name).is_some_and(|line| line.contains(" DEFAULT '0000-00-00"))
        };
        if has_zeros(new, &column.name) {
            let had_zeros = from.is_some_and(|from| has_zeros(old, &from.name));
            facts.zero_dates.push(ZeroDefault { column: column.name.clone(), is_new: !had_zeros });
        }
        let Some(from) = from else { continue };
        facts.members.extend(members_change(from, column));
        facts.lengths.extend(length_change(from, column));
        facts.recoded.extend(recoding(from, column));
    }
    facts.replaced = replaced(clauses);
    facts.primary_key = primary_key(old, new, renames);
}

/// Columns that become NOT NULL.
pub fn not_null<'t>(old: &Table, new: &'t Table, renames: &Renames) -> Vec<&'t Column> {
    let was_nullable = |column: &&Column| {
        renames.origin(old, column).is_some_and(|from| from.is_nullable && !column.is_nullable)
    };
    new.columns.iter().filter(was_nullable).collect()
}

/// Columns that a statement drops and adds.
fn replaced(clauses: &[Clause]) -> Vec<String> {
    let adds = |name: &&String| {
        clauses.iter().flat_map(|clause| &clause.adds).any(|add| add.eq_ignore_ascii_case(name))
    };
    clauses.iter().filter_map(|clause| clause.drops.as_ref()).filter(adds).cloned().collect()
}

fn members_change(from: &Column, to: &Column) -> Option<String> {
    let (before, after) = (members(&from.column_type)?, members(&to.column_type)?);
    if from.data_type != to.data_type || before == after {
        return None;
    }
    let is_appended = after.starts_with(&before);
    let bytes = |count: usize| match (from.data_type.as_str(), count) {
        ("enum", 0..=255) => 1,
        ("enum", _) => 2,
        (_, 0..=32) => count.div_ceil(8),
        _ => 8,
    };
    if is_appended && bytes(before.len()) == bytes(after.len()) {
        return None;
    }
    let gone: Vec<&str> =
        before.iter().filter(|member| !after.contains(member)).map(String::as_str).collect();
    Some(match (is_appended, gone.is_empty()) {
        (true, _) => format!("`{}` gets so many members that its values take another byte", to.name),
        (false, true) => {
            format!("the members of `{}` get another order, so its stored numbers change", to.name)
        }
        (false, false) => format!("`{}` loses {}, so its stored numbers change", to.name, gone.join(", ")),
    })
}

/// The members of an ENUM or SET, as the catalogue spells the type; `None` for others.
pub fn members(column_type: &str) -> Option<Vec<String>> {
    let list =
        column_type.strip_prefix("enum(").or_else(|| column_type.strip_prefix("set("))?.strip_suffix(')')?;
    let (mut found, mut member, mut is_inside) = (Vec::new(), String::new(), false);
    let mut rest = list.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, is_inside) {
            ('\'', true) if rest.peek() == Some(&'\'') => member.extend(rest.next()),
            ('\'', true) => {
                is_inside = false;
                found.push(std::mem::take(&mut member));
            }
            ('\'', false) => is_inside = true,
            (c, true) => member.push(c),
            _ => {}
        }
    }
    Some(found)
}

fn length_change(from: &Column, to: &Column) -> Option<String> {
    let is_varchar = |column: &Column| column.data_type == "varchar" || column.data_type == "varbinary";
    if !is_varchar(from) || from.data_type != to.data_type || from.charset != to.charset {
        return None;
    }
    let bytes = |column: &Column| column.length.unwrap_or(0) * width(column.charset.as_deref());
    (bytes(from) <= 255 && bytes(to) > 255).then(|| {
        format!(
            "`{}` grows from {} to {} bytes, past the 255 that one byte counts",
            to.name,
            bytes(from),
            bytes(to)
        )
    })
}

/// Most bytes that a character takes: <https://dev.mysql.com/doc/refman/9.7/en/charset-charsets.html>.
fn width(charset: Option<&str>) -> u64 {
    match charset {
        Some("utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030") => 4,
        Some("utf8mb3" | "utf8" | "ujis" | "eucjpms") => 3,
        Some("ucs2" | "sjis" | "cp932" | "big5" | "gbk" | "gb2312" | "euckr") => 2,
        _ => 1,
    }
}

fn recoding(from: &Column, to: &Column) -> Option<String> {
    let (old, new) = (from.collation.as_ref()?, to.collation.as_ref()?);
    (old != new).then(|| match from.charset == to.charset {
        true => format!("`{}` is compared by {new} instead of {old}", to.name),
        false => format!(
            "`{}` is converted from {} to {} ({new} instead of {old})",
            to.name,
            from.charset.as_deref().unwrap_or_default(),
            to.charset.as_deref().unwrap_or_default()
        ),
    })
}

fn primary_key(old: &Table, new: &Table, renames: &Renames) -> Option<PrimaryKey> {
    let parts = |table: &Table| -> Vec<String> {
        let primary = table.unique.iter().find(|unique| unique.name == "PRIMARY");
        primary.map(|primary| primary.parts.clone()).unwrap_or_default()
    };
    let before: Vec<String> = parts(old)
        .iter()
        .map(|part| {
            let column = old.columns.iter().find(|column| crate::sql::ident(&column.name) == *part);
            column.map_or_else(|| part.clone(), |column| crate::sql::ident(renames.new_name(&column.name)))
        })
        .collect();
    let after = parts(new);
    let named = |parts: &[String]| {
        if parts.is_empty() { "none".to_owned() } else { format!("({})", parts.join(", ")) }
    };
    (before != after).then(|| PrimaryKey {
        what: format!("the primary key changes from {} to {}", named(&before), named(&after)),
        why_not: None,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn column(data_type: &str, column_type: &str, length: u64, charset: &str) -> Column {
        Column {
            name: "c".into(),
            ordinal: 0,
            data_type: data_type.into(),
            column_type: column_type.into(),
            charset: Some(charset.into()),
            collation: Some(format!("{charset}_bin")),
            is_nullable: true,
            is_generated: false,
            is_counter: false,
            has_default: true,
            length: Some(length),
            precision: (0, 0),
            digits: 0,
        }
    }

    #[rstest]
    #[case("enum('a','b')", "enum('a','b','c')", None)]
    #[case("enum('a','b')", "enum('b','a')", Some("another order"))]
    #[case("enum('a','it''s')", "enum('a')", Some("loses it's"))]
    #[case(
        "set('1','2','3','4','5','6','7','8')",
        "set('1','2','3','4','5','6','7','8','9')",
        Some("another byte")
    )]
    #[case("set('1','2')", "set('1','2','3')", None)]
    fn members_are_compared_by_their_numbers(
        #[case] old: &str,
        #[case] new: &str,
        #[case] says: Option<&str>,
    ) {
        let kind = old.split('(').next().expect("a kind");
        let found = members_change(&column(kind, old, 0, "utf8mb4"), &column(kind, new, 0, "utf8mb4"));
        match says {
            Some(says) => assert!(found.as_ref().is_some_and(|found| found.contains(says)), "{found:?}"),
            None => assert_eq!(found, None),
        }
    }

    #[rstest]
    #[case(63, 64, "utf8mb4", true)]
    #[case(60, 63, "utf8mb4", false)]
    #[case(64, 90, "utf8mb4", false)]
    #[case(255, 256, "latin1", true)]
    fn the_border_is_at_255_bytes(
        #[case] old: u64,
        #[case] new: u64,
        #[case] charset: &str,
        #[case] crosses: bool,
    ) {
        let varchar = |length| column("varchar", &format!("varchar({length})"), length, charset);
        assert_eq!(length_change(&varchar(old), &varchar(new)).is_some(), crosses);
    }
}
