//! What subscribers tell the rows of a published table by. Without it, or where a publication's columns or filter are not
//! covered by it, UPDATE and DELETE fail from one moment to the next.
//! Source: <https://www.postgresql.org/docs/current/logical-replication-publication.html>

use replank_core::{Error, ErrorKind, Result};

use super::Drafting;
use super::alter::unquoted;
use crate::inspect::Table;
use crate::lint::Seen;
use crate::parse::{Action, Kind};
use crate::slot::IS_IDENTITY;
use crate::sql::{first, get, rows, text};

/// What rows are told by.
struct Identity {
    /// The constraint that the index stands behind.
    constraint: Option<String>,
    columns: Vec<String>,
}

/// A publication of updates or deletes.
struct Publication {
    name: String,
    /// Those that it sends, where that is not all.
    columns: Option<Vec<String>>,
    /// Those that its filter reads.
    filtered: Vec<String>,
}

impl Drafting<'_> {
    /// What is written of runs is sent to whoever follows all tables: PostgreSQL's own subscribers stop at a table that they do
    /// not have. <https://www.postgresql.org/docs/current/logical-replication-conflicts.html>.
    pub(super) async fn see_publications_of_all(&mut self) -> Result<()> {
        let of_all = "SELECT pubname::text FROM pg_publication WHERE puballtables ORDER BY 1";
        for row in rows(self.connection, of_all).await? {
            let name: String = get(&row, 0)?;
            let what = format!(
                "publication {name} is of all tables: replank's own records would be sent, and subscribers without them stop there"
            );
            self.seen.push(Seen { rule: "P154".to_owned(), what });
        }
        Ok(())
    }

    /// Goes through the actions in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when an application's UPDATE would fail after one of them.
    pub(super) async fn keep_identity(&mut self, table: &Table, actions: &[Action]) -> Result<()> {
        let publications = self.publications(table).await?;
        let Some(publication) = publications.first() else { return Ok(()) };
        // None is all columns, or nothing, of which neither is lost.
        let mut present = self.identity(table, IS_IDENTITY).await?;
        for action in actions {
            let words: Vec<String> = action.text.split_whitespace().map(str::to_uppercase).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let is_lost = match (&action.kind, words.as_slice()) {
                (Kind::DropConstraint { name }, _) => present
                    .as_ref()
                    .is_some_and(|present| present.constraint.as_deref() == Some(&unquoted(name))),
                (Kind::DropColumn { column }, _) => {
                    present.as_ref().is_some_and(|present| present.columns.contains(&unquoted(column)))
                }
                (_, ["REPLICA", "IDENTITY", "NOTHING"]) => true,
                (_, ["REPLICA", "IDENTITY", "FULL"]) => {
                    present = None;
                    refuse_uncovered(table, &publications, None)?;
                    false
                }
                (_, ["REPLICA", "IDENTITY", "DEFAULT"]) => {
                    present = self.identity(table, "i.indisprimary").await?;
                    present.is_none()
                }
                (_, ["REPLICA", "IDENTITY", "USING", "INDEX", _]) => {
                    let name = action.text.split_whitespace().last().map(unquoted).unwrap_or_default();
                    let named = format!(
                        "i.indexrelid = (SELECT oid FROM pg_class WHERE relname = {} AND relnamespace = c.relnamespace)",
                        text(&name)
                    );
                    present = self.identity(table, &named).await?;
                    false
                }
                _ => false,
            };
            if is_lost {
                return Err(lost(table, publication));
            }
            if words.starts_with(&["REPLICA", "IDENTITY"])
                && let Some(present) = &present
            {
                refuse_uncovered(table, &publications, Some(present))?;
            }
        }
        Ok(())
    }

    /// The same of an index that is to go.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when it is the one.
    pub(super) async fn keep_identity_index(&mut self, table: &Table, index: i64) -> Result<()> {
        let is_it = format!("{IS_IDENTITY} AND i.indexrelid = {index}");
        match (self.identity(table, &is_it).await?, self.publications(table).await?.first()) {
            (Some(_), Some(publication)) => Err(lost(table, publication)),
            _ => Ok(()),
        }
    }

    async fn identity(&mut self, table: &Table, condition: &str) -> Result<Option<Identity>> {
        let sql = format!(
            "SELECT o.conname::text, ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid
                                           AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
             FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid
             LEFT JOIN pg_constraint o ON o.conindid = i.indexrelid AND o.conrelid = i.indrelid AND o.contype IN ('p', 'u', 'x')
             WHERE c.oid = {} AND {condition}",
            table.oid
        );
        let Some(row) = first(self.connection, sql).await? else { return Ok(None) };
        Ok(Some(Identity { constraint: get(&row, 0)?, columns: get(&row, 1)? }))
    }

    /// Of the table, its partitions, or what it is a partition of.
    async fn publications(&mut self, table: &Table) -> Result<Vec<Publication>> {
        let (lists, by_schema) = match self.version {
            150_000.. => (
                "CASE WHEN r.prattrs IS NOT NULL THEN ARRAY(SELECT a.attname::text FROM pg_attribute a
                     WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])) END,
                 ARRAY(SELECT a.attname::text FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                       WHERE r.prqual IS NOT NULL AND d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid
                       AND d.refclassid = 'pg_class'::regclass AND d.refobjid = r.prrelid)",
                "OR EXISTS (SELECT FROM pg_publication_namespace n JOIN pg_class c ON c.relnamespace = n.pnnspid
                            WHERE n.pnpubid = p.oid AND c.oid IN (SELECT oid FROM whole))",
            ),
            _ => ("NULL::text[], ARRAY[]::text[]", ""),
        };
        let sql = format!(
            "WITH whole AS (SELECT {oid}::oid AS oid UNION SELECT relid FROM pg_partition_ancestors({oid})
                            UNION SELECT relid FROM pg_partition_tree({oid}))
             SELECT p.pubname::text, {lists}
             FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid IN (SELECT oid FROM whole)
             WHERE (p.pubupdate OR p.pubdelete) AND NOT starts_with(p.pubname, '_rp_')
             AND (p.puballtables OR r.oid IS NOT NULL {by_schema})
             ORDER BY 1",
            oid = table.oid
        );
        rows(self.connection, sql)
            .await?
            .iter()
            .map(|row| Ok(Publication { name: get(row, 0)?, columns: get(row, 1)?, filtered: get(row, 2)? }))
            .collect()
    }
}

/// Columns that tell a row must be among those that are sent, and those of a filter among them. All columns where none is
/// given.
fn refuse_uncovered(table: &Table, publications: &[Publication], identity: Option<&Identity>) -> Result<()> {
    for publication in publications {
        let is_covered = match (&publication.columns, identity) {
            (None, None) => true,
            (Some(_), None) => false,
            (sent, Some(identity)) => {
                sent.as_ref().is_none_or(|sent| identity.columns.iter().all(|column| sent.contains(column)))
                    && publication.filtered.iter().all(|column| identity.columns.contains(column))
            }
        };
        if !is_covered {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "UPDATE and DELETE of {} would fail from then on: the columns or the filter of the publication {} do not go \
                     with that replica identity",
                    table.name, publication.name
                ),
            )
            .hint("change the publication first: ALTER PUBLICATION … SET TABLE"));
        }
    }
    Ok(())
}

fn lost(table: &Table, publication: &Publication) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "UPDATE and DELETE of {} would fail from then on: the publication {} needs its replica identity",
            table.name, publication.name
        ),
    )
    .hint(format!(
        "give it another one first: ALTER TABLE {} REPLICA IDENTITY USING INDEX …, or FULL",
        table.full_name()
    ))
}
