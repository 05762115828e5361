//! The documents that are generated from the code, or that must agree with it.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use replank_core::engine::boundary::Boundary;
use replank_core::event::Event;

use crate::binary::workspace;

/// Compares a document with what it is generated from; `UPDATE_DOCS=1` writes it.
#[track_caller]
fn agrees(path: &str, generated: &str) {
    let file = workspace().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, generated).expect("the document can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        written, generated,
        "{path} is stale: UPDATE_DOCS=1 cargo test -p replank-integration-tests documents"
    );
}

#[test]
fn the_boundaries_page_is_what_the_code_says() {
    let mut page = String::from(
        "# Boundaries\n\nPoints of the protocol at which a crash matters, generated from\n\
         `core/src/engine/boundary.rs`. `REPLANK_KILL_AT=name[:n]` makes any build kill itself with SIGKILL at\n\
         the n-th passage, `REPLANK_STOP_AT` stop itself with SIGSTOP. Each has a kill test in\n\
         `integration-tests/tests/all/kills.rs`, or says there why not. At the ten that are marked the server is\n\
         killed as well: there data and journal are furthest apart, or the name's owner hangs on what reached the disk.\n\n\
         | name | what has happened by then | server killed |\n|---|---|---|\n",
    );
    for boundary in Boundary::ALL {
        let mark = if boundary.is_dangerous() { "yes" } else { "" };
        writeln!(page, "| `{}` | {} | {mark} |", boundary.name(), boundary.meaning())
            .expect("writing to a string");
    }
    agrees("docs/boundaries.md", &page);
}

#[test]
fn the_events_schema_is_what_the_code_says() {
    let schema = schemars::schema_for!(Event);
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    agrees("docs/events.schema.json", &format!("{text}\n"));
}

/// Every test that a document names in backticks as `…::name` exists and is not ignored.
#[test]
fn tests_that_the_acceptance_page_names_exist_and_are_not_ignored() {
    let page = fs::read_to_string(workspace().join("docs/acceptance.md")).expect("docs/acceptance.md");
    let listed = Command::new("grep")
        .args(["-rhEA2", r"^\s*(#\[ignore|(pub )?(async )?fn [a-z_0-9]+\()", "--include=*.rs", "."])
        .current_dir(workspace())
        .output()
        .expect("grep runs");
    let code = String::from_utf8(listed.stdout).expect("code is UTF-8");
    let mut count = 0;
    for name in page.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.strip_prefix("test:")) {
        count += 1;
        let function = format!("fn {name}(");
        assert!(code.contains(&function), "docs/acceptance.md names the test `{name}`, which does not exist");
        let before = code.split(&function).next().unwrap_or_default();
        let attributes = before.lines().rev().take(3).collect::<Vec<_>>().join("\n");
        assert!(!attributes.contains("#[ignore"), "`{name}` is ignored");
    }
    assert!(count >= 10, "the page names only {count} tests");
}
