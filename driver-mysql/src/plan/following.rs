//! What has to follow the table's name in a rebuild: foreign keys both ways, and triggers.

use replank_core::Result;
use replank_core::plan::{Evidence, Unfit};

use crate::attached::{Attached, pointing_at};
use crate::connect::{Conn, Product};
use crate::foreign_key::{ForeignKey, foreign_keys};
use crate::inspect::Table;
use crate::lint::{Facts, Following};
use crate::preflight;
use crate::rebuild::orphans::{self, Look};
use crate::scratch::Scratch;

/// Notes what follows and how, for the rules; answers with why the rebuild cannot be made, if so.
pub async fn judge(
    connection: &mut Conn,
    scratch: &mut Scratch,
    (old, new): (&Table, &Table),
    attached: &Attached,
    facts: &mut Facts,
) -> Result<Option<String>> {
    let (before, after) = (foreign_keys(&old.sql), foreign_keys(&new.sql));
    let refused_keys = scratch.refused_keys().await?;
    let refused = |name: &str| refused_keys.iter().find(|(key, _)| key == name).map(|(_, why)| why.clone());
    let logs_cascades =
        before.iter().any(ForeignKey::cascades) && preflight::logs_cascades(connection).await?;
    for key in &before {
        let is_kept = after.iter().any(|other| other.name == key.name);
        let why_not = match key {
            _ if !is_kept => Some("a rebuild cannot drop it: make that a statement of its own".to_owned()),
            key if key.cascades() && !logs_cascades => Some(unlogged(connection.product())),
            key => refused(&key.name),
        };
        facts.keys.push(Following { what: format!("foreign key {} to `{}`", key.name, key.table), why_not });
    }
    for key in after.iter().filter(|key| !before.iter().any(|other| other.name == key.name)) {
        let why_not = Some("a rebuild cannot add it: make that a statement of its own".to_owned());
        facts.keys.push(Following { what: format!("foreign key {} to `{}`", key.name, key.table), why_not });
    }
    for inbound in &attached.inbound {
        let what = format!("foreign key {} of `{}`", inbound.key.name, inbound.table);
        facts.keys.push(Following { what, why_not: refused(&inbound.key.name) });
    }
    let all = pointing_at(connection, &scratch.file_name(old).await?).await?;
    if all != attached.inbound.len() as u64 {
        let why_not = Some("this login may not see its table".to_owned());
        facts.keys.push(Following { what: "another foreign key that points here".to_owned(), why_not });
    }
    let refused_triggers = scratch.refused_triggers(&attached.triggers).await?;
    for trigger in &attached.triggers {
        let why = refused_triggers.iter().find(|(name, _)| *name == trigger.name);
        let why_not = why.map(|(_, why)| why.clone());
        facts.triggers.push(Following { what: format!("trigger {}", trigger.name), why_not });
    }
    facts.has_gap_of_keys = connection.product() == Product::MariaDb;
    let mut all = facts.keys.iter().chain(&facts.triggers);
    Ok(all.find_map(|it| it.why_not.as_ref().map(|why| format!("{} cannot follow the name: {why}", it.what))))
}

fn unlogged(product: Product) -> String {
    let until = match product {
        Product::MySql => {
            "this server does not log what it changes by itself (MySQL does from 9.6 on, unless innodb_native_foreign_keys is ON)"
        }
        Product::MariaDb => "MariaDB does not log what it changes by itself",
    };
    format!("{until}, so a copy would miss it")
}

/// The questions for keys that one definition has and another has not.
pub fn looks(without: &Table, with: &Table) -> Vec<Look> {
    let before = foreign_keys(&without.sql);
    let is_new = |key: &ForeignKey| !before.iter().any(|other| other.name == key.name);
    let new = foreign_keys(&with.sql).into_iter().filter(is_new);
    new.map(|key| orphans::look(&with.schema, &with.name, &key)).collect()
}

/// Rows that new keys find without a parent.
pub async fn orphaned(connection: &mut Conn, looks: &[Look], evidence: &mut Evidence) -> Result<()> {
    for look in looks {
        if let Some(found) = look.take(connection).await? {
            evidence.unfit.push(Unfit { what: look.what.clone(), rows: found.rows, samples: found.samples });
        }
    }
    Ok(())
}
