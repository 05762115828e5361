//! Reading a statement against the live database: what changes, how it could be done, and what stands
//! in the way.

mod evidence;
mod key;
mod mapping;
mod native;
mod shadow;
mod shape;
mod size;
mod target;

use replank_core::driver::Request;
use replank_core::driver::facts::TableFacts;
use replank_core::ident::TableId;
use replank_core::plan::{Candidate, Draft, Evidence, Strategy, tell_without_rebuild};
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;
use sqlx::sqlite::SqliteConnection;

use crate::connect::Database;
use crate::inspect::{Table, get};
use crate::load::disk_free;
use crate::parse::{Clause, IndexText, Statement, parse};
use crate::scratch::Scratch;
use crate::sql::{query, rows};
use crate::state::{Names, all_runs};
use mapping::Given;
use shape::Shape;
use size::Size;

/// Makes the draft of a request.
pub async fn draft(database: &Database, request: &Request) -> Result<Draft> {
    request.without_pipelines()?;
    request.capture(&["trigger"])?;
    let names = Names::new(&database.settings().state_name);
    let mut tx = database.read().await?;
    let mut drafting = Drafting {
        scratch: Scratch::of(tx.connection(), &names).await?,
        connection: tx.connection(),
        database,
        names,
    };
    let draft = match request {
        Request::Statement { text, forward, reverse, .. } => {
            drafting.statement(text, &Given { forward, reverse }).await?
        }
        Request::Rebuild { table, shape, .. } => drafting.rebuild(table, shape.as_deref()).await?,
        Request::TakeBack { inverses } => drafting.take_back(inverses).await?,
    };
    drop(drafting);
    tx.end().await?;
    Ok(draft)
}

struct Drafting<'a> {
    connection: &'a mut SqliteConnection,
    scratch: Scratch,
    database: &'a Database,
    names: Names,
}

impl Drafting<'_> {
    async fn statement(&mut self, text: &str, given: &Given<'_>) -> Result<Draft> {
        match parse(text)? {
            Statement::AlterTable { table, clauses } => self.alter(text, &table, &clauses, given).await,
            Statement::CreateIndex(index) => self.create_index(text, index, given).await,
            Statement::DropIndex { name, if_exists } => self.drop_index(text, &name, if_exists, given).await,
            Statement::DropTable { name, if_exists } => self.drop_table(text, &name, if_exists).await,
        }
    }

    /// Clauses of statements that SQLite runs one by one.
    async fn take_back(&mut self, inverses: &[String]) -> Result<Draft> {
        let (mut name, mut all) = (String::new(), Vec::new());
        for inverse in inverses {
            let Statement::AlterTable { table, clauses } = parse(inverse)? else {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "only an ALTER TABLE is taken back by a rebuild",
                ));
            };
            name = table;
            all.extend(clauses);
        }
        let given = Given { forward: &[], reverse: &[] };
        self.alter(&inverses.join("; "), &name, &all, &given).await
    }

    async fn alter(
        &mut self,
        text: &str,
        table: &str,
        clauses: &[Clause],
        given: &Given<'_>,
    ) -> Result<Draft> {
        let table = target::table(self.connection, &self.names, table).await?;
        let size = size::size(self.connection, &table).await?;
        if let [Clause::RenameTo(to)] = clauses {
            target::free_name(self.connection, &self.names, to).await?;
            let candidates = native::alter(self.connection, &mut self.scratch, &table, clauses, size).await?;
            let evidence = Evidence {
                renames: vec![(format!("table {}", table.name), to.clone())],
                ..Evidence::default()
            };
            let changes = vec![format!("table {} is renamed to {to}", table.name)];
            return self.finish(text, &table, size, changes, candidates, evidence).await;
        }
        self.scratch.check_known(&table)?;
        let (renamed, renames) = self.rename_columns(&table, clauses).await?;
        let mut shape = Shape::of(&renamed);
        shape.renamed(&renames);
        for clause in clauses {
            shape.apply(clause)?;
        }
        let mut candidates = native::alter(self.connection, &mut self.scratch, &table, clauses, size).await?;
        let native_works = candidates.iter().any(|candidate| candidate.impossible.is_none());
        let mut evidence = Evidence::default();
        let alone = matches!(clauses, [Clause::RenameColumn { .. }]);
        if !alone || !native_works {
            let shadow = self.shadow(&table, &shape, given, size).await;
            match shadow {
                Ok((shadow, found)) => {
                    candidates.push(shadow);
                    evidence = found;
                }
                // SQLite's own statement works where the rebuild would not.
                Err(error)
                    if native_works && !matches!(error.kind(), ErrorKind::Internal | ErrorKind::Server) =>
                {
                    candidates.push(shadow::impossible(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        tell_without_rebuild(&mut candidates);
        evidence.renames = renames.iter().map(|(from, to)| (format!("column {from}"), to.clone())).collect();
        self.finish(text, &table, size, shape.changes, candidates, evidence).await
    }

    /// Lets SQLite rename columns in the copy of the schema: it finds every place where a name stands.
    async fn rename_columns(
        &mut self,
        table: &Table,
        clauses: &[Clause],
    ) -> Result<(Table, Vec<(String, String)>)> {
        let renames: Vec<(String, String)> = clauses
            .iter()
            .filter_map(|clause| match clause {
                Clause::RenameColumn { from, to } => Some((from.clone(), to.clone())),
                Clause::Modify { from, to } if *from != to.name => Some((from.clone(), to.name.clone())),
                _ => None,
            })
            .collect();
        for (from, _) in &renames {
            table.column(from).ok_or_else(|| shape::no_column(&table.name, from))?;
        }
        if renames.is_empty() || clauses.len() == 1 && matches!(clauses, [Clause::RenameColumn { .. }]) {
            return Ok((table.clone(), renames));
        }
        let others = self.scratch.others(&table.name).await?;
        for (from, to) in &renames {
            let sql = format!(
                "ALTER TABLE {} RENAME COLUMN {} TO {}",
                crate::sql::ident(&table.name),
                crate::sql::ident(from),
                crate::sql::ident(to)
            );
            crate::sql::run(self.scratch.connection(), sql).await.map_err(|error| {
                Error::new(ErrorKind::Usage, format!("column {from} cannot be renamed to {to}"))
                    .with("sqlite", error.message())
            })?;
        }
        if self.scratch.others(&table.name).await? != others {
            return Err(Error::new(
                ErrorKind::Refused,
                "another table, view or trigger names the renamed column",
            )
            .hint("rename the column in a statement of its own: SQLite then changes them together"));
        }
        let renamed = Table::read(self.scratch.connection(), &table.name)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a table is gone from the copy of the schema"))?;
        Ok((renamed, renames))
    }

    async fn create_index(&mut self, text: &str, index: IndexText, given: &Given<'_>) -> Result<Draft> {
        let table = target::table(self.connection, &self.names, &index.table).await?;
        let size = size::size(self.connection, &table).await?;
        if let Some(found) = target::object(self.connection, &index.name).await? {
            if index.if_not_exists && found.kind == "index" {
                return self
                    .finish(text, &table, size, Vec::new(), vec![nothing()], Evidence::default())
                    .await;
            }
            return Err(Error::new(
                ErrorKind::Usage,
                format!("there is a {} `{}` already", found.kind, found.name),
            ));
        }
        target::own_name(&self.names, &index.name)?;
        self.scratch.check_known(&table)?;
        let sql = index.render(&index.name, &table.name);
        if let Some(why) = self.scratch.tries(&sql).await? {
            return Err(Error::new(ErrorKind::Usage, format!("SQLite refuses the index: {why}")));
        }
        let mut candidates = vec![native::create_index(self.connection, &table, &index, size).await?];
        let mut shape = Shape::of(&table);
        shape.apply(&Clause::AddIndex { name: index.name.clone(), sql })?;
        let (shadow, evidence) = self.shadow(&table, &shape, given, size).await?;
        candidates.push(shadow);
        self.finish(text, &table, size, shape.changes, candidates, evidence).await
    }

    async fn drop_index(
        &mut self,
        text: &str,
        name: &str,
        if_exists: bool,
        given: &Given<'_>,
    ) -> Result<Draft> {
        let found = target::object(self.connection, name).await?.filter(|found| found.kind == "index");
        let Some(found) = found else {
            if if_exists {
                return self.nothing_to_do(text, name).await;
            }
            return Err(Error::new(ErrorKind::NotFound, format!("there is no index `{name}`")));
        };
        let table = target::table(self.connection, &self.names, &found.table).await?;
        if !table.indexes.iter().any(|index| index.name == found.name) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("`{name}` belongs to a constraint of `{}`", table.name),
            )
            .hint("DROP PRIMARY KEY, or change the definition with `replank rebuild --as`"));
        }
        let size = size::size(self.connection, &table).await?;
        self.scratch.check_known(&table)?;
        let mut candidates: Vec<Candidate> = native::drop_index(&table, name, size).into_iter().collect();
        let mut shape = Shape::of(&table);
        shape.apply(&Clause::DropIndex(found.name))?;
        let (shadow, evidence) = self.shadow(&table, &shape, given, size).await?;
        candidates.push(shadow);
        self.finish(text, &table, size, shape.changes, candidates, evidence).await
    }

    async fn drop_table(&mut self, text: &str, name: &str, if_exists: bool) -> Result<Draft> {
        if if_exists && target::object(self.connection, name).await?.is_none() {
            return self.nothing_to_do(text, name).await;
        }
        let table = target::table(self.connection, &self.names, name).await?;
        let size = size::size(self.connection, &table).await?;
        let changes = vec![format!("table {} is dropped", table.name)];
        let candidates = native::drop_table(&table, size);
        self.finish(text, &table, size, changes, candidates, Evidence::default()).await
    }

    async fn rebuild(&mut self, table: &str, shape: Option<&str>) -> Result<Draft> {
        let table = target::table(self.connection, &self.names, table).await?;
        let size = size::size(self.connection, &table).await?;
        self.scratch.check_known(&table)?;
        let shape = match shape {
            Some(text) => Shape::given(&table, text)?,
            None => {
                let mut same = Shape::of(&table);
                same.changes.push("the table is written anew as it is".to_owned());
                same
            }
        };
        let given = Given { forward: &[], reverse: &[] };
        let (shadow, evidence) = self.shadow(&table, &shape, &given, size).await?;
        let text = format!("REBUILD {}", crate::sql::ident(&table.name));
        self.finish(&text, &table, size, shape.changes, vec![shadow], evidence).await
    }

    async fn shadow(
        &mut self,
        table: &Table,
        shape: &Shape,
        given: &Given<'_>,
        size: Size,
    ) -> Result<(Candidate, Evidence)> {
        shadow::shadow(self.connection, &mut self.scratch, table, shape, given, size).await
    }

    /// A statement whose object is not there, and need not be.
    async fn nothing_to_do(&mut self, text: &str, name: &str) -> Result<Draft> {
        Ok(Draft {
            statement: text.to_owned(),
            changes: Vec::new(),
            server: crate::server_facts(self.connection).await?,
            table: TableFacts {
                id: TableId::new(name),
                rows: 0,
                rows_exact: true,
                bytes: None,
                key: Vec::new(),
                dependants: Vec::new(),
            },
            candidates: vec![nothing()],
            evidence: Evidence::default(),
            driver_facts: Json::Null,
        })
    }

    async fn finish(
        &mut self,
        text: &str,
        table: &Table,
        size: Size,
        changes: Vec<String>,
        mut candidates: Vec<Candidate>,
        mut evidence: Evidence,
    ) -> Result<Draft> {
        self.busy(table, &mut candidates, &mut evidence).await?;
        evidence.disk_free = disk_free(self.database.path());
        if evidence.disk_free.is_none() {
            evidence.unread.push("the free room of the disk".to_owned());
        }
        let key = key::usable(table);
        evidence.no_key = key.as_ref().err().cloned();
        Ok(Draft {
            statement: text.to_owned(),
            changes,
            server: crate::server_facts(self.connection).await?,
            table: TableFacts {
                id: TableId::new(&table.name),
                rows: size.rows,
                rows_exact: size.rows_exact,
                bytes: Some(size.bytes),
                key: key.unwrap_or_default(),
                dependants: self.dependants(table).await?,
            },
            candidates,
            evidence,
            driver_facts: Json::Null,
        })
    }

    /// C032. A run that can still be taken back is in the way of a rebuild, and of whatever takes the name
    /// away from its two tables; of nothing else.
    async fn busy(
        &mut self,
        table: &Table,
        candidates: &mut [Candidate],
        evidence: &mut Evidence,
    ) -> Result<()> {
        for run in all_runs(self.connection, &self.names).await? {
            if !run.table.name.eq_ignore_ascii_case(&table.name) {
                continue;
            }
            evidence.busy.extend(run.unfinished());
            let Some(why) = run.keeps_retired_table() else { continue };
            let other_works = candidates.iter().any(|candidate| {
                candidate.impossible.is_none()
                    && candidate.strategy != Strategy::Shadow
                    && !takes_name(candidate)
            });
            if !other_works {
                evidence.busy.push(why);
                continue;
            }
            let blocked = candidates
                .iter_mut()
                .filter(|candidate| candidate.strategy == Strategy::Shadow || takes_name(candidate));
            for candidate in blocked {
                candidate.impossible.get_or_insert_with(|| why.clone());
            }
        }
        Ok(())
    }

    async fn dependants(&mut self, table: &Table) -> Result<Vec<String>> {
        let mut found: Vec<String> =
            table.indexes.iter().map(|index| format!("index {}", index.name)).collect();
        found.extend(table.triggers.iter().map(|trigger| format!("trigger {}", trigger.name)));
        let children = query(
            "SELECT DISTINCT m.name FROM sqlite_schema AS m, pragma_foreign_key_list(m.name) AS f
             WHERE m.type = 'table' AND f.\"table\" = ? COLLATE NOCASE ORDER BY m.name",
        )
        .bind(table.name.clone())
        .fetch_all(&mut *self.connection)
        .await
        .map_err(crate::error::from_sqlx)?;
        for row in &children {
            found.push(format!("foreign key of {}", get::<String>(row, 0)?));
        }
        for row in
            rows(self.connection, "SELECT name, sql FROM sqlite_schema WHERE type = 'view' ORDER BY name")
                .await?
        {
            let (name, sql): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let names_it = crate::parse::tokens(&sql)?
                .iter()
                .filter_map(crate::parse::Token::name)
                .any(|word| word.eq_ignore_ascii_case(&table.name));
            if names_it {
                found.push(format!("view {name}"));
            }
        }
        Ok(found)
    }
}

/// Whether the statement takes the table's name away.
fn takes_name(candidate: &Candidate) -> bool {
    candidate.steps.iter().any(|step| {
        matches!(parse(&step.statement), Ok(Statement::DropTable { .. }))
            || matches!(parse(&step.statement), Ok(Statement::AlterTable { clauses, .. })
                if matches!(clauses[..], [Clause::RenameTo(_)]))
    })
}

/// The way to do nothing.
fn nothing() -> Candidate {
    Candidate {
        strategy: Strategy::Instant,
        impossible: None,
        unasked: None,
        reason: "it is as the statement wants it already".to_owned(),
        steps: Vec::new(),
        locks: Vec::new(),
        discards: Vec::new(),
        no_way_back: None,
        disk_bytes: None,
        undo: "nothing is to be undone".to_owned(),
        spec: Json::Null,
    }
}
