//! A definition as `SHOW CREATE TABLE` prints it, line by line.

/// The lines of a definition's body, without indentation and commas.
pub fn items(sql: &str) -> Vec<&str> {
    sql.lines()
        .skip(1)
        .take_while(|line| !line.starts_with(')'))
        .map(|line| line.trim_start().strip_suffix(',').unwrap_or_else(|| line.trim_start()))
        .collect()
}

/// What follows the body: engine, character set, comment, partitions.
pub fn options(sql: &str) -> &str {
    sql.find("\n) ").map_or("", |at| &sql[at + 3..])
}
