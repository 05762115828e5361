//! Where and how a table is kept: SET TABLESPACE, LOGGED, UNLOGGED, ACCESS METHOD. The server writes every row anew under a
//! lock, so these are rebuilds; of a partitioned table, which has no rows, the catalogue alone changes.

use replank_core::{Error, ErrorKind, Result};

use super::alter::{NO_REBUILD, alter, recorded, unquoted};
use super::{Drafting, Way, catalogue_lock};
use crate::inspect::Table;
use crate::parse::{Action, Kind};
use crate::sql::{first, get, ident, rows, text};
use crate::trial::Trial;

/// How a table is kept now.
struct Keeping {
    is_unlogged: bool,
    /// By name, also where it is the database's own.
    tablespace: String,
    access_method: Option<String>,
    /// What a table gets that names none.
    default_method: String,
}

impl Keeping {
    fn is(&self, kind: &Kind) -> bool {
        match kind {
            Kind::SetLasting { is_unlogged } => self.is_unlogged == *is_unlogged,
            Kind::SetTablespace { name } => self.tablespace == unquoted(name),
            Kind::SetAccessMethod { name: Some(name) } => {
                self.access_method.as_ref() == Some(&unquoted(name))
            }
            Kind::SetAccessMethod { name: None } => {
                self.access_method.as_ref().is_none_or(|method| *method == self.default_method)
            }
            _ => false,
        }
    }
}

impl Drafting<'_> {
    pub(super) async fn set_keeping(
        &mut self,
        trial: &Trial,
        table: &Table,
        action: &Action,
        way: &mut Way,
    ) -> Result<()> {
        let now = self.keeping(table).await?;
        if now.is(&action.kind) {
            return Ok(());
        }
        way.changes.push(action.text.clone());
        if !table.is_partitioned() {
            let what = format!("the server would write every row anew under a lock for `{}`", action.text);
            way.impossible.get_or_insert(format!("{what}, and {NO_REBUILD}"));
            way.seen("P129", what);
            return Ok(());
        }
        let back = match &action.kind {
            Kind::SetTablespace { .. } => format!("SET TABLESPACE {}", ident(&now.tablespace)),
            Kind::SetAccessMethod { .. } => match &now.access_method {
                Some(method) => format!("SET ACCESS METHOD {}", ident(method)),
                None => "SET ACCESS METHOD DEFAULT".to_owned(),
            },
            _ => {
                let why = "each partition is kept in its own way: change them one by one";
                way.impossible.get_or_insert(why.to_owned());
                return Ok(());
            }
        };
        trial.alter(self.connection, &action.text).await?;
        let title = format!("{}, for partitions that come", action.text);
        way.steps.push(recorded(title, table, alter(table, &action.text), alter(table, &back)));
        way.locks.push(catalogue_lock("ACCESS EXCLUSIVE on the table"));
        Ok(())
    }

    async fn keeping(&mut self, table: &Table) -> Result<Keeping> {
        let sql = format!(
            "SELECT c.relpersistence = 'u', coalesce(own.spcname, shared.spcname)::text, am.amname::text,
                    current_setting('default_table_access_method')
             FROM pg_class c JOIN pg_database d ON d.datname = current_database() JOIN pg_tablespace shared ON shared.oid = d.dattablespace
             LEFT JOIN pg_tablespace own ON own.oid = c.reltablespace LEFT JOIN pg_am am ON am.oid = c.relam WHERE c.oid = {}",
            table.oid
        );
        match first(self.connection, sql).await? {
            Some(row) => Ok(Keeping {
                is_unlogged: get(&row, 0)?,
                tablespace: get(&row, 1)?,
                access_method: get(&row, 2)?,
                default_method: get(&row, 3)?,
            }),
            None => Err(Error::new(ErrorKind::ForeignDdl, format!("{} is gone", table.name))),
        }
    }
}

impl Drafting<'_> {
    /// The opposite of SET (…) and RESET (…) of a table; `None` for anything else, or what is not taken apart.
    pub(super) async fn options_back(&mut self, table: &Table, action: &Action) -> Result<Option<String>> {
        let Some(names) = option_names(&action.text) else { return Ok(None) };
        let sql = format!(
            "SELECT o FROM pg_class c, unnest(c.reloptions) AS o WHERE c.oid = {0}
             UNION ALL SELECT 'toast.' || o FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid, unnest(t.reloptions) AS o WHERE c.oid = {0}",
            table.oid
        );
        let mut present = Vec::new();
        for row in rows(self.connection, sql).await? {
            present.push(get::<String>(&row, 0)?);
        }
        let (mut set, mut reset) = (Vec::new(), Vec::new());
        for name in names {
            let now = present.iter().find_map(|one| one.strip_prefix(name.as_str())?.strip_prefix('='));
            match now {
                Some(value) => set.push(format!("{name} = {}", text(value))),
                None => reset.push(name),
            }
        }
        let parts: Vec<String> = [("SET", set), ("RESET", reset)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(word, names)| format!("{word} ({})", names.join(", ")))
            .collect();
        Ok(Some(alter(table, &parts.join(", "))))
    }
}

/// The options that SET (…) or RESET (…) of a table names.
fn option_names(action: &str) -> Option<Vec<String>> {
    let open = action.find('(')?;
    if !matches!(action[..open].trim().to_uppercase().as_str(), "SET" | "RESET") {
        return None;
    }
    let list = action[open + 1..].trim().strip_suffix(')')?;
    // A value in quotes could hold anything.
    if list.contains(['\'', '"', '(']) {
        return None;
    }
    let names =
        list.split(',').map(|option| option.split('=').next().unwrap_or_default().trim().to_lowercase());
    Some(names.collect())
}

/// Whether the table is to be UNLOGGED, or no longer; or why that cannot be meant.
pub(super) fn lasting(actions: &[Action]) -> std::result::Result<Option<bool>, String> {
    let mut all = actions.iter().filter_map(|action| match action.kind {
        Kind::SetLasting { is_unlogged } => Some(is_unlogged),
        _ => None,
    });
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        _ => Err("LOGGED or UNLOGGED is said twice".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_named_where_that_is_all_that_is_done() {
        for (action, names) in [
            ("SET (fillfactor = 70, Autovacuum_Enabled=off)", Some(vec!["fillfactor", "autovacuum_enabled"])),
            ("reset(toast.autovacuum_enabled)", Some(vec!["toast.autovacuum_enabled"])),
            ("ALTER a SET (n_distinct = 5)", None),
            ("SET (a = '(, x')", None),
            ("ADD CHECK (a > 0)", None),
            ("SET TABLESPACE fast", None),
        ] {
            let names = names.map(|names| names.into_iter().map(ToOwned::to_owned).collect());
            assert_eq!(option_names(action), names, "{action}");
        }
    }
}
