//! Definitions as the server writes them, made comparable: another name, no counter.

use replank_core::{ErrorKind, Result};

use crate::connect::{Conn, Product};
use crate::foreign_key::is_foreign_key;
use crate::lines::items;
use crate::sql::{first, get, ident, table};

/// What `SHOW CREATE TABLE` says of a table, without the counter of AUTO_INCREMENT; `None` where it is not there.
pub async fn read(connection: &mut Conn, schema: &str, name: &str) -> Result<Option<String>> {
    match first(connection, format!("SHOW CREATE TABLE {}", table(schema, name))).await {
        Ok(Some(row)) => Ok(Some(without_counter(&get::<String>(&row, 1)?))),
        Ok(None) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether two definitions say the same: MySQL lists checks by their names, of which some change with the table's.
pub fn same(one: &str, other: &str) -> bool {
    let sorted = |sql: &str| {
        let lines = sql.lines().map(|line| line.trim_end_matches(',').to_owned());
        let (mut checks, others): (Vec<String>, Vec<String>) =
            lines.partition(|line| line.trim_start().starts_with("CONSTRAINT `"));
        checks.sort_unstable();
        (others, checks)
    };
    sorted(one) == sorted(other)
}

/// The definition as a statement that makes the table in a database.
pub fn within(sql: &str, schema: &str) -> String {
    sql.replacen("CREATE TABLE ", &format!("CREATE TABLE {}.", ident(schema)), 1)
}

/// Names of checks that the server did not make itself: they are unique in a database.
pub fn named_checks<'a>(sql: &'a str, name: &str) -> Vec<&'a str> {
    let own = format!("{name}_chk_");
    let lines = sql.lines().map(str::trim_start).filter(|line| line.starts_with("CONSTRAINT `"));
    let lines = lines.filter(|line| !is_foreign_key(line));
    lines
        .filter_map(|line| line.split('`').nth(1))
        .filter(|constraint| constraint.strip_prefix(&own).is_none_or(|rest| rest.parse::<u32>().is_err()))
        .collect()
}

/// The same without its constraints.
pub fn without_constraints(sql: &str) -> String {
    let lines = items(sql).into_iter().filter(|line| line.starts_with("CONSTRAINT `"));
    without(sql, &lines.collect::<Vec<_>>())
}

/// The same without its foreign keys.
pub fn without_foreign_keys(sql: &str) -> String {
    let lines = items(sql).into_iter().filter(|line| is_foreign_key(line));
    without(sql, &lines.collect::<Vec<_>>())
}

/// The definition of `from` as that of a table named `to`, without the counter of AUTO_INCREMENT.
///
/// Checks that MySQL named itself (`orders_chk_1`) are renamed by it with their table, and so they are here. In
/// MariaDB a check's name is its table's own affair.
pub fn renamed(product: Product, sql: &str, from: &str, to: &str) -> String {
    let head = format!("CREATE TABLE {} ", ident(from));
    let Some(rest) = sql.strip_prefix(&head) else { return sql.to_owned() };
    let own = format!("CONSTRAINT {}", ident(&format!("{from}_chk_")).trim_end_matches('`'));
    let new = format!("CONSTRAINT {}", ident(&format!("{to}_chk_")).trim_end_matches('`'));
    let lines = rest.split('\n').map(|line| match line.trim_start().strip_prefix(&own) {
        Some(tail) if product == Product::MySql && tail.starts_with(|first: char| first.is_ascii_digit()) => {
            format!("  {new}{tail}")
        }
        _ => line.to_owned(),
    });
    let text = format!("CREATE TABLE {} {}", ident(to), lines.collect::<Vec<_>>().join("\n"));
    without_counter(&text)
}

/// The same without some of its lines: indexes, as they stand there.
pub fn without(sql: &str, clauses: &[&str]) -> String {
    let mut lines: Vec<&str> = sql.split('\n').collect();
    let Some(end) = lines.iter().rposition(|line| line.starts_with(')')) else { return sql.to_owned() };
    let tail = lines.split_off(end);
    let items: Vec<&str> = lines[1..]
        .iter()
        .map(|line| line.strip_suffix(',').unwrap_or(line))
        .filter(|line| !clauses.contains(&line.trim_start()))
        .collect();
    format!("{}\n{}\n{}", lines[0], items.join(",\n"), tail.join("\n"))
}

fn without_counter(sql: &str) -> String {
    // In the table's options, which begin after the last line of its items.
    let Some(options) = sql.rfind("\n) ") else { return sql.to_owned() };
    let (items, options) = sql.split_at(options);
    let Some(at) = options.find(" AUTO_INCREMENT=") else { return sql.to_owned() };
    let after = &options[at + " AUTO_INCREMENT=".len()..];
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    format!("{items}{}{}", &options[..at], &after[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `n` int DEFAULT NULL,\n  \
        PRIMARY KEY (`id`),\n  KEY `a` (`n`),\n  UNIQUE KEY `u` (`n`),\n  \
        CONSTRAINT `t_chk_1` CHECK ((`n` > 0)),\n  CONSTRAINT `t_chk_x` CHECK ((`n` > 1))\n) \
        ENGINE=InnoDB AUTO_INCREMENT=9 DEFAULT CHARSET=utf8mb4";

    #[test]
    fn a_definition_gets_another_name_and_loses_its_counter() {
        let sql = renamed(Product::MySql, SQL, "t", "new");
        assert!(sql.starts_with("CREATE TABLE `new` (\n"), "{sql}");
        assert!(sql.contains("CONSTRAINT `new_chk_1`") && sql.contains("CONSTRAINT `t_chk_x`"), "{sql}");
        assert!(sql.ends_with(") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"), "{sql}");
        assert_eq!(renamed(Product::MySql, &sql, "new", "t"), without_counter(SQL));
        let sql = renamed(Product::MariaDb, SQL, "t", "new");
        assert!(sql.contains("CONSTRAINT `t_chk_1`"), "{sql}");
    }

    #[test]
    fn checks_may_come_in_another_order_and_nothing_else_may() {
        let (first, second) = ("`t_chk_1` CHECK ((`n` > 0))", "`t_chk_x` CHECK ((`n` > 1))");
        let other = SQL.replace(first, "-").replace(second, first).replace('-', second);
        assert!(other != SQL && same(&other, SQL), "{other}");
        assert!(!same(&SQL.replace("`n` > 1", "`n` > 2"), SQL));
        assert!(!same(&SQL.replace("  KEY `a` (`n`),\n", ""), SQL));
    }

    #[test]
    fn constraints_with_names_of_their_own_are_told_from_others() {
        assert_eq!(named_checks(SQL, "t"), ["t_chk_x"]);
        let bare = without_constraints(SQL);
        assert!(!bare.contains("CONSTRAINT") && bare.contains("UNIQUE KEY `u` (`n`)\n)"), "{bare}");
    }

    #[test]
    fn foreign_keys_are_left_out_and_are_no_checks() {
        let line = "CONSTRAINT `k` FOREIGN KEY (`n`) REFERENCES `p` (`id`)";
        let with = SQL.replace("CHECK ((`n` > 1))\n", &format!("CHECK ((`n` > 1)),\n  {line}\n"));
        assert!(with.contains(line), "{with}");
        assert_eq!(without_foreign_keys(&with), SQL);
        assert_eq!(named_checks(&with, "t"), ["t_chk_x"]);
    }

    #[test]
    fn lines_are_left_out_and_the_commas_are_right() {
        let sql = without(SQL, &["KEY `a` (`n`)", "CONSTRAINT `t_chk_x` CHECK ((`n` > 1))"]);
        assert!(!sql.contains("KEY `a`"), "{sql}");
        assert!(
            sql.contains("UNIQUE KEY `u` (`n`),\n  CONSTRAINT `t_chk_1` CHECK ((`n` > 0))\n) ENGINE"),
            "{sql}"
        );
        assert_eq!(without(SQL, &[]), SQL);
    }
}
