//! Helper tables that no run knows any more: somebody removed the records, or restored a backup.

use replank_core::Result;
use replank_core::driver::Check;
use replank_core::driver::facts::CheckState;

use crate::connect::Conn;
use crate::rebuild::names::{bare, is_helper};
use crate::sql::{get, rows, table, text};
use crate::state::{Names, all_runs};

/// One line a table. A run that is over has removed what was its own, so only the others count.
pub async fn checks(connection: &mut Conn, schema: &str, names: &Names) -> Result<Vec<Check>> {
    let homes = names.homes();
    let sql = format!(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ({}, {}, {})
         AND table_name LIKE '%\\_rp\\_%' ORDER BY 1, 2",
        text(schema),
        text(&homes.shadow),
        text(&homes.retired)
    );
    let mut present: Vec<(String, String)> = rows(connection, sql)
        .await?
        .iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect::<Result<_>>()?;
    present.retain(|(_, name)| is_helper(name));
    if present.is_empty() {
        return Ok(Vec::new());
    }
    let runs = all_runs(connection, names).await?;
    let is_known = |name: &str| {
        runs.iter().filter(|run| !run.state.is_final()).any(|run| {
            let helpers = format!("_rp_{}_", run.id.short());
            let is_aside = run.plan.steps.iter().any(|step| step.spec["to"] == *name);
            bare(name).starts_with(&helpers) || is_aside
        })
    };
    Ok(present
        .iter()
        .filter(|(_, name)| !is_known(name))
        .map(|(schema, name)| {
            let drop = format!("DROP TABLE {}", table(schema, name));
            let holds_rows = ["_retired", "_dropped"].iter().any(|role| name.ends_with(role));
            Check {
                name: "leftovers".to_owned(),
                state: CheckState::Warning,
                found: format!("no run in `{}` knows the table {name}", names.schema()),
                mend: Some(match holds_rows {
                    true => format!("it may hold rows that no other table holds: look at it, then {drop}"),
                    false => drop,
                }),
            }
        })
        .collect())
}
