//! The documents that are generated from the code, or that must agree with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use replank_core::engine::boundary::Boundary;
use replank_core::event::Event;

use crate::binary::workspace;
use crate::server;

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

/// The tests that a text names in backticks as `test:name`.
fn named_tests(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.strip_prefix("test:"))
}

/// A document, every test of which exists and is not ignored.
#[track_caller]
fn page_of_tests(path: &str) -> String {
    let page = fs::read_to_string(workspace().join(path)).expect(path);
    let listed = Command::new("grep")
        .args(["-rhEA2", r"^\s*(#\[ignore|(pub )?(async )?fn [a-z_0-9]+\()", "--include=*.rs", "."])
        .current_dir(workspace())
        .output()
        .expect("grep runs");
    let code = String::from_utf8(listed.stdout).expect("code is UTF-8");
    for name in named_tests(&page) {
        let function = format!("fn {name}(");
        assert!(code.contains(&function), "{path} names the test `{name}`, which does not exist");
        let before = code.split(&function).next().unwrap_or_default();
        let attributes = before.lines().rev().take(3).collect::<Vec<_>>().join("\n");
        assert!(!attributes.contains("#[ignore"), "`{name}` is ignored");
    }
    page
}

#[test]
fn tests_that_the_acceptance_page_names_exist_and_are_not_ignored() {
    let count = named_tests(&page_of_tests("docs/acceptance.md")).count();
    assert!(count >= 10, "the page names only {count} tests");
}

/// A row's state is the tests that hold the failure, or a word and what it is about.
#[test]
fn the_page_of_known_failures_lists_each_once_and_its_tests_exist() {
    let page = page_of_tests("docs/failures.md");
    let mut ids = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id |")) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [id, _, state] = cells[..] else { panic!("three cells make a row: {row}") };
        assert!(ids.insert(id), "{id} is listed twice");
        let tests: Vec<String> = named_tests(state).map(|name| format!("`test:{name}`")).collect();
        let is_told = ["open: ", "later: ", "cannot apply: "].iter().any(|word| state.starts_with(word));
        let is_one = if tests.is_empty() { is_told } else { tests.join(", ") == state };
        assert!(is_one, "{id} has no state: {state}");
    }
    assert_eq!(ids.len(), 97, "known failures");
}

#[test]
fn the_page_of_servers_has_each_server_that_is_tested_once() {
    let page = fs::read_to_string(workspace().join("docs/servers.md")).expect("the page");
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|name| *name != "server")
        .collect();
    assert!(!rows.is_empty());
    assert_eq!(rows, server::names());
}
