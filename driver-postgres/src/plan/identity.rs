//! What subscribers tell the rows of a published table by. Without it UPDATE and DELETE fail from one moment to the next.
//! Source: <https://www.postgresql.org/docs/current/logical-replication-publication.html>

use replank_core::{Error, ErrorKind, Result};

use super::Drafting;
use crate::inspect::{Table, indexes};
use crate::parse::Action;
use crate::shape::shape;
use crate::sql::{first, get, text};
use crate::trial::Trial;

/// What a table has for it, and a publication that needs it.
struct Identity {
    /// Of the index that is taken; none where it is all columns.
    index: Option<String>,
    publication: String,
}

impl Drafting<'_> {
    /// After the trial has seen the actions.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when it would be lost by them.
    pub(super) async fn keep_identity(
        &mut self,
        trial: &Trial,
        table: &Table,
        actions: &[Action],
    ) -> Result<()> {
        let Some(identity) = self.identity(table).await? else { return Ok(()) };
        let left =
            indexes(self.connection, &format!("i.indrelid = to_regclass({})", text(trial.name()))).await?;
        let is_left = |wanted: &str| left.iter().any(|index| shape(&index.definition) == shape(wanted));
        let key = format!("i.indrelid = to_regclass({}) AND i.indisprimary", text(trial.name()));
        let has_key = !indexes(self.connection, &key).await?.is_empty();
        let words =
            |action: &Action| action.text.to_uppercase().split_whitespace().collect::<Vec<_>>().join(" ");
        let said = actions.iter().rev().map(words).find(|words| words.starts_with("REPLICA IDENTITY "));
        let keeps = match said.as_deref() {
            Some("REPLICA IDENTITY NOTHING") => false,
            Some("REPLICA IDENTITY DEFAULT") => has_key,
            Some(_) => true,
            None => identity.index.as_deref().is_none_or(is_left),
        };
        if keeps { Ok(()) } else { Err(lost(table, &identity)) }
    }

    /// The same of an index that is to go.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when it is the one.
    pub(super) async fn keep_identity_index(&mut self, table: &Table, definition: &str) -> Result<()> {
        match self.identity(table).await? {
            Some(identity) if identity.index.as_deref() == Some(definition) => Err(lost(table, &identity)),
            _ => Ok(()),
        }
    }

    /// None where no publication needs one, or where there is none already.
    async fn identity(&mut self, table: &Table) -> Result<Option<Identity>> {
        let by_schema = match self.version {
            150_000.. => {
                "OR EXISTS (SELECT FROM pg_publication_namespace n JOIN pg_class c ON c.relnamespace = n.pnnspid
                            WHERE n.pnpubid = p.oid AND c.oid IN (SELECT oid FROM whole))"
            }
            _ => "",
        };
        let sql = format!(
            "WITH whole AS (SELECT {oid}::oid AS oid UNION SELECT relid FROM pg_partition_ancestors({oid})
                            UNION SELECT relid FROM pg_partition_tree({oid}))
             SELECT pg_get_indexdef(i.indexrelid), p.pubname::text
             FROM pg_class c JOIN pg_publication p ON (p.pubupdate OR p.pubdelete) AND NOT starts_with(p.pubname, '_rp_')
             LEFT JOIN pg_index i ON i.indrelid = c.oid
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
             WHERE c.oid = {oid} AND (c.relreplident = 'f' OR i.indexrelid IS NOT NULL)
             AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid IN (SELECT oid FROM whole))
                  {by_schema})
             ORDER BY 2 LIMIT 1",
            oid = table.oid
        );
        let Some(row) = first(self.connection, sql).await? else { return Ok(None) };
        Ok(Some(Identity { index: get(&row, 0)?, publication: get(&row, 1)? }))
    }
}

fn lost(table: &Table, identity: &Identity) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "UPDATE and DELETE of {} would fail from then on: the publication {} needs its replica identity",
            table.name, identity.publication
        ),
    )
    .hint(format!(
        "give it another one first: ALTER TABLE {} REPLICA IDENTITY USING INDEX …, or FULL",
        table.full_name()
    ))
}
