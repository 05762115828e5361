//! An empty copy of a table on the same server, on which a statement is tried. It is the one thing that making
//! a plan creates, and it is gone when the plan is made.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use mysql_async::Conn;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::Server;
use crate::definition;
use crate::inspect::Table;
use crate::parse::Clause;
use crate::sql::{get, ident, rows, run, table, text};

/// Scratch tables of processes that ended half-way are removed when they are older than this.
const STALE_SECONDS: u32 = 600;
const PREFIX: &str = "_rp_scratch_";

/// A session with an empty copy.
pub struct Scratch {
    connection: Conn,
    schema: String,
    name: String,
    /// The table that it is a copy of.
    of: Table,
}

/// How the server can carry a statement out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its way.
    pub way: Way,
    /// Why the cheaper ways are not possible, in the server's words.
    pub rejected: Vec<(Way, String)>,
    /// The table afterwards, under the name of the original.
    pub after: Table,
    /// The server wrote the table anew.
    pub is_rebuilt: bool,
}

/// MySQL's own ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Metadata only.
    Instant,
    /// In place, while others write.
    Inplace,
    /// By copying under a lock.
    Copy,
}

impl Scratch {
    /// Makes the copy.
    pub async fn make(server: &Server, of: &Table) -> Result<Self> {
        let mut connection = server.connect().await?;
        // Replicas need not see it. Without the privilege they do, harmlessly.
        if let Err(error) = run(&mut connection, "SET SESSION sql_log_bin = 0").await {
            tracing::debug!(%error, "the scratch table will be in the binary log");
            connection = server.connect().await?;
        }
        remove_stale(&mut connection, &of.schema).await?;
        let name = format!("{PREFIX}{:016x}", RandomState::new().build_hasher().finish());
        let mut scratch = Self { connection, schema: of.schema.clone(), name, of: of.clone() };
        scratch.create().await?;
        Ok(scratch)
    }

    async fn create(&mut self) -> Result<()> {
        let sql = definition::renamed(&self.of.sql, &self.of.name, &self.name);
        let head = format!("CREATE TABLE {}.", ident(&self.schema));
        run(&mut self.connection, sql.replacen("CREATE TABLE ", &head, 1)).await.map(drop)
    }

    /// Tries the clauses, the cheapest way first, and answers with the table that came out.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the server's words, when it takes them no way at all.
    pub async fn alter(&mut self, clauses: &[Clause]) -> Result<Tried> {
        let body: Vec<&str> = clauses.iter().map(|clause| clause.text.as_str()).collect();
        let body = self.own_checks(&body.join(", "));
        let statement = format!("ALTER TABLE {} {body}", table(&self.schema, &self.name));
        // PARTITION BY is no clause of the list.
        let comma = if body.to_ascii_uppercase().starts_with("PARTITION ") { "" } else { "," };
        let own = table(&self.schema, &self.name);
        let with = |how: &str| format!("ALTER TABLE {own} {how}{comma} {body}");
        let ways = [
            (Way::Instant, with("ALGORITHM = INSTANT")),
            (Way::Inplace, with("ALGORITHM = INPLACE, LOCK = NONE")),
            (Way::Copy, statement),
        ];
        let mut rejected = Vec::new();
        let before = self.read(&self.name.clone()).await?;
        for (way, sql) in ways {
            match run(&mut self.connection, sql).await {
                Ok(_) => {
                    let after = self.read(&self.name.clone()).await?;
                    let is_rebuilt = after.number != before.number;
                    let after = after.named(&self.of.name);
                    return Ok(Tried { way, rejected, after, is_rebuilt });
                }
                Err(error) if way == Way::Copy => return Err(refused(error, &self.name, &self.of.name)),
                Err(error) => {
                    let said = error.message().trim_start_matches("mysql: ").to_owned();
                    rejected.push((way, said));
                }
            }
        }
        Err(Error::new(ErrorKind::Internal, "a statement was tried no way"))
    }

    /// Runs clauses on the copy as it is now, any way, and answers with what came out.
    pub async fn again(&mut self, clauses: &[String]) -> Result<Table> {
        let body = self.own_checks(&clauses.join(", "));
        run(&mut self.connection, format!("ALTER TABLE {} {body}", table(&self.schema, &self.name))).await?;
        Ok(self.read(&self.name.clone()).await?.named(&self.of.name))
    }

    /// Whether an expression can be computed from the table's columns, and is the same for every read.
    pub async fn check_expression(&mut self, columns_of: &Table, expression: &str) -> Result<()> {
        // A generated column's rules are just those: one row, no clock, no chance.
        let name = format!("{}_e", self.name);
        let sql = definition::renamed(&columns_of.sql, &columns_of.name, &name);
        let head = format!("CREATE TABLE {}.", ident(&self.schema));
        run(&mut self.connection, sql.replacen("CREATE TABLE ", &head, 1)).await?;
        let tried = run(
            &mut self.connection,
            format!(
                "ALTER TABLE {} ADD COLUMN `_rp_expression` LONGTEXT AS ({expression}) VIRTUAL",
                table(&self.schema, &name)
            ),
        )
        .await;
        run(&mut self.connection, format!("DROP TABLE {}", table(&self.schema, &name))).await?;
        tried.map(drop).map_err(|error| {
            Error::new(ErrorKind::Refused, format!("`{expression}` cannot be used"))
                .with("mysql", error.message())
                .hint("an expression may use the table's columns, and neither clock nor chance")
        })
    }

    /// Checks that the server named itself are named after the copy.
    fn own_checks(&self, body: &str) -> String {
        body.replace(&format!("{}_chk_", self.of.name), &format!("{}_chk_", self.name))
    }

    async fn read(&mut self, name: &str) -> Result<Table> {
        Table::read(&mut self.connection, &self.schema, name)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the scratch table is gone"))
    }

    /// Removes the copy. One whose maker was killed is removed by the next.
    pub async fn remove(mut self) -> Result<()> {
        run(&mut self.connection, format!("DROP TABLE IF EXISTS {}", table(&self.schema, &self.name)))
            .await
            .map(drop)
    }
}

fn refused(error: Error, scratch: &str, of: &str) -> Error {
    let said = error.message().trim_start_matches("mysql: ").replace(scratch, of);
    let kind = match error.kind() {
        ErrorKind::ConnectionLost | ErrorKind::LockTimeout | ErrorKind::Retry | ErrorKind::DiskFull => {
            error.kind()
        }
        ErrorKind::Refused => ErrorKind::Refused,
        _ => ErrorKind::Usage,
    };
    Error::new(kind, format!("MySQL refuses the statement: {said}")).caused_by(error)
}

async fn remove_stale(connection: &mut Conn, schema: &str) -> Result<()> {
    let sql = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND table_name LIKE '\\_rp\\_scratch\\_%'
         AND create_time < NOW() - INTERVAL {STALE_SECONDS} SECOND",
        text(schema)
    );
    for row in rows(connection, sql).await? {
        let name: String = get(&row, 0)?;
        run(connection, format!("DROP TABLE IF EXISTS {}", table(schema, &name))).await?;
    }
    Ok(())
}
