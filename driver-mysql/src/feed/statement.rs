//! Statements in the log: what they mean for the watched table (R7).

use mysql_async::binlog::StatusVarKey;
use mysql_async::binlog::events::{QueryEvent, StatusVarVal};

use crate::rebuild::{MARK, names::is_helper};

/// What a statement in the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A transaction begins, and its rows follow.
    Begin,
    /// A transaction ends.
    End,
    /// The rows that follow are not visible before a later XA COMMIT.
    BeginXa,
    /// It has nothing to do with the table.
    Nothing,
    /// Somebody changed the table.
    Ddl,
    /// It may have changed rows, and the log does not say which.
    HiddenRows,
}

/// The most databases that an event names; more are written as this number alone.
const MANY: usize = 254;

/// Reads a statement. `in_transaction`: rows, or statements that stand for rows, are being logged.
pub fn meaning(event: &QueryEvent<'_>, in_transaction: bool, schema: &str, name: &str) -> Meaning {
    let text = event.query();
    let words = words(&text);
    let first = words.first().map(String::as_str).unwrap_or_default();
    let second = words.get(1).map(String::as_str).unwrap_or_default();
    match (first, second) {
        ("begin", _) | ("start", "transaction") => return Meaning::Begin,
        ("commit" | "rollback", "") => return Meaning::End,
        ("savepoint" | "rollback" | "release", _) => return Meaning::Nothing,
        ("xa", "start" | "begin") => return Meaning::BeginXa,
        ("xa", _) => return Meaning::Nothing,
        _ => {}
    }
    // Foreign keys and triggers that follow the name.
    if !may_concern(event, schema) || text.starts_with(MARK) {
        return Meaning::Nothing;
    }
    let is_ddl = matches!(
        first,
        "alter"
            | "create"
            | "drop"
            | "rename"
            | "truncate"
            | "optimize"
            | "repair"
            | "analyze"
            | "grant"
            | "revoke"
            | "flush"
            | "set"
            | "install"
            | "uninstall"
            | "import"
    );
    if !is_ddl {
        return if in_transaction { Meaning::HiddenRows } else { Meaning::Nothing };
    }
    // MariaDB lists no databases, only that of the session: names that are not qualified are in it.
    let names = |wanted: &str| words.iter().any(|word| word.eq_ignore_ascii_case(wanted));
    if !event.schema().eq_ignore_ascii_case(schema) && !names(schema) {
        return Meaning::Nothing;
    }
    // Our own tables, and the swap.
    if words.iter().any(|word| is_helper(word)) {
        return Meaning::Nothing;
    }
    match (first, second) {
        ("drop", "database" | "schema") if names(schema) => Meaning::Ddl,
        ("grant" | "revoke" | "flush" | "set" | "analyze" | "install" | "uninstall", _) => Meaning::Nothing,
        ("create" | "alter" | "drop", "view" | "user" | "role" | "event" | "function" | "procedure") => {
            Meaning::Nothing
        }
        // Triggers and other tables' keys are read anew before each swap, and follow the name.
        ("create", "or" | "definer" | "algorithm" | "sql") if !is_of_table(&words) => Meaning::Nothing,
        ("create" | "drop", "trigger") => Meaning::Nothing,
        ("create" | "alter", "table") if is_of_other(&words, schema, name) => Meaning::Nothing,
        _ if names(name) => Meaning::Ddl,
        _ => Meaning::Nothing,
    }
}

/// `CREATE OR REPLACE TABLE`, and not another object whose text may name the table.
fn is_of_table(words: &[String]) -> bool {
    let objects = ["table", "trigger", "view", "procedure", "function", "event"];
    words.iter().find(|word| objects.contains(&word.as_str())).is_some_and(|word| word == "table")
}

/// `CREATE TABLE` or `ALTER TABLE` of another table, which may name this one as a parent or a pattern.
fn is_of_other(words: &[String], schema: &str, name: &str) -> bool {
    let is_altered = words[0] == "alter";
    let mut named = words.iter().skip(2).filter(|word| !matches!(word.as_str(), "if" | "not" | "exists"));
    let (first, second) = (named.next(), named.next());
    let is = |word: Option<&String>, wanted: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(wanted));
    let is_this = is(first, name) || (is(first, schema) && is(second, name));
    // It can give this table's rows away, or take its name.
    let touches = |word: &String| matches!(word.as_str(), "exchange" | "rename");
    !(is_this || is_altered && words.iter().any(touches))
}

/// Whether the statement can have touched the database, by the list that the server adds.
fn may_concern(event: &QueryEvent<'_>, schema: &str) -> bool {
    let listed = event.status_vars().get_status_var(StatusVarKey::UpdatedDbNames);
    match listed.as_ref().map(|listed| listed.get_value()) {
        Some(Ok(StatusVarVal::UpdatedDbNames(names))) if !names.is_empty() && names.len() < MANY => {
            names.iter().any(|name| name.as_str().eq_ignore_ascii_case(schema))
        }
        // No list, or one that cannot be read: it may.
        _ => true,
    }
}

/// Words and names of a statement, without quotes, comments and punctuation; words in lower case.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '`' | '"' | '\'' => {
                let mut name = String::new();
                while let Some(inner) = rest.next() {
                    match inner {
                        '\\' if next != '`' => name.extend(rest.next()),
                        inner if inner == next => {
                            if rest.peek() != Some(&next) {
                                break;
                            }
                            name.extend(rest.next());
                        }
                        inner => name.push(inner),
                    }
                }
                if next != '\'' {
                    words.push(name);
                }
            }
            '/' if rest.peek() == Some(&'*') => {
                rest.next();
                // An executable comment counts as text.
                if rest.peek() == Some(&'!') {
                    rest.next();
                    while rest.peek().is_some_and(char::is_ascii_digit) {
                        rest.next();
                    }
                    continue;
                }
                let mut before = ' ';
                for inner in rest.by_ref() {
                    if before == '*' && inner == '/' {
                        break;
                    }
                    before = inner;
                }
            }
            '#' => while rest.next_if(|inner| *inner != '\n').is_some() {},
            '-' if rest.peek() == Some(&'-') => while rest.next_if(|inner| *inner != '\n').is_some() {},
            first if first.is_alphanumeric() || matches!(first, '_' | '$') => {
                let mut word = first.to_lowercase().to_string();
                while let Some(inner) =
                    rest.next_if(|inner| inner.is_alphanumeric() || matches!(inner, '_' | '$'))
                {
                    word.extend(inner.to_lowercase());
                }
                words.push(word);
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::begin("BEGIN", true, Meaning::Begin)]
    #[case::commit("COMMIT", true, Meaning::End)]
    #[case::savepoint("SAVEPOINT `a`", true, Meaning::Nothing)]
    #[case::to_savepoint("ROLLBACK TO `a`", true, Meaning::Nothing)]
    #[case::xa("XA START X'61',X'',1", false, Meaning::BeginXa)]
    #[case::alter("ALTER TABLE orders ADD COLUMN a INT", false, Meaning::Ddl)]
    #[case::quoted("/* who */ alter table `shop`.`Orders` engine=InnoDB", false, Meaning::Ddl)]
    #[case::executable("/*!40000 ALTER TABLE orders DISABLE KEYS */", false, Meaning::Ddl)]
    #[case::truncate("TRUNCATE orders", false, Meaning::Ddl)]
    #[case::index("CREATE UNIQUE INDEX i ON orders (a)", false, Meaning::Ddl)]
    #[case::trigger(
        "CREATE DEFINER=`root`@`%` TRIGGER t AFTER INSERT ON orders FOR EACH ROW SET @a=1",
        false,
        Meaning::Nothing
    )]
    #[case::old_trigger("DROP TRIGGER orders", false, Meaning::Nothing)]
    #[case::anew("CREATE OR REPLACE TABLE orders (id INT)", false, Meaning::Ddl)]
    #[case::references(
        "CREATE TABLE c (p INT, FOREIGN KEY (p) REFERENCES orders (id))",
        false,
        Meaning::Nothing
    )]
    #[case::points_here(
        "ALTER TABLE shop.c ADD FOREIGN KEY (p) REFERENCES orders (id)",
        false,
        Meaning::Nothing
    )]
    #[case::points_away("ALTER TABLE shop.orders ADD FOREIGN KEY (p) REFERENCES c (id)", false, Meaning::Ddl)]
    #[case::exchange("ALTER TABLE c EXCHANGE PARTITION p WITH TABLE orders", false, Meaning::Ddl)]
    #[case::ours_of_theirs(
        "/* _rp_ */ ALTER TABLE `shop`.`orders` DROP FOREIGN KEY `k`",
        false,
        Meaning::Nothing
    )]
    #[case::database("DROP DATABASE shop", false, Meaning::Ddl)]
    #[case::ours(
        "RENAME TABLE `shop`.`orders` TO `shop`.`_rp_01234567_1_retired`, `shop`.`_rp_01234567_1_shadow` TO `shop`.`orders`",
        false,
        Meaning::Nothing
    )]
    #[case::others("ALTER TABLE customers ADD COLUMN orders_count INT", false, Meaning::Nothing)]
    #[case::like("CREATE TABLE copy LIKE orders", false, Meaning::Nothing)]
    #[case::view("CREATE OR REPLACE VIEW v AS SELECT * FROM orders", false, Meaning::Nothing)]
    #[case::analyze("ANALYZE TABLE orders", false, Meaning::Nothing)]
    #[case::elsewhere(
        "/* of another database */ ALTER TABLE other.orders ADD a INT",
        false,
        Meaning::Nothing
    )]
    #[case::statement("UPDATE orders SET a = 1", true, Meaning::HiddenRows)]
    #[case::through_something("CALL p()", true, Meaning::HiddenRows)]
    fn statements(#[case] text: &str, #[case] in_transaction: bool, #[case] expected: Meaning) {
        let event = QueryEvent::new(&b""[..], &b"shop"[..]).with_query(text.as_bytes());
        assert_eq!(meaning(&event, in_transaction, "shop", "orders"), expected);
    }

    #[rstest]
    #[case::unqualified("ALTER TABLE orders ADD a INT", false, Meaning::Nothing)]
    #[case::qualified("ALTER TABLE `Shop`.orders ADD a INT", false, Meaning::Ddl)]
    #[case::by_a_view_perhaps("UPDATE orders SET a = 1", true, Meaning::HiddenRows)]
    fn statements_of_sessions_in_another_database(
        #[case] text: &str,
        #[case] in_transaction: bool,
        #[case] expected: Meaning,
    ) {
        let event = QueryEvent::new(&b""[..], &b"other"[..]).with_query(text.as_bytes());
        assert_eq!(meaning(&event, in_transaction, "shop", "orders"), expected);
    }
}
