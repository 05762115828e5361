//! What hangs on a table and has to follow its name: triggers, foreign keys both ways, views, materialized ones too, policies, grants,
//! comments, sequences, marks. Read as the statements that take it off the one table and put it on the other, so that what was read
//! before the lock can be held against what is there under it.

mod comments;
mod keys;
mod marks;
mod matviews;
mod others;
mod partitions;
mod policies;
mod publications;
mod rights;
mod triggers;
mod views;

use std::collections::BTreeSet;

use replank_core::{Error, ErrorKind, Result};
use sqlx::postgres::PgRow;

use crate::connect::Conn;
use crate::definition::within_no_path;
use crate::rebuild::closing;
use crate::sql::{get, rows, run};
use matviews::READING;
pub use matviews::{LIKENESS, Matview, STAMP, said_otherwise};
use views::GONE;

/// What hangs on a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// Takes it off, in front of the renames.
    pub off: Vec<String>,
    /// Puts it on the table that has the name then.
    pub on: Vec<String>,
    /// What may take long and needs no lock that others wait for, after the swap.
    pub later: Vec<String>,
    /// Numbers of other tables that the statements lock.
    pub related: Vec<i64>,
    /// Materialized views that read the table: the swap puts others in their place.
    pub matviews: Vec<Matview>,
    /// What cannot follow, and why.
    pub cannot: Vec<String>,
}

impl Attached {
    /// Reads what hangs on `live`, for a swap that puts `incoming` in its place, which has these indexes and constraints:
    /// what is said of others does not follow.
    pub async fn read(
        connection: &mut Conn,
        live: i64,
        incoming: i64,
        names: Option<&BTreeSet<String>>,
    ) -> Result<Self> {
        let asked = query(live, incoming);
        Self::collected(rows(connection, within_no_path(&asked)).await?, names)
    }

    /// Only the tables that the swap locks as well: the rest of the question takes the server far longer to plan.
    pub async fn related_to(connection: &mut Conn, live: i64) -> Result<Vec<i64>> {
        let related: Vec<String> =
            parts().filter(|part| part.columns == Columns::Related).map(|part| part.sql).collect();
        let asked = format!(
            "{} SELECT q.oid::bigint FROM ({}) AS q(oid)",
            beginning(live, live),
            related.join(" UNION ")
        );
        rows(connection, within_no_path(&asked)).await?.iter().map(|row| get(row, 0)).collect()
    }

    /// Makes the question ready on a session, for [`Attached::again`]: to plan it takes the server ten times as long as to
    /// answer, which nobody needs to wait for.
    pub async fn prepare(connection: &mut Conn, live: i64, incoming: i64) -> Result<()> {
        // A pooler may hand on the server's process with what another session of ours has left there.
        let prepared = format!("DEALLOCATE ALL; PREPARE rp_attached AS {}", query(live, incoming));
        run(connection, within_no_path(&prepared)).await.map(drop)
    }

    /// Asks what was made ready.
    pub async fn again(connection: &mut Conn, names: Option<&BTreeSet<String>>) -> Result<Self> {
        Self::collected(rows(connection, within_no_path("EXECUTE rp_attached")).await?, names)
    }

    fn collected(found: Vec<PgRow>, names: Option<&BTreeSet<String>>) -> Result<Self> {
        let mut attached = Self::default();
        for row in found {
            let (kind, statement): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let needs: Option<String> = get(&row, 2)?;
            if needs.is_some_and(|name| names.is_some_and(|names| !names.contains(&name))) {
                continue;
            }
            match kind.as_str() {
                "off" => attached.off.push(statement),
                "on" => attached.on.push(statement),
                "closed" => attached.on.push(closing(&statement)),
                "later" => attached.later.push(statement),
                "cannot" => attached.cannot.push(statement),
                "matview" => attached.matviews.push(Matview::of(&statement)?),
                "related" => attached.related.push(statement.parse().map_err(|_| {
                    Error::new(ErrorKind::Internal, "a table's number is none").with("it is", &statement)
                })?),
                _ => {}
            }
        }
        attached.related.sort_unstable();
        attached.related.dedup();
        Ok(attached)
    }
}

/// A trigger `t` of ours.
const OURS: &str = "starts_with(t.tgname, '_rp_')";

/// A question about what hangs on a table: rows of a kind, a statement, and perhaps a name.
struct Part {
    /// Among the statements.
    place: u32,
    /// A query over `l`, the live table with its name, `d`, its partitions, and `i`, the one that comes in.
    sql: String,
    columns: Columns,
}

/// What a part's query gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    /// A kind and a statement.
    Statement,
    /// And the index or constraint that the statement needs.
    Naming,
    /// The number of a table that the swap locks as well.
    Related,
}

fn part(place: u32, sql: impl Into<String>) -> Part {
    Part { place, sql: sql.into(), columns: Columns::Statement }
}

fn naming(place: u32, sql: impl Into<String>) -> Part {
    Part { place, sql: sql.into(), columns: Columns::Naming }
}

fn related(sql: impl Into<String>) -> Part {
    Part { place: 1, sql: sql.into(), columns: Columns::Related }
}

fn parts() -> impl Iterator<Item = Part> {
    [
        triggers::parts(),
        keys::parts(),
        views::parts(),
        matviews::parts(),
        policies::parts(),
        rights::parts(),
        comments::parts(),
        marks::parts(),
        publications::parts(),
        partitions::parts(),
        others::parts(),
    ]
    .into_iter()
    .flatten()
}

fn query(live: i64, incoming: i64) -> String {
    let parts: Vec<String> = parts()
        .map(|part| {
            let (place, sql) = (part.place, part.sql);
            let rows = match part.columns {
                Columns::Naming => sql,
                Columns::Statement => {
                    format!("SELECT q.kind, q.statement, NULL::text FROM ({sql}) AS q(kind, statement)")
                }
                Columns::Related => format!("SELECT 'related', q.oid::text, NULL::text FROM ({sql}) AS q(oid)"),
            };
            format!("SELECT {place} AS place, p.kind, p.statement, p.needs FROM ({rows}) AS p(kind, statement, needs)")
        })
        .collect();
    format!(
        "{}
         SELECT kind, statement, needs FROM ({}) AS a ORDER BY place, statement",
        beginning(live, incoming),
        parts.join(" UNION ALL ")
    )
}

/// What the parts are queries over.
fn beginning(live: i64, incoming: i64) -> String {
    format!(
        "WITH RECURSIVE l AS (SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
                    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {live}),
              i AS (SELECT {incoming}::oid AS oid),
              d AS (SELECT h.inhrelid AS oid, h.inhdetachpending FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
                    WHERE h.inhparent = {live} AND p.relkind = 'p'
                    UNION ALL SELECT h.inhrelid, h.inhdetachpending FROM pg_inherits h JOIN d ON h.inhparent = d.oid),
              {GONE},
              {READING}"
    )
}

/// A query for the views that are made anew, each after those that it is on top of: the number, the name, and what their
/// login, or ours, lacks to make them.
pub fn views_made_anew(live: i64, incoming: i64) -> String {
    format!(
        "{}
         SELECT v.oid::bigint, v.relname::text,
                CASE WHEN v.relpersistence = 't' THEN format('the view %s is a temporary one of a session', g.name)
                     WHEN NOT has_schema_privilege(n.oid, 'CREATE')
                     THEN format('the view %s is made anew: GRANT CREATE ON SCHEMA %I TO the login', g.name, n.nspname)
                     WHEN NOT has_schema_privilege(v.relowner, n.oid, 'CREATE') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                     THEN format('the view %s is made anew: GRANT CREATE ON SCHEMA %I TO %I', g.name, n.nspname, pg_get_userbyid(v.relowner))
                END
         FROM gone g JOIN pg_class v ON v.oid = g.oid JOIN pg_namespace n ON n.oid = v.relnamespace ORDER BY g.depth, g.name",
        beginning(live, incoming)
    )
}

/// What about a table's place among others stands in the way of a rebuild, as a query for one text.
pub fn place_query(table: i64) -> String {
    format!(
        "SELECT CASE WHEN c.relispartition THEN 'it is a partition'
                WHEN c.relkind <> 'p' AND EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent))
                THEN 'it inherits, or is inherited from'
                WHEN c.reloftype <> 0 THEN 'it is a table of a type' END
         FROM pg_class c WHERE c.oid = {table}"
    )
}
