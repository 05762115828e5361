//! What the server and the login must allow, each with the statement that mends it. One list, for `doctor` and
//! for the plan.

use replank_core::driver::Check;
use replank_core::driver::facts::CheckState;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::sql::{first, get, ident, is_so, number, run, text};
use crate::state::Names;

/// As `server_version_num` has it.
const OLDEST: u32 = 140_000;

/// Looks at everything.
pub async fn checks(server: &Server, names: &Names) -> Result<Vec<Check>> {
    let mut connection = server.take().await?;
    let mut found = vec![version_check(server.version(), &version(&mut connection).await?)];
    found.push(standby(&mut connection).await?);
    found.push(pooler(server).await?);
    found.extend(privileges(&mut connection, names).await?);
    found.push(sight(&mut connection).await?);
    found.push(prepared(&mut connection).await?);
    found.push(oldest(&mut connection).await?);
    found.extend(managed(&mut connection).await?);
    server.keep(connection);
    Ok(found)
}

fn check(name: &str, state: CheckState, found: String, mend: Option<String>) -> Check {
    Check { name: name.to_owned(), state, found, mend }
}

fn good(name: &str, found: String) -> Check {
    check(name, CheckState::Good, found, None)
}

fn bad(name: &str, found: String, mend: &str) -> Check {
    check(name, CheckState::Bad, found, Some(mend.to_owned()))
}

/// As the server states it.
pub async fn version(connection: &mut Conn) -> Result<String> {
    match first(connection, "SELECT current_setting('server_version')").await? {
        Some(row) => get(&row, 0),
        None => Ok(String::new()),
    }
}

fn version_check(number: u32, version: &str) -> Check {
    match needed(number) {
        None => good("version", format!("PostgreSQL {version}")),
        Some(mend) => bad("version", format!("PostgreSQL {version}"), mend),
    }
}

/// What an old server lacks; `None` for one that is new enough.
pub fn needed(version: u32) -> Option<&'static str> {
    (version < OLDEST)
        .then_some("PostgreSQL 14 or later is needed: older ones are not supported by their makers either")
}

async fn standby(connection: &mut Conn) -> Result<Check> {
    Ok(match is_so(connection, "SELECT pg_is_in_recovery()").await? {
        false => good("primary", "it takes writes".to_owned()),
        true => bad("primary", "it is a standby".to_owned(), "name the primary in the target"),
    })
}

/// Fails where a pooler is in front of the server.
pub async fn refuse_pooler(server: &Server) -> Result<()> {
    let check = pooler(server).await?;
    match check.mend {
        None => Ok(()),
        Some(mend) => Err(Error::new(ErrorKind::Refused, check.found).hint(mend)),
    }
}

/// What is written of runs would be sent to subscribers as well, and they stop at a table that they do not have:
/// <https://www.postgresql.org/docs/current/logical-replication-conflicts.html>.
///
/// # Errors
/// [`ErrorKind::Refused`] where a publication is of all tables.
pub async fn refuse_publication_of_all(connection: &mut Conn) -> Result<()> {
    let of_all = "SELECT pubname::text FROM pg_publication WHERE puballtables ORDER BY 1 LIMIT 1";
    let Some(row) = first(connection, of_all).await? else { return Ok(()) };
    let name: String = get(&row, 0)?;
    Err(Error::new(
        ErrorKind::Refused,
        format!(
            "publication {name} is of all tables: replank's own would be sent, and subscribers stop at them"
        ),
    )
    .hint("let the subscribers follow a publication that names its tables"))
}

/// A pooler that gives each transaction a server process of its own leaves no session: neither settings nor locks of ours
/// would hold. It shows where two sessions meet in one process, or one is in two.
async fn pooler(server: &Server) -> Result<Check> {
    let (mut one, mut other) = (server.connect().await?, server.connect().await?);
    run(&mut other, "BEGIN").await?;
    let seen = number(&mut other, "SELECT pg_backend_pid()::bigint").await?;
    let own = number(&mut one, "SELECT pg_backend_pid()::bigint").await?;
    run(&mut other, "ROLLBACK").await?;
    let is_pooled =
        seen == i64::from(one.pid()) || own != i64::from(one.pid()) || seen != i64::from(other.pid());
    if !is_pooled {
        server.keep(one);
        server.keep(other);
    }
    Ok(match is_pooled {
        false => good("sessions", "each is a server process of its own".to_owned()),
        true => bad(
            "sessions",
            "a pooler gives each transaction another server process".to_owned(),
            "name the server itself in the target, or a pool with pool_mode = session",
        ),
    })
}

/// What the login may do in this database.
async fn privileges(connection: &mut Conn, names: &Names) -> Result<Vec<Check>> {
    let (schema, login) = (names.schema(), login(connection).await?);
    let mut found = Vec::new();
    let there = format!("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = {})", text(schema));
    if is_so(connection, there).await? {
        let may = format!(
            "SELECT has_schema_privilege({0}, 'CREATE') AND has_schema_privilege({0}, 'USAGE')",
            text(schema)
        );
        let mend = format!("GRANT ALL ON SCHEMA {} TO {}", ident(schema), ident(&login));
        found.push(privilege(
            "records",
            is_so(connection, may).await?,
            format!("schema {schema} is there"),
            &mend,
        ));
    } else {
        let may = "SELECT has_database_privilege(current_database(), 'CREATE')";
        let mend = format!("CREATE SCHEMA {} AUTHORIZATION {}", ident(schema), ident(&login));
        let what = format!("schema {schema} is made by the first run");
        found.push(privilege("records", is_so(connection, may).await?, what, &mend));
    }
    let may = "SELECT has_database_privilege(current_database(), 'TEMPORARY')";
    let mend =
        format!("GRANT TEMPORARY ON DATABASE {} TO {}", ident(&database(connection).await?), ident(&login));
    found.push(privilege(
        "trials",
        is_so(connection, may).await?,
        "changes are tried on empty temporary tables".to_owned(),
        &mend,
    ));
    Ok(found)
}

fn privilege(name: &str, has_it: bool, found: String, mend: &str) -> Check {
    match has_it {
        true => good(name, found),
        false => bad(name, format!("{found}, and the login may not"), mend),
    }
}

/// Whether other sessions can be seen: who holds a table is named then.
async fn sight(connection: &mut Conn) -> Result<Check> {
    let login = login(connection).await?;
    let sees = is_so(connection, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')").await?;
    Ok(match sees {
        true => good("other sessions", "are seen".to_owned()),
        false => check(
            "other sessions",
            CheckState::Warning,
            "what they run is not seen, so who holds a table is known by number only".to_owned(),
            Some(format!("GRANT pg_read_all_stats TO {}", ident(&login))),
        ),
    })
}

async fn prepared(connection: &mut Conn) -> Result<Check> {
    let sql = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
    Ok(match number(connection, sql).await? {
        0 => good("prepared transactions", "none".to_owned()),
        some => check(
            "prepared transactions",
            CheckState::Warning,
            format!("{some} wait for somebody to end them, and hold their locks meanwhile"),
            Some(
                "SELECT gid, prepared FROM pg_prepared_xacts; then COMMIT PREPARED or ROLLBACK PREPARED"
                    .to_owned(),
            ),
        ),
    })
}

/// Concurrent builds wait for transactions that are older, and so does the swap of a rebuild.
async fn oldest(connection: &mut Conn) -> Result<Check> {
    let sql = format!(
        "SELECT pid::text, floor(extract(epoch FROM clock_timestamp() - xact_start))::bigint FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
         AND clock_timestamp() - xact_start > interval '{OLD_SECONDS} seconds' ORDER BY xact_start LIMIT 1"
    );
    Ok(match first(connection, sql).await? {
        None => good("old transactions", format!("none is older than {OLD_SECONDS} s")),
        Some(row) => {
            let (pid, seconds): (String, i64) = (get(&row, 0)?, get(&row, 1)?);
            check(
                "old transactions",
                CheckState::Warning,
                format!("session {pid} has been in one for {seconds} s, and is waited for"),
                Some(format!("SELECT pg_terminate_backend({pid}), or wait for it")),
            )
        }
    })
}

/// Chosen: what is younger is over before it matters.
const OLD_SECONDS: u32 = 60;

/// Roles that only a service has, by which it is known.
const SERVICES: [(&str, &str); 3] = [
    ("rds_superuser", "Amazon RDS or Aurora"),
    ("cloudsqlsuperuser", "Google Cloud SQL"),
    ("azure_pg_admin", "Azure Database for PostgreSQL"),
];

/// On a managed service nobody is a superuser: what the login lacks is granted otherwise there.
async fn managed(connection: &mut Conn) -> Result<Vec<Check>> {
    let mut found = Vec::new();
    let login = login(connection).await?;
    for (role, service) in SERVICES {
        if !is_so(connection, format!("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = {})", text(role)))
            .await?
        {
            continue;
        }
        let sees = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";
        found.push(match is_so(connection, sees).await? {
            true => good("service", service.to_owned()),
            false => check(
                "service",
                CheckState::Warning,
                format!("{service}: the login does not see other sessions"),
                Some(format!("GRANT pg_read_all_stats TO {}, by a member of {role}", ident(&login))),
            ),
        });
    }
    Ok(found)
}

async fn login(connection: &mut Conn) -> Result<String> {
    match first(connection, "SELECT current_user::text").await? {
        Some(row) => get(&row, 0),
        None => Ok(String::new()),
    }
}

async fn database(connection: &mut Conn) -> Result<String> {
    match first(connection, "SELECT current_database()::text").await? {
        Some(row) => get(&row, 0),
        None => Ok(String::new()),
    }
}
