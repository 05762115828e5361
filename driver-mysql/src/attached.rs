//! What hangs on a table's name and has to follow it: keys of other tables that point at it, and its triggers.

use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::connect::{Conn, Product};
use crate::definition;
use crate::foreign_key::{ForeignKey, foreign_keys};
use crate::inspect::Table;
use crate::parse::{Token, tokens};
use crate::rebuild::identity::FileName;
use crate::sql::{first, get, ident, number, rows, run, table, text};

/// All of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Keys of other tables that point at it.
    pub inbound: Vec<Inbound>,
    /// Its triggers, in the order in which they fire.
    pub triggers: Vec<Trigger>,
}

/// A key of another table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// The database of that table.
    pub schema: String,
    /// That table.
    pub table: String,
    /// The key.
    pub key: ForeignKey,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Unique in its database, which is its table's.
    pub name: String,
    /// The statement that made it, without the order among others.
    pub sql: String,
    /// The mode in which it was made, and runs.
    pub sql_mode: String,
    /// The character set of the client that made it.
    pub charset: String,
    /// The collation of that connection.
    pub collation: String,
}

impl Attached {
    /// Reads those of a table.
    pub async fn read(connection: &mut Conn, schema: &str, name: &str) -> Result<Self> {
        let inbound = inbound(connection, schema, name).await?;
        let triggers = triggers(connection, schema, name).await?;
        Ok(Self { inbound, triggers })
    }

    /// All of them, and the table's own keys, as words.
    pub fn sentences(&self, of: &Table) -> Vec<String> {
        let own = foreign_keys(&of.sql);
        let own = own.iter().map(|key| format!("foreign key {} on `{}`", key.name, key.table));
        let inbound = self.inbound.iter().map(|it| format!("foreign key {} of `{}`", it.key.name, it.table));
        let triggers = self.triggers.iter().map(|trigger| format!("trigger {}", trigger.name));
        own.chain(inbound).chain(triggers).collect()
    }

    /// Nothing hangs on it.
    pub fn is_empty(&self) -> bool {
        self.inbound.is_empty() && self.triggers.is_empty()
    }
}

/// How many keys of other tables point at a table, also those of tables that the login may not see.
pub async fn pointing_at(connection: &mut Conn, file: &FileName) -> Result<u64> {
    let keys = match connection.product() {
        Product::MySql => "innodb_foreign",
        Product::MariaDb => "innodb_sys_foreign",
    };
    let file = text(&format!("{}/{}", file.schema, file.table));
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.{keys} WHERE ref_name = {file} AND for_name <> {file}"
    );
    number(connection, sql).await
}

/// Tables with keys that point at a table, but itself: databases and names.
async fn children(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<(String, String)>> {
    let sql = format!(
        "SELECT DISTINCT constraint_schema, table_name FROM information_schema.referential_constraints
         WHERE unique_constraint_schema = {0} AND referenced_table_name = {1}
         AND NOT (constraint_schema = {0} AND table_name = {1}) ORDER BY 1, 2",
        text(schema),
        text(name)
    );
    rows(connection, sql).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// Keys of other tables that point at a table.
pub async fn inbound(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<Inbound>> {
    let mut found = Vec::new();
    for (home, child) in children(connection, schema, name).await? {
        let sql = definition::read(connection, &home, &child).await?.unwrap_or_default();
        let pointing = foreign_keys(&sql).into_iter().filter(|key| key.points_at(&home, schema, name));
        found.extend(pointing.map(|key| Inbound { schema: home.clone(), table: child.clone(), key }));
    }
    Ok(found)
}

/// The names of a table's triggers, in the order in which they fire.
pub async fn trigger_names(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT trigger_name FROM information_schema.triggers
         WHERE event_object_schema = {} AND event_object_table = {}
         ORDER BY event_manipulation, action_timing, action_order",
        text(schema),
        text(name)
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

async fn triggers(connection: &mut Conn, schema: &str, name: &str) -> Result<Vec<Trigger>> {
    let mut found = Vec::new();
    for trigger in trigger_names(connection, schema, name).await? {
        let sql = format!("SHOW CREATE TRIGGER {}", table(schema, &trigger));
        let row = first(connection, sql).await?;
        let row = row.ok_or_else(|| Error::new(ErrorKind::Retry, format!("trigger `{trigger}` is gone")))?;
        found.push(Trigger {
            name: trigger,
            sql: get(&row, 2)?,
            sql_mode: get(&row, 1)?,
            charset: get(&row, 3)?,
            collation: get(&row, 4)?,
        });
    }
    Ok(found)
}

impl Trigger {
    /// Makes it in a database, on a table there. The session's own settings are given back to it.
    pub async fn create(&self, connection: &mut Conn, schema: &str, on: &str) -> Result<()> {
        let statement = self.statement(schema, on)?;
        let own = "SELECT @@sql_mode, @@character_set_client, @@collation_connection";
        let own = first(connection, own).await?;
        let own = own.ok_or_else(|| Error::new(ErrorKind::Internal, "a session without settings"))?;
        let (mode, charset, collation): (String, String, String) =
            (get(&own, 0)?, get(&own, 1)?, get(&own, 2)?);
        settings(connection, &self.sql_mode, &self.charset, &self.collation).await?;
        let made = run(connection, statement).await;
        settings(connection, &mode, &charset, &collation).await?;
        made.map(drop)
    }

    /// The statement that makes it on another table.
    fn statement(&self, schema: &str, on: &str) -> Result<String> {
        let strange = || {
            Error::new(ErrorKind::Refused, format!("the text of trigger `{}` is not understood", self.name))
                .with("text", &self.sql)
        };
        // Bytes of the text are UTF-8 here, and the server would read them as another character set's.
        if !self.sql.is_ascii() && !self.charset.starts_with("utf8") {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "trigger `{}` has letters beyond ASCII, and was made by a client of character set {}",
                    self.name, self.charset
                ),
            )
            .hint("make it again by a client of character set utf8mb4"));
        }
        let all = tokens(&self.sql).map_err(|_open| strange())?;
        let find =
            |from: usize, word: &str| all.iter().skip(from).position(|it| it.is(word)).map(|at| at + from);
        let named = find(0, "TRIGGER").ok_or_else(strange)? + 1;
        let named = if all.get(named).is_some_and(|it| it.is("IF")) { named + 3 } else { named };
        let timing = after_name(&all, named);
        let names = find(timing, "ON").ok_or_else(strange)? + 1;
        let rest = after_name(&all, names);
        let from = |at: usize| all.get(at).map(|token| token.span.start).ok_or_else(strange);
        Ok(format!(
            "{}{} {}{} {}",
            &self.sql[..from(named)?],
            table(schema, &self.name),
            &self.sql[from(timing)?..from(names)?],
            table(schema, on),
            &self.sql[from(rest)?..]
        ))
    }
}

/// Behind a name that may be qualified.
fn after_name(all: &[Token], at: usize) -> usize {
    match all.get(at + 1) {
        Some(dot) if dot.is_sign('.') => at + 3,
        _ => at + 1,
    }
}

async fn settings(connection: &mut Conn, mode: &str, charset: &str, collation: &str) -> Result<()> {
    let sql = format!(
        "SET SESSION sql_mode = {}, character_set_client = {}, collation_connection = {}",
        text(mode),
        ident(charset),
        ident(collation)
    );
    run(connection, sql).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::of_mysql(
        "CREATE DEFINER=`root`@`%` TRIGGER `t2` AFTER INSERT ON `p` FOR EACH ROW insert into on_it values(new.id)",
        "CREATE DEFINER=`root`@`%` TRIGGER `s`.`t2` AFTER INSERT ON `s`.`new` FOR EACH ROW insert into on_it values(new.id)"
    )]
    #[case::of_mariadb(
        "CREATE DEFINER=`a`@`b` trigger s.t2 before update on s . p for each row set new.a = 1",
        "CREATE DEFINER=`a`@`b` trigger `s`.`t2` before update on `s`.`new` for each row set new.a = 1"
    )]
    #[case::odd_names(
        "CREATE DEFINER=`trigger`@`on` TRIGGER IF NOT EXISTS `t2` AFTER DELETE ON `for``each` FOR EACH ROW begin end",
        "CREATE DEFINER=`trigger`@`on` TRIGGER IF NOT EXISTS `s`.`t2` AFTER DELETE ON `s`.`new` FOR EACH ROW begin end"
    )]
    fn a_trigger_is_made_on_another_table(#[case] sql: &str, #[case] expected: &str) {
        let trigger = Trigger {
            name: "t2".into(),
            sql: sql.into(),
            sql_mode: String::new(),
            charset: "latin1".into(),
            collation: "latin1_swedish_ci".into(),
        };
        assert_eq!(trigger.statement("s", "new").expect("understood"), expected);
    }

    #[test]
    fn letters_that_would_be_read_otherwise_are_refused() {
        let trigger = Trigger {
            name: "t".into(),
            sql: "CREATE DEFINER=`r`@`%` TRIGGER t AFTER INSERT ON p FOR EACH ROW SET @a = 'ä'".into(),
            sql_mode: String::new(),
            charset: "latin1".into(),
            collation: "latin1_swedish_ci".into(),
        };
        assert_eq!(trigger.statement("s", "new").expect_err("refused").kind(), ErrorKind::Refused);
        let trigger = Trigger { charset: "utf8mb4".into(), ..trigger };
        assert!(trigger.statement("s", "new").is_ok());
    }
}
