//! R5: what still runs under an older token must not be found by any name that is used from now on.

use bson::{Bson, Document, doc};
use replank_core::ident::Fence;
use replank_core::{ErrorKind, Result};

use super::{Core, guard};
use crate::connect::Server;
use crate::connect::majority_document;
use crate::inspect;
use crate::state::{Object, ObjectRole, Objects, check_token};

/// Renames the written collections to the names of the token `to`.
pub async fn fence(core: &Core, to: Fence) -> Result<()> {
    check_token(&core.server, None, &core.job.table, to).await?;
    core.fence.store(to.0, std::sync::atomic::Ordering::SeqCst);
    end_own(core).await;
    for role in [ObjectRole::Shadow, ObjectRole::Retired] {
        let Some(object) = core.objects.one(&core.server, role).await? else { continue };
        let name = core.helper(role);
        note_name(&core.server, &core.objects, &object, &name).await?;
        // A kill or a lost answer may have left it under any of its names. What a late statement makes of an older one is not it.
        let mut present = None;
        for known in names(&object).into_iter().rev() {
            if known != name && inspect::exists(&core.server, &name).await? {
                present = Some(name.clone());
                break;
            }
            if inspect::exists(&core.server, &known).await? {
                present = Some(known);
                break;
            }
        }
        if let Some(present) = present
            && present != name
        {
            rename(core, &present, &name).await?;
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

/// Notes a name that a collection is about to get.
pub async fn note_name(server: &Server, objects: &Objects, object: &Object, name: &str) -> Result<()> {
    let mut all = names(object);
    all.retain(|known| known != name);
    all.push(name.to_owned());
    let mut extra = object.extra.clone();
    extra.insert("names", all);
    objects.put(server, object.role, name, extra).await
}

async fn rename(core: &Core, from: &str, to: &str) -> Result<()> {
    let database = core.server.database_name();
    let renamed = core
        .server
        .admin(doc! {
            "renameCollection": format!("{database}.{from}"),
            "to": format!("{database}.{to}"),
            "writeConcern": majority_document(),
        })
        .await;
    match renamed {
        Ok(_) => Ok(()),
        // Another try of ours, or of another runner under the same token, was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what statements of older tokens have made of names that are gone.
pub async fn strays(core: &Core) -> Result<()> {
    let kept: Vec<String> =
        core.objects.all(&core.server).await?.into_iter().map(|object| object.name).collect();
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
    let own = doc! { "$match": { "command.comment": { "$regex": format!("^{mark}") } } };
    let listing = doc! {
        "aggregate": 1,
        "pipeline": [{ "$currentOp": { "allUsers": true } }, own, { "$project": { "opid": 1 } }],
        "cursor": {},
    };
    let reply = match core.server.admin(listing).await {
        Ok(reply) => reply,
        Err(error) => return tracing::debug!(%error, "running statements cannot be listed"),
    };
    let batch = reply.get_document("cursor").ok().and_then(|cursor| cursor.get_array("firstBatch").ok());
    let operations: Vec<&Document> = batch.into_iter().flatten().filter_map(Bson::as_document).collect();
    for operation in operations {
        if let Some(id) = operation.get("opid")
            && let Err(error) = core.server.admin(doc! { "killOp": 1, "op": id.clone() }).await
        {
            tracing::debug!(%error, "a statement is left to miss its name");
        }
    }
}
