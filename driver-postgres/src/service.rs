//! Managed services: how each is known, and where its settings are made. Nobody is a superuser there, and there is no ALTER
//! SYSTEM.

use replank_core::Result;

use crate::connect::Conn;
use crate::sql::{first, get, rows, text};

/// Who runs the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Amazon RDS or Aurora.
    Rds,
    /// Google Cloud SQL.
    CloudSql,
    /// Azure Database for PostgreSQL.
    Azure,
}

impl Service {
    const ALL: [Self; 3] = [Self::Rds, Self::CloudSql, Self::Azure];

    /// The service that a server is of, if it is of one.
    pub async fn of(connection: &mut Conn) -> Result<Option<Self>> {
        let known: Vec<String> = Self::ALL.iter().map(|service| text(service.role())).collect();
        let sql =
            format!("SELECT rolname::text FROM pg_roles WHERE rolname IN ({}) ORDER BY 1", known.join(", "));
        let found = rows(connection, sql).await?;
        let found: Vec<String> = found.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
        Ok(Self::ALL.into_iter().find(|service| found.iter().any(|role| role == service.role())))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rds => "Amazon RDS or Aurora",
            Self::CloudSql => "Google Cloud SQL",
            Self::Azure => "Azure Database for PostgreSQL",
        }
    }

    /// The role that only it has, whose members grant what a superuser grants elsewhere.
    pub fn role(self) -> &'static str {
        match self {
            Self::Rds => "rds_superuser",
            Self::CloudSql => "cloudsqlsuperuser",
            Self::Azure => "azure_pg_admin",
        }
    }

    /// Its own switch for logical slots, and how that stands; `None` where it has none.
    pub async fn switch(self, connection: &mut Conn) -> Result<Option<String>> {
        let Some(name) = self.switch_name() else { return Ok(None) };
        let row = first(connection, format!("SELECT current_setting({}, true)", text(name))).await?;
        let value = row.map(|row| get::<Option<String>>(&row, 0)).transpose()?.flatten();
        Ok(value.map(|value| format!("{name} = {value}")))
    }

    /// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.FeatureSupport.LogicalReplication.html>,
    /// <https://cloud.google.com/sql/docs/postgres/replication/configure-logical-replication>.
    fn switch_name(self) -> Option<&'static str> {
        match self {
            Self::Rds => Some("rds.logical_replication"),
            Self::CloudSql => Some("cloudsql.logical_decoding"),
            Self::Azure => None,
        }
    }
}

/// How a setting is made: on a service where it lets one, else on the server itself.
pub fn to_set(service: Option<Service>, name: &str, value: &str, needs_restart: bool) -> String {
    let (own, switched) = match service.and_then(Service::switch_name).filter(|_| name == "wal_level") {
        Some(own) if service == Some(Service::Rds) => (own, "1"),
        Some(own) => (own, "on"),
        None => (name, value),
    };
    let quoted =
        if switched.chars().all(|c| c.is_ascii_lowercase()) { switched.to_owned() } else { text(switched) };
    match (service, needs_restart) {
        (None, true) => format!("ALTER SYSTEM SET {own} = {quoted}, and restart the server"),
        (None, false) => format!("ALTER SYSTEM SET {own} = {quoted}, and SELECT pg_reload_conf()"),
        (Some(Service::Rds), true) => format!("set {own} = {switched} in its parameter group, and reboot it"),
        (Some(Service::Rds), false) => format!("set {own} = {switched} in its parameter group"),
        (Some(Service::CloudSql), true) => {
            format!("set the database flag {own} = {switched}, which restarts it")
        }
        (Some(Service::CloudSql), false) => format!("set the database flag {own} = {switched}"),
        (Some(Service::Azure), true) => {
            format!("set the server parameter {own} = {switched}, and restart it")
        }
        (Some(Service::Azure), false) => format!("set the server parameter {own} = {switched}"),
    }
}

/// How a login gets the right to make slots.
pub fn to_replicate(service: Option<Service>, login: &str) -> String {
    match service {
        Some(Service::Rds) => format!("GRANT rds_replication TO {login}"),
        Some(other) => format!("ALTER ROLE {login} REPLICATION, by a member of {}", other.role()),
        None => format!("ALTER ROLE {login} REPLICATION"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own_way_to_set_something() {
        for (service, wanted) in [
            (None, "ALTER SYSTEM SET wal_level = logical, and restart the server"),
            (Some(Service::Rds), "set rds.logical_replication = 1 in its parameter group, and reboot it"),
            (
                Some(Service::CloudSql),
                "set the database flag cloudsql.logical_decoding = on, which restarts it",
            ),
            (Some(Service::Azure), "set the server parameter wal_level = logical, and restart it"),
        ] {
            assert_eq!(to_set(service, "wal_level", "logical", true), wanted);
        }
        let size = to_set(None, "max_slot_wal_keep_size", "16GB", false);
        assert_eq!(size, "ALTER SYSTEM SET max_slot_wal_keep_size = '16GB', and SELECT pg_reload_conf()");
    }
}
