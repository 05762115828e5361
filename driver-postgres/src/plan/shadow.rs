//! The rebuild as a candidate: the statement is carried out on an empty copy, and what comes out of it is the new shape.

use replank_core::plan::{Candidate, Evidence, LockNote, Step, Strategy};
use replank_core::{ErrorKind, Result};
use serde_json::Value as Json;

use super::Drafting;
use super::constraint::constraint_names;
use super::evidence::{evidence, outside};
use super::foresight::{self, After};
use super::given::{self, taken};
use super::keeping;
use super::mapping::{self, Column, Given, Shapes};
use super::matview_trial::{self, Followed};
use super::partition_own::Own;
use super::{lock_table, partitioned_writes, view_trial};
use crate::attached::{Attached, place_query};
use crate::connect::Conn;
use crate::definition::Definition;
use crate::empty_copy::{Place, copy};
use crate::given_shape::Shape;
use crate::inspect::Table;
use crate::lint::Seen;
use crate::parse::{Action, Added, AddedKind, Kind};
use crate::partitions::{Part, Partition, planned};
use crate::rebuild::{lasting, not_nulls};
use crate::slot::{refusals, short_of};
use crate::spec::{CaptureBy, Side, Spec, Unique};
use crate::sql::{first, get, ident, is_so, rows, run, text};
use crate::zones::refuse_times_without_offset;

/// Both locks of the swap. Measured: see the benchmarks.
const SWAP_MS: u64 = 60;
/// Of a partition, beside a name for each of its indexes: its own, and two triggers.
const OF_A_PARTITION: usize = 3;
/// For each statement about a partition. Measured on PostgreSQL 18 on two cores, from the lock to the COMMIT: with 300 partitions
/// of three indexes (1,800 statements) 63 ms more than without partitions, with 100 of ten (1,300) 77 ms in all, with 200 of ten
/// (2,600) 119 ms; three times that where others keep both cores busy.
const STATEMENT_US: u64 = 50;

/// What is to come out of a rebuild.
pub enum Wanted<'a> {
    /// What these make of the present shape; none: the same.
    Altered(&'a [Action]),
    /// Another shape.
    Given(&'a Shape),
}

impl Wanted<'_> {
    fn actions(&self) -> &[Action] {
        match self {
            Self::Altered(actions) => actions,
            Self::Given(_) => &[],
        }
    }
}

impl Drafting<'_> {
    /// The candidate, with what the rows that are there say.
    pub(super) async fn shadow(
        &mut self,
        table: &Table,
        wanted: &Wanted<'_>,
        given: &Given<'_>,
    ) -> Result<(Candidate, Evidence)> {
        // A copy in a place for temporary tables would be of another definition.
        run(self.connection, "BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL temp_tablespaces = ''").await?;
        let (seen, lost) = (&mut self.seen, &mut self.lost);
        let drafted = shadow(self.connection, table, wanted, given, self.capture, (seen, lost)).await;
        run(self.connection, "ROLLBACK").await?;
        match drafted {
            Ok((Ok(candidate), evidence)) => Ok((candidate, evidence)),
            Ok((Err(why), evidence)) => Ok((impossible(table, why), evidence)),
            // The copy would not have it: the table would not either, or not in this way.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Server | ErrorKind::Usage | ErrorKind::NotFound | ErrorKind::Unfit
                ) =>
            {
                Ok((impossible(table, error.message().to_owned()), Evidence::default()))
            }
            Err(error) => Err(error),
        }
    }
}

/// The candidate, or why there is none.
type Drafted = (std::result::Result<Candidate, String>, Evidence);

fn no(why: impl Into<String>) -> Result<Drafted> {
    Ok((Err(why.into()), Evidence::default()))
}

async fn shadow(
    connection: &mut Conn,
    table: &Table,
    wanted: &Wanted<'_>,
    given: &Given<'_>,
    capture: CaptureBy,
    (seen, lost): (&mut Vec<Seen>, &mut Vec<String>),
) -> Result<Drafted> {
    if let Some(row) = first(connection, place_query(table.oid)).await?
        && let Some(why) = get::<Option<String>>(&row, 0)?
    {
        return no(format!("{why}, and such tables are not rebuilt yet"));
    }
    if !is_so(connection, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')").await? {
        return no(
            "snapshots of other logins cannot be seen, and the swap must wait for them: GRANT pg_read_all_stats TO the login",
        );
    }
    if table.is_partitioned() && matches!(wanted, Wanted::Altered(_)) {
        return no(
            "it is partitioned, and such tables are rebuilt only in a shape that is given whole: replank rebuild … --as FILE, also where it is to stay as it is",
        );
    }
    let old = Definition::read(connection, table.oid).await?;
    if let Some(flawed) = old.indexes.iter().find(|index| index.flaw.is_some()) {
        let flaw = flawed.flaw.as_deref().unwrap_or_default();
        return no(format!("index {} cannot be made again: {flaw}", flawed.name));
    }
    let divided = Part::all(connection, table.oid).await?;
    if let Wanted::Given(shape) = wanted {
        // In front of the trial, which takes as many.
        let of_old: usize = divided.iter().map(|part| part.indexes.len()).sum();
        let partitions = shape.partitions.len() + divided.len();
        let indexes = of_old + shape.partitions.len() * given::index_count(shape, &old);
        if let Some(why) = lock_table::refusal(connection, partitions, indexes).await? {
            return no(why);
        }
    }
    // In front of the copy, whose constraints have names that the server would not give twice.
    let reshaped = match wanted {
        Wanted::Given(shape) => Some(given::tried(connection, table, shape, &old).await?),
        Wanted::Altered(_) => None,
    };
    let before = copy(connection, table, Place::Temporary("_rp_before")).await?;
    let before_number = mapping::number(connection, &before).await?;
    let mut old_columns = Column::all(connection, before_number).await?;
    let mut kept_actions = Vec::new();
    let mut partitions = Vec::new();
    let after = match reshaped {
        Some(reshaped) => {
            partitions = reshaped.partitions;
            reshaped.full
        }
        None => {
            let after = copy(connection, table, Place::Temporary(&table.name)).await?;
            for index in &old.indexes {
                run(connection, index.making(&after, &ident(&index.name))).await?;
            }
            for action in wanted.actions() {
                match on_copy(connection, &after, action).await? {
                    Ok(some) => kept_actions.extend(some),
                    Err(why) => return no(why),
                }
            }
            after
        }
    };
    let after_number = mapping::number(connection, &after).await?;
    let new_columns = Column::all(connection, after_number).await?;
    if let Wanted::Given(_) = wanted {
        mapping::pair_by_name(&mut old_columns, &new_columns);
    }
    let mut new = Definition::read(connection, after_number).await?;
    if let Some(row) = first(connection, place_query(after_number)).await?
        && let Some(why) = get::<Option<String>>(&row, 0)?
    {
        return no(format!("of the new shape: {why}, and such tables are not made yet"));
    }
    if (new.is_partitioned() || table.is_partitioned()) && old.is_unlogged() {
        return no("it is UNLOGGED, and such tables do not get partitions, nor lose them: SET LOGGED first");
    }
    if new.is_partitioned() {
        let taken = taken(connection, table, &new, &partitions).await?;
        if !taken.is_empty() {
            return no(format!("the new shape needs names that others have: {}", taken.join(", ")));
        }
    }
    if table.is_partitioned() && capture == CaptureBy::Slot {
        return no(
            "a slot tells of partitions, and not of the table that they are a part of: leave out -D capture=slot",
        );
    }
    if let Some(flawed) = new.indexes.iter().find(|index| index.flaw.is_some()) {
        let flaw = flawed.flaw.as_deref().unwrap_or_default();
        return no(format!("index {} cannot be made: {flaw}", flawed.name));
    }
    if new.lines.iter().any(|line| line.contains("nextval('pg_temp.")) {
        return no(
            "a column counts by a sequence of its own, as serial does: a new one is GENERATED BY DEFAULT AS IDENTITY, and one that is there keeps its DEFAULT nextval(…)",
        );
    }
    let anew = format!(
        "SELECT n.attname::text FROM pg_attribute n JOIN pg_attribute o ON o.attname = n.attname AND NOT o.attisdropped
         WHERE n.attrelid = {after_number} AND n.attidentity <> '' AND o.attrelid = {} AND o.attidentity = ''",
        table.oid
    );
    if let Some(row) = first(connection, anew).await? {
        let column = get::<String>(&row, 0)?;
        return no(format!(
            "{column} becomes an identity column, which would count from its beginning: keep its DEFAULT here, and make that a statement of its own"
        ));
    }
    new.is_no_copy(&old);
    match keeping::lasting(wanted.actions()) {
        Ok(None) => {}
        Ok(Some(is_unlogged)) => new.lasts_as(is_unlogged),
        Err(why) => return no(why),
    }
    if new.is_unlogged() != old.is_unlogged()
        && let Some(why) = lasting::hindrance(connection, table.oid, new.is_unlogged()).await?
    {
        return no(why);
    }
    seen.extend(unseen_writers(connection, table).await?);
    let attached = Attached::read(connection, table.oid, after_number, None).await?;
    if !attached.cannot.is_empty() {
        return no(format!("it cannot follow the table yet: {}", attached.cannot.join("; ")));
    }
    let shapes = Shapes { before: &before, after: &after, old: &old_columns, new: &new_columns };
    let using: Vec<(String, String)> = wanted
        .actions()
        .iter()
        .filter_map(|action| match &action.kind {
            Kind::SetType { column, using: Some(using) } => {
                Some((super::alter::unquoted(column), using.clone()))
            }
            _ => None,
        })
        .collect();
    let is_partitioned = old.is_partitioned() || new.is_partitioned();
    let mut mapped =
        match mapping::mapping(connection, &shapes, table.oid, after_number, &using, given, is_partitioned)
            .await?
        {
            Ok(mapped) => mapped,
            Err(why) => return no(why),
        };
    let old_parts = planned(table.oid, &divided);
    if let Some(key) = key_that_stays(connection, table, new.is_partitioned()).await? {
        mapped.backward = Err(format!(
            "the foreign key {key} would have every row of the partitioned table looked at under the lock, before PostgreSQL 18"
        ));
    }
    let spec = Spec {
        schema: table.schema.clone(),
        original: table.oid,
        shape: match wanted {
            Wanted::Altered(_) => None,
            Wanted::Given(shape) => Some(shape.tail.clone()),
        },
        actions: kept_actions,
        old: side(connection, table.oid, old, mapped.old_index, old_parts).await?,
        new: side(connection, after_number, new, mapped.new_index, partitions).await?,
        forward: mapped.forward,
        backward: mapped.backward.as_ref().ok().cloned(),
        capture,
    };
    if capture == CaptureBy::Slot {
        if spec.old.tells_apart_fewer(&spec.forward.key) {
            return no("the key grows by columns that a slot would not tell of: leave out -D capture=slot");
        }
        let refusals = refusals(connection, table.oid, &spec.forward.key).await?;
        let of_settings = |rule: &str, what: String| Seen { rule: rule.to_owned(), what };
        seen.extend(refusals.iter().map(|refusal| of_settings("P152!", refusal.clone())));
        seen.extend(short_of(connection, table.bytes).await?.map(|what| of_settings("P152", what)));
        if !refusals.is_empty() {
            return no(format!("{}; or leave out -D capture=slot", refusals.join("; ")));
        }
    }
    if is_partitioned && let Some(why) = not_found(connection, after_number, &spec).await? {
        return no(why);
    }
    if table.is_partitioned() {
        let own = Own::read(connection, table, after_number).await?;
        if !own.rejects.is_empty() {
            return no(own.rejects.join("; "));
        }
        lost.extend(own.lost);
    } else if spec.new.is_partitioned() {
        seen.extend(partitioned_writes::seen(connection, table, &spec).await?);
    }
    let made = After { name: &after, number: after_number };
    let foreseen = match foresight::obstacle(connection, table, &spec, made, &attached).await? {
        None => view_trial::obstacle(connection, table, made, &before).await?,
        why => why,
    };
    let foreseen = match foreseen {
        None => matview_trial::obstacle(connection, table, made, &attached.matviews).await?,
        why => why,
    };
    if let Some(why) = foreseen {
        return no(why);
    }
    let mut evidence = evidence(connection, table, &spec, (&old_columns, &new_columns), after_number).await?;
    evidence.unfit.extend(outside(connection, table, &spec, after_number).await?);
    if evidence.unfit.is_empty() {
        foresight::ask_rows(connection, table, &spec, made, &mut evidence).await?;
    }
    let is_new = |column: &&Column| !old_columns.iter().any(|old| old.number == column.number);
    let added = new_columns.iter().filter(|column| !column.is_generated).filter(is_new);
    let added: Vec<&str> = added.map(|column| column.name.as_str()).collect();
    let mut candidate = candidate(table, &spec, mapped.backward.err(), &added)?;
    fills(&mut candidate, &Followed::read(connection, &attached.matviews).await?);
    if let Some(back) = &spec.backward
        && let owed = foresight::owed_back(connection, table, &back.kept).await?
        && let Some(first) = owed.first()
    {
        candidate.undo = format!(
            "{}; after the first INSERT there is no way back, since the old table takes no row without {}: say what it gets \
             with -D reverse={first}=…",
            candidate.undo,
            owed.join(", ")
        );
    }
    Ok((Ok(candidate), evidence))
}

/// A foreign key of a partitioned table that goes with it into a plain one and could not come back.
async fn key_that_stays(
    connection: &mut Conn,
    table: &Table,
    stays_partitioned: bool,
) -> Result<Option<String>> {
    if !table.is_partitioned() || stays_partitioned {
        return Ok(None);
    }
    let sql = format!(
        "SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND conrelid = {} AND conparentid = 0
         AND current_setting('server_version_num')::int < 180000 ORDER BY 1 LIMIT 1",
        table.oid
    );
    first(connection, sql).await?.map(|row| get(&row, 0)).transpose()
}

/// Who writes, or may write, past ordinary triggers.
async fn unseen_writers(connection: &mut Conn, table: &Table) -> Result<Vec<Seen>> {
    let sql = format!(
        "SELECT 'P151!', 'a subscription writes the table: its worker fires no trigger for statements'
         FROM pg_subscription_rel WHERE srrelid = {}
         UNION ALL
         SELECT 'P151', concat_ws(' ', coalesce('login ' || r.rolname, 'every login'), coalesce('in database ' || d.datname, 'in every database'),
                'has session_replication_role = replica: ordinary triggers do not fire, nor are foreign keys checked')
         FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
         WHERE 'session_replication_role=replica' = ANY (s.setconfig) AND coalesce(d.datname, current_database()) = current_database()",
        table.oid
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| Ok(Seen { rule: get(row, 0)?, what: get(row, 1)? }))
        .collect()
}

/// What the copy makes of a part, and which texts of it the empty shadow needs; or why a rebuild cannot do it.
async fn on_copy(
    connection: &mut Conn,
    copy: &str,
    action: &Action,
) -> Result<std::result::Result<Vec<String>, String>> {
    let refused = |why: &str| Ok(Err(format!("{why}: run it by itself")));
    let mut kept = Vec::new();
    let mut added: Vec<&Added> = Vec::new();
    match &action.kind {
        Kind::AddColumn { column, plain, constraints, if_not_exists } => {
            let there = format!(
                "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass({}) AND attname = {} AND NOT attisdropped)",
                text(copy),
                text(&super::alter::unquoted(column))
            );
            if *if_not_exists && is_so(connection, there).await? {
                return Ok(Ok(kept));
            }
            kept.push(format!("ADD COLUMN {plain}"));
            added.extend(constraints);
        }
        Kind::AddConstraint(constraint) => added.push(constraint),
        Kind::DropConstraint { name } => {
            let kind = format!(
                "SELECT contype::text FROM pg_constraint WHERE conrelid = to_regclass({}) AND conname = {}",
                text(copy),
                text(&super::alter::unquoted(name))
            );
            match first(connection, kind).await?.map(|row| get::<String>(&row, 0)).transpose()?.as_deref() {
                Some("c") => kept.push(action.text.clone()),
                Some(_) => drop(run(connection, format!("ALTER TABLE {copy} {}", action.text)).await?),
                None => return refused("a foreign key is dropped by a rebuild of its own only"),
            }
        }
        Kind::SetType { .. }
        | Kind::DropColumn { .. }
        | Kind::SetNotNull { .. }
        | Kind::DropNotNull { .. }
        | Kind::RenameColumn(..)
        | Kind::Other => kept.push(action.text.clone()),
        Kind::RenameTable(_) => return refused("a rebuild does not rename its table"),
        Kind::SetTablespace { .. } | Kind::SetAccessMethod { .. } => kept.push(action.text.clone()),
        // A temporary table is neither; the empty shadow is made so.
        Kind::SetLasting { .. } => return Ok(Ok(vec![action.text.clone()])),
        Kind::Validate | Kind::Catalogue | Kind::Attach { .. } | Kind::Detach { .. } | Kind::Hierarchy => {
            return refused("it needs no rebuild");
        }
    }
    for text in &kept {
        alter(connection, copy, text).await?;
    }
    for added in added {
        let named = |name: &str| format!("ADD CONSTRAINT {name} {}", added.text);
        match added.kind {
            AddedKind::Check => {
                let before = constraint_names(connection, copy).await?;
                let plain = match &added.name {
                    Some(name) => named(name),
                    None => format!("ADD {}", added.text),
                };
                alter(connection, copy, &plain).await?;
                let after = constraint_names(connection, copy).await?;
                let new = after.into_iter().find(|name| !before.contains(name));
                kept.push(new.map_or(plain, |name| named(&ident(&name))));
            }
            AddedKind::Unique | AddedKind::PrimaryKey | AddedKind::Exclude => {
                let plain = match &added.name {
                    Some(name) => named(name),
                    None => format!("ADD {}", added.text),
                };
                run(connection, format!("ALTER TABLE {copy} {plain}")).await?;
            }
            AddedKind::ForeignKey => return refused("a rebuild adds no foreign key"),
            AddedKind::UsingIndex | AddedKind::NotNull => return refused("it needs no rebuild"),
        }
    }
    Ok(Ok(kept))
}

/// Chunks are ranges of the key, and are looked up in both tables: without an index that begins as the key does, each would be
/// a look at all rows.
async fn not_found(connection: &mut Conn, new: i64, spec: &Spec) -> Result<Option<String>> {
    let Some(column) = spec.forward.key.first().map(|column| &column.written) else { return Ok(None) };
    let there = format!(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
         WHERE i.indrelid = {new} AND i.indpred IS NULL AND m.amname = 'btree' AND a.attname = {})",
        text(column)
    );
    Ok((!is_so(connection, there).await?).then(|| {
        format!(
            "rows are looked up by {column} first, by which the new shape has no index: begin its primary key with it, or add \
             CREATE INDEX ON … ({}) to the file",
            ident(column)
        )
    }))
}

async fn side(
    connection: &mut Conn,
    number: i64,
    definition: Definition,
    key_index: String,
    partitions: Vec<Partition>,
) -> Result<Side> {
    let sql = format!(
        "SELECT c.relname::text, ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnkeyatts) AS k),
                pg_get_expr(i.indpred, i.indrelid), coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = {number} AND i.indisunique ORDER BY c.oid"
    );
    let mut unique = Vec::new();
    for row in rows(connection, sql).await? {
        let (name, parts) = (get(&row, 0)?, get(&row, 1)?);
        unique.push(Unique { name, parts, condition: get(&row, 2)?, nulls_equal: get(&row, 3)? });
    }
    let not_nulls = not_nulls(connection, number).await?;
    Ok(Side { definition, key_index, unique, not_nulls, partitions })
}

/// The columns of a key that has more of them than the old table's index, for a person who knows that one.
fn grown(spec: &Spec) -> String {
    let key = &spec.forward.key;
    if !spec.old.tells_apart_fewer(key) {
        return String::new();
    }
    let columns: Vec<&str> = key.iter().map(|column| column.source.as_str()).collect();
    format!(" ({})", columns.join(", "))
}

fn candidate(table: &Table, spec: &Spec, no_way_back: Option<String>, added: &[&str]) -> Result<Candidate> {
    let mut undo =
        "`revert` swaps back, with every write made since; `finalize` drops the old table".to_owned();
    if let Some(back) = spec.backward.as_ref().filter(|back| !back.kept.is_empty()) {
        undo = format!(
            "{undo}; {} comes back for rows whose key{} did not change since",
            back.kept.join(", "),
            grown(spec)
        );
    }
    if let Some(back) = &spec.backward {
        let is_read =
            |name: &&str| back.columns.iter().any(|column| column.expression.contains(&ident(name)));
        let lost: Vec<&str> = added.iter().copied().filter(|name| !is_read(name)).collect();
        if !lost.is_empty() {
            undo = format!("{undo}; what was written to {} is gone then", lost.join(", "));
        }
    }
    if spec.new.definition.is_unlogged() && !spec.old.definition.is_unlogged() {
        undo = format!(
            "{undo}; a crash of the server empties the table from the swap on, and then there is no way back, but the old \
             table has what was there until `finalize`"
        );
    }
    let mut whole = shape(table);
    let partitions =
        if spec.old.is_partitioned() || spec.new.is_partitioned() { " and its partitions" } else { "" };
    let capturing = match spec.capture {
        CaptureBy::Trigger => LockNote {
            what: format!(
                "SHARE ROW EXCLUSIVE on the table{}, for the triggers: writers wait",
                if spec.old.is_partitioned() { partitions } else { "" }
            ),
            hold_ms: 5,
        },
        CaptureBy::Slot => {
            whole.steps[0].title =
                "make the new table, empty and without an index, and a slot that keeps what is written: the server's log grows with that \
                 until it is applied"
                    .to_owned();
            super::gentle_lock("SHARE UPDATE EXCLUSIVE on the table, for the publication")
        }
    };
    Ok(Candidate {
        spec: spec.write()?,
        no_way_back,
        undo,
        locks: vec![
            capturing,
            LockNote {
                what: format!(
                    "SHARE ROW EXCLUSIVE on the table{partitions} for the last changes, then ACCESS EXCLUSIVE for the swap"
                ),
                hold_ms: swap_ms(spec.old.partitions.iter().chain(&spec.new.partitions)),
            },
        ],
        ..whole
    })
}

/// Materialized views are made anew, which takes time and place.
fn fills(candidate: &mut Candidate, followed: &Followed) {
    if followed.names.is_empty() {
        return;
    }
    let names = followed.names.join(", ");
    candidate.reason =
        format!("{}; materialized views are made anew and filled before the swap: {names}", candidate.reason);
    let title = format!(
        "make the materialized views over the new table, and fill them, for as long as REFRESH takes: {names}"
    );
    let before_swap = candidate.steps.len().saturating_sub(1);
    candidate.steps.insert(before_swap, Step::of_engine(&title, "drop the new ones"));
    // Filled again when somebody refreshes the old one meanwhile, beside what is there.
    candidate.disk_bytes =
        candidate.disk_bytes.map(|bytes| bytes.saturating_add(followed.bytes.saturating_mul(2)));
}

fn swap_ms<'a>(partitions: impl Iterator<Item = &'a Partition>) -> u64 {
    let statements: usize = partitions.map(|partition| OF_A_PARTITION + partition.indexes.len()).sum();
    SWAP_MS + u64::try_from(statements).unwrap_or(u64::MAX).saturating_mul(STATEMENT_US) / 1000
}

/// Alters an empty copy, unless what comes of it depends on the session's zone.
async fn alter(connection: &mut Conn, copy: &str, action: &str) -> Result<()> {
    let statement = format!("ALTER TABLE {copy} {action}");
    refuse_times_without_offset(connection, std::slice::from_ref(&statement)).await?;
    run(connection, statement).await.map(drop)
}

/// A rebuild that cannot be made.
fn impossible(table: &Table, why: String) -> Candidate {
    Candidate { impossible: Some(why), ..shape(table) }
}

fn shape(table: &Table) -> Candidate {
    let step = Step::of_engine;
    Candidate {
        strategy: Strategy::Shadow,
        impossible: None,
        unasked: None,
        reason: "the server itself would write every row anew under a lock".to_owned(),
        steps: vec![
            step(
                "make the new table, empty and without an index, and triggers that log the keys of what is written: the log grows with \
                 that until it is applied",
                "drop them",
            ),
            step("copy rows in chunks, and build the index by which they are found", "drop the new table"),
            step("apply changes from the log, and build the other indexes", "drop the new table"),
            step("compare every row, both ways", "nothing"),
            step("swap the names under a lock; the old table stays in step", "swap them back"),
        ],
        locks: Vec::new(),
        discards: Vec::new(),
        no_way_back: None,
        disk_bytes: u64::try_from(table.bytes * 2 + table.largest_index).ok(),
        undo: String::new(),
        spec: Json::Null,
    }
}
