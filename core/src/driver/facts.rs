//! Plain facts that a driver reads from its server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ident::TableId;

/// What the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerFacts {
    /// The driver's name.
    pub driver: String,
    /// The product, such as `SQLite`.
    pub product: String,
    /// The version as the server states it.
    pub version: String,
}

/// One line of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// The statement that mends it, when it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it should be.
    Good,
    /// Works, but a person should know.
    Warning,
    /// Must be mended first.
    Bad,
}

/// What is known about the table before a plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableFacts {
    /// The table.
    pub id: TableId,
    /// Rows: exact where that is cheap, else the server's estimate.
    pub rows: u64,
    /// Whether `rows` is exact.
    pub rows_exact: bool,
    /// Bytes of rows and indexes, as far as the server can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The columns of the non-null unique key with deterministic equality (R8); empty if there is none.
    pub key: Vec<String>,
    /// Objects that depend on the table and move with it, as `kind name`.
    pub dependants: Vec<String>,
}

/// A transaction or session that holds what the swap needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// How the server names it, such as a connection id.
    pub id: String,
    /// What it does or since when, for the person who must decide about it.
    pub about: String,
}
