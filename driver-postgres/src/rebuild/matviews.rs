//! Materialized views that read the table. The server makes none read another table, so before the swap there is a new one of
//! each over the table that is not live, empty at first ([`super::matview_making`]), then filled ([`super::matview_filling`]).
//! The swap gives it the name and puts the old one aside, which is the one of the way back.
//!
//! One that is not live is remembered with the number of the live one that it is to replace, what that one was like, and
//! its stamp when this one was filled. So it is noticed when somebody has made another one, changed it, or refreshed it. Its own
//! stamp is remembered as well: a job that refreshes whatever there is reads a table that was never like that at any moment.

use std::collections::BTreeMap;

use replank_core::ident::{Fence, Role};
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::polite::{Lock, politely};
use super::{Core, matview_making, number_of};
use crate::attached::{LIKENESS, Matview, STAMP};
use crate::connect::Conn;
use crate::definition::within_no_path;
use crate::sql::{first, get, ident, rows, run, table, text};
use crate::state::{Object, ObjectRole};

/// One that is not live, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Its schema, which is that of the live one.
    pub schema: String,
    /// The end of its name, and of those of its indexes and statistics.
    pub tail: String,
    /// The number of the live one that it is to replace.
    pub of: i64,
    /// What that one was like when this one was made, or put aside.
    pub likeness: String,
    /// That one's stamp when this one came to say the same; none: it says what it said long ago.
    pub stamp: Option<String>,
    /// Its own stamp at that time.
    #[serde(default)]
    pub filled: Option<String>,
    /// The names that its indexes have when it is live, in the order of their present names.
    pub indexes: Vec<String>,
    /// The same of its statistics, each with the schema.
    pub statistics: Vec<(String, String)>,
}

/// A live one, and the one that is to take its name.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The live one.
    pub live: Matview,
    /// The number of the other one.
    pub incoming: i64,
    /// The other one's stamp.
    pub stamp: String,
    /// What is remembered of it.
    pub aside: Aside,
}

impl Pair {
    /// The live one was refreshed since the other one was filled, or the other one never was, or not by us.
    pub fn is_stale(&self) -> bool {
        self.aside.stamp.as_ref() != Some(&self.live.stamp) || self.aside.filled.as_ref() != Some(&self.stamp)
    }

    /// What we have filled the other one with, somebody has replaced.
    pub fn was_filled_by_others(&self) -> bool {
        self.aside.filled.as_ref().is_some_and(|filled| *filled != self.stamp)
    }

    /// The name of the one that is not live, quoted.
    pub fn full_name(&self, core: &Core) -> String {
        table(&self.aside.schema, &core.matview_name(&self.aside.tail, core.fence()))
    }
}

impl Core {
    /// The name of one that is not live. It carries the token: what a runner sends that was overtaken misses it.
    pub(super) fn matview_name(&self, tail: &str, fence: Fence) -> String {
        format!("_rp_{}_{fence}_{tail}", self.job.run.short())
    }

    fn matview_index(&self, tail: &str, at: usize) -> String {
        format!("_rp_{}_0_{tail}i{at}", self.job.run.short())
    }

    fn matview_statistics(&self, tail: &str, at: usize) -> String {
        format!("_rp_{}_0_{tail}x{at}", self.job.run.short())
    }
}

/// The names of ours that indexes have, with the ones that they take.
pub fn index_names(core: &Core, aside: &Aside) -> Vec<(String, String)> {
    let ours = |at| core.matview_index(&aside.tail, at);
    aside.indexes.iter().enumerate().map(|(at, name)| (ours(at), name.clone())).collect()
}

/// The same of statistics, each with its schema.
pub fn statistics_names(core: &Core, aside: &Aside) -> Vec<(String, String, String)> {
    let ours = |at| core.matview_statistics(&aside.tail, at);
    let all = aside.statistics.iter().enumerate();
    all.map(|(at, (schema, name))| (schema.clone(), ours(at), name.clone())).collect()
}

/// Those that are remembered.
pub async fn remembered(core: &Core, connection: &mut Conn) -> Result<Vec<(Object, Aside)>> {
    let all = core.objects.of(connection, ObjectRole::Matview).await?;
    all.into_iter().map(|object| Ok((object.clone(), read(&object)?))).collect()
}

fn read(object: &Object) -> Result<Aside> {
    Aside::deserialize(&object.extra).map_err(|error| {
        Error::new(ErrorKind::Internal, format!("what is recorded of `{}` cannot be read", object.name))
            .hint("was it written by another version of replank?")
            .caused_by(error)
    })
}

/// Sees to it that each has another one of its likeness over the table that is not live, filled or not. What replaces nothing
/// any more is dropped. Locks nothing that applications use.
pub async fn follow(
    core: &Core,
    connection: &mut Conn,
    live: &[Matview],
    (live_table, written_table): (i64, i64),
) -> Result<Vec<Pair>> {
    let mut found: Vec<(Matview, i64, Aside)> = Vec::new();
    let mut taken = Vec::new();
    for (object, aside) in remembered(core, connection).await? {
        if object.name != core.matview_name(&aside.tail, core.fence()) {
            return Err(Error::new(ErrorKind::Fenced, format!("`{}` is another runner's", object.name))
                .hint("another runner took over; `replank status` shows who"));
        }
        let number = number_of(connection, &table(&aside.schema, &object.name)).await?;
        let of = live.iter().find(|live| live.oid == aside.of && live.likeness == aside.likeness);
        match (of, number) {
            (Some(live), Some(incoming)) => {
                taken.push(aside.tail.clone());
                found.push((live.clone(), incoming, aside));
            }
            _ => remove(core, connection, &object, &aside).await?,
        }
    }
    let letter = if core.written_role().0 == Role::Shadow { 's' } else { 'r' };
    for one in live {
        if found.iter().any(|(live, ..)| live.oid == one.oid) {
            continue;
        }
        let free = (0..).map(|at| format!("{letter}m{at}")).find(|tail| !taken.contains(tail));
        let Some(tail) = free else { continue };
        taken.push(tail.clone());
        let tables = (live_table, written_table);
        let (incoming, aside) = matview_making::make(core, connection, one, tail, tables).await?;
        found.push((one.clone(), incoming, aside));
    }
    found.sort_by_key(|(live, ..)| live.oid);
    let mut stamps = stamps(connection, found.iter().map(|(_, incoming, _)| *incoming)).await?;
    let mut pairs = Vec::new();
    for (live, incoming, aside) in found {
        let stamp = stamps.remove(&incoming).ok_or_else(went)?;
        pairs.push(Pair { live, incoming, stamp, aside });
    }
    for pair in &pairs {
        refuse_other_columns_below_views(connection, pair).await?;
        let_owner_read(core, connection, pair, written_table).await?;
    }
    Ok(pairs)
}

/// The stamps of materialized views, by their numbers.
pub async fn stamps(
    connection: &mut Conn,
    numbers: impl IntoIterator<Item = i64>,
) -> Result<BTreeMap<i64, String>> {
    stamps_where(connection, numbers, "").await
}

/// The same of those that this transaction has filled. Of one that another session has changed since its snapshot the catalogue shows both.
pub async fn own_stamps(
    connection: &mut Conn,
    numbers: impl IntoIterator<Item = i64>,
) -> Result<BTreeMap<i64, String>> {
    stamps_where(connection, numbers, "AND v.xmin = pg_current_xact_id()::xid").await
}

async fn stamps_where(
    connection: &mut Conn,
    numbers: impl IntoIterator<Item = i64>,
    condition: &str,
) -> Result<BTreeMap<i64, String>> {
    let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    if numbers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "SELECT v.oid::bigint, {STAMP} FROM pg_class v WHERE v.oid IN ({}) {condition}",
        numbers.join(", ")
    );
    rows(connection, sql).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

fn went() -> Error {
    Error::new(ErrorKind::Retry, "a materialized view went just now")
}

/// Nobody comes in between any more: what we have filled them with they have still.
pub async fn refuse_what_others_filled(connection: &mut Conn, pairs: &[Pair]) -> Result<()> {
    let now = stamps(connection, pairs.iter().map(|pair| pair.incoming)).await?;
    match pairs.iter().all(|pair| now.get(&pair.incoming) == pair.aside.filled.as_ref()) {
        true => Ok(()),
        false => {
            let what = "somebody has refreshed a materialized view that is not live yet, just now";
            Err(Error::new(ErrorKind::Retry, what))
        }
    }
}

/// Drops one that is not live, and forgets it.
pub async fn remove(core: &Core, connection: &mut Conn, object: &Object, aside: &Aside) -> Result<()> {
    let full = table(&aside.schema, &object.name);
    let forget = core.objects.removing(ObjectRole::Matview, &object.name);
    match number_of(connection, &full).await? {
        Some(number) => {
            politely(core, Lock::Alone, &[number], &[format!("DROP MATERIALIZED VIEW {full}"), forget]).await
        }
        None => run(connection, forget).await.map(drop),
    }
}

/// A view on top is only told of the other one, which must have the columns that it shows.
async fn refuse_other_columns_below_views(connection: &mut Conn, pair: &Pair) -> Result<()> {
    let Some(row) = first(connection, other_columns(pair.live.oid, pair.incoming)).await? else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::ForeignDdl, get::<String>(&row, 0)?)
        .hint("DROP VIEW it, then `replank resume`, and make it again afterwards"))
}

/// A query for what is to be said of a view on top of a materialized one whose other one has a column of another type.
pub fn other_columns(live: i64, incoming: i64) -> String {
    format!(
        "SELECT format('the view %s shows column %I of the materialized view %s, which gets another type',
                       v.oid::regclass, a.attname, {live}::regclass)
         FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class AND v.relkind = 'v'
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         JOIN pg_attribute b ON b.attrelid = {incoming} AND b.attnum = a.attnum
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {live}
         AND (b.atttypid, b.atttypmod, b.attcollation) IS DISTINCT FROM (a.atttypid, a.atttypmod, a.attcollation)
         ORDER BY 1 LIMIT 1"
    )
}

/// REFRESH reads with the owner's rights, which come to the table with the name.
async fn let_owner_read(core: &Core, connection: &mut Conn, pair: &Pair, written: i64) -> Result<()> {
    let sql = format!(
        "SELECT format('GRANT SELECT ON %s TO %I', {}, pg_get_userbyid(v.relowner)) FROM pg_class v
         WHERE v.oid = {} AND NOT has_table_privilege(v.relowner, {written}::oid, 'SELECT')",
        text(&core.written()),
        pair.incoming
    );
    match first(connection, sql).await? {
        Some(row) => run(connection, get::<String>(&row, 0)?).await.map(drop),
        None => Ok(()),
    }
}

/// What the swap does with them: those that leave get names of ours, and then the others theirs.
pub async fn swapping(core: &Core, connection: &mut Conn, pairs: &[Pair]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for pair in pairs {
        let leaving = leaving(core, connection, pair).await?;
        let rename = |kind: &str, schema: &str, from: &str, to: &str| {
            format!("ALTER {kind} {} RENAME TO {}", table(schema, from), ident(to))
        };
        let (schema, coming) = (&pair.aside.schema, &pair.aside);
        let (out, name) = (
            core.matview_name(&leaving.aside.tail, core.fence()),
            core.matview_name(&coming.tail, core.fence()),
        );
        all.push(rename("MATERIALIZED VIEW", schema, &leaving.name, &out));
        all.push(rename("MATERIALIZED VIEW", schema, &name, &leaving.name));
        for (ours, own) in index_names(core, &leaving.aside) {
            all.push(rename("INDEX", schema, &own, &ours));
        }
        for (schema, ours, own) in statistics_names(core, &leaving.aside) {
            all.push(rename("STATISTICS", &schema, &own, &ours));
        }
        for (ours, own) in index_names(core, coming) {
            all.push(rename("INDEX", schema, &ours, &own));
        }
        for (schema, ours, own) in statistics_names(core, coming) {
            all.push(rename("STATISTICS", &schema, &ours, &own));
        }
        all.push(core.objects.removing(ObjectRole::Matview, &name));
        // It is to be as the one that is live from now on, whatever becomes of that.
        let known = serde_json::to_string(&leaving.aside).map_err(|error| {
            Error::new(ErrorKind::Internal, "a record cannot be written as JSON").caused_by(error)
        })?;
        let extra = format!(
            "(SELECT ({}::jsonb || jsonb_build_object('likeness', {LIKENESS}))::text FROM pg_class v WHERE v.oid = {})",
            text(&known),
            pair.incoming
        );
        all.push(within_no_path(&core.objects.putting(ObjectRole::Matview, &out, &extra)));
    }
    Ok(all)
}

/// One that leaves.
struct Leaving {
    name: String,
    aside: Aside,
}

async fn leaving(core: &Core, connection: &mut Conn, pair: &Pair) -> Result<Leaving> {
    let sql = format!("SELECT relname::text FROM pg_class WHERE oid = {}", pair.live.oid);
    let Some(row) = first(connection, sql).await? else {
        return Err(went());
    };
    let letter = if core.retiring_role().0 == Role::Shadow { 's' } else { 'r' };
    let tail = format!("{letter}{}", pair.aside.tail.trim_start_matches(['s', 'r']));
    let aside = Aside {
        schema: pair.aside.schema.clone(),
        tail,
        of: pair.incoming,
        likeness: String::new(),
        stamp: None,
        filled: None,
        indexes: index_names_of(connection, pair.live.oid).await?,
        statistics: statistics_names_of(connection, pair.live.oid).await?,
    };
    Ok(Leaving { name: get(&row, 0)?, aside })
}

async fn index_names_of(connection: &mut Conn, number: i64) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT c.relname::text FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = {number} ORDER BY c.oid"
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

/// The schemas and names of a relation's statistics.
pub async fn statistics_names_of(connection: &mut Conn, number: i64) -> Result<Vec<(String, String)>> {
    let sql = format!(
        "SELECT n.nspname::text, s.stxname::text FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
         WHERE s.stxrelid = {number} ORDER BY s.oid"
    );
    rows(connection, sql).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}
