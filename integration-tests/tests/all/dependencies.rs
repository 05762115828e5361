//! The dependency rules, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::binary::workspace;

/// Licences that the project's own dual licence can be combined with.
const LICENCES: [&str; 14] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "MPL-2.0",
];

/// Packages that talk to a database.
const CLIENTS: [&str; 6] = ["sqlx", "mysql_async", "mongodb", "tokio-postgres", "postgres", "rusqlite"];

fn metadata() -> Value {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked", "--all-features"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn packages(metadata: &Value) -> &Vec<Value> {
    metadata["packages"].as_array().expect("a list of packages")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[test]
fn there_is_one_tls_provider() {
    for package in packages(&metadata()) {
        let name = text(package, "name");
        assert!(
            !["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"].contains(&name),
            "{name} is in the tree"
        );
    }
}

#[test]
fn only_drivers_and_tests_depend_on_a_database_client() {
    let metadata = metadata();
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().expect("members").iter().filter_map(Value::as_str).collect();
    for package in packages(&metadata).iter().filter(|package| members.contains(text(package, "id"))) {
        let name = text(package, "name");
        if name.starts_with("replank-driver-") || name == "replank-integration-tests" {
            continue;
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let client = text(dependency, "name");
            assert!(!CLIENTS.contains(&client), "{name} depends on {client}");
        }
    }
}

#[test]
fn core_depends_on_no_driver_and_drivers_not_on_each_other() {
    let metadata = metadata();
    for package in packages(&metadata).iter().filter(|package| text(package, "name").starts_with("replank-"))
    {
        let name = text(package, "name");
        if name == "replank-integration-tests" {
            continue;
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let other = text(dependency, "name");
            assert!(!other.starts_with("replank-driver-"), "{name} depends on {other}");
        }
    }
}

#[test]
fn licences_are_on_the_list() {
    let mut refused = BTreeMap::new();
    for package in packages(&metadata()) {
        let licence = text(package, "license");
        // "A OR B" needs one of them, "A AND B" all; a slash is an old way to write OR.
        let is_fine = licence.replace('/', " OR ").split(" OR ").any(|choice| {
            choice.split(" AND ").all(|one| {
                LICENCES.contains(&one.trim_matches(|c: char| c.is_whitespace() || c == '(' || c == ')'))
            })
        });
        if !is_fine {
            refused.insert(text(package, "name").to_owned(), licence.to_owned());
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}
