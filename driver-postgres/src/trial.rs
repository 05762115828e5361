//! What the server itself says of a change: it is tried on an empty temporary copy in a transaction that is rolled back.
//!
//! A rewrite shows in the number of the copy's file, a look at every row in the transaction's own count of scans, a
//! rebuilt index in the number of that index's file. Nothing is guessed from types or versions. The original is only
//! locked against other changes of its definition, while the copy is made.

use replank_core::{Error, ErrorKind, Result};

use crate::connect::Conn;
use crate::inspect::Table;
use crate::sql::{first, get, ident, run, text};
use crate::zones::refuse_times_without_offset;

/// How one part of a change came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Every row would be written anew.
    pub rewrites: bool,
    /// Every row would be looked at.
    pub scans: bool,
    /// An index would be built.
    pub builds: bool,
    /// What each row that is there would get at once, as it is said in UTC; empty where nothing of the kind.
    pub fills: String,
}

impl Tried {
    /// Only the catalogue changes.
    pub fn is_instant(&self) -> bool {
        !self.rewrites && !self.scans && !self.builds
    }
}

/// An empty copy of a table, in a transaction of the session that it was made with.
pub struct Trial {
    name: String,
    /// Where it shows what the server does: the copy itself, or the one partition of a partitioned copy.
    traced: String,
}

/// What shows what the server did.
#[derive(PartialEq)]
struct Traces {
    file: Option<i64>,
    scans: i64,
    indexes: String,
    fills: String,
}

impl Trial {
    /// Makes the copy, which goes with the session or by [`Trial::end`].
    pub async fn begin(connection: &mut Conn, table: &Table) -> Result<Self> {
        let name = format!("pg_temp.{}", ident(&table.name));
        let (mut by, mut partition, mut traced) = (String::new(), String::new(), name.clone());
        if table.is_partitioned() {
            let (key, bound) = partitioning(connection, table).await?;
            by = format!(" PARTITION BY {key}");
            partition =
                format!("; CREATE TEMPORARY TABLE {PARTITION} PARTITION OF {name} {bound} ON COMMIT DROP");
            traced = format!("pg_temp.{PARTITION}");
        }
        let sql = format!(
            "BEGIN; SET LOCAL lock_timeout = '1s';
             CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING ALL){by} ON COMMIT DROP{partition}",
            ident(&table.name),
            table.full_name()
        );
        run(connection, sql).await.map_err(|error| match error.kind() {
            ErrorKind::Refused => {
                error.hint("GRANT TEMPORARY ON DATABASE … TO the login: changes are tried on an empty copy")
            }
            _ => error,
        })?;
        Ok(Self { name, traced })
    }

    /// The copy's name, as it is typed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does to the copy what is to be done to the table.
    ///
    /// # Errors
    /// What the server says of it; the transaction is over then.
    pub async fn alter(&self, connection: &mut Conn, action: &str) -> Result<Tried> {
        let statement = format!("ALTER TABLE {} {action}", self.name);
        self.run(connection, &statement).await
    }

    /// The same for a whole statement.
    pub async fn run(&self, connection: &mut Conn, statement: &str) -> Result<Tried> {
        refuse_times_without_offset(connection, &[statement.to_owned()]).await?;
        self.run_in(connection, "UTC", statement).await
    }

    async fn run_in(&self, connection: &mut Conn, zone: &str, statement: &str) -> Result<Tried> {
        let before = self.traces(connection).await?;
        run(connection, format!("SET LOCAL TimeZone = {}", text(zone))).await?;
        run(connection, statement).await.map_err(as_typed)?;
        run(connection, "SET LOCAL TimeZone = 'UTC'").await?;
        let after = self.traces(connection).await?;
        Ok(Tried {
            fills: after.fills.strip_prefix(&before.fills).unwrap_or(&after.fills).trim().to_owned(),
            rewrites: before.file != after.file,
            scans: before.scans != after.scans,
            builds: !after.indexes.split(' ').all(|file| before.indexes.split(' ').any(|old| old == file)),
        })
    }

    /// How an action would come out in a session of that zone; nothing of it stays.
    ///
    /// # Errors
    /// What the server says of it; the transaction goes on.
    pub async fn under(&self, connection: &mut Conn, zone: &str, action: &str) -> Result<Tried> {
        run(connection, "SAVEPOINT rp_under").await?;
        let statement = format!("ALTER TABLE {} {action}", self.name);
        let tried = self.run_in(connection, zone, &statement).await;
        run(connection, "ROLLBACK TO SAVEPOINT rp_under; RELEASE SAVEPOINT rp_under").await?;
        tried
    }

    async fn traces(&self, connection: &mut Conn) -> Result<Traces> {
        let sql = format!(
            "SELECT pg_relation_filenode(t.oid)::bigint, pg_stat_get_xact_numscans(t.oid),
                    coalesce((SELECT string_agg(pg_relation_filenode(indexrelid)::text, ' ' ORDER BY indexrelid)
                              FROM pg_index WHERE indrelid = t.oid), ''),
                    coalesce((SELECT string_agg(trim(attmissingval::text, '{{}}'), ' ' ORDER BY attnum)
                              FROM pg_attribute WHERE attrelid = t.oid AND NOT attisdropped), '')
             FROM (SELECT to_regclass({})::oid AS oid) AS t",
            text(&self.traced)
        );
        match first(connection, sql).await? {
            Some(row) => Ok(Traces {
                file: get(&row, 0)?,
                scans: get(&row, 1)?,
                indexes: get(&row, 2)?,
                fills: get(&row, 3)?,
            }),
            None => Err(Error::new(ErrorKind::Internal, "the copy is gone")),
        }
    }

    /// Leaves nothing.
    pub async fn end(self, connection: &mut Conn) -> Result<()> {
        run(connection, "ROLLBACK").await.map(drop)
    }
}

/// The one partition of a partitioned copy.
const PARTITION: &str = "_rp_partition";

/// How a table is partitioned, and the bounds of a partition that takes every row.
async fn partitioning(connection: &mut Conn, table: &Table) -> Result<(String, &'static str)> {
    let sql = format!(
        "SELECT pg_get_partkeydef(partrelid), partstrat = 'h' FROM pg_partitioned_table WHERE partrelid = {}",
        table.oid
    );
    let row = first(connection, sql).await?.ok_or_else(|| {
        Error::new(ErrorKind::ForeignDdl, format!("{} is not partitioned any more", table.name))
    })?;
    let bound = if get(&row, 1)? { "FOR VALUES WITH (MODULUS 1, REMAINDER 0)" } else { "DEFAULT" };
    Ok((get(&row, 0)?, bound))
}

/// What the server does not understand was typed so.
pub fn as_typed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::ForeignDdl => Error::new(ErrorKind::NotFound, error.message().to_owned()),
        ErrorKind::Server => Error::new(ErrorKind::Usage, error.message().to_owned()),
        _ => error,
    }
}
