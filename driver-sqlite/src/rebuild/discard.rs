//! Removing what a run owns, in steps that are each short, and never the table that applications use.

use std::time::Instant;

use replank_core::engine::boundary::{Boundary, reached};
use replank_core::{Error, ErrorKind, Result};

use super::{Core, exists};
use crate::emptying::{self, FIRST, delete_some, rest};
use crate::sql::{ident, run};
use crate::state::{Object, ObjectRole, is_made};

/// Removes everything that the run owns.
pub async fn discard(core: &Core) -> Result<()> {
    let mut tx = core.database.read().await?;
    let objects = match is_made(tx.connection(), &core.names).await? {
        true => core.objects.all(tx.connection()).await?,
        false => Vec::new(),
    };
    tx.end().await?;
    if objects.iter().all(|object| object.role == ObjectRole::Live) {
        // Nothing to remove, but not for somebody who was overtaken to say so.
        return core.write().await?.roll_back().await;
    }
    // Triggers first: from then on nothing writes into what is removed.
    drop_triggers(core, &objects).await?;
    for object in objects.iter().filter(|object| object.role == ObjectRole::KeyIndex) {
        drop_object(core, object, "index").await?;
    }
    for object in &objects {
        let is_table = matches!(
            object.role,
            ObjectRole::Shadow
                | ObjectRole::Retired
                | ObjectRole::Log
                | ObjectRole::LogBack
                | ObjectRole::Parked
        );
        if is_table {
            reached(Boundary::DropBegun);
            empty(core, object).await?;
            drop_object(core, object, "table").await?;
            reached(Boundary::DropDone);
            forget(core, object).await?;
        }
    }
    // Indexes went with their tables.
    for object in objects.iter().filter(|object| object.role == ObjectRole::Index) {
        forget(core, object).await?;
    }
    Ok(())
}

async fn drop_triggers(core: &Core, objects: &[Object]) -> Result<()> {
    let mut tx = core.write().await?;
    for object in objects {
        if matches!(object.role, ObjectRole::Capture | ObjectRole::CaptureBack) {
            check_own(core, object)?;
            run(tx.connection(), format!("DROP TRIGGER IF EXISTS {}", ident(&object.name))).await?;
            core.objects.remove(tx.connection(), object.role, &object.name).await?;
        }
    }
    tx.commit().await
}

/// Deletes a table's rows bit by bit, so that no step is longer than its share: a DROP visits every page.
async fn empty(core: &Core, object: &Object) -> Result<()> {
    check_own(core, object)?;
    if drop_small_indexes(core, object).await? {
        return Ok(());
    }
    let mut rows = FIRST;
    loop {
        let mut tx = core.write().await?;
        if !still_ours(core, &mut tx, object).await? {
            return tx.roll_back().await;
        }
        let begun = Instant::now();
        let deleted = delete_some(tx.connection(), &object.name, rows).await?;
        tx.commit().await?;
        if deleted < rows {
            return Ok(());
        }
        rows = rest(rows, begun.elapsed()).await;
    }
}

/// Rows go many times faster without indexes. Answers whether the table itself is small enough to go at once.
async fn drop_small_indexes(core: &Core, object: &Object) -> Result<bool> {
    let mut tx = core.database.read().await?;
    let indexes = emptying::indexes(tx.connection(), &object.name).await?;
    let small = emptying::small(tx.connection(), &indexes).await?;
    let mut whole = emptying::constraint_indexes(tx.connection(), &object.name).await?;
    whole.push(object.name.clone());
    let is_small = emptying::small(tx.connection(), &whole).await?.len() == whole.len();
    tx.end().await?;
    for index in &small {
        let begun = Instant::now();
        let mut tx = core.write().await?;
        if !still_ours(core, &mut tx, object).await? {
            tx.roll_back().await?;
            return Ok(true);
        }
        // Looked up again under the lock: the name must still be that of an index of this table.
        if emptying::indexes(tx.connection(), &object.name).await?.contains(index) {
            run(tx.connection(), format!("DROP INDEX {}", ident(index))).await?;
        }
        tx.commit().await?;
        rest(FIRST, begun.elapsed()).await;
    }
    Ok(is_small && small.len() == indexes.len())
}

async fn drop_object(core: &Core, object: &Object, kind: &str) -> Result<()> {
    check_own(core, object)?;
    let mut tx = core.write().await?;
    if !still_ours(core, &mut tx, object).await? {
        return tx.roll_back().await;
    }
    if exists(tx.connection(), kind, &object.name).await? {
        run(tx.connection(), format!("DROP {kind} {}", ident(&object.name))).await?;
    }
    if kind == "index" {
        core.objects.remove(tx.connection(), object.role, &object.name).await?;
    }
    tx.commit().await
}

/// The record, looked up again with the write lock held.
async fn still_ours(core: &Core, tx: &mut crate::connect::WriteTx<'_>, object: &Object) -> Result<bool> {
    let all = core.objects.of(tx.connection(), object.role).await?;
    Ok(all.iter().any(|other| other.name == object.name))
}

async fn forget(core: &Core, object: &Object) -> Result<()> {
    let mut tx = core.write().await?;
    core.objects.remove(tx.connection(), object.role, &object.name).await?;
    tx.commit().await
}

/// Nothing is dropped that does not have the name of a helper of this very run, whatever the record says.
fn check_own(core: &Core, object: &Object) -> Result<()> {
    if object.name.starts_with(&format!("_rp_{}_", core.job.run.short())) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, format!("`{}` is registered as ours and is not", object.name))
        .hint("nothing was dropped; look at the records of this run"))
}
