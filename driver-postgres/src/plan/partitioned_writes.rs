//! What applications do to a table and can no longer do when it has partitions, as far as the catalogue shows it.

use replank_core::Result;

use crate::connect::Conn;
use crate::inspect::Table;
use crate::lint::Seen;
use crate::spec::Spec;
use crate::sql::{get, rows};

/// What is to be said of a plain table that gets partitions.
pub async fn seen(connection: &mut Conn, table: &Table, spec: &Spec) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    let mut say = |rule: &str, what: String| all.push(Seen { rule: rule.to_owned(), what });
    let name = &table.name;
    say(
        "P137",
        format!(
            "COPY {name} TO fails from the swap on, and SELECT, UPDATE or DELETE with ONLY {name} finds no row"
        ),
    );
    let is_kept =
        |parts: &[String]| spec.new.unique.iter().any(|new| new.parts == parts && new.condition.is_none());
    for lost in spec.old.unique.iter().filter(|old| !is_kept(&old.parts)) {
        let columns = lost.parts.join(", ");
        say(
            "P137",
            format!(
                "INSERT … ON CONFLICT ({columns}) fails from the swap on: no unique index is of just these columns"
            ),
        );
    }
    let keys: Vec<&str> =
        spec.new.definition.lines.iter().filter_map(|line| line.strip_prefix("partitioned by ")).collect();
    let keys: Vec<&str> =
        keys.into_iter().chain(spec.new.partitions.iter().filter_map(|part| part.key.as_deref())).collect();
    let divides = |column: &&String| keys.iter().any(|key| names(key, column));
    let columns: Vec<&String> = spec.forward.columns.iter().map(|mapped| &mapped.column).collect();
    let columns: Vec<&String> = columns.into_iter().filter(divides).collect();
    for (trigger, function, source) in before_insert(connection, table.oid).await? {
        match columns.iter().find(|column| assigns(&source, column)) {
            Some(column) => say(
                "P138!",
                format!(
                    "trigger {trigger}: {function} assigns {column}, by which rows are divided. An INSERT fails whose row it moves to another partition"
                ),
            ),
            None => say(
                "P138",
                format!(
                    "trigger {trigger}: where {function} changes a column by which rows are divided, an INSERT may fail"
                ),
            ),
        }
    }
    Ok(all)
}

/// Triggers that may change a row before it is inserted, and the sources of their functions.
async fn before_insert(connection: &mut Conn, table: i64) -> Result<Vec<(String, String, String)>> {
    // Of pg_trigger.tgtype: for each row, BEFORE, INSERT.
    let sql = format!(
        "SELECT t.tgname::text, p.oid::regprocedure::text, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE t.tgrelid = {table} AND NOT t.tgisinternal AND t.tgtype & 7 = 7 AND t.tgenabled <> 'D'
         AND NOT starts_with(t.tgname, '_rp_') ORDER BY t.tgname"
    );
    rows(connection, sql).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?))).collect()
}

/// Whether a text of the server's has the column in it, as a word.
fn names(text: &str, column: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(column).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_part)
            && !text[at + column.len()..].chars().next().is_some_and(is_part)
    })
}

/// Whether a function's source gives a column of the new row a value: `NEW.at := …`, `NEW."at" = …`, or by `INTO NEW.at`. What it
/// does in other ways is not seen.
fn assigns(source: &str, column: &str) -> bool {
    let source = source.to_lowercase();
    let column = column.to_lowercase();
    let mut rest = source.as_str();
    while let Some(at) = rest.find("new") {
        let before = &rest[..at];
        rest = &rest[at + 3..];
        let Some(field) = rest.trim_start().strip_prefix('.') else { continue };
        let field = field.trim_start();
        let quoted = format!("\"{column}\"");
        let Some(after) = field.strip_prefix(&quoted).or_else(|| field.strip_prefix(&column)) else {
            continue;
        };
        if after.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let after = after.trim_start();
        // A comparison is no assignment, which begins a statement.
        let begins = before.trim_end().ends_with([';', '\n'])
            || ["begin", "then", "else", "loop"].iter().any(|word| before.trim_end().ends_with(word));
        if after.starts_with(":=") || after.starts_with('=') && begins || before.trim_end().ends_with("into")
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_to_the_column_is_seen_and_a_look_at_it_is_none() {
        for (source, is_one) in [
            ("BEGIN NEW.at := now(); RETURN NEW; END", true),
            ("BEGIN\n  new . \"at\" = now();\n RETURN NEW; END", true),
            ("BEGIN IF NEW.at IS NULL THEN NEW.at = now(); END IF; RETURN NEW; END", true),
            ("BEGIN SELECT max(d) INTO NEW.at FROM days; RETURN NEW; END", true),
            ("BEGIN IF NEW.at = now() THEN NEW.attempts := 1; END IF; RETURN NEW; END", false),
            ("BEGIN NEW.updated := NEW.at; RETURN NEW; END", false),
            ("BEGIN INSERT INTO log VALUES (NEW.at); RETURN NEW; END", false),
        ] {
            assert_eq!(assigns(source, "at"), is_one, "{source}");
        }
    }

    #[test]
    fn a_column_is_a_word_of_the_key() {
        assert!(names("RANGE (at)", "at"));
        assert!(names("RANGE (date_trunc('day'::text, at))", "at"));
        assert!(!names("RANGE (created_at)", "at"));
    }
}
