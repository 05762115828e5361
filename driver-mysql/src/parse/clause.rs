//! The clauses of an ALTER TABLE, each with what has to be known of it.

use replank_core::{Error, ErrorKind, Result};

use super::cursor::{Cursor, usage};
use super::token::{Kind, Token};

/// A clause, verbatim, with what has to be known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its text.
    pub text: String,
    /// A column that gets another name.
    pub renames: Option<(String, String)>,
    /// A column that goes.
    pub drops: Option<String>,
    /// Columns that come.
    pub adds: Vec<String>,
    /// Partitions whose rows go with them.
    pub empties: Vec<String>,
    /// A foreign key comes.
    pub adds_key: bool,
}

impl Clause {
    /// One that only has its text.
    pub fn plain(text: String) -> Self {
        Self { text, renames: None, drops: None, adds: Vec::new(), empties: Vec::new(), adds_key: false }
    }
}

/// An ALTER TABLE of a quoted table: `how` is ALGORITHM and LOCK, or nothing.
pub fn altering(table: &str, how: &str, clauses: &[Clause]) -> String {
    let body: Vec<&str> = clauses.iter().map(|clause| clause.text.as_str()).collect();
    let body = body.join(", ");
    // PARTITION BY is no clause of the list.
    let comma = if how.is_empty() || body.to_ascii_uppercase().starts_with("PARTITION ") { "" } else { "," };
    let how = if how.is_empty() { String::new() } else { format!(" {how}") };
    format!("ALTER TABLE {table}{how}{comma} {body}")
}

/// Where a RENAME [TO] clause takes the table.
pub type Target = Option<(Option<String>, String)>;

/// The clauses of an ALTER TABLE, without ALGORITHM and LOCK: how it runs is ours to choose.
pub fn clauses(cursor: &mut Cursor<'_>) -> Result<Vec<(Clause, Target)>> {
    let mut found: Vec<(Clause, Target)> = Vec::new();
    loop {
        let from = cursor.at;
        let mut depth = 0_usize;
        while let Some(token) = cursor.peek() {
            match token.kind {
                Kind::Sign('(') => depth += 1,
                Kind::Sign(')') if depth == 0 => return Err(usage("a `)` closes nothing")),
                Kind::Sign(')') => depth -= 1,
                Kind::Sign(',') if depth == 0 => break,
                _ => {}
            }
            cursor.at += 1;
        }
        if depth > 0 {
            return Err(usage("a `(` is not closed"));
        }
        let part = &cursor.tokens[from..cursor.at];
        if part.is_empty() {
            return Err(usage("a clause is expected there"));
        }
        let is_how = part[0].is("ALGORITHM") || part[0].is("LOCK");
        let text = cursor.text(from, cursor.at);
        match found.last_mut() {
            _ if is_how => {}
            // DROP PARTITION p0, p1.
            Some((Clause { text: before, empties, .. }, _)) if !empties.is_empty() => {
                empties.push(part[0].text.clone());
                *before = format!("{before}, {text}");
            }
            _ => found.push(clause(part, text)?),
        }
        if cursor.peek().is_none() {
            break;
        }
        cursor.at += 1;
    }
    if found.is_empty() {
        return Err(usage("the ALTER TABLE says nothing to change"));
    }
    Ok(found)
}

fn clause(tokens: &[Token], text: String) -> Result<(Clause, Target)> {
    let mut cursor = Cursor { sql: &text, tokens, at: 0 };
    let mut renames = None;
    let mut target = None;
    let mut empties = Vec::new();
    if cursor.words(&["DROP", "PARTITION"]) {
        empties.push(cursor.name()?.1);
    } else if cursor.words(&["RENAME", "COLUMN"]) {
        let (_, from) = cursor.name()?;
        cursor.expect("TO")?;
        renames = Some((from, cursor.name()?.1));
    } else if cursor.word("CHANGE") {
        cursor.word("COLUMN");
        let (from, to) = (cursor.name()?.1, cursor.name()?.1);
        renames = (from != to).then_some((from, to));
    } else if cursor.word("RENAME") {
        let is_index = cursor.word("INDEX") || cursor.word("KEY");
        if !is_index {
            let _ = cursor.word("TO") || cursor.word("AS") || cursor.skip_sign('=');
            target = Some(cursor.name()?);
        }
    } else if ["DISCARD", "IMPORT"].iter().any(|word| tokens[0].is(word))
        && tokens.iter().any(|token| token.is("TABLESPACE"))
        || ["EXCHANGE", "TRUNCATE"].iter().any(|word| tokens[0].is(word))
    {
        return Err(Error::new(ErrorKind::Refused, format!("`{text}` moves or removes rows past every log"))
            .hint("run it on the server yourself, without writers"));
    } else if changes_no_definition(tokens) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("`{text}` changes nothing of the table's definition"),
        )
        .hint("run it on the server yourself; a rebuild is asked for with OPTIMIZE TABLE"));
    }
    let (drops, adds, adds_key) = (dropped(tokens), added(tokens), adds_key(tokens));
    Ok((Clause { text, renames, drops, adds, empties, adds_key }, target))
}

/// What ADD and DROP take beside columns.
const NO_COLUMNS: [&str; 11] = [
    "INDEX",
    "KEY",
    "PRIMARY",
    "UNIQUE",
    "FULLTEXT",
    "SPATIAL",
    "CONSTRAINT",
    "FOREIGN",
    "CHECK",
    "PARTITION",
    "PERIOD",
];

/// `DROP [COLUMN] name`.
fn dropped(tokens: &[Token]) -> Option<String> {
    let rest = tokens.strip_first_word("DROP")?;
    let rest = match rest.strip_first_word("COLUMN") {
        Some(rest) => rest,
        None if NO_COLUMNS.iter().any(|word| rest.first().is_some_and(|token| token.is(word))) => {
            return None;
        }
        None => rest,
    };
    rest.first().map(|token| token.text.clone())
}

/// `ADD [COLUMN] name …` or `ADD [COLUMN] (name …, name …)`.
fn added(tokens: &[Token]) -> Vec<String> {
    let Some(rest) = tokens.strip_first_word("ADD") else { return Vec::new() };
    let rest = match rest.strip_first_word("COLUMN") {
        Some(rest) => rest,
        None if NO_COLUMNS.iter().any(|word| rest.first().is_some_and(|token| token.is(word))) => {
            return Vec::new();
        }
        None => rest,
    };
    if !rest.first().is_some_and(|token| token.is_sign('(')) {
        return rest.first().map(|token| token.text.clone()).into_iter().collect();
    }
    let (mut depth, mut is_first, mut names) = (0_usize, false, Vec::new());
    for token in rest {
        match token.kind {
            Kind::Sign('(') => {
                depth += 1;
                is_first = depth == 1;
                continue;
            }
            Kind::Sign(')') => depth = depth.saturating_sub(1),
            Kind::Sign(',') if depth == 1 => {
                is_first = true;
                continue;
            }
            _ if is_first => names.push(token.text.clone()),
            _ => {}
        }
        is_first = false;
    }
    names
}

/// `ADD [CONSTRAINT [name]] FOREIGN KEY …`.
fn adds_key(tokens: &[Token]) -> bool {
    let Some(rest) = tokens.strip_first_word("ADD") else { return false };
    let is_named = |at: usize| rest.get(at).is_some_and(|token| token.is("FOREIGN"));
    match rest.first() {
        Some(first) if first.is("CONSTRAINT") => is_named(1) || is_named(2),
        _ => is_named(0),
    }
}

trait Words {
    /// What follows a word at the beginning.
    fn strip_first_word(&self, word: &str) -> Option<&[Token]>;
}

impl Words for [Token] {
    fn strip_first_word(&self, word: &str) -> Option<&[Token]> {
        self.split_first().filter(|(first, _)| first.is(word)).map(|(_, rest)| rest)
    }
}

/// What is done to rows or pages only. REBUILD and OPTIMIZE PARTITION are rebuilds like others.
fn changes_no_definition(tokens: &[Token]) -> bool {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token: &Token| token.is(word));
    (["ANALYZE", "CHECK", "REPAIR"].iter().any(|word| is(0, word)) && is(1, "PARTITION"))
        || (is(0, "ORDER") && is(1, "BY"))
        || (["ENABLE", "DISABLE"].iter().any(|word| is(0, word)) && is(1, "KEYS"))
        || ["SECONDARY_LOAD", "SECONDARY_UNLOAD"].iter().any(|word| is(0, word))
}
