//! What the server and the login must allow, each with the statement that mends it. One list, for `doctor` and
//! for the plan.

use replank_core::driver::Check;
use replank_core::driver::facts::CheckState;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::health;
use crate::service::Service;
use crate::sql::{first, get, ident, is_so, text};
use crate::state::Names;

/// As `server_version_num` has it.
const OLDEST: u32 = 140_000;

/// Looks at everything.
pub async fn checks(server: &Server, names: &Names) -> Result<Vec<Check>> {
    let mut connection = server.take().await?;
    let mut found = vec![version_check(server.version(), &version(&mut connection).await?)];
    found.push(standby(&mut connection).await?);
    found.push(pooler(server));
    found.extend(privileges(&mut connection, names).await?);
    found.push(sight(&mut connection).await?);
    let service = Service::of(&mut connection).await?;
    found.extend(health::checks(&mut connection, service).await?);
    if let Some(service) = service {
        found.push(managed(&mut connection, service).await?);
    }
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
        // A candidate is as the release will be, but for what is still found in it.
        None if is_unreleased(version) => check(
            "version",
            CheckState::Warning,
            format!("PostgreSQL {version}: not released yet, and its makers may still change it"),
            Some("keep it for trials until its release".to_owned()),
        ),
        None => good("version", format!("PostgreSQL {version}")),
        Some(mend) => bad("version", format!("PostgreSQL {version}"), mend),
    }
}

/// What an old server lacks; `None` for one that is new enough.
pub fn needed(version: u32) -> Option<&'static str> {
    (version < OLDEST)
        .then_some("PostgreSQL 14 or later is needed: older ones are not supported by their makers either")
}

/// `19rc1`, `19beta2`, `20devel`: a release has a point in its number.
fn is_unreleased(version: &str) -> bool {
    let number = version.split_whitespace().next().unwrap_or_default();
    number.contains(|letter: char| letter.is_ascii_alphabetic())
}

async fn standby(connection: &mut Conn) -> Result<Check> {
    Ok(match is_so(connection, "SELECT pg_is_in_recovery()").await? {
        false => good("primary", "it takes writes".to_owned()),
        true => bad("primary", "it is a standby".to_owned(), "name the primary in the target"),
    })
}

/// What is wrong with a pooler in transaction mode, and what to do about it.
pub const POOLED: &str = "a pooler gives each transaction another server process";
const UNPOOLED: &str = "name the server itself in the target, or a pool with pool_mode = session";

/// Fails where such a pooler is in front of the server.
pub fn refuse_pooler(server: &Server) -> Result<()> {
    match server.is_pooled() {
        false => Ok(()),
        true => Err(Error::new(ErrorKind::Refused, format!("{POOLED}; nothing was changed")).hint(UNPOOLED)),
    }
}

/// A pooler that gives each transaction a server process of its own leaves no session: neither settings nor locks of ours
/// would hold.
fn pooler(server: &Server) -> Check {
    match server.is_pooled() {
        false => good("sessions", "each is a server process of its own".to_owned()),
        true => bad("sessions", POOLED.to_owned(), UNPOOLED),
    }
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

/// On a managed service nobody is a superuser: what the login lacks is granted otherwise there.
async fn managed(connection: &mut Conn, service: Service) -> Result<Check> {
    let login = login(connection).await?;
    let switch = service.switch(connection).await?.map(|switch| format!("; {switch}")).unwrap_or_default();
    let sees = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";
    Ok(match is_so(connection, sees).await? {
        true => good("service", format!("{}{switch}", service.name())),
        false => check(
            "service",
            CheckState::Warning,
            format!("{}{switch}: the login does not see other sessions", service.name()),
            Some(format!("GRANT pg_read_all_stats TO {}, by a member of {}", ident(&login), service.role())),
        ),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_released_yet_is_served_with_a_warning() {
        for (version, state) in [
            ("18.6 (Debian 18.6-1)", CheckState::Good),
            ("19rc1 (Debian 19~rc1-1)", CheckState::Warning),
            ("19beta2", CheckState::Warning),
            ("20devel", CheckState::Warning),
            ("20.0", CheckState::Good),
        ] {
            assert_eq!(version_check(190_000, version).state, state, "{version}");
        }
        assert_eq!(version_check(130_004, "13.4").state, CheckState::Bad);
    }
}
