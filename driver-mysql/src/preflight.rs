//! What the server and the login must allow, each with the statement that mends it. One list, for `doctor` and
//! for the plan.

use mysql_async::Row;
use replank_core::driver::Check;
use replank_core::driver::facts::CheckState;
use replank_core::{ErrorKind, Result};

use crate::connect::{Conn, Product};
use crate::replicas;
use crate::sql::{first, get, ident, number, rows};
use crate::state::Names;

/// Looks at everything; `schema` is the database whose tables are to be changed.
pub async fn checks(connection: &mut Conn, schema: Option<&str>, names: &Names) -> Result<Vec<Check>> {
    let mut found = vec![version_check(connection.product(), &version(connection).await?)];
    found.extend(log(connection).await?);
    found.push(retention(connection).await?);
    found.extend(topology(connection).await?);
    found.extend(privileges(connection, schema, names, &[]).await?);
    Ok(found)
}

/// What must be mended first.
pub fn blocking(checks: Vec<Check>) -> Vec<Check> {
    checks.into_iter().filter(|check| check.state == CheckState::Bad).collect()
}

fn check(name: &str, state: CheckState, found: String, mend: Option<String>) -> Check {
    Check { name: name.to_owned(), state, found, mend }
}

/// What stands in the way, with what mends it.
pub fn bad(name: &str, found: String, mend: &str) -> Check {
    check(name, CheckState::Bad, found, Some(mend.to_owned()))
}

/// A variable of the server, if this version has it.
pub async fn variable(connection: &mut Conn, name: &str) -> Result<Option<String>> {
    // A variable that this version does not have is an error, so the list of them is asked.
    let sql = format!("SHOW GLOBAL VARIABLES LIKE '{}'", name.replace('_', "\\_"));
    first(connection, sql).await?.map(|row| get(&row, 1)).transpose()
}

/// As the server states it.
pub async fn version(connection: &mut Conn) -> Result<String> {
    match first(connection, "SELECT VERSION()").await? {
        Some(row) => get(&row, 0),
        None => Ok(String::new()),
    }
}

fn version_check(product: Product, version: &str) -> Check {
    let mend = needed(product, version).map(ToOwned::to_owned);
    let state = if mend.is_some() { CheckState::Bad } else { CheckState::Good };
    check("version", state, format!("{} {version}", product.name()), mend)
}

/// What an old server lacks; `None` for one that is new enough.
pub fn needed(product: Product, version: &str) -> Option<&'static str> {
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    match product {
        Product::MySql => (version < (8, 0, 17)).then_some(
            "MySQL 8.0.17 or later is needed: before it, texts cannot be compared byte by byte in place",
        ),
        Product::MariaDb => (version < (10, 6, 0))
            .then_some("MariaDB 10.6 or later is needed: before it, a crash can leave a rename half done"),
    }
}

/// Transactions that were prepared and not committed. Their rows are in the log already, and become visible
/// whenever somebody commits them.
pub async fn prepared(connection: &mut Conn) -> Result<usize> {
    Ok(rows(connection, "XA RECOVER").await?.len())
}

/// Whether the log has the rows that foreign keys change by themselves. See
/// <https://dev.mysql.com/doc/refman/9.7/en/create-table-foreign-keys.html>.
pub async fn logs_cascades(connection: &mut Conn) -> Result<bool> {
    if connection.is_mariadb() {
        return Ok(false);
    }
    // Servers that always leave it to InnoDB, which logs nothing, do not know the setting.
    Ok(variable(connection, "innodb_native_foreign_keys").await?.as_deref() == Some("OFF"))
}

/// Settings without which the log does not show every changed row.
pub async fn log(connection: &mut Conn) -> Result<Vec<Check>> {
    let set = connection.product().set();
    let lasting = match connection.product() {
        Product::MySql => "",
        Product::MariaDb => ", and in the server's own file; sessions that are open keep what they have",
    };
    let mut wanted: Vec<(&str, &[&str], String)> = vec![
        ("log_bin", &["ON"], "start the server with --log-bin".to_owned()),
        ("binlog_format", &["ROW"], format!("{set} binlog_format = 'ROW'{lasting}")),
        (
            "binlog_row_image",
            &["FULL", "NOBLOB", "FULL_NODUP"],
            format!("{set} binlog_row_image = 'FULL'{lasting}"),
        ),
    ];
    match connection.product() {
        Product::MySql => {
            let mend = "SET PERSIST gtid_mode = ON, step by step: OFF_PERMISSIVE, ON_PERMISSIVE, ON";
            wanted.push(("gtid_mode", &["ON"], mend.to_owned()));
        }
        Product::MariaDb => {
            wanted.push(("log_bin_compress", &["OFF"], format!("{set} log_bin_compress = OFF{lasting}")));
            // Other nodes of a cluster take writes, and no lock here holds them back.
            wanted.push(("wsrep_on", &["OFF"], "MariaDB Galera Cluster is not supported".to_owned()));
        }
    }
    let mut found = Vec::new();
    for (name, good, mend) in wanted {
        let Some(value) = variable(connection, name).await? else { continue };
        let is_good = good.iter().any(|good| good.eq_ignore_ascii_case(&value));
        let state = if is_good { CheckState::Good } else { CheckState::Bad };
        found.push(check(name, state, value, (!is_good).then_some(mend)));
    }
    found.extend(filters(connection).await?);
    Ok(found)
}

/// Databases that the server leaves out of its log.
async fn filters(connection: &mut Conn) -> Result<Option<Check>> {
    // The statement's name before MySQL 8.2, and in MariaDB.
    let status = match rows(connection, "SHOW BINARY LOG STATUS").await {
        Err(error) if error.kind() == ErrorKind::Usage => rows(connection, "SHOW MASTER STATUS").await,
        status => status,
    };
    let name = "binlog filters";
    let status = match status {
        Ok(status) => status,
        Err(error) if error.kind() == ErrorKind::Refused => {
            let found = "cannot be read: is a database left out of the log?".to_owned();
            let mend = Some("GRANT REPLICATION CLIENT ON *.* to see".to_owned());
            return Ok(Some(check(name, CheckState::Warning, found, mend)));
        }
        Err(error) => return Err(error),
    };
    for row in status {
        let (only, without): (String, String) = (get(&row, 2)?, get(&row, 3)?);
        if !only.is_empty() || !without.is_empty() {
            let mend = Some("start the server without --binlog-do-db and --binlog-ignore-db".to_owned());
            return Ok(Some(check(name, CheckState::Bad, format!("{only} {without}"), mend)));
        }
    }
    Ok(None)
}

/// Whether this is the one server on which the table is written.
pub async fn topology(connection: &mut Conn) -> Result<Vec<Check>> {
    let mut found = Vec::new();
    let takes_writes = number(connection, "SELECT @@GLOBAL.read_only = 0").await? > 0;
    found.push(match takes_writes {
        true => check("read_only", CheckState::Good, "the server takes writes".to_owned(), None),
        false => check(
            "read_only",
            CheckState::Bad,
            "the server takes no writes: a replica, or one that was demoted".to_owned(),
            Some("name the server that takes the writes as the target".to_owned()),
        ),
    });
    let sources = match connection.product() {
        Product::MySql => sources_of_mysql(connection).await?,
        Product::MariaDb => sources_of_mariadb(connection, &mut found).await?,
    };
    for source in sources {
        found.push(check(
            "replication",
            CheckState::Bad,
            format!("the server replicates from {source}: who writes there, no lock here holds back"),
            Some("name the source as the target, or STOP REPLICA until the change is made".to_owned()),
        ));
    }
    // Of MySQL only; of others the same table would be empty.
    let primaries = match connection.product() {
        Product::MariaDb => 0,
        Product::MySql => {
            let sql = "SELECT COUNT(*) FROM performance_schema.replication_group_members
                       WHERE member_state = 'ONLINE' AND member_role = 'PRIMARY'";
            number(connection, sql).await?
        }
    };
    if primaries > 1 {
        found.push(check(
            "group replication",
            CheckState::Bad,
            format!("{primaries} members of the group take writes"),
            Some("SELECT group_replication_switch_to_single_primary_mode()".to_owned()),
        ));
    }
    Ok(found)
}

async fn sources_of_mysql(connection: &mut Conn) -> Result<Vec<String>> {
    let sql = "SELECT CONCAT(c.host, ':', c.port) FROM performance_schema.replication_connection_status AS s
               JOIN performance_schema.replication_connection_configuration AS c USING (channel_name)
               WHERE s.service_state = 'ON' AND channel_name NOT LIKE 'group\\_replication%'";
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

async fn sources_of_mariadb(connection: &mut Conn, found: &mut Vec<Check>) -> Result<Vec<String>> {
    let channels = match replicas::channels(connection).await {
        Ok(channels) => channels,
        Err(error) if error.kind() == ErrorKind::Refused => {
            let said = "cannot be read: does the server replicate from another?".to_owned();
            let mend = Some("GRANT SLAVE MONITOR ON *.* to see".to_owned());
            found.push(check("replication", CheckState::Warning, said, mend));
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let word =
        |channel: &Row, name: &str| channel.get::<Option<String>, _>(name).flatten().unwrap_or_default();
    let runs = |channel: &&Row| word(channel, "Slave_SQL_Running") == "Yes";
    Ok(channels
        .iter()
        .filter(runs)
        .map(|channel| {
            let port: Option<u64> = channel.get("Master_Port");
            format!("{}:{}", word(channel, "Master_Host"), port.unwrap_or_default())
        })
        .collect())
}

/// Twice the longest run that is likely and the usual window of a revert. What is asked of a particular change
/// is judged by its plan.
const RETENTION_SECONDS: u64 = 48 * 60 * 60;

async fn retention(connection: &mut Conn) -> Result<Check> {
    let name = "binlog_expire_logs_seconds";
    Ok(match kept_seconds(connection).await? {
        None => check(name, CheckState::Good, "nothing purges the log".to_owned(), None),
        Some(seconds) if seconds < RETENTION_SECONDS => check(
            name,
            CheckState::Warning,
            format!("the log is kept for {} h", seconds / 3600),
            Some(format!("{} {name} = {RETENTION_SECONDS}", connection.product().set())),
        ),
        Some(seconds) => {
            check(name, CheckState::Good, format!("the log is kept for {} h", seconds / 3600), None)
        }
    })
}

/// Seconds that the log is kept; `None` where nothing purges it.
pub async fn kept_seconds(connection: &mut Conn) -> Result<Option<u64>> {
    let seconds: u64 = variable(connection, "binlog_expire_logs_seconds")
        .await?
        .and_then(|value| value.parse().ok())
        .unwrap_or_default();
    let purges = variable(connection, "binlog_expire_logs_auto_purge").await?.as_deref() != Some("OFF");
    Ok((seconds > 0 && purges).then_some(seconds))
}

/// Privileges, and what for.
const GLOBAL_OF_MYSQL: [&str; 3] = ["REPLICATION SLAVE", "PROCESS", "XA_RECOVER_ADMIN"];
/// MariaDB shows XA transactions to everybody; the place in the log is what it guards.
const GLOBAL_OF_MARIADB: [&str; 3] = ["REPLICATION SLAVE", "PROCESS", "BINLOG MONITOR"];
/// Without TRIGGER a table's triggers cannot be seen, and would go with the old table.
const OF_SCHEMA: [&str; 10] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "LOCK TABLES", "TRIGGER"];
const OF_PERFORMANCE: [&str; 1] = ["SELECT"];

/// What the login may do on the server, on a database, and with our records; `more` is what a particular table needs
/// there as well.
pub async fn privileges(
    connection: &mut Conn,
    schema: Option<&str>,
    names: &Names,
    more: &[&str],
) -> Result<Vec<Check>> {
    let of_schema = [&OF_SCHEMA[..], more].concat();
    let grants: Vec<String> =
        rows(connection, "SHOW GRANTS").await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let user: String = match first(connection, "SELECT CURRENT_USER()").await? {
        Some(row) => get(&row, 0)?,
        None => String::new(),
    };
    let user = match user.rsplit_once('@') {
        Some((name, host)) => format!("'{name}'@'{host}'"),
        None => user,
    };
    let held: Vec<Grant> = grants.iter().filter_map(|text| Grant::read(text)).collect();
    let mut found = Vec::new();
    let mut look = |name: &str, scopes: &[Option<&str>], on: &str, wanted: &[&str]| {
        let is_missing = |privilege: &&str| {
            scopes.iter().any(|scope| !held.iter().any(|grant| grant.gives(privilege, *scope)))
        };
        let missing: Vec<&str> = wanted.iter().copied().filter(is_missing).collect();
        found.push(match missing.is_empty() {
            true => check(name, CheckState::Good, format!("all that is needed on {on}"), None),
            false => check(
                name,
                CheckState::Bad,
                format!("{} on {on} is missing", missing.join(", ")),
                Some(format!("GRANT {} ON {on} TO {user}", missing.join(", "))),
            ),
        });
    };
    let product = connection.product();
    let global = match product {
        Product::MySql => &GLOBAL_OF_MYSQL,
        Product::MariaDb => &GLOBAL_OF_MARIADB,
    };
    look("global privileges", &[None], "*.*", global);
    if let Some(schema) = schema {
        look("privileges on the database", &[Some(schema)], &format!("{}.*", ident(schema)), &of_schema);
    }
    // The records, scratch tables, and tables that are not live: their names begin alike.
    let homes = names.homes();
    let scratch = format!("{}0", names.scratch_prefix());
    let own = [names.schema(), scratch.as_str(), homes.shadow.as_str(), homes.retired.as_str()].map(Some);
    let pattern = format!("{}.*", ident(&format!("{}%", names.schema().replace('_', "\\_"))));
    look("privileges on replank's own databases", &own, &pattern, &of_schema);
    // Where it is off, MariaDB still asks who may read that it is.
    let performance = "performance_schema";
    look("privileges on performance_schema", &[Some(performance)], "performance_schema.*", &OF_PERFORMANCE);
    Ok(found)
}

/// A line of SHOW GRANTS, of which only those on all tables of a database, or everywhere, matter.
struct Grant {
    privileges: Vec<String>,
    /// A pattern; `None` for everywhere.
    schema: Option<String>,
}

impl Grant {
    fn read(text: &str) -> Option<Self> {
        let (privileges, rest) = text.strip_prefix("GRANT ")?.split_once(" ON ")?;
        let (on, _) = rest.split_once(" TO ")?;
        let schema = match on {
            "*.*" => None,
            on => Some(on.strip_suffix(".*")?.trim_matches('`').replace("``", "`")),
        };
        Some(Self {
            privileges: privileges.split(',').map(|privilege| privilege.trim().to_owned()).collect(),
            schema,
        })
    }

    fn gives(&self, privilege: &str, schema: Option<&str>) -> bool {
        let is_there = match (&self.schema, schema) {
            (None, _) => true,
            (Some(pattern), Some(schema)) => is_like(schema, pattern),
            (Some(_), None) => false,
        };
        let is_given = |held: &String| held == privilege || held == "ALL PRIVILEGES";
        is_there && self.privileges.iter().any(is_given)
    }
}

/// LIKE, as database names in grants are matched.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut pattern = pattern.chars();
    match pattern.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest: String = pattern.collect();
            (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| is_like(&name[at..], &rest))
        }
        Some(first) => {
            let (first, is_any) = match first {
                '\\' => (pattern.next().unwrap_or('\\'), false),
                '_' => ('_', true),
                other => (other, false),
            };
            let mut name = name.chars();
            let rest: String = pattern.collect();
            name.next().is_some_and(|next| (is_any || next == first) && is_like(name.as_str(), &rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (product, old, new) in [
            (Product::MySql, ["5.7.44-log", "8.0.16"], ["8.0.17", "9.7.4-debian"]),
            (Product::MariaDb, ["5.5.68-MariaDB", "10.5.29-MariaDB"], ["10.6.0-MariaDB", "11.8.2-MariaDB"]),
        ] {
            assert!(old.iter().all(|version| needed(product, version).is_some()), "{product:?}");
            assert!(new.iter().all(|version| needed(product, version).is_none()), "{product:?}");
        }
    }

    #[test]
    fn grants_are_read_with_their_patterns() {
        let grant = Grant::read("GRANT SELECT, INSERT ON `shop\\_%`.* TO `app`@`%`").expect("a grant");
        assert!(grant.gives("SELECT", Some("shop_1")) && !grant.gives("SELECT", Some("shops")));
        assert!(!grant.gives("DELETE", Some("shop_1")) && !grant.gives("SELECT", None));
        let all =
            Grant::read("GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION").expect("a grant");
        assert!(all.gives("LOCK TABLES", Some("any")) && all.gives("PROCESS", None));
        assert!(
            Grant::read("GRANT SELECT ON `shop`.`orders` TO `app`@`%`").is_none(),
            "one table is too little"
        );
        assert!(Grant::read("GRANT `role`@`%` TO `app`@`%`").is_none());
    }
}
