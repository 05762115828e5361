//! Statements about other objects than columns and indexes: one step of the server's own, within the lock budget, with its
//! opposite where that is certain.

use replank_core::driver::facts::TableFacts;
use replank_core::ident::TableId;
use replank_core::plan::{Draft, Strategy};
use replank_core::{Error, ErrorKind, Result};

use super::index::in_schema;
use super::step::{NOTHING, locking, long, recorded};
use super::{Drafting, Way, catalogue_lock, gentle_lock, nothing};
use crate::inspect::index;
use crate::object::{Object, What};
use crate::sql::{first, get, ident, number, rows, table as qualified, text};

impl Drafting<'_> {
    pub(super) async fn object(&mut self, text: &str, object: &Object) -> Result<Draft> {
        let locked = self.relations(&object.locks).await?;
        let mut way = Way {
            changes: vec![object.text.clone()],
            reason: "only the catalogue changes".to_owned(),
            undo: "`revert` runs the opposite".to_owned(),
            ..nothing()
        };
        if !locked.is_empty() {
            way.locks.push(catalogue_lock(&format!("up to ACCESS EXCLUSIVE on {}", object.locks.join(", "))));
        }
        let one = |title: &str, inverse: String| {
            locking(recorded(title.to_owned(), 0, object.text.clone(), inverse), &locked)
        };
        let title = shortened(&object.text);
        match &object.what {
            What::TableMade { if_not_exists, part } => {
                return self.make_table(text, object, *if_not_exists, part.as_ref(), &locked).await;
            }
            What::TableDropped { if_exists } => return self.drop_table(text, &object.name, *if_exists).await,
            What::Repacked { by } => return self.repack(text, &object.name, by.as_deref()).await,
            What::Refreshed => return self.refresh(text, object).await,
            What::Made { drop, is_long } => {
                let inverse = drop.clone().unwrap_or_default();
                if inverse.is_empty() {
                    let why = "something that was there may be replaced or kept, or more would go with it";
                    way.no_way_back = Some(why.to_owned());
                }
                if *is_long {
                    way.strategy = Strategy::NativeOnline;
                    way.reason = "the server reads the rows while others read and write".to_owned();
                    way.steps.push(long(title, 0, object.text.clone(), inverse));
                } else {
                    way.steps.push(one(&title, inverse));
                }
            }
            What::ValueAdded { has_place } => {
                way.no_way_back = Some("an enum keeps its values".to_owned());
                if !has_place {
                    way.seen("P122", format!("a value is added at the end of {}", object.name));
                }
                way.steps.push(one(&title, String::new()));
            }
            What::ValueRenamed(from, to) => {
                way.seen("P122!", format!("value {from} of {} becomes {to}", object.name));
                way.steps
                    .push(one(&title, format!("ALTER TYPE {} RENAME VALUE {to} TO {from}", object.name)));
            }
            What::Comment(kind) => match self.comment_now(kind, &object.name).await? {
                Some(now) => {
                    let now = now.map_or("NULL".to_owned(), |now| self::text(&now));
                    way.steps.push(one(&title, format!("COMMENT ON {kind} {} IS {now}", object.name)));
                }
                None => {
                    way.no_way_back = Some("the comment before is not read".to_owned());
                    way.steps.push(one(&title, String::new()));
                }
            },
            What::IndexRenamed(to) => {
                let found = index(self.connection, &object.name).await?;
                let found = found.ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, format!("there is no index {}", object.name))
                })?;
                way.locks.push(gentle_lock("SHARE UPDATE EXCLUSIVE on the index"));
                let inverse =
                    format!("ALTER INDEX {}.{to} RENAME TO {}", ident(&found.schema), ident(&found.name));
                way.steps.push(one(&title, inverse));
                let table = self.table(&found.table).await?;
                return self.finish(text, &table, Some(way), None).await;
            }
            What::TriggerDropped(name) => {
                let sql = format!(
                    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = to_regclass({}) AND tgname = {}
                     AND NOT tgisinternal AND tgenabled = 'O' AND obj_description(oid, 'pg_trigger') IS NULL",
                    self::text(&object.name),
                    self::text(&super::alter::unquoted(name))
                );
                let inverse = first(self.connection, sql).await?.map(|row| get(&row, 0)).transpose()?;
                if inverse.is_none() {
                    way.no_way_back =
                        Some("the trigger is not there, or not as CREATE TRIGGER leaves it".to_owned());
                }
                way.steps.push(one(&title, inverse.unwrap_or_default()));
            }
            What::Changed => {
                way.no_way_back = Some("what it was before is not known".to_owned());
                way.steps.push(one(&title, String::new()));
            }
        }
        self.of_object(text, object, way).await
    }

    /// The draft: about the table where there is one, else about the object.
    pub(super) async fn of_object(&mut self, text: &str, object: &Object, way: Way) -> Result<Draft> {
        let kinds = format!(
            "SELECT 1 FROM pg_class WHERE oid = to_regclass({}) AND relkind IN ('r', 'p')",
            self::text(&object.name)
        );
        let is_table = !object.name.is_empty() && !rows(self.connection, kinds).await?.is_empty();
        if is_table && matches!(object.what, What::Made { .. } | What::TriggerDropped(_) | What::Changed) {
            let table = self.table(&object.name).await?;
            return self.finish(text, &table, Some(way), None).await;
        }
        let name = if object.name.is_empty() { "this database" } else { &object.name };
        self.finish_facts(text, unknown(name), Some(way), None).await
    }

    async fn relations(&mut self, names: &[String]) -> Result<Vec<i64>> {
        let mut found = Vec::new();
        for name in names {
            let oid =
                number(self.connection, format!("SELECT to_regclass({})::oid::bigint", self::text(name)))
                    .await?;
            found.extend((oid != 0).then_some(oid));
        }
        Ok(found)
    }

    /// The comment as it is now; `None` for a kind of object whose comment is not read.
    async fn comment_now(&mut self, kind: &str, name: &str) -> Result<Option<Option<String>>> {
        let sql = match kind {
            "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "INDEX" | "SEQUENCE" => {
                format!(
                    "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass({})",
                    self::text(name)
                )
            }
            "COLUMN" => {
                let Some((table, column)) = name.rsplit_once('.') else { return Ok(None) };
                format!(
                    "SELECT col_description(attrelid, attnum) FROM pg_attribute
                     WHERE attrelid = to_regclass({}) AND attname = {} AND NOT attisdropped",
                    self::text(table),
                    self::text(&super::alter::unquoted(column))
                )
            }
            _ => return Ok(None),
        };
        match first(self.connection, sql).await? {
            Some(row) => Ok(Some(get(&row, 0)?)),
            None => {
                Err(Error::new(ErrorKind::NotFound, format!("there is no {} {name}", kind.to_lowercase())))
            }
        }
    }

    /// Every row of a table is written anew, by a rebuild.
    async fn repack(&mut self, text: &str, name: &str, by: Option<&str>) -> Result<Draft> {
        let table = self.table(name).await?;
        if let Some(by) = by {
            let found = index(self.connection, &in_schema(&table, by)).await?;
            let is_key = format!(
                "SELECT 1 FROM pg_index WHERE indexrelid = {} AND indisprimary",
                found.map_or(0, |i| i.oid)
            );
            if rows(self.connection, is_key).await?.is_empty() {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("a rebuild writes rows in the order of the primary key, not of {by}"),
                )
                .hint(format!("replank rebuild {name}")));
            }
        }
        let mut draft = self.rebuild(name).await?;
        if by.is_some() {
            // The server's own would leave the rows in the order in which they lie.
            draft.candidates.retain(|candidate| candidate.strategy == Strategy::Shadow);
        }
        text.clone_into(&mut draft.statement);
        let seen = format!("`{}` would keep everybody out while it writes", shortened(text));
        let seen = crate::lint::Seen { rule: "P124".to_owned(), what: seen };
        draft.driver_facts = crate::lint::Facts::and(&draft.driver_facts, vec![seen]);
        Ok(draft)
    }

    /// Beside those who read it, where an index tells its rows apart.
    async fn refresh(&mut self, text: &str, object: &Object) -> Result<Draft> {
        let sql = format!(
            "SELECT n.nspname::text, c.relname::text, c.relispopulated AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
                    AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass({}) AND c.relkind = 'm'",
            self::text(&object.name)
        );
        let Some(row) = first(self.connection, sql).await? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no materialized view {}", object.name),
            ));
        };
        let full = qualified(&get::<String>(&row, 0)?, &get::<String>(&row, 1)?);
        let mut way = Way {
            changes: vec![format!("the rows of {} are made anew", object.name)],
            strategy: Strategy::NativeOnline,
            reason: "the server compares and writes them while others read".to_owned(),
            locks: vec![gentle_lock("EXCLUSIVE on the view, which nobody writes")],
            undo: "there is nothing to be taken back".to_owned(),
            ..nothing()
        };
        if get(&row, 2)? {
            way.steps.push(long(
                format!("refresh {}", object.name),
                0,
                format!("REFRESH MATERIALIZED VIEW CONCURRENTLY {full}"),
                NOTHING.to_owned(),
            ));
            way.seen("P130", format!("{} is refreshed CONCURRENTLY", object.name));
        } else {
            way.impossible = Some(
                "whoever reads the view would be kept out: it needs a unique index of columns, without WHERE, and rows".to_owned(),
            );
            way.seen("P130!", format!("{} has no unique index of columns, or no rows yet", object.name));
        }
        self.finish_facts(text, unknown(&object.name), Some(way), None).await
    }
}

/// What is known of something that is no table.
pub fn unknown(name: &str) -> TableFacts {
    TableFacts {
        id: TableId::new(name),
        rows: 0,
        rows_exact: true,
        bytes: None,
        key: Vec::new(),
        dependants: Vec::new(),
    }
}

/// The beginning of a statement.
pub fn shortened(statement: &str) -> String {
    let words: Vec<&str> = statement.split_whitespace().take(6).collect();
    words.join(" ")
}
