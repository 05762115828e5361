//! Indexes: built, dropped and built anew while others write.

use replank_core::plan::{Collision, Draft, Evidence, Strategy};
use replank_core::{Error, ErrorKind, Result};

use super::alter::unquoted;
use super::step::{Kind, shaped, step};
use super::{Drafting, Way, gentle_lock};
use crate::inspect::{Index, Table, index, indexes};
use crate::lint::Seen;
use crate::parse::CreateIndex;
use crate::shape::shape;
use crate::sql::{first, get, ident, is_so, rows, table as qualified, text};
use crate::trial::Trial;

/// Collisions that are shown.
const SAMPLES: u32 = 5;

impl Drafting<'_> {
    pub(super) async fn create_index(&mut self, table: &Table, wanted: &CreateIndex) -> Result<Way> {
        let trial = Trial::begin(self.connection, table).await?;
        let mut way = self.create_index_on(&trial, table, wanted).await?;
        trial.end(self.connection).await?;
        let corrupts = (140_000..140_004).contains(&self.version);
        match (way.steps.is_empty(), table.is_partitioned(), wanted.is_concurrent) {
            (true, ..) => {}
            (false, true, _) => way.seen("P128", format!("{} is partitioned", table.name)),
            (false, false, false) => {
                way.seen("P101", format!("writers of {} would wait for the build", table.name))
            }
            (false, false, true) => {}
        }
        if corrupts && !way.steps.is_empty() {
            way.seen("P106", "this release builds indexes CONCURRENTLY that lack rows".to_owned());
        }
        Ok(way)
    }

    /// The same within a trial that has begun.
    pub(super) async fn create_index_on(
        &mut self,
        trial: &Trial,
        table: &Table,
        wanted: &CreateIndex,
    ) -> Result<Way> {
        if let Some(name) = &wanted.name
            && let Some(found) = index(self.connection, &in_schema(table, name)).await?
        {
            if wanted.if_not_exists && found.is_valid {
                return Ok(nothing());
            }
            let here =
                format!("SELECT indrelid = {} FROM pg_index WHERE indexrelid = {}", table.oid, found.oid);
            if found.is_valid || table.is_partitioned() || !is_so(self.connection, here).await? {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("there is an index {name} on {} already", found.table),
                ));
            }
        }
        let made = self.tried_index(trial, table, wanted).await?;
        let mut evidence = Evidence::default();
        if wanted.is_unique {
            evidence.collisions.extend(self.collisions(table, &made).await?);
        }
        if table.is_partitioned() {
            return Ok(Way { evidence, ..self.parent_index(table, wanted, &made).await? });
        }
        let found = index(self.connection, &qualified(&table.schema, &made.name)).await?;
        let is_leftover = found.as_ref().is_some_and(|found| !found.is_valid);
        let full = qualified(&table.schema, &made.name);
        let unique = if wanted.is_unique { "UNIQUE " } else { "" };
        let statement = format!(
            "CREATE {unique}INDEX CONCURRENTLY {} ON {} {}",
            ident(&made.name),
            table.full_name(),
            wanted.tail
        );
        let inverse = format!("DROP INDEX CONCURRENTLY {full}");
        let mut seen = Vec::new();
        if is_leftover {
            seen.push(Seen {
                rule: "P105".to_owned(),
                what: format!("an interrupted build has left {}", made.name),
            });
        }
        let shape = shape(&made.definition);
        let mut changes = vec![format!("index {} is added: {shape}", made.name)];
        if is_leftover {
            changes.push(format!("what an interrupted build has left of {} is dropped first", made.name));
        }
        Ok(Way {
            changes,
            steps: vec![shaped(
                step(
                    format!("build index {}", made.name),
                    table.oid,
                    statement,
                    inverse,
                    Kind::IndexMade,
                    full,
                ),
                shape,
            )],
            strategy: Strategy::NativeOnline,
            reason: "the server builds it while others read and write".to_owned(),
            locks: vec![gentle_lock("SHARE UPDATE EXCLUSIVE on the table")],
            undo: "`revert` drops it".to_owned(),
            discards: Vec::new(),
            no_way_back: None,
            impossible: None,
            unasked: None,
            evidence,
            seen,
        })
    }

    /// The index as the server would make it: its name where none was given, and everything that it does not take is told
    /// before anything is begun.
    pub(super) async fn tried_index(
        &mut self,
        trial: &Trial,
        table: &Table,
        wanted: &CreateIndex,
    ) -> Result<Index> {
        let unique = if wanted.is_unique { "UNIQUE " } else { "" };
        let before = indexes(self.connection, &on_copy(trial)).await?;
        // Without its name: the copy's own indexes have names that the server gave them.
        let statement = format!("CREATE {unique}INDEX ON {} {}", trial.name(), wanted.tail);
        trial.run(self.connection, &statement).await?;
        let after = indexes(self.connection, &on_copy(trial)).await?;
        let made = after.into_iter().find(|one| before.iter().all(|old| old.oid != one.oid));
        let mut made =
            made.ok_or_else(|| Error::new(ErrorKind::Internal, "an index was made and is not there"))?;
        made.name = match &wanted.name {
            Some(name) => unquoted(name),
            None => self.free_name(&table.schema, &made.name).await?,
        };
        Ok(made)
    }

    /// As the server does it: with a number behind where the name is taken.
    pub(super) async fn free_name(&mut self, schema: &str, name: &str) -> Result<String> {
        for number in 0..100 {
            let name = if number == 0 { name.to_owned() } else { format!("{name}{number}") };
            let taken =
                format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", text(&qualified(schema, &name)));
            if rows(self.connection, taken).await?.is_empty() {
                return Ok(name);
            }
        }
        Err(Error::new(
            ErrorKind::Usage,
            "the index needs a name: those that the server would take are taken",
        ))
    }

    /// Rows that are equal under a unique index of columns.
    pub(super) async fn collisions(&mut self, table: &Table, made: &Index) -> Result<Option<Collision>> {
        let Some(columns) = columns_of(&made.definition) else { return Ok(None) };
        // A column that comes with the same statement has one value everywhere: the server looks at that.
        for column in columns.split(',') {
            let known = format!(
                "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = {} AND attname = {} AND NOT attisdropped)",
                table.oid,
                text(&unquoted(column.trim()))
            );
            if !is_so(self.connection, known).await? {
                return Ok(None);
            }
        }
        let condition = made.definition.split_once(" WHERE ").map(|(_, condition)| condition);
        let sql = format!(
            "SELECT concat_ws(', ', {columns}), count(*) FROM {} WHERE ({columns}) IS NOT NULL AND {}
             GROUP BY {columns} HAVING count(*) > 1 LIMIT {SAMPLES}",
            table.full_name(),
            condition.unwrap_or("true")
        );
        let found = rows(self.connection, sql).await?;
        if found.is_empty() {
            return Ok(None);
        }
        let samples =
            found.iter().map(|row| Ok(format!("{}: {} rows", get::<String>(row, 0)?, get::<i64>(row, 1)?)));
        Ok(Some(Collision {
            unique: made.name.clone(),
            groups: found.len() as u64,
            samples: samples.collect::<Result<_>>()?,
        }))
    }

    pub(super) async fn drop_index(
        &mut self,
        text: &str,
        name: &str,
        if_exists: bool,
        is_concurrent: bool,
    ) -> Result<Draft> {
        let Some(found) = index(self.connection, name).await? else {
            return match if_exists {
                true => self.nothing_to_do(text, name).await,
                false => Err(Error::new(ErrorKind::NotFound, format!("there is no index {name}"))),
            };
        };
        let table = self.table(&found.table).await?;
        if let Some(constraint) = &found.constraint {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{name} stands behind the constraint {constraint}"),
            )
            .hint(format!("ALTER TABLE {} DROP CONSTRAINT {}", found.table, ident(constraint))));
        }
        let above =
            format!("SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = {}", found.oid);
        if let Some(row) = first(self.connection, above).await? {
            let whole: String = get(&row, 0)?;
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{name} is a part of {whole}, and goes with it"),
            )
            .hint(format!("DROP INDEX {whole}")));
        }
        self.keep_identity_index(&table, found.oid).await?;
        if table.is_partitioned() {
            return self.drop_parent_index(text, &table, &found).await;
        }
        let full = found.full_name();
        let (inverse, undo, kind) = match found.is_valid {
            true => (
                found.definition.replacen("INDEX ", "INDEX CONCURRENTLY ", 1),
                "`revert` builds it again while others read and write",
                Kind::IndexDropped,
            ),
            false => (
                "-- it was not valid, and is not built again".to_owned(),
                "there is nothing to be taken back: the index is not valid",
                Kind::RemainderDropped,
            ),
        };
        let what = format!("whoever uses {} would wait", table.name);
        let seen = if is_concurrent { Vec::new() } else { vec![Seen { rule: "P102".to_owned(), what }] };
        let statement = format!("DROP INDEX CONCURRENTLY {full}");
        let way = Way {
            changes: vec![format!("index {} is dropped", found.name)],
            steps: vec![shaped(
                step(format!("drop index {}", found.name), table.oid, statement, inverse, kind, full),
                shape(&found.definition),
            )],
            strategy: Strategy::NativeOnline,
            reason: "the server drops it while others read and write".to_owned(),
            locks: vec![gentle_lock("SHARE UPDATE EXCLUSIVE on the table")],
            undo: undo.to_owned(),
            discards: Vec::new(),
            no_way_back: None,
            impossible: None,
            unasked: None,
            evidence: Evidence::default(),
            seen,
        };
        self.finish(text, &table, Some(way), None).await
    }

    pub(super) async fn reindex(
        &mut self,
        text: &str,
        name: &str,
        is_table: bool,
        is_concurrent: bool,
        options: &[String],
    ) -> Result<Draft> {
        let (table, all) = if is_table {
            let table = self.table(name).await?;
            // Those of EXCLUDE, and those that are not valid, are passed over by the server.
            let of_table = format!("i.indrelid = {} AND NOT i.indisexclusion AND i.indisvalid", table.oid);
            let all = indexes(self.connection, &of_table).await?;
            (table, all)
        } else {
            let found = index(self.connection, name).await?;
            let found =
                found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no index {name}")))?;
            (self.table(&found.table).await?, vec![found])
        };
        refuse_partitioned(&table)?;
        let (word, full) = match is_table {
            true => ("TABLE", table.full_name()),
            false => ("INDEX", all.first().map(Index::full_name).unwrap_or_default()),
        };
        let old = all.iter().map(|index| index.oid).collect();
        let what = format!("writers of {} would wait", table.name);
        let seen = if is_concurrent { Vec::new() } else { vec![Seen { rule: "P125".to_owned(), what }] };
        let said = if options.is_empty() { String::new() } else { format!("({}) ", options.join(", ")) };
        let statement = format!("REINDEX {said}{word} CONCURRENTLY {full}");
        let moves = |option: &&String| option.to_uppercase().starts_with("TABLESPACE");
        let moved = options
            .iter()
            .find(moves)
            .map(|option| self::text(&unquoted(option["TABLESPACE".len()..].trim())));
        if let Some(place) = &moved {
            let there = format!("SELECT EXISTS (SELECT FROM pg_tablespace WHERE spcname = {place})");
            if !is_so(self.connection, there).await? {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no tablespace {place}")));
            }
        }
        let way = Way {
            changes: all.iter().map(|index| format!("index {} is built anew", index.name)).collect(),
            steps: vec![step(
                format!(
                    "build {} anew",
                    all.iter().map(|index| index.name.as_str()).collect::<Vec<_>>().join(", ")
                ),
                table.oid,
                statement,
                "-- there is nothing to be taken back".to_owned(),
                Kind::IndexesRenewed { old },
                full,
            )],
            strategy: Strategy::NativeOnline,
            reason: "the server builds them anew while others read and write".to_owned(),
            locks: vec![gentle_lock("SHARE UPDATE EXCLUSIVE on the table")],
            undo: "there is nothing to be taken back: the indexes say the same".to_owned(),
            discards: Vec::new(),
            no_way_back: moved.map(|_| "where the indexes were is not noted".to_owned()),
            impossible: None,
            unasked: None,
            evidence: Evidence::default(),
            seen,
        };
        self.finish(text, &table, Some(way), None).await
    }
}

/// Indexes of the copy.
fn on_copy(trial: &Trial) -> String {
    format!("i.indrelid = to_regclass({})", text(trial.name()))
}

fn refuse_partitioned(table: &Table) -> Result<()> {
    if !table.is_partitioned() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Refused,
        format!("{} is partitioned, and has no index that could be built anew", table.name),
    )
    .hint("REINDEX TABLE each of its partitions"))
}

/// The name that the server gives the part of an index, on a partition: the partition's name in the place of the table's.
pub fn server_name(part: &str, table: &str, index: &str) -> String {
    let rest = index.strip_prefix(table).unwrap_or("_idx");
    let rest = if rest.starts_with('_') { rest } else { "_idx" };
    let mut kept = NAME_MAX.saturating_sub(rest.len()).min(part.len());
    while !part.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{rest}", &part[..kept])
}

/// Bytes of a name.
const NAME_MAX: usize = 63;

/// The name of an index, which is in the schema of its table.
pub fn in_schema(table: &Table, name: &str) -> String {
    format!("{}.{name}", ident(&table.schema))
}

pub(super) fn nothing() -> Way {
    Way {
        changes: Vec::new(),
        steps: Vec::new(),
        strategy: Strategy::Instant,
        reason: "there is nothing to change".to_owned(),
        locks: Vec::new(),
        undo: "there is nothing to undo".to_owned(),
        discards: Vec::new(),
        no_way_back: None,
        impossible: None,
        unasked: None,
        evidence: Evidence::default(),
        seen: Vec::new(),
    }
}

/// The columns of a definition, where they are nothing but columns.
fn columns_of(definition: &str) -> Option<String> {
    let (_, rest) = definition.split_once(" USING btree (")?;
    let (columns, rest) = rest.split_once(')')?;
    let is_plain = |column: &str| {
        let column = column.trim();
        (column.starts_with('"') && column.ends_with('"') && !column[1..column.len() - 1].contains('"'))
            || column.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let follows = rest.is_empty() || rest.starts_with(" WHERE ") || rest.starts_with(" INCLUDE ");
    (follows && columns.split(',').all(is_plain)).then(|| columns.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_an_index_is_named_after_the_partition() {
        assert_eq!(server_name("orders_2024", "orders", "orders_customer_idx"), "orders_2024_customer_idx");
        assert_eq!(server_name("p1", "orders", "by_customer"), "p1_idx");
        assert_eq!(server_name(&"ä".repeat(31), "t", "t_a_idx").len(), 62);
    }

    #[test]
    fn only_plain_columns_are_looked_at_for_collisions() {
        for (definition, columns) in [
            ("CREATE UNIQUE INDEX i ON public.t USING btree (a, \"B c\")", Some("a, \"B c\"")),
            ("CREATE UNIQUE INDEX i ON public.t USING btree (a) WHERE (b > 0)", Some("a")),
            ("CREATE UNIQUE INDEX i ON public.t USING btree (lower(a))", None),
            ("CREATE UNIQUE INDEX i ON public.t USING btree (a DESC)", None),
            ("CREATE UNIQUE INDEX i ON public.t USING btree (a) NULLS NOT DISTINCT", None),
        ] {
            assert_eq!(columns_of(definition).as_deref(), columns, "{definition}");
        }
    }
}
