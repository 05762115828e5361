//! A plan as text for a terminal of 80 columns.

use std::fmt::Write as _;

use super::Plan;
use crate::lint::{Finding, Severity};

// The text has to fit a terminal of 80 columns with the label in front.
const WIDTH: usize = 66;

/// The plan: what, how, what it locks, how it is undone, what the rules say.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let table = &plan.table;
    let rows = format!("{}{}", if table.rows_exact { "" } else { "about " }, thousands(table.rows));
    let size = table.bytes.map(|bytes| format!(", {}", mebibytes(bytes))).unwrap_or_default();
    field(
        &mut out,
        "table",
        &format!("{} on {} {}: {rows} rows{size}", table.id, plan.server.product, plan.server.version),
    );
    fields(&mut out, "change", &plan.changes);
    field(&mut out, "strategy", &format!("{}: {}", plan.strategy, plan.reason));
    let rejected: Vec<String> =
        plan.rejected.iter().map(|(strategy, why)| format!("{strategy}: {why}")).collect();
    fields(&mut out, "not", &rejected);
    let steps: Vec<String> =
        plan.steps.iter().enumerate().map(|(index, step)| format!("{}. {}", index + 1, step.title)).collect();
    fields(&mut out, "steps", &steps);
    let locks: Vec<String> =
        plan.locks.iter().map(|lock| format!("{}, about {} ms", lock.what, lock.hold_ms)).collect();
    fields(
        &mut out,
        "locks",
        &if locks.is_empty() { vec!["none that writers notice".to_owned()] } else { locks },
    );
    if let Some(bytes) = plan.disk_bytes {
        field(&mut out, "disk", &format!("about {} meanwhile", mebibytes(bytes)));
    }
    fields(&mut out, "moves", &table.dependants);
    field(&mut out, "undo", &plan.undo);
    for finding in &plan.findings {
        field(&mut out, label(finding), &sentence(finding));
    }
    out
}

fn label(finding: &Finding) -> &'static str {
    match finding.severity {
        _ if finding.waived.is_some() => "waived",
        Severity::Error if finding.handled_by.is_none() => "refused",
        Severity::Warning => "warning",
        Severity::Error | Severity::Info => "note",
    }
}

fn sentence(finding: &Finding) -> String {
    let Finding { code, message, advice, .. } = finding;
    match (&finding.waived, finding.handled_by) {
        (Some(reason), _) => format!("{code} {message} ({reason})"),
        (None, Some(strategy)) => format!("{code} {message}: handled by {strategy}"),
        (None, None) => format!("{code} {message}; {advice}"),
    }
}

fn fields(out: &mut String, label: &str, values: &[String]) {
    for (index, value) in values.iter().enumerate() {
        field(out, if index == 0 { label } else { "" }, value);
    }
}

/// `label` once, and the value in lines of at most [`WIDTH`] characters.
fn field(out: &mut String, label: &str, value: &str) {
    let mut lines = vec![String::new()];
    for word in value.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    for (index, line) in lines.iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        writeln!(out, "{label:<10}  {line}").expect("writing to a string cannot fail");
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.1} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::facts::{ServerFacts, TableFacts};
    use crate::ident::TableId;
    use crate::plan::{LockNote, Step, Strategy};

    fn plan() -> Plan {
        Plan {
            statement: "ALTER TABLE orders ALTER COLUMN customer_id TYPE BIGINT".into(),
            changes: vec![
                "column customer_id: TEXT becomes BIGINT".into(),
                "index ix_c on (customer_id)".into(),
            ],
            server: ServerFacts { driver: "sqlite".into(), product: "SQLite".into(), version: "3.50".into() },
            table: TableFacts {
                id: TableId::new("orders"),
                rows: 1_500_000,
                rows_exact: false,
                bytes: Some(300 << 20),
                key: vec!["id".into()],
                dependants: vec!["trigger audit_orders".into()],
            },
            strategy: Strategy::Shadow,
            reason: "SQLite has no statement of its own that changes a column's type".into(),
            rejected: vec![(Strategy::Instant, "the type of a column changes".into())],
            steps: vec![Step {
                title: "copy every row into a shadow table, applying changes".into(),
                statement: String::new(),
                inverse: "abort".into(),
                inverse_discards: Vec::new(),
                inverse_rebuilds: String::new(),
                finalize: String::new(),
                spec: serde_json::Value::Null,
            }],
            locks: vec![LockNote { what: "writers wait for the swap".into(), hold_ms: 20 }],
            disk_bytes: Some(310 << 20),
            undo: "replank revert, until replank finalize; no write is lost".into(),
            findings: vec![Finding {
                code: "C043".into(),
                slug: "disk-headroom".into(),
                severity: Severity::Warning,
                message: "about 310 MiB are needed meanwhile; free disk cannot be read here".into(),
                advice: "look at the server's disk yourself".into(),
                handled_by: None,
                waived: None,
            }],
            spec: serde_json::Value::Null,
            hash: "h".into(),
        }
    }

    #[test]
    fn a_plan_fits_eighty_columns() {
        let text = text(&plan());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }
}
