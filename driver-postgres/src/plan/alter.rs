//! ALTER TABLE, split into steps of which each changes the catalogue alone, or looks at rows while others write.

use replank_core::ident::stable_hash;
use replank_core::plan::{Evidence, LockNote, NullColumn, Step, Strategy, UNDO_KEEPING, UNDO_REBUILDING};
use replank_core::{Error, ErrorKind, Result};

use super::step::{self, locking};
use super::{CATALOGUE_MS, Drafting, Way, catalogue_lock, gentle_lock};
use crate::inspect::Table;
use crate::parse::{Action, Kind};
use crate::sql::{first, first_keys, get, ident, is_so, text};
use crate::trial::Trial;
use crate::zones::{self, ZONES};

pub(super) const NO_REBUILD: &str = "a rebuild is needed";

impl Drafting<'_> {
    pub(super) async fn alter(&mut self, table: &Table, actions: &[Action]) -> Result<Way> {
        let mut way = Way {
            changes: Vec::new(),
            steps: Vec::new(),
            strategy: Strategy::Instant,
            reason: "only the catalogue changes".to_owned(),
            locks: Vec::new(),
            undo: "`revert` runs the opposite of each step, last first".to_owned(),
            discards: Vec::new(),
            no_way_back: None,
            impossible: None,
            unasked: None,
            evidence: Evidence::default(),
            seen: Vec::new(),
        };
        if self.is_captured(table).await? && actions.iter().any(is_seen_by_capture) {
            way.impossible = Some(
                "triggers of an earlier run log the keys of this table: make that run final first".to_owned(),
            );
        }
        let trial = Trial::begin(self.connection, table).await?;
        for action in actions {
            let (known, was_possible) = (way.changes.len(), way.impossible.is_none());
            self.action(&trial, table, action, &mut way).await?;
            // What cannot be done is a change all the same.
            if was_possible && way.impossible.is_some() && way.changes.len() == known {
                way.changes.push(action.text.clone());
            }
        }
        self.keep_identity(table, actions).await?;
        trial.end(self.connection).await?;
        let validates = |action: &&Action| action.kind == Kind::Validate;
        if let Some(validated) = actions.iter().find(validates)
            && let Some(other) = actions.iter().find(|action| !validates(action))
        {
            let what =
                format!("`{}` would keep its lock while `{}` looks at rows", other.text, validated.text);
            way.seen("P112", what);
        }
        if table.is_partitioned() {
            let all = self.partitions(table).await?;
            way.steps = way.steps.into_iter().map(|step| locking(step, &all)).collect();
            if !way.locks.is_empty() {
                let what = format!("the same on each of its {} partitions", all.len());
                way.locks.push(LockNote { what, hold_ms: CATALOGUE_MS });
            }
        }
        if way.steps.iter().any(|step| !step.inverse_discards.is_empty()) {
            way.undo = UNDO_KEEPING.to_owned();
        }
        if let Some(step) = way.steps.iter().find(|step| !step.inverse_rebuilds.is_empty()) {
            way.undo = UNDO_REBUILDING.to_owned();
            if way.steps.len() > 1 {
                let why = format!(
                    "only a rebuild gives back {}: make that a statement of its own",
                    step.inverse_rebuilds
                );
                way.no_way_back.get_or_insert(why);
            }
        }
        if !way.discards.is_empty() {
            way.undo = "cannot be undone".to_owned();
        }
        Ok(way)
    }

    /// Whether triggers of a run log what is written.
    pub(super) async fn is_captured(&mut self, table: &Table) -> Result<bool> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {} AND starts_with(tgname, '_rp_'))",
            table.oid
        );
        is_so(self.connection, sql).await
    }

    async fn action(&mut self, trial: &Trial, table: &Table, action: &Action, way: &mut Way) -> Result<()> {
        match &action.kind {
            Kind::AddColumn { column, plain, constraints, if_not_exists } => {
                if *if_not_exists && self.has_column(trial, table, column).await? {
                    return Ok(());
                }
                self.add_column(trial, table, column, plain, way).await?;
                for added in constraints {
                    self.add_constraint(trial, table, added, way).await?;
                }
                Ok(())
            }
            Kind::DropColumn { column } => {
                self.known_column(trial, table, column).await?;
                trial.alter(self.connection, &action.text).await?;
                if let Some(user) = self.user_of_column(table, column).await? {
                    way.impossible.get_or_insert(format!("{user} uses column {column}"));
                }
                way.changes.push(format!("column {column} is dropped"));
                way.discards.push(format!("column {column}"));
                let statement = alter(table, &action.text);
                way.steps.push(recorded(format!("drop column {column}"), table, statement, String::new()));
                way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
                Ok(())
            }
            Kind::SetNotNull { column } => self.set_not_null(trial, table, column, way).await,
            Kind::AddConstraint(added) => self.add_constraint(trial, table, added, way).await,
            Kind::DropConstraint { name } => self.drop_constraint(trial, table, name, action, way).await,
            Kind::RenameColumn(from, to) => {
                self.known_column(trial, table, from).await?;
                trial.alter(self.connection, &action.text).await?;
                way.changes.push(format!("column {from} is renamed to {to}"));
                way.evidence.renames.push((format!("column {from}"), to.clone()));
                let inverse = alter(table, &format!("RENAME COLUMN {to} TO {from}"));
                way.steps.push(recorded(
                    format!("rename column {from}"),
                    table,
                    alter(table, &action.text),
                    inverse,
                ));
                way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
                Ok(())
            }
            Kind::RenameTable(to) => {
                way.changes.push(format!("table {} is renamed to {to}", table.name));
                way.evidence.renames.push((format!("table {}", table.name), to.clone()));
                let inverse =
                    format!("ALTER TABLE {}.{to} RENAME TO {}", ident(&table.schema), ident(&table.name));
                way.steps.push(recorded(
                    format!("rename table {}", table.name),
                    table,
                    alter(table, &action.text),
                    inverse,
                ));
                way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
                Ok(())
            }
            Kind::Validate => {
                way.changes.push(action.text.clone());
                let inverse = "-- a valid constraint is left as it is".to_owned();
                way.steps.push(long(action.text.clone(), table, alter(table, &action.text), inverse));
                way.strategy = way.strategy.max(Strategy::NativeOnline);
                way.locks.push(gentle_lock("SHARE UPDATE EXCLUSIVE on the table"));
                Ok(())
            }
            Kind::DropNotNull { column } => {
                self.known_column(trial, table, column).await?;
                trial.alter(self.connection, &action.text).await?;
                way.changes.push(format!("column {column} takes NULL"));
                way.seen("P131", format!("column {column} takes NULL from then on"));
                way.no_way_back.get_or_insert(format!("NULLs in {column} would have to be looked for"));
                way.steps.push(recorded(
                    format!("let {column} be NULL"),
                    table,
                    alter(table, &action.text),
                    String::new(),
                ));
                way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
                Ok(())
            }
            Kind::SetLasting { .. } | Kind::SetTablespace { .. } | Kind::SetAccessMethod { .. } => {
                self.set_keeping(trial, table, action, way).await
            }
            Kind::Hierarchy | Kind::Attach { .. } | Kind::Detach { .. } => {
                way.changes.push(action.text.clone());
                way.impossible.get_or_insert(format!("`{}` is not run by replank yet", action.text));
                Ok(())
            }
            Kind::Catalogue => {
                way.changes.push(action.text.clone());
                let inverse = self.row_security_back(table, action, way).await?;
                if inverse.is_empty() {
                    way.no_way_back.get_or_insert(not_known(action));
                }
                way.steps.push(recorded(action.text.clone(), table, alter(table, &action.text), inverse));
                way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
                Ok(())
            }
            Kind::SetType { column, .. } => {
                self.known_column(trial, table, column).await?;
                if let Some(user) = self.user_of_column(table, column).await? {
                    way.impossible.get_or_insert(format!("{user} uses column {column}"));
                }
                self.keep_zone(trial, column, &action.text, way).await?;
                self.other(trial, table, action, way).await
            }
            Kind::Other => self.other(trial, table, action, way).await,
        }
    }

    async fn add_column(
        &mut self,
        trial: &Trial,
        table: &Table,
        column: &str,
        plain: &str,
        way: &mut Way,
    ) -> Result<()> {
        let add = format!("ADD COLUMN {plain}");
        self.keep_zone(trial, column, &add, way).await?;
        let tried = trial.alter(self.connection, &add).await?;
        let made = format!(
            "SELECT a.attgenerated <> '' OR a.attidentity <> '', CASE WHEN a.attgenerated <> '' THEN 'P116' WHEN a.attidentity <> '' THEN 'P117'
                    WHEN pg_get_serial_sequence({0}, a.attname) IS NOT NULL THEN 'P117!' ELSE 'P115' END
             FROM pg_attribute a WHERE a.attrelid = to_regclass({0}) AND a.attname = {1}",
            text(trial.name()),
            text(&unquoted(column))
        );
        let (computed, rule) = match first(self.connection, made).await? {
            Some(row) => (get(&row, 0)?, get::<String>(&row, 1)?),
            None => (false, "P115".to_owned()),
        };
        way.changes.push(format!("column {plain} is added"));
        let json = format!(
            "SELECT atttypid = 'json'::regtype FROM pg_attribute WHERE attrelid = to_regclass({}) AND attname = {}",
            text(trial.name()),
            text(&unquoted(column))
        );
        if is_so(self.connection, json).await? {
            way.seen("P120", format!("column {column} is json"));
        }
        if tried.rewrites {
            way.seen(&rule, format!("every row would be written anew to add {column}"));
            way.impossible.get_or_insert(format!(
                "the server would write every row anew under a lock to add {column}, and {NO_REBUILD}; add it without \
                 its default, set the default, and fill the rows in batches"
            ));
        } else if !tried.is_instant() && table.rows != 0 {
            way.impossible
                .get_or_insert(format!("the server would look at every row under a lock to add {column}"));
        }
        let inverse = alter(table, &format!("DROP COLUMN {column}"));
        let mut step = recorded(format!("add column {column}"), table, alter(table, &add), inverse);
        if !computed {
            step.inverse_discards.push(format!("column {column}"));
        }
        way.steps.push(step);
        way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
        Ok(())
    }

    /// By a constraint that is held for all writes to come, then looked at while others write, and then believed.
    pub(super) async fn set_not_null(
        &mut self,
        trial: &Trial,
        table: &Table,
        column: &str,
        way: &mut Way,
    ) -> Result<()> {
        let known = self.known_column(trial, table, column).await?;
        if known {
            return Ok(());
        }
        trial.alter(self.connection, &format!("ALTER COLUMN {column} SET NOT NULL")).await?;
        let (rows, samples) = self.nulls(table, column).await?;
        if rows > 0 {
            way.evidence.nulls.push(NullColumn { column: unquoted(column), rows, samples });
        }
        let helper = format!("_rp_{:08x}_not_null", stable_hash(&format!("{} {column}", table.oid)) >> 32);
        let drop = alter(table, &format!("DROP CONSTRAINT {helper}"));
        let add = alter(table, &format!("ADD CONSTRAINT {helper} CHECK ({column} IS NOT NULL) NOT VALID"));
        way.seen("P114", format!("NULLs in {column} would be looked for under a lock"));
        way.changes.push(format!("column {column} takes no NULL"));
        way.steps.push(recorded(
            format!("keep NULL out of {column} from now on"),
            table,
            add.clone(),
            drop.clone(),
        ));
        way.steps.push(long(
            format!("look for NULL in {column}"),
            table,
            alter(table, &format!("VALIDATE CONSTRAINT {helper}")),
            "-- what was looked at stays looked at".to_owned(),
        ));
        way.steps.push(recorded(
            format!("make {column} NOT NULL, which is known to hold"),
            table,
            format!("{}; {drop}", alter(table, &format!("ALTER COLUMN {column} SET NOT NULL"))),
            format!("{}; {add}", alter(table, &format!("ALTER COLUMN {column} DROP NOT NULL"))),
        ));
        self.looks_at_rows(way);
        Ok(())
    }

    /// A timestamp and a timestamptz are the same bytes in UTC and nowhere else, and a day begins at another moment: what our
    /// sessions make of it is not what the person's would.
    async fn keep_zone(&mut self, trial: &Trial, column: &str, action: &str, way: &mut Way) -> Result<()> {
        let here = trial.under(self.connection, "UTC", action).await?;
        if here == trial.under(self.connection, ZONES[0], action).await? {
            return Ok(());
        }
        let zone = zones::of_login(self.connection).await?;
        let theirs = match &zone {
            Some(zone) => Some(trial.under(self.connection, zone, action).await?),
            None => None,
        };
        if theirs.as_ref() == Some(&here) {
            return Ok(());
        }
        let whose = zone.unwrap_or_default();
        match (here.fills.is_empty(), theirs) {
            (false, None) => way.seen(
                "P140",
                format!("the rows of today get {} in column {column}, by the clock of UTC", here.fills),
            ),
            (false, Some(theirs)) => way.seen(
                "P140!",
                format!(
                    "the rows of today would get {} in column {column}, and {} in a session of this login, which is in {whose}",
                    here.fills, theirs.fills
                ),
            ),
            (true, None) => way.seen(
                "P140!",
                format!("column {column} would keep its values as they are, which is right in sessions of UTC"),
            ),
            (true, Some(_)) => {
                way.impossible.get_or_insert(format!(
                    "sessions of this login are in {whose}, where every value of {column} would move"
                ));
            }
        }
        Ok(())
    }

    /// Whatever the server says of it when it is tried.
    async fn other(&mut self, trial: &Trial, table: &Table, action: &Action, way: &mut Way) -> Result<()> {
        way.changes.push(action.text.clone());
        let back = match &action.kind {
            Kind::SetType { column, .. } => self.type_back(trial, column).await?,
            _ => None,
        };
        let tried = trial.alter(self.connection, &action.text).await?;
        if !tried.is_instant() {
            let what = if tried.rewrites { "write every row anew" } else { "look at every row" };
            if matches!(action.kind, Kind::SetType { .. }) {
                let rule = if tried.rewrites { "P118" } else { "P119" };
                way.seen(rule, format!("`{}` would {what} under a lock", action.text));
            }
            way.impossible.get_or_insert(format!(
                "the server would {what} under a lock for `{}`, and {NO_REBUILD}",
                action.text
            ));
        }
        let mut inverse_rebuilds = String::new();
        let inverse = match (back, self.options_back(table, action).await?) {
            (Some(back), _) => match self.is_moment(trial, &back).await? {
                None => String::new(),
                Some(is_moment) => {
                    if !is_moment {
                        inverse_rebuilds = format!("what `{back}` makes of it");
                    }
                    alter(table, &back)
                }
            },
            (None, Some(back)) => back,
            (None, None) => self.default_back(table, action).await?,
        };
        if inverse.is_empty() {
            way.no_way_back.get_or_insert(not_known(action));
        }
        let step = recorded(action.text.clone(), table, alter(table, &action.text), inverse);
        way.steps.push(Step { inverse_rebuilds, ..step });
        way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
        Ok(())
    }

    /// The opposite of a change of type.
    async fn type_back(&mut self, trial: &Trial, column: &str) -> Result<Option<String>> {
        let sql = format!(
            "SELECT format('ALTER %I TYPE %s', a.attname, format_type(a.atttypid, a.atttypmod))
                    || CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || a.attcollation::regcollation::text ELSE '' END
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass({}) AND a.attname = {}",
            text(trial.name()),
            text(&unquoted(column))
        );
        first(self.connection, sql).await?.map(|row| get(&row, 0)).transpose()
    }

    /// Whether only the catalogue would change; none where the server does not take it.
    async fn is_moment(&mut self, trial: &Trial, action: &str) -> Result<Option<bool>> {
        match trial.under(self.connection, "UTC", action).await {
            Ok(tried) => Ok(Some(tried.is_instant())),
            Err(error) if error.kind() == ErrorKind::ConnectionLost => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The opposite of a change of row level security.
    async fn row_security_back(&mut self, table: &Table, action: &Action, way: &mut Way) -> Result<String> {
        let words = action.text.to_uppercase();
        let Some(what) = words.strip_suffix(" ROW LEVEL SECURITY") else { return Ok(String::new()) };
        let now = format!(
            "SELECT relrowsecurity, relforcerowsecurity, EXISTS (SELECT FROM pg_policy WHERE polrelid = oid)
             FROM pg_class WHERE oid = {}",
            table.oid
        );
        let Some(row) = first(self.connection, now).await? else { return Ok(String::new()) };
        let (is_on, is_forced, has_policy): (bool, bool, bool) =
            (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        if what == "ENABLE" && !has_policy {
            way.seen("P134", format!("{} has no policy: nobody but its owner would see a row", table.name));
        }
        let back = match what {
            "ENABLE" | "DISABLE" if is_on => "ENABLE",
            "ENABLE" | "DISABLE" => "DISABLE",
            _ if is_forced => "FORCE",
            _ => "NO FORCE",
        };
        Ok(alter(table, &format!("{back} ROW LEVEL SECURITY")))
    }

    /// The opposite of a change of a default.
    async fn default_back(&mut self, table: &Table, action: &Action) -> Result<String> {
        let words: Vec<&str> = action.text.split_whitespace().collect();
        let upper: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
        let Some(at) = upper.iter().position(|word| word == "DEFAULT") else { return Ok(String::new()) };
        let is_default = at >= 2 && matches!(upper[at - 1].as_str(), "SET" | "DROP");
        if !is_default {
            return Ok(String::new());
        }
        let column = words[at - 2];
        let sql = format!(
            "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a
             LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = {} AND a.attname = {}",
            table.oid,
            text(&unquoted(column))
        );
        let Some(row) = first(self.connection, sql).await? else { return Ok(String::new()) };
        Ok(match get::<Option<String>>(&row, 0)? {
            Some(default) => alter(table, &format!("ALTER COLUMN {column} SET DEFAULT {default}")),
            None => alter(table, &format!("ALTER COLUMN {column} DROP DEFAULT")),
        })
    }

    /// Whether a column is NOT NULL already.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is not there.
    async fn known_column(&mut self, trial: &Trial, table: &Table, column: &str) -> Result<bool> {
        let sql = format!(
            "SELECT attnotnull FROM pg_attribute
             WHERE attrelid = to_regclass({}) AND attname = {} AND attnum > 0 AND NOT attisdropped",
            text(trial.name()),
            text(&unquoted(column))
        );
        match first(self.connection, sql).await? {
            Some(row) => get(&row, 0),
            None => Err(Error::new(ErrorKind::NotFound, format!("{} has no column {column}", table.name))),
        }
    }

    /// What would be in the way of a column's going or of its type's changing, and is not on the copy.
    async fn user_of_column(&mut self, table: &Table, column: &str) -> Result<Option<String>> {
        let sql = format!(
            "SELECT 'the view ' || w.ev_class::regclass::text FROM pg_depend d
             JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.ev_class <> d.refobjid
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = {oid} AND a.attname = {column}
             UNION ALL
             SELECT 'the foreign key ' || o.conname FROM pg_constraint o
             JOIN pg_attribute a ON (a.attrelid = o.conrelid AND a.attnum = ANY (o.conkey))
                                 OR (a.attrelid = o.confrelid AND a.attnum = ANY (o.confkey))
             WHERE o.contype = 'f' AND a.attrelid = {oid} AND a.attname = {column}
             UNION ALL
             SELECT 'the trigger ' || t.tgname FROM pg_trigger t
             JOIN pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr)
             WHERE t.tgrelid = {oid} AND NOT t.tgisinternal AND a.attname = {column}
             LIMIT 1",
            oid = table.oid,
            column = text(&unquoted(column))
        );
        first(self.connection, sql).await?.map(|row| get(&row, 0)).transpose()
    }

    /// How many rows of the table hold NULL there. A column that comes with the same statement is not there yet.
    async fn nulls(&mut self, table: &Table, column: &str) -> Result<(u64, Vec<String>)> {
        let there = format!(
            "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = {} AND attname = {} AND NOT attisdropped)",
            table.oid,
            text(&unquoted(column))
        );
        if !is_so(self.connection, there).await? {
            return Ok((0, Vec::new()));
        }
        let (rows, is_null) = (format!("{} AS m", table.full_name()), format!("m.{column} IS NULL"));
        first_keys(self.connection, "", &table.key, &rows, &is_null).await
    }

    async fn has_column(&mut self, trial: &Trial, table: &Table, column: &str) -> Result<bool> {
        match self.known_column(trial, table, column).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn looks_at_rows(&self, way: &mut Way) {
        way.strategy = way.strategy.max(Strategy::NativeOnline);
        way.reason = "the server looks at the rows while others read and write".to_owned();
        let notes: [LockNote; 2] = [
            catalogue_lock("ACCESS EXCLUSIVE on the table"),
            gentle_lock("SHARE UPDATE EXCLUSIVE on the table, while rows are looked at"),
        ];
        for note in notes {
            if !way.locks.contains(&note) {
                way.locks.push(note);
            }
        }
    }
}

/// Whether it changes a name or a type that the triggers of a run depend on.
fn is_seen_by_capture(action: &Action) -> bool {
    matches!(
        action.kind,
        Kind::RenameTable(_)
            | Kind::RenameColumn(..)
            | Kind::SetType { .. }
            | Kind::DropColumn { .. }
            | Kind::Hierarchy
    )
}

fn not_known(action: &Action) -> String {
    format!("it is not known how `{}` is taken back", action.text)
}

pub(super) fn alter(table: &Table, action: &str) -> String {
    format!("ALTER TABLE {} {action}", table.full_name())
}

pub(super) fn recorded(title: String, table: &Table, statement: String, inverse: String) -> Step {
    step::recorded(title, table.oid, statement, inverse)
}

pub(super) fn long(title: String, table: &Table, statement: String, inverse: String) -> Step {
    step::long(title, table.oid, statement, inverse)
}

/// A name as the catalogue has it.
pub fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(name) => name.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}
