//! Limits that a person sets, also while the run goes on.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Every limit of `throttle RUN k=v`. `None` means that the limit is not set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Chunks in flight; 0 stops the copy. Never more than the driver's own maximum.
    pub copy_workers: u32,
    /// Of the time, this much per cent is spent on copying and comparing, and the rest on waiting for others. Where it is not
    /// set, as much as costs those who write a twentieth of what they write without it, on servers where that can be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_percent: Option<u32>,
    /// Longest time that one chunk should take.
    pub chunk_target_ms: u64,
    /// Most rows in a chunk.
    pub chunk_rows_max: u64,
    /// Most bytes in a chunk, as far as the driver counts them.
    pub chunk_bytes_max: u64,
    /// The copy waits while the feed is older than this.
    pub lag_max_ms: u64,
    /// The copy waits while more threads than this run on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_running_max: Option<u64>,
    /// A query that gives one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_query: Option<String>,
    /// The copy waits while `load_query` gives more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_max: Option<u64>,
    /// The copy waits while one of the server's status variables is over its limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub status_max: BTreeMap<String, u64>,
    /// A query that gives the replicas' lag in seconds, held against `lag_max_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_query: Option<String>,
    /// Replicas whose lag is held against `lag_max_ms`: `host:port,host:port`; all that the server knows and that can
    /// be reached for `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_replicas: Option<String>,
    /// The copy waits while this file is there, where the runner runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_file: Option<String>,
    /// The copy waits while this address answers otherwise than with 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_url: Option<String>,
    /// The copy waits while fewer bytes than this are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_min: Option<u64>,
    /// A step that writes rows in ranges goes on beside so many rows that cannot be written; each is noted with its reason.
    #[serde(default)]
    pub quarantine_max: u64,
    /// The run stops when the feed is older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_lag_max_ms: Option<u64>,
    /// The run stops when more threads than this run on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_threads_running_max: Option<u64>,
    /// The run stops when `load_query` gives more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_load_max: Option<u64>,
    /// The run stops when one of the server's status variables is over its limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub critical_status_max: BTreeMap<String, u64>,
    /// The run stops when fewer bytes than this are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_disk_free_min: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            copy_workers: 2,
            copy_percent: None,
            // Long enough that the cost of a transaction vanishes, short enough to react. Chosen.
            chunk_target_ms: 500,
            chunk_rows_max: 100_000,
            // 16 MiB: some 1000 InnoDB pages, and far below any packet or undo limit. Chosen.
            chunk_bytes_max: 16 << 20,
            lag_max_ms: 10_000,
            threads_running_max: None,
            load_query: None,
            load_max: None,
            status_max: BTreeMap::new(),
            lag_query: None,
            lag_replicas: Some("auto".to_owned()),
            wait_file: None,
            wait_url: None,
            disk_free_min: Some(256 << 20),
            // Whoever did not say otherwise wants every row written.
            quarantine_max: 0,
            critical_lag_max_ms: None,
            critical_threads_running_max: None,
            critical_load_max: None,
            critical_status_max: BTreeMap::new(),
            critical_disk_free_min: Some(64 << 20),
        }
    }
}

impl Limits {
    /// Changes one limit by its name; `none` unsets one that may be unset.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an unknown name, with the known ones, or for a value that is no number.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let number = || {
            value.parse::<u64>().map_err(|_| {
                Error::new(ErrorKind::Usage, format!("`{name}` takes a whole number, not `{value}`"))
            })
        };
        let optional = || if value == "none" { Ok(None) } else { number().map(Some) };
        let text = || (value != "none").then(|| value.to_owned());
        let of_status =
            [("status.", &mut self.status_max), ("critical_status.", &mut self.critical_status_max)];
        for (prefix, limits) in of_status {
            let Some(variable) = name.strip_prefix(prefix).filter(|variable| is_variable(variable)) else {
                continue;
            };
            match optional()? {
                Some(limit) => limits.insert(variable.to_owned(), limit),
                None => limits.remove(variable),
            };
            return Ok(());
        }
        match name {
            "copy_workers" => {
                self.copy_workers = u32::try_from(number()?).unwrap_or(u32::MAX);
            }
            "copy_percent" => match optional()? {
                None => self.copy_percent = None,
                Some(percent @ 1..=100) => self.copy_percent = u32::try_from(percent).ok(),
                Some(_) => {
                    let said = format!("`copy_percent` takes 1 to 100, not `{value}`");
                    return Err(Error::new(ErrorKind::Usage, said).hint("copy_workers=0 stops the copy"));
                }
            },
            "chunk_target_ms" => self.chunk_target_ms = number()?.max(1),
            "chunk_rows_max" => self.chunk_rows_max = number()?.max(1),
            "chunk_bytes_max" => self.chunk_bytes_max = number()?.max(1),
            "lag_max_ms" => self.lag_max_ms = number()?,
            "threads_running_max" => self.threads_running_max = optional()?,
            "load_query" => self.load_query = text(),
            "lag_query" => self.lag_query = text(),
            "lag_replicas" => self.lag_replicas = text(),
            "wait_file" => self.wait_file = text(),
            "wait_url" => self.wait_url = text(),
            "load_max" => self.load_max = optional()?,
            "disk_free_min" => self.disk_free_min = optional()?,
            "quarantine_max" => self.quarantine_max = number()?,
            "critical_lag_max_ms" => self.critical_lag_max_ms = optional()?,
            "critical_threads_running_max" => self.critical_threads_running_max = optional()?,
            "critical_load_max" => self.critical_load_max = optional()?,
            "critical_disk_free_min" => self.critical_disk_free_min = optional()?,
            _ => {
                return Err(Error::new(ErrorKind::Usage, format!("no limit is called `{name}`"))
                    .hint(format!("the limits are {}", Self::NAMES.join(", "))));
            }
        }
        Ok(())
    }

    /// Changes limits by their names; up to the first that cannot be changed.
    ///
    /// # Errors
    /// Those of [`Limits::set`].
    pub fn set_all<'a>(&mut self, set: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<()> {
        set.into_iter().try_for_each(|(name, value)| self.set(name, value))
    }

    /// The signals that a person asked for, and that have to be read.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let has_load =
            self.load_query.is_some() && (self.load_max.is_some() || self.critical_load_max.is_some());
        let named = [
            ("load", has_load),
            (
                "replica_lag_ms",
                self.lag_query.is_some() || self.lag_replicas.as_deref().is_some_and(|it| it != "auto"),
            ),
            ("wait_file", self.wait_file.is_some()),
            ("wait_url", self.wait_url.is_some()),
        ];
        let named = named.into_iter().filter(|(_, is_asked)| *is_asked).map(|(name, _)| name.to_owned());
        named.chain(self.status_variables().into_iter().map(status_signal)).collect()
    }

    /// The server's status variables that have a limit, each once.
    #[must_use]
    pub fn status_variables(&self) -> BTreeSet<&str> {
        self.status_max.keys().chain(self.critical_status_max.keys()).map(String::as_str).collect()
    }

    /// Every name that [`Limits::set`] takes; a variable of the server's stands for `VARIABLE`.
    pub const NAMES: [&'static str; 21] = [
        "copy_workers",
        "copy_percent",
        "chunk_target_ms",
        "chunk_rows_max",
        "chunk_bytes_max",
        "lag_max_ms",
        "threads_running_max",
        "load_query",
        "load_max",
        "status.VARIABLE",
        "lag_query",
        "lag_replicas",
        "wait_file",
        "wait_url",
        "disk_free_min",
        "quarantine_max",
        "critical_lag_max_ms",
        "critical_threads_running_max",
        "critical_load_max",
        "critical_status.VARIABLE",
        "critical_disk_free_min",
    ];
}

/// The signal of a status variable.
#[must_use]
pub fn status_signal(variable: &str) -> String {
    format!("status.{variable}")
}

/// Names of status variables go into a question to the server.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_name_can_be_set() {
        for name in Limits::NAMES {
            Limits::default().set(name, "7").expect(name);
        }
        let mut limits = Limits::default();
        limits.set("status.Threads_connected", "500").expect("a variable");
        assert_eq!(limits.status_max.get("Threads_connected"), Some(&500));
        limits.set("status.Threads_connected", "none").expect("a variable");
        assert!(limits.status_max.is_empty());
        for name in ["status.", "status.a b", "critical_status.'", "speed"] {
            assert!(Limits::default().set(name, "7").is_err(), "{name}");
        }
        assert!(Limits::default().set("lag_max_ms", "fast").is_err());
    }
}
