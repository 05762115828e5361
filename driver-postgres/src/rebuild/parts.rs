//! Partitions of either side: made with the shadow, held against the plan, renamed in the swap.
//!
//! Those of the table that is not live have names of ours, as it has itself: so a shape may use the names that the live
//! table's partitions have, and whatever was tried before.

use replank_core::ident::Role;
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, number_of};
use crate::connect::Conn;
use crate::misfits;
use crate::partitions::{Part, paired, to_be_named};
use crate::sql::{ident, run, table};

/// The partitions of both tables, as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trees {
    /// Of the table that applications write.
    pub live: Vec<Part>,
    /// Of the other one.
    pub written: Vec<Part>,
}

impl Trees {
    /// Reads them.
    pub async fn read(connection: &mut Conn, live: i64, written: i64) -> Result<Self> {
        Ok(Self { live: Part::all(connection, live).await?, written: Part::all(connection, written).await? })
    }

    /// Their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = i64> {
        self.live.iter().chain(&self.written).map(|part| part.oid)
    }
}

/// The number of a table, and those of its partitions.
pub async fn with_partitions(connection: &mut Conn, root: i64) -> Result<Vec<i64>> {
    let parts = Part::all(connection, root).await?;
    Ok([root].into_iter().chain(parts.iter().map(|part| part.oid)).collect())
}

/// Makes those of the shadow, empty; answers with their full names.
pub async fn make(core: &Core, connection: &mut Conn, shadow: &str, number: i64) -> Result<Vec<String>> {
    let plan = &core.spec.new.partitions;
    let name = |at: usize| table(&core.spec.schema, &core.part_name(Role::Shadow, at));
    for (at, part) in plan.iter().enumerate() {
        let parent = part.parent.map_or_else(|| shadow.to_owned(), name);
        let tail = part.made_by.as_deref().unwrap_or(&part.bound);
        run(connection, format!("CREATE TABLE {} PARTITION OF {parent} {tail}", name(at))).await?;
    }
    let made = Part::all(connection, number).await?;
    let there = paired(number, &made, plan).map_err(|(planned, made)| {
        Error::new(ErrorKind::Refused, "the server made the partitions otherwise than they were planned")
            .with("planned", planned.join("; "))
            .with("made", made.join("; "))
            .hint("please report this; nothing of the table was changed")
    })?;
    for (part, planned) in there.into_iter().zip(plan) {
        let full = table(&core.spec.schema, &part.name);
        for (from, to) in to_be_named(&part.constraints, &planned.constraints) {
            let rename = format!("ALTER TABLE {full} RENAME CONSTRAINT {} TO {}", ident(&from), ident(&to));
            run(connection, rename).await?;
        }
    }
    Ok((0..plan.len()).map(name).collect())
}

impl Core {
    /// The name of a partition of a table that is not live. It bears no token: whoever writes names the table.
    pub(super) fn part_name(&self, role: Role, at: usize) -> String {
        let letter = if role == Role::Shadow { 's' } else { 'r' };
        format!("_rp_{}_0_{letter}p{at}", self.job.run.short())
    }

    fn part_index(&self, role: Role, at: usize, index: usize) -> String {
        format!("{}i{index}", self.part_name(role, at))
    }

    /// The table that applications write, as its rows are read.
    pub(super) fn source_rows(&self) -> String {
        self.spec.source(self.job.direction).rows_of(&self.source())
    }

    /// The other one, as its rows are read.
    pub(super) fn written_rows(&self) -> String {
        self.spec.written(self.job.direction).rows_of(&self.written())
    }

    /// R7: the live table has the partitions that the plan saw, and of what is to come back the names as well.
    pub(super) fn check_parts(&self, live: i64, parts: &[Part]) -> Result<()> {
        let direction = self.job.direction;
        let plan = &self.spec.source(direction).partitions;
        let changed = |gone: Vec<String>, new: Vec<String>| {
            let hint = match (direction, gone.is_empty()) {
                (Direction::Forward, _) => {
                    "rows came or went with them, of which nothing is known: `replank abort`, and begin again"
                }
                (Direction::Reverse, true) => {
                    "its rows came with it, and are not known: take it out again (ALTER TABLE … DETACH PARTITION) and bring its rows \
                     in by INSERT; or `replank finalize`"
                }
                (Direction::Reverse, false) => {
                    "its rows went with it, and it is not known which: the new table stays; `replank finalize`"
                }
            };
            Err(Error::new(ErrorKind::ForeignDdl, format!("partitions of `{}` came or went", self.job.table))
                .with("gone", gone.join("; "))
                .with("new", new.join("; "))
                .hint(hint))
        };
        let there = match paired(live, parts, plan) {
            Ok(there) => there,
            Err((gone, new)) => return changed(gone, new),
        };
        let differs = there.iter().zip(plan).find(|(part, planned)| {
            part.name != planned.name
                || direction == Direction::Forward
                    && (&part.indexes, &part.constraints) != (&planned.indexes, &planned.constraints)
        });
        match differs {
            Some((part, planned)) if part.name != planned.name => {
                changed(vec![planned.name.clone()], vec![part.name.clone()])
            }
            Some((part, _)) => Err(Error::new(
                ErrorKind::ForeignDdl,
                format!("somebody else changed the indexes or constraints of partition `{}`", part.name),
            )
            .hint("`replank abort`, and begin again")),
            None => Ok(()),
        }
    }

    /// What gives the partitions that leave the name names of ours, and then those that come in theirs.
    pub(super) fn renaming_parts(
        &self,
        trees: &Trees,
        live: i64,
        written: i64,
        roles: (Role, Role),
    ) -> Result<(Vec<String>, Vec<String>)> {
        let direction = self.job.direction;
        let (retiring, coming) = roles;
        let schema = &self.spec.schema;
        let rename = |what: &str, from: &str, to: &str| {
            format!("ALTER {what} {} RENAME TO {}", table(schema, from), ident(to))
        };
        let differ = |_| Error::new(ErrorKind::ForeignDdl, "partitions came or went just now");
        let (mut outgoing, mut incoming) = (Vec::new(), Vec::new());
        let plan = &self.spec.source(direction).partitions;
        for (at, part) in paired(live, &trees.live, plan).map_err(differ)?.into_iter().enumerate() {
            outgoing.push(rename("TABLE", &part.name, &self.part_name(retiring, at)));
            for (index, found) in part.indexes.iter().enumerate() {
                outgoing.push(rename("INDEX", &found.name, &self.part_index(retiring, at, index)));
            }
        }
        let side = self.spec.written(direction);
        let there = paired(written, &trees.written, &side.partitions).map_err(differ)?;
        for (at, (part, planned)) in there.into_iter().zip(&side.partitions).enumerate() {
            incoming.push(rename("TABLE", &part.name, &planned.name));
            if direction == Direction::Reverse {
                for (index, found) in planned.indexes.iter().enumerate() {
                    incoming.push(rename("INDEX", &self.part_index(coming, at, index), &found.name));
                }
                continue;
            }
            // The server named them after the partition that has a name of ours.
            let all = &side.definition.indexes;
            for found in &part.indexes {
                let of = (0..all.len()).find(|at| found.of.as_deref() == Some(&self.index_name(coming, *at)));
                let of = of.and_then(|at| all.get(at)).map(|index| &index.name);
                let named = planned.indexes.iter().find(|index| index.of.as_ref() == of);
                let named = named.ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "an index of a partition is not in the plan")
                        .with("index", &found.name)
                })?;
                incoming.push(rename("INDEX", &found.name, &named.name));
            }
        }
        Ok((outgoing, incoming))
    }

    /// An error about rows that the written table's partitions do not take, with their keys. `rows` is a condition on the
    /// source `s`, behind `with`.
    pub(super) async fn told_of_misfits(&self, error: Error, with: &str, rows: &str) -> Error {
        if error.kind() != ErrorKind::Unfit || !self.spec.written(self.job.direction).is_partitioned() {
            return error;
        }
        match self.misfits(with, rows).await {
            Ok((count, samples)) if count > 0 => {
                let next = match self.job.direction {
                    Direction::Forward => {
                        "change those rows, then `replank resume`; or `replank abort`, and give the shape a partition for them, or a \
                         DEFAULT. The table is as it was"
                    }
                    Direction::Reverse => "change those rows, then `replank revert` again",
                };
                let what =
                    format!("no partition takes {count} of the rows (first keys: {})", samples.join("; "));
                Error::new(ErrorKind::Unfit, what).hint(next).caused_by(error)
            }
            // What the server said is what is known.
            _ => error,
        }
    }

    async fn misfits(&self, with: &str, rows: &str) -> Result<(u64, Vec<String>)> {
        let mut connection = self.server.take().await?;
        let Some(written) = number_of(&mut connection, &self.written()).await? else {
            return Ok((0, Vec::new()));
        };
        let Some(outside) = misfits::outside(&mut connection, written).await? else {
            return Ok((0, Vec::new()));
        };
        let rows = format!("{} AS s WHERE {rows}", self.source_rows());
        let found = misfits::count(&mut connection, &self.flow()?.key, with, &rows, &outside).await?;
        self.server.keep(connection);
        Ok(found)
    }
}
