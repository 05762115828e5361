//! Which database is meant, and how it is shown without its password.

use std::fmt;

use replank_core::{Error, ErrorKind, Result};
use url::Url;

use crate::config::{Config, FILE};
use crate::secret;

/// A target's URL, with its secrets in place. Printing it masks them.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: String,
}

impl Target {
    /// A SQLite file.
    pub fn file(path: &std::path::Path) -> Self {
        let path = path.display().to_string().replace('%', "%25").replace('?', "%3F");
        Self { url: format!("sqlite:{path}") }
    }

    /// The URL for the driver. Never print it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.url))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// The target that was given, or else the file's, or else the environment's.
///
/// # Errors
/// [`ErrorKind::Usage`] when there is none, when a name is not in the file, or a secret cannot be read.
pub fn resolve(given: Option<&str>, config: &Config, environment: Option<String>) -> Result<Target> {
    let text = given
        .map(ToOwned::to_owned)
        .or_else(|| config.target.clone())
        .or(environment)
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| {
            Error::new(ErrorKind::Usage, "no target was given").hint(format!(
                "add -t URL, or `target = \"…\"` to {FILE}, or set DATABASE_URL; a URL looks like \
                 sqlite:app.db"
            ))
        })?;
    let url = if text.contains(':') { text } else { named(&text, config)? };
    Ok(Target { url: with_secrets(&url)? })
}

fn named(name: &str, config: &Config) -> Result<String> {
    if let Some(entry) = config.targets.get(name) {
        return Ok(entry.url.clone());
    }
    let hint = if std::path::Path::new(name).exists() {
        format!("for the file, write sqlite:{name}")
    } else if config.targets.is_empty() {
        format!("a target is a URL, or the name of a [targets.NAME] in {FILE}")
    } else {
        let names: Vec<&str> = config.targets.keys().map(String::as_str).collect();
        format!("{FILE} has {}", names.join(", "))
    };
    Err(Error::new(ErrorKind::Usage, format!("no target is called `{name}`")).hint(hint))
}

/// Puts the secrets in place of their references: the whole URL, the whole `user:password`, or the
/// password. A reference inside a URL ends at the first `@`; an `@` of its own is written `%40`.
fn with_secrets(text: &str) -> Result<String> {
    if secret::is_reference(text) {
        return secret::read(text);
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(text.to_owned()) };
    let Some((userinfo, after)) = rest.split_once('@') else { return Ok(text.to_owned()) };
    let filled = if secret::is_reference(userinfo) {
        let both = secret::read(&percent_decoded(userinfo))?;
        match both.split_once(':') {
            Some((user, password)) => format!("{}:{}", percent_encoded(user), percent_encoded(password)),
            None => percent_encoded(&both),
        }
    } else {
        match userinfo.split_once(':') {
            Some((user, password)) if secret::is_reference(password) => {
                format!("{user}:{}", percent_encoded(&secret::read(&percent_decoded(password))?))
            }
            _ => return Ok(text.to_owned()),
        }
    };
    Ok(format!("{scheme}://{filled}@{after}"))
}

/// A URL as it may be shown.
fn masked(text: &str) -> String {
    const MASK: &str = "***";
    let Ok(mut url) = Url::parse(text) else {
        // What cannot be read may hold a password anywhere.
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        return format!("{scheme}:{MASK}");
    };
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["password", "passwd", "pwd", "secret", "token"].iter().any(|word| name.contains(word))
    };
    let has_password = url.password().is_some();
    let has_secret_parameter = url.query_pairs().any(|(name, _)| is_secret(&name));
    if !has_password && !has_secret_parameter {
        return text.to_owned();
    }
    if has_password && url.set_password(Some(MASK)).is_err() {
        return format!("{}:{MASK}", url.scheme());
    }
    if has_secret_parameter {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let value = if is_secret(&name) { MASK.to_owned() } else { value.into_owned() };
                (name.into_owned(), value)
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.to_string()
}

/// Everything but the unreserved characters of RFC 3986.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).expect("valid")
    }

    #[test]
    fn the_flag_goes_before_the_file_and_the_file_before_the_environment() {
        let file = config("target = 'sqlite:file.db'");
        let environment = || Some("sqlite:env.db".to_owned());
        let url = |given, config: &Config, environment| {
            resolve(given, config, environment).expect("a target").url().to_owned()
        };
        assert_eq!(url(Some("sqlite:flag.db"), &file, environment()), "sqlite:flag.db");
        assert_eq!(url(None, &file, environment()), "sqlite:file.db");
        assert_eq!(url(None, &Config::default(), environment()), "sqlite:env.db");
        let error = resolve(None, &Config::default(), None).expect_err("none");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn names_are_looked_up_in_the_file() {
        let file = config("[targets.prod]\nurl = 'sqlite:prod.db'\n");
        assert_eq!(resolve(Some("prod"), &file, None).expect("known").url(), "sqlite:prod.db");
        let error = resolve(Some("test"), &file, None).expect_err("unknown");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("prod")), "{error:?}");
    }

    #[test]
    fn secrets_are_put_in_place_and_never_shown() {
        let cases =
            ["db://app:cmd:echo p/w@h/d", "db://cmd:echo app%3Ap/w@h/d", "cmd:echo db://app:p%2Fw@h/d"];
        for text in cases {
            let target = resolve(Some(text), &Config::default(), None).expect(text);
            assert_eq!(target.url(), "db://app:p%2Fw@h/d", "{text}");
            assert_eq!(target.to_string(), "db://app:***@h/d");
            assert_eq!(format!("{target:?}"), "Target(db://app:***@h/d)");
        }
    }

    #[test]
    fn masking() {
        let cases = [
            ("sqlite:some file.db", "sqlite:some file.db"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://u:secret@h:1/d?a=b", "postgres://u:***@h:1/d?a=b"),
            ("postgres://h/d?sslPassword=secret&a=b", "postgres://h/d?sslPassword=***&a=b"),
            ("postgres://u:sec?ret@h/d", "postgres:***"),
        ];
        for (text, shown) in cases {
            assert_eq!(masked(text), shown, "{text}");
        }
    }
}
