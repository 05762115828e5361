//! Tables that come.

use replank_core::plan::Draft;
use replank_core::{Error, ErrorKind, Result};

use super::bounds;
use super::object::unknown;
use super::step::{locking, locking_back, recorded};
use super::{Drafting, Way, catalogue_lock, nothing};
use crate::object::Object;
use crate::sql::{is_so, text};

impl Drafting<'_> {
    pub(super) async fn make_table(
        &mut self,
        statement: &str,
        object: &Object,
        if_not_exists: bool,
        part: Option<&(String, String, Option<String>)>,
        locked: &[i64],
    ) -> Result<Draft> {
        if is_so(self.connection, format!("SELECT to_regclass({}) IS NOT NULL", text(&object.name))).await? {
            return match if_not_exists {
                true => self.nothing_to_do(statement, &object.name).await,
                false => {
                    Err(Error::new(ErrorKind::Usage, format!("there is a table {} already", object.name)))
                }
            };
        }
        let mut way = Way {
            changes: vec![format!("table {} is made", object.name)],
            reason: "nobody uses it yet".to_owned(),
            undo: format!("`revert` drops {}, unless it has rows", object.name),
            ..nothing()
        };
        let gone = dropped_if_empty(&object.name);
        let title = format!("make table {}", object.name);
        let Some((parent, bound, rest)) = part else {
            if !locked.is_empty() {
                way.locks.push(catalogue_lock("SHARE ROW EXCLUSIVE on tables that are referred to"));
            }
            way.steps.push(locking(recorded(title, 0, object.text.clone(), gone), locked));
            return self.finish_facts(statement, unknown(&object.name), Some(way), None).await;
        };
        let parent = self.table(parent).await?;
        let Some(rest) = rest else {
            return Err(Error::new(
                ErrorKind::Refused,
                "columns of a partition are not described by replank",
            )
            .hint(format!(
                "CREATE TABLE {} (LIKE {} INCLUDING ALL), then ATTACH PARTITION",
                object.name, parent.name
            )));
        };
        // PARTITION OF would keep everybody out of the parent, and look through its default partition.
        crate::sql::run(self.connection, "BEGIN").await?;
        let tried = bounds::tried(self.connection, &parent, bound).await;
        crate::sql::run(self.connection, "ROLLBACK").await?;
        let tried = tried?;
        let default = bounds::default_of(self.connection, &parent).await?;
        way.reason = "it is made by itself, and then attached: the parent is locked against nobody who reads or writes".to_owned();
        way.seen(
            "P126",
            format!(
                "{} is made and then attached, where PARTITION OF would lock {}",
                object.name, parent.name
            ),
        );
        let made = format!(
            "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING COMMENTS EXCLUDING IDENTITY EXCLUDING STATISTICS) {rest}",
            object.name,
            parent.full_name()
        );
        way.steps.push(recorded(title, 0, made.trim().to_owned(), gone));
        let cleared = match &default {
            Some(default) => self.out_of_default(default, &tried, &mut way).await?,
            None => None,
        };
        let mut attach =
            format!("ALTER TABLE {} ATTACH PARTITION {} {bound}", parent.full_name(), object.name);
        if let Some((table, helper)) = &cleared {
            attach.push_str(&format!("; ALTER TABLE {table} DROP CONSTRAINT {helper}"));
        }
        // Rows that came would be gone from the parent, and nobody would have asked for that.
        let detach = format!(
            "LOCK TABLE {0} IN ACCESS EXCLUSIVE MODE; {1}; ALTER TABLE {0} DETACH PARTITION {2}",
            parent.full_name(),
            empty(&object.name),
            object.name
        );
        let attached = recorded(format!("attach {}", object.name), 0, attach, detach);
        let others: Vec<i64> = default.iter().map(|default| default.oid).collect();
        way.steps.push(locking_back(locking(attached, &others), &[parent.oid]));
        way.locks.push(super::gentle_lock(&format!("SHARE UPDATE EXCLUSIVE on {}", parent.name)));
        self.finish(statement, &parent, Some(way), None).await
    }
}

/// Drops a table that nobody has written.
fn dropped_if_empty(name: &str) -> String {
    format!("{}; DROP TABLE {name}", empty(name))
}

/// Fails for a table with rows, and keeps others from writing some.
fn empty(name: &str) -> String {
    format!(
        "LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE; DO $$ BEGIN IF EXISTS (SELECT FROM {name}) THEN
         RAISE EXCEPTION 'the table % has rows, and is not dropped: keep it, or drop it yourself', {}; END IF; END $$",
        text(name)
    )
}
