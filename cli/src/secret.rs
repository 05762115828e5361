//! Secrets by reference: `env:NAME`, `file:PATH`, `cmd:COMMAND`. They are read when needed, put into the
//! URL that the driver gets, and never printed.

use std::process::{Command, Stdio};

use replank_core::{Error, ErrorKind, Result};

/// Whether a text is a reference.
pub fn is_reference(text: &str) -> bool {
    ["env:", "file:", "cmd:"].iter().any(|prefix| text.starts_with(prefix))
}

/// The secret that a reference stands for; trailing line ends are no part of it.
///
/// # Errors
/// [`ErrorKind::Usage`] with the reference, never with what it gave.
pub fn read(reference: &str) -> Result<String> {
    let (kind, rest) = reference.split_once(':').unwrap_or((reference, ""));
    let unread = |why: &str| Error::new(ErrorKind::Usage, format!("the secret `{reference}` {why}"));
    let secret = match kind {
        "env" => std::env::var(rest).map_err(|_unset| unread("is not in the environment"))?,
        "file" => std::fs::read_to_string(rest).map_err(|error| unread("cannot be read").caused_by(error))?,
        "cmd" => run(rest).map_err(|why| unread(&why))?,
        _ => return Err(unread("is no env:, file: or cmd: reference")),
    };
    let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() {
        return Err(unread("is empty"));
    }
    Ok(secret)
}

/// The command may ask for something: it keeps the terminal for its input and its complaints.
fn run(command: &str) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .stderr(Stdio::inherit())
        .stdin(Stdio::inherit())
        .output()
        .map_err(|error| format!("could not be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("ended with {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_invalid| "is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn references_are_told_from_values() {
        assert!(is_reference("env:PW") && is_reference("cmd:pass show db"));
        assert!(!is_reference("hunter2") && !is_reference("postgres://h"));
    }

    #[test]
    fn a_file_and_a_command_give_their_text_without_the_line_end() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        writeln!(file, "s3cret").expect("written");
        assert_eq!(read(&format!("file:{}", file.path().display())).expect("read"), "s3cret");
        assert_eq!(read("cmd:printf 's3cret\\n'").expect("read"), "s3cret");
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named_by_its_reference() {
        for reference in ["env:REPLANK_NO_SUCH_VARIABLE", "file:/nowhere", "cmd:exit 3", "cmd:true"] {
            let error = read(reference).expect_err(reference);
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(reference), "{error}");
        }
        let error = read("cmd:echo s3cret; exit 1").expect_err("failed");
        assert!(!format!("{error:?}").replace("echo s3cret", "").contains("s3cret"), "{error:?}");
    }
}
