//! What other tools for online changes left behind beside a table: gh-ost, pt-online-schema-change, spirit, lhm.

use replank_core::Result;
use serde::{Deserialize, Serialize};

use crate::connect::Conn;
use crate::sql::{get, ident, rows, table, text};

/// Something that another tool made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// What it is, as a sentence.
    pub what: String,
    /// How it is removed.
    pub mend: String,
}

/// Leftovers beside a table. One of a run that goes on just now looks the same.
pub async fn leftovers(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<Leftover>> {
    let tables = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND LOCATE({}, table_name) > 0
         AND table_name <> {1} ORDER BY 1",
        text(schema),
        text(name)
    );
    let triggers = format!(
        "SELECT trigger_name FROM information_schema.triggers
         WHERE event_object_schema = {} AND event_object_table = {} AND trigger_name LIKE 'pt\\_osc\\_%' ORDER BY 1",
        text(schema),
        text(name)
    );
    let mut found = Vec::new();
    for row in rows(connection, triggers).await? {
        let trigger: String = get(&row, 0)?;
        found.push(Leftover {
            what: format!("trigger `{trigger}` of pt-online-schema-change"),
            mend: format!("DROP TRIGGER {}.{}", ident(schema), ident(&trigger)),
        });
    }
    for row in rows(connection, tables).await? {
        let other: String = get(&row, 0)?;
        let Some(Made { by, holds_rows }) = made(&other, name) else { continue };
        let drop = format!("DROP TABLE {}", table(schema, &other));
        found.push(Leftover {
            what: format!("table `{other}` of {by}"),
            mend: match holds_rows {
                true => format!("it is the table as it was before: look at it, then {drop}"),
                false => drop,
            },
        });
    }
    Ok(found)
}

/// Who makes tables of such names.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    by: &'static str,
    /// It may be the only one that has its rows.
    holds_rows: bool,
}

fn made(other: &str, name: &str) -> Option<Made> {
    let by = |by, holds_rows| Some(Made { by, holds_rows });
    if let Some(rest) = other.strip_prefix("lhmn_") {
        return if rest == name { by("lhm", false) } else { None };
    }
    if let Some(rest) = other.strip_prefix("lhma_") {
        return if rest.ends_with(name) { by("lhm", true) } else { None };
    }
    let bare = other.trim_start_matches('_');
    if bare.len() == other.len() {
        return None;
    }
    let suffix = bare.strip_prefix(name.trim_start_matches('_'))?;
    match suffix {
        "_gho" | "_ghc" => by("gh-ost", false),
        "_chkpnt" => by("spirit", false),
        "_new" => by("pt-online-schema-change or spirit", false),
        "_old" => by("pt-online-schema-change or spirit", true),
        "_del" => by("gh-ost", true),
        // `_orders_20260102030405_del`.
        _ => {
            let stamp = suffix.strip_prefix('_')?.strip_suffix("_del")?;
            if stamp.bytes().all(|byte| byte.is_ascii_digit()) { by("gh-ost", true) } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("_orders_gho", Some(("gh-ost", false)))]
    #[case("_orders_20260102030405_del", Some(("gh-ost", true)))]
    #[case("___orders_new", Some(("pt-online-schema-change or spirit", false)))]
    #[case("_orders_old", Some(("pt-online-schema-change or spirit", true)))]
    #[case("lhma_2026_01_02_03_04_05_678_orders", Some(("lhm", true)))]
    #[case("orders_new", None)]
    #[case("_orders_items_new", None)]
    #[case("_reorders_old", None)]
    #[case("lhmn_old_orders", None)]
    fn names_tell_who_made_them(#[case] other: &str, #[case] by: Option<(&str, bool)>) {
        assert_eq!(made(other, "orders").map(|made| (made.by, made.holds_rows)), by);
    }
}
