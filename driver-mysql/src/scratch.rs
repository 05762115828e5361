//! An empty copy of a table on the same server, on which a statement is tried. It is the one thing that making
//! a plan creates, and it is gone when the plan is made.
//!
//! It is in a database of its own, under the table's own name: names of constraints are unique in a database,
//! and the statement may name them. Tables that foreign keys join with it are there too, empty.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use replank_core::{Error, ErrorKind, Result};

use crate::attached::{Attached, Inbound, Trigger, trigger_names};
use crate::connect::{Conn, Product, Server};
use crate::definition;
use crate::foreign_key::foreign_keys;
use crate::inspect::Table;
use crate::parse::{Clause, altering};
use crate::rebuild::identity::{self, FileName, spellings};
use crate::sql::{first, get, ident, number, rows, run, table, text};
use crate::stand_ins::StandIns;
use crate::state::Names;

/// Scratch databases of processes that ended half-way are removed when they are older than this.
const STALE_SECONDS: u64 = 600;

/// A session with an empty copy.
pub struct Scratch {
    connection: Conn,
    schema: String,
    /// The table that it is a copy of.
    of: Table,
    /// Keys of other tables there that point at it.
    inbound: Vec<Inbound>,
    /// What its keys to other databases point at instead.
    stand_ins: StandIns,
    /// Tables there.
    there: Vec<String>,
    /// How InnoDB spells the copy's name.
    spelt: String,
}

/// How the server can carry a statement out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its way.
    pub way: Way,
    /// The clause that asks for it.
    pub how: &'static str,
    /// Why the cheaper ways are not possible, in the server's words.
    pub rejected: Vec<(Way, String)>,
    /// The table afterwards, in the database of the original.
    pub after: Table,
    /// The server wrote the table anew.
    pub is_rebuilt: bool,
    /// Foreign keys come without a look at the rows that are there.
    pub is_unchecked: bool,
}

/// The server's own ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Metadata only.
    Instant,
    /// In place, while others write.
    Inplace,
    /// By copying, while others write: MariaDB from 11.2.
    OnlineCopy,
    /// By copying under a lock.
    Copy,
}

impl Scratch {
    /// Makes the copy, with empty copies of the tables that foreign keys join with it.
    pub async fn make(server: &Server, names: &Names, of: &Table, attached: &Attached) -> Result<Self> {
        let mut connection = server.connect().await?;
        // Replicas need not see it. Without the privilege they do, harmlessly.
        if let Err(error) = run(&mut connection, "SET SESSION sql_log_bin = 0").await {
            tracing::debug!(%error, "the scratch database will be in the binary log");
            connection = server.connect().await?;
        }
        let is_lowering = number(&mut connection, "SELECT @@lower_case_table_names = 1").await? == 1;
        let prefix = names.scratch_prefix();
        remove_stale(&mut connection, &prefix).await?;
        let chance = RandomState::new().build_hasher().finish() >> 32;
        let schema = format!("{prefix}{:x}_{chance:08x}", now());
        // With its character set and the rest: a clause may mean the database's default.
        let made = first(&mut connection, format!("SHOW CREATE DATABASE {}", ident(&of.schema))).await?;
        let made =
            made.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no database `{}`", of.schema)))?;
        let made: String = get(&made, 1)?;
        let options = made.split_once(&ident(&of.schema)).map_or("", |(_, options)| options);
        let mut scratch = Self {
            connection,
            schema,
            of: of.clone(),
            inbound: Vec::new(),
            stand_ins: StandIns::new(&of.schema, is_lowering),
            there: vec![of.name.clone()],
            spelt: String::new(),
        };
        match scratch.fill(options, attached).await {
            Ok(()) => Ok(scratch),
            Err(error) => {
                scratch.remove(server).await?;
                Err(error)
            }
        }
    }

    async fn fill(&mut self, options: &str, attached: &Attached) -> Result<()> {
        run(&mut self.connection, format!("CREATE DATABASE {}{options}", ident(&self.schema))).await?;
        let home = self.of.schema.clone();
        let sql = self.of.sql.clone();
        let sql = self.within_reach(&sql).await?;
        let create = definition::within(&sql, &self.schema);
        self.spelt = match identity::spelt(&self.of.name) {
            Some(spelt) => {
                run(&mut self.connection, create).await?;
                spelt
            }
            None => self.spelling_made_by(&create).await?,
        };
        for inbound in attached.inbound.iter().filter(|inbound| inbound.schema == home) {
            self.neighbour(&home, &inbound.table, &inbound.table).await?;
            let key = inbound.key.clause(&inbound.key.name, &self.schema, &self.of.name);
            let child = table(&self.schema, &inbound.table);
            run(&mut self.connection, format!("ALTER TABLE {child} ADD {key}")).await?;
            self.inbound.push(inbound.clone());
        }
        Ok(())
    }

    /// A statement or clause whose keys point at tables of the scratch database, which are made.
    async fn within_reach(&mut self, sql: &str) -> Result<String> {
        let (sql, targets) = self.stand_ins.within_copy(sql)?;
        for target in targets {
            self.neighbour(&target.schema, &target.table, &target.here).await?;
        }
        Ok(sql)
    }

    /// A table that a key joins with it, without constraints of its own; once. One that is not there need not be.
    async fn neighbour(&mut self, home: &str, name: &str, here: &str) -> Result<()> {
        if self.there.iter().any(|known| known == here) {
            return Ok(());
        }
        let Some(sql) = definition::read(&mut self.connection, home, name).await? else { return Ok(()) };
        let sql = definition::without_constraints(&sql);
        let sql = definition::renamed(self.connection.product(), &sql, name, here);
        run(&mut self.connection, definition::within(&sql, &self.schema)).await?;
        self.there.push(here.to_owned());
        Ok(())
    }

    /// Keys that could not join the copy as it is now, each with why, in the server's words.
    pub async fn refused_keys(&mut self) -> Result<Vec<(String, String)>> {
        let now = self.read().await?;
        let (home, holder) = (self.of.schema.clone(), self.of.name.clone());
        let own = foreign_keys(&now.sql).into_iter().map(|key| {
            let to = self.stand_ins.name(key.schema.as_deref().unwrap_or(&home), &key.table);
            (holder.clone(), to, key)
        });
        let own: Vec<_> = own.collect();
        let name = &self.of.name;
        let inbound = self.inbound.iter().map(|it| (it.table.clone(), name.clone(), it.key.clone()));
        let mut refused = Vec::new();
        for (holder, to, key) in own.into_iter().chain(inbound).collect::<Vec<_>>() {
            let (holder, probe) = (table(&self.schema, &holder), "_rp_probe");
            let clause = key.clause(probe, &self.schema, &to);
            match run(&mut self.connection, format!("ALTER TABLE {holder} ADD {clause}")).await {
                Ok(_) => {
                    let sql = format!("ALTER TABLE {holder} DROP FOREIGN KEY {probe}");
                    run(&mut self.connection, sql).await?;
                }
                Err(error) => refused.push((key.name, self.verdict(error)?)),
            }
        }
        Ok(refused)
    }

    /// Triggers that could not be made on the copy as it is now, each with why.
    pub async fn refused_triggers(&mut self, triggers: &[Trigger]) -> Result<Vec<(String, String)>> {
        let (schema, name) = (self.schema.clone(), self.of.name.clone());
        let mut refused = Vec::new();
        for trigger in triggers {
            if let Err(error) = trigger.create(&mut self.connection, &schema, &name).await {
                refused.push((trigger.name.clone(), self.verdict(error)?));
            }
        }
        for made in trigger_names(&mut self.connection, &schema, &name).await? {
            run(&mut self.connection, format!("DROP TRIGGER {}", table(&schema, &made))).await?;
        }
        Ok(refused)
    }

    /// The server's words about a statement, if it has judged it at all.
    fn verdict(&self, error: Error) -> Result<String> {
        if is_accident(&error) { Err(error) } else { Ok(self.said(&error)) }
    }

    /// Of whose making the server is.
    pub fn product(&self) -> Product {
        self.connection.product()
    }

    /// The server's words, without the names that nobody knows.
    fn said(&self, error: &Error) -> String {
        let said = error.message().trim_start_matches("mysql: ");
        let (quoted, plain) = (format!("`{}`.", self.schema), format!("{}.", self.schema));
        self.stand_ins.told(&said.replace(&quoted, "").replace(&plain, ""))
    }

    fn refused(&self, error: Error) -> Error {
        let said = self.said(&error);
        let kind = match error.kind() {
            kind if is_accident(&error) => kind,
            ErrorKind::Refused => ErrorKind::Refused,
            _ => ErrorKind::Usage,
        };
        Error::new(kind, format!("the server refuses the statement: {said}")).caused_by(error)
    }

    fn own(&self) -> String {
        table(&self.schema, &self.of.name)
    }

    /// Tries the clauses, the cheapest way first, and answers with the table that came out.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the server's words, when it takes them no way at all.
    pub async fn alter(&mut self, clauses: &[Clause]) -> Result<Tried> {
        // MariaDB takes no such clause with what empties partitions, which it does at once.
        let empties = clauses.iter().all(|clause| !clause.empties.is_empty());
        // A key is added online only where nobody looks at the rows that are there; that is done afterwards.
        let only_adds = clauses.iter().all(|clause| clause.text.to_ascii_uppercase().starts_with("ADD"));
        let adds_keys = only_adds && clauses.iter().any(|clause| clause.adds_key);
        let ways: &[(Way, &str, bool)] = match self.connection.product() {
            Product::MariaDb if empties => &[(Way::Inplace, "", false)],
            _ if adds_keys => {
                &[(Way::Inplace, "ALGORITHM = INPLACE, LOCK = NONE", true), (Way::Copy, "", true)]
            }
            Product::MySql => &[
                (Way::Instant, "ALGORITHM = INSTANT", false),
                (Way::Inplace, "ALGORITHM = INPLACE, LOCK = NONE", false),
                // A rebuild looks itself at what joins the tables.
                (Way::Copy, "", true),
            ],
            // INPLACE may write the whole table anew, which NOCOPY never does.
            Product::MariaDb => &[
                (Way::Instant, "ALGORITHM = INSTANT", false),
                (Way::Inplace, "ALGORITHM = NOCOPY, LOCK = NONE", false),
                (Way::Inplace, "ALGORITHM = INPLACE, LOCK = NONE", false),
                (Way::OnlineCopy, "ALGORITHM = COPY, LOCK = NONE", false),
                (Way::Copy, "", true),
            ],
        };
        let mut rejected: Vec<(Way, String)> = Vec::new();
        let before = self.number().await?;
        for &(way, how, is_unchecked) in ways {
            self.check_keys(!is_unchecked).await?;
            let statement = altering(&self.own(), how, clauses);
            let statement = self.within_reach(&statement).await?;
            let altered = run(&mut self.connection, statement).await;
            self.check_keys(false).await?;
            rejected.retain(|(known, _)| *known != way);
            match altered {
                Ok(_) => {
                    let after = self.read().await?;
                    let is_rebuilt = self.number().await? != before;
                    let is_unchecked = adds_keys && way != Way::Copy;
                    return Ok(Tried { way, how, rejected, after, is_rebuilt, is_unchecked });
                }
                Err(error) if how.is_empty() => return Err(self.refused(error)),
                Err(error) => rejected.push((way, self.verdict(error)?)),
            }
        }
        Err(Error::new(ErrorKind::Internal, "a statement was tried no way"))
    }

    async fn check_keys(&mut self, on: bool) -> Result<()> {
        run(&mut self.connection, format!("SET SESSION foreign_key_checks = {}", u8::from(on)))
            .await
            .map(drop)
    }

    /// Runs clauses on the copy as it is now, any way, and answers with what came out.
    pub async fn again(&mut self, clauses: &[String]) -> Result<Table> {
        let statement = format!("ALTER TABLE {} {}", self.own(), clauses.join(", "));
        let statement = self.within_reach(&statement).await?;
        run(&mut self.connection, statement).await?;
        self.read().await
    }

    /// Makes the table anew from a whole definition, and answers with what came out.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the server's words, or when the definition is another table's.
    pub async fn shaped(&mut self, shape: &str) -> Result<Table> {
        let (own, schema) = (self.own(), ident(&self.schema));
        run(&mut self.connection, format!("DROP TABLE {own}")).await?;
        run(&mut self.connection, format!("USE {schema}")).await?;
        let shape = self.within_reach(shape).await?;
        run(&mut self.connection, shape).await.map_err(|error| self.refused(error))?;
        let found = Table::read(&mut self.connection, &self.schema, &self.of.name).await?;
        let found = found.ok_or_else(|| {
            let said = format!("the definition does not make a table of the name `{}`", self.of.name);
            Error::new(ErrorKind::Usage, said).hint("give one CREATE TABLE of just that name")
        })?;
        Ok(self.as_original(found))
    }

    /// Whether an expression can be computed from the table's columns, and is the same for every read.
    pub async fn check_expression(&mut self, columns_of: &Table, expression: &str) -> Result<()> {
        // A generated column's rules are just those: one row, no clock, no chance.
        let name = format!("_rp_{:08x}", RandomState::new().build_hasher().finish() >> 32);
        let sql = definition::without_constraints(&columns_of.sql);
        let sql = definition::within(
            &definition::renamed(self.connection.product(), &sql, &columns_of.name, &name),
            &self.schema,
        );
        let name = table(&self.schema, &name);
        run(&mut self.connection, sql).await?;
        let tried = run(
            &mut self.connection,
            format!("ALTER TABLE {name} ADD COLUMN `_rp_expression` LONGTEXT AS ({expression}) STORED"),
        )
        .await;
        run(&mut self.connection, format!("DROP TABLE {name}")).await?;
        tried.map(drop).map_err(|error| {
            if is_accident(&error) {
                return error;
            }
            Error::new(ErrorKind::Refused, format!("`{expression}` cannot be used"))
                .with("the server says", error.message())
                .hint("an expression may use the table's columns, and neither clock nor chance")
        })
    }

    /// By what InnoDB knows the copy: another table if the server wrote it anew.
    async fn number(&mut self) -> Result<Option<u64>> {
        let file = FileName { schema: self.schema_file()?, table: self.spelt.clone() };
        identity::read(&mut self.connection, &file).await
    }

    /// How InnoDB spells the name of a table of any database. Where that cannot be told from here, tables of such
    /// names are looked at in the scratch database: the copy, and one that is made for it.
    pub async fn file_name(&mut self, of: &Table) -> Result<FileName> {
        if let Some(file) = FileName::of(&of.schema, &of.name) {
            return Ok(file);
        }
        Ok(FileName { schema: self.spelling(&of.schema).await?, table: self.spelling(&of.name).await? })
    }

    fn schema_file(&self) -> Result<String> {
        identity::spelt(&self.schema).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "the name of replank's own database has letters with marks")
                .hint("choose another for `state_name`")
        })
    }

    async fn spelling(&mut self, name: &str) -> Result<String> {
        if let Some(spelt) = identity::spelt(name) {
            return Ok(spelt);
        }
        if name == self.of.name {
            return Ok(self.spelt.clone());
        }
        let probe = table(&self.schema, name);
        let spelt = self.spelling_made_by(&format!("CREATE TABLE {probe} (a INT)")).await?;
        run(&mut self.connection, format!("DROP TABLE {probe}")).await?;
        Ok(spelt)
    }

    /// Makes a table here, and answers with how InnoDB spells its name.
    async fn spelling_made_by(&mut self, create: &str) -> Result<String> {
        let schema = self.schema_file()?;
        let known = spellings(&mut self.connection, &schema).await?;
        run(&mut self.connection, create).await?;
        let all = spellings(&mut self.connection, &schema).await?;
        all.into_iter().find(|spelt| !known.contains(spelt)).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "InnoDB does not know a table that was just made")
                .with("by", create)
        })
    }

    async fn read(&mut self) -> Result<Table> {
        let found = Table::read(&mut self.connection, &self.schema, &self.of.name).await?;
        let found = found.ok_or_else(|| Error::new(ErrorKind::Internal, "the scratch table is gone"))?;
        Ok(self.as_original(found))
    }

    fn as_original(&self, found: Table) -> Table {
        let sql = self.stand_ins.out_of_copy(&found.sql);
        Table { schema: self.of.schema.clone(), sql, ..found }
    }

    /// Removes the copy. One whose maker was killed is removed by the next.
    pub async fn remove(self, server: &Server) -> Result<()> {
        let Self { mut connection, schema, .. } = self;
        let sql = format!("DROP DATABASE IF EXISTS {}", ident(&schema));
        match run(&mut connection, &sql).await {
            // With its connection lost, or just now: another removes it as well.
            Err(error) if error.kind() == ErrorKind::ConnectionLost => {
                run(&mut server.connect().await?, &sql).await.map(drop)
            }
            removed => removed.map(drop),
        }
    }
}

/// An error that says nothing about the statement.
fn is_accident(error: &Error) -> bool {
    use ErrorKind::{ConnectionLost, DiskFull, LockTimeout, Retry};
    matches!(error.kind(), ConnectionLost | LockTimeout | Retry | DiskFull)
}

/// Seconds since 1970, of this machine: names of databases carry it.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn remove_stale(connection: &mut Conn, prefix: &str) -> Result<()> {
    let sql = format!(
        "SELECT schema_name FROM information_schema.schemata WHERE LEFT(schema_name, {}) = {}",
        prefix.chars().count(),
        text(prefix)
    );
    for row in rows(connection, sql).await? {
        let name: String = get(&row, 0)?;
        let made = name[prefix.len()..].split('_').next().and_then(|made| u64::from_str_radix(made, 16).ok());
        if made.is_some_and(|made| made + STALE_SECONDS < now()) {
            run(connection, format!("DROP DATABASE IF EXISTS {}", ident(&name))).await?;
        }
    }
    Ok(())
}
