//! `replank.toml` in the working directory: targets by name, and defaults of this project.

use std::collections::BTreeMap;
use std::path::Path;

use replank_core::throttle::Limits;
use replank_core::{Error, ErrorKind, Result};
use serde::Deserialize;

/// The file's name.
pub const FILE: &str = "replank.toml";

/// What the file says. A key that is not known is an error: a typing mistake in a limit must not pass.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The target that is meant without `--target`: a name from `targets`, or a URL.
    pub target: Option<String>,
    /// Where replank keeps its records in the target.
    pub state_name: Option<String>,
    /// The longest that one attempt may wait for, or hold, an exclusive lock.
    pub lock_budget: Option<String>,
    /// Targets by name.
    #[serde(default)]
    pub targets: BTreeMap<String, TargetEntry>,
    /// Limits of every run, by the names that `throttle` takes.
    #[serde(default)]
    pub throttle: BTreeMap<String, LimitValue>,
}

/// A target in the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetEntry {
    /// Its URL, best with the password by reference.
    pub url: String,
}

/// The value of a limit: `2`, or `"none"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum LimitValue {
    /// A number.
    Number(u64),
    /// A text: a query, or `none`.
    Text(String),
}

impl Config {
    /// Reads the file of the working directory; without one everything has its default.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the line.
    pub fn read() -> Result<Self> {
        Self::read_from(Path::new(FILE))
    }

    fn read_from(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                Err(Error::new(ErrorKind::Usage, format!("`{FILE}` cannot be read")).caused_by(error))
            }
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            Error::new(ErrorKind::Usage, format!("`{FILE}`, line {line}: {}", error.message()))
        })?;
        config.limits()?;
        Ok(config)
    }

    /// The limits of the file over the built-in ones.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a limit that is not known, or a value that cannot be meant.
    pub fn limits(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        for (name, value) in &self.throttle {
            let text = match value {
                LimitValue::Number(number) => number.to_string(),
                LimitValue::Text(text) => text.clone(),
            };
            limits.set(name, &text).map_err(|error| error.with("file", FILE))?;
        }
        Ok(limits)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_may_be_said() {
        let config = Config::parse(
            "target = 'prod'\nstate_name = '_r'\nlock_budget = '1s'\n\
             [targets.prod]\nurl = 'sqlite:app.db'\n\
             [throttle]\ncopy_workers = 1\nload_query = 'SELECT 1'\ndisk_free_min = 'none'\n",
        )
        .expect("valid");
        assert_eq!(config.targets["prod"].url, "sqlite:app.db");
        let limits = config.limits().expect("valid");
        assert_eq!((limits.copy_workers, limits.disk_free_min), (1, None));
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        let cases = [
            ("# one\ntaget = 'x'\n", "line 2"),
            ("[targets.prod]\nurl = 'x'\npassword = 'y'\n", "line 3"),
            ("target = \n", "line 1"),
        ];
        for (text, line) in cases {
            let error = Config::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(line), "{error}");
        }
        let error = Config::parse("[throttle]\nspeed = 3\n").expect_err("no such limit");
        assert!(error.to_string().contains("speed"), "{error}");
    }

    #[test]
    fn no_file_means_defaults() {
        assert_eq!(
            Config::read_from(Path::new("/nowhere/replank.toml")).expect("defaults"),
            Config::default()
        );
    }
}
