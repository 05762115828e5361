//! R5: what still runs under an older token must not be found by any name that is used from now on.

use bson::{Bson, doc};
use replank_core::engine::boundary::{Boundary, reached};
use replank_core::ident::Fence;
use replank_core::{ErrorKind, Result};

use super::{Core, guard};
use crate::connect::{Server, majority_document};
use crate::holders;
use crate::inspect;
use crate::state::{Object, ObjectRole, Objects, check_token, end_sessions};

/// Renames the written collections to the names of the token `to`.
pub async fn fence(core: &Core, to: Fence) -> Result<()> {
    check_token(&core.server, None, &core.job.table, to).await?;
    core.fence.store(to.0, std::sync::atomic::Ordering::SeqCst);
    // Before anything that would wait for a transaction of the one before.
    end_sessions(&core.server, &core.job.table, to).await?;
    end_own(core).await;
    reached(Boundary::Fencing);
    for role in [ObjectRole::Shadow, ObjectRole::Retired] {
        let Some(object) = core.objects.one(&core.server, role).await? else { continue };
        let name = core.helper(role);
        note_name(&core.server, &core.objects, &object, &name).await?;
        reached(Boundary::Fencing);
        // A kill or a lost answer may have left it under any of its names, and a rename that waits may move it meanwhile. What a late
        // statement makes of an older name is not it.
        let known = names_up_to(&object, &name);
        while let Some(present) = newest_there(core, &known).await?
            && present != name
        {
            rename(&core.server, core.server.database_name(), &present, &name).await?;
            reached(Boundary::Fencing);
        }
    }
    // What the one before may still send of its swap misses its name from here on: nobody need wait for its time to be over.
    guard::lift(core).await?;
    strays(core).await
}

/// Every name that a collection has had or was to get, oldest first.
fn names(object: &Object) -> Vec<String> {
    let noted = object.extra.get_array("names").map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<String> = noted.iter().filter_map(Bson::as_str).map(ToOwned::to_owned).collect();
    if names.is_empty() {
        names.push(object.name.clone());
    }
    names
}

/// The same with a name that it is about to get, which is the newest then.
fn names_up_to(object: &Object, name: &str) -> Vec<String> {
    let mut all = names(object);
    all.retain(|known| known != name);
    all.push(name.to_owned());
    all
}

/// The newest of these names that a collection bears.
async fn newest_there(core: &Core, names: &[String]) -> Result<Option<String>> {
    for name in names.iter().rev() {
        if inspect::exists(&core.server, name).await? {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

/// Notes a name that a collection is about to get.
pub async fn note_name(server: &Server, objects: &Objects, object: &Object, name: &str) -> Result<()> {
    let mut extra = object.extra.clone();
    extra.insert("names", names_up_to(object, name));
    objects.put(server, object.role, name, extra).await
}

/// Gives a collection another name. One that is not there under the first was renamed already, or swapped in.
pub async fn rename(server: &Server, database: &str, from: &str, to: &str) -> Result<()> {
    let renamed = server
        .admin(doc! {
            "renameCollection": format!("{database}.{from}"),
            "to": format!("{database}.{to}"),
            "writeConcern": majority_document(),
        })
        .await;
    match renamed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what statements of older tokens have made of names that are gone.
pub async fn strays(core: &Core) -> Result<()> {
    let objects = core.objects.all(&core.server).await?;
    let kept: Vec<String> = objects.iter().flat_map(names).collect();
    for name in own_collections(core).await? {
        if !kept.contains(&name) && name != core.log() {
            core.collection(&name).drop().await.map_err(crate::error::from_mongo)?;
        }
    }
    Ok(())
}

/// Collections that bear this run's prefix.
pub async fn own_collections(core: &Core) -> Result<Vec<String>> {
    let prefix = format!("_rp_{}_", core.job.run.short());
    let names = core.server.database().list_collection_names().await.map_err(crate::error::from_mongo)?;
    Ok(names.into_iter().filter(|name| name.starts_with(&prefix)).collect())
}

/// Ends statements of this run that are still running. Who may not do that leaves them to miss their names.
async fn end_own(core: &Core) {
    let mark = format!("replank {} ", core.job.run);
    let own = doc! { "command.comment": { "$regex": format!("^{mark}") } };
    let operations = match holders::operations(&core.server, false, own).await {
        Ok(operations) => operations,
        Err(error) => return tracing::debug!(%error, "running statements cannot be listed"),
    };
    for operation in operations {
        if let Some(id) = operation.get("opid")
            && let Err(error) = core.server.admin(doc! { "killOp": 1, "op": id.clone() }).await
        {
            tracing::debug!(%error, "a statement is left to miss its name");
        }
    }
}
