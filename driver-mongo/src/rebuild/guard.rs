//! The fence: a validator that no document satisfies, on the live collection, for a moment.
//!
//! It outlives whoever put it there. So what it replaces, and until when it may stand, is in the records before it is raised, and
//! any command of replank's that finds one past its time takes it away again ([`mend`]).

use std::time::Duration;

use bson::{Document, doc};
use replank_core::ident::TableId;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, fence};
use crate::connect::{Server, answer, majority_document, millis};
use crate::inspect::{self, Collection};
use crate::state::{Object, ObjectRole, Objects, end_sessions, fences, now_ms, seize, signed};

/// A swap has this at least: writers who are refused notice half a second, and a budget for locks that is shorter is about locks.
const FENCE_BUDGET: Duration = Duration::from_millis(500);
/// A runner that is alive takes its fence away within this, however slow the way to the server is. Chosen.
const GRACE: Duration = Duration::from_secs(2);

/// How long a fence stands while its runner is alive.
pub fn stands_for(lock_budget: Duration) -> Duration {
    lock_budget.max(FENCE_BUDGET)
}

/// What no document satisfies.
fn closed() -> Document {
    doc! { "$expr": false }
}

fn is_closed(options: &Document) -> bool {
    options.get_document("validator").ok() == Some(&closed())
}

/// The command that refuses every insert and update of a collection.
pub fn closing(collection: &str) -> Document {
    doc! {
        "collMod": collection,
        "validator": closed(),
        "validationLevel": "strict",
        "validationAction": "error",
    }
}

/// The record of this run's fence.
pub async fn fence_of(core: &Core) -> Result<Option<Object>> {
    core.objects.one(&core.server, ObjectRole::FenceUp).await
}

/// Raises the fence: from the answer on no insert and no update of an application is acknowledged that was not committed before.
/// Whatever the outcome, the caller takes it away: after an error it may stand.
///
/// # Errors
/// [`ErrorKind::LockTimeout`] where the server did not come to it within `wait`.
pub async fn raise(core: &Core, incoming: &str, wait: Duration) -> Result<()> {
    lift(core).await?;
    let live = Collection::expect(&core.server, core.live()).await?;
    // A fence that no record tells of, of a runner that died: what it hides is in the plan.
    let options =
        if is_closed(&live.options) { &core.spec.live(core.job.direction).options.0 } else { &live.options };
    let text = |option: &str, usual: &str| options.get_str(option).unwrap_or(usual).to_owned();
    let until = now_ms(&core.server).await? + millis(wait) + millis(stands_for(wait)) + millis(GRACE);
    let record = doc! {
        "database": core.server.database_name(),
        "token": signed(core.fence().0),
        "uuid": &live.uuid,
        "validator": options.get_document("validator").cloned().unwrap_or_default(),
        "level": text("validationLevel", "strict"),
        "action": text("validationAction", "error"),
        "incoming": incoming,
        "until_ms": until,
    };
    core.objects.put(&core.server, ObjectRole::FenceUp, core.live(), record).await?;
    let mut raising = closing(core.live());
    raising.insert("writeConcern", majority_document());
    raising.insert("maxTimeMS", millis(wait).max(1));
    answer(core.server.database().run_command(raising).await).map_err(|error| match error.kind() {
        ErrorKind::Retry => {
            let what = format!("writes to `{}` could not be stopped in time", core.job.table);
            Error::new(ErrorKind::LockTimeout, what)
                .with("waited", format!("{} ms", wait.as_millis()))
                .caused_by(error)
        }
        _ => error,
    })?;
    let raised = Collection::expect(&core.server, core.live()).await?;
    if !is_closed(&raised.options) {
        return Err(Error::new(
            ErrorKind::Refused,
            "the server says that writes are refused, and has no such validator",
        ));
    }
    Ok(())
}

/// Takes away the fence that was raised under our own token: a runner that was overtaken leaves the other one's alone.
pub async fn lift_own(core: &Core) -> Result<()> {
    match fence_of(core).await? {
        Some(fence) if fence.extra.get_i64("token").ok() == Some(signed(core.fence().0)) => {
            put_back(&core.server, &core.objects, &fence).await
        }
        _ => Ok(()),
    }
}

/// Takes this run's fence away, whoever raised it, if there is one. Calling it again is harmless.
pub async fn lift(core: &Core) -> Result<()> {
    match fence_of(core).await? {
        Some(fence) => put_back(&core.server, &core.objects, &fence).await,
        None => Ok(()),
    }
}

/// Gives the collection its validator back, where ours is on it.
async fn put_back(server: &Server, objects: &Objects, fence: &Object) -> Result<()> {
    let database = server.client().database(text(fence, "database")?);
    let entry = inspect::entry(&database, &fence.name).await?;
    let entry = entry.as_ref();
    let is_closed = entry.and_then(|entry| entry.get_document("options").ok()).is_some_and(is_closed);
    // The command that raises it may still be waiting: this one comes behind it, and so it is sent to the same collection in any case.
    let is_same = entry
        .map(inspect::uuid_of)
        .is_some_and(|uuid| !uuid.is_empty() && Some(uuid.as_str()) == fence.extra.get_str("uuid").ok());
    if is_closed || is_same {
        let back = doc! {
            "collMod": &fence.name,
            "validator": fence.extra.get_document("validator").cloned().unwrap_or_default(),
            "validationLevel": text(fence, "level")?,
            "validationAction": text(fence, "action")?,
            "writeConcern": majority_document(),
        };
        answer(database.run_command(back).await)?;
    }
    objects.remove(server, ObjectRole::FenceUp).await
}

fn text<'a>(fence: &'a Object, field: &str) -> Result<&'a str> {
    fence.extra.get_str(field).map_err(|error| {
        Error::new(ErrorKind::Server, "the record of a fence cannot be read").caused_by(error)
    })
}

/// Takes away every fence whose time is over: its runner is dead, or cannot reach the server. A rename of that runner's that comes
/// late must not find its collection any more (R5), so that gets another name first, and its token is no longer the newest.
///
/// Answers with the collections that can be written again.
pub async fn mend(server: &Server) -> Result<Vec<String>> {
    let mut mended = Vec::new();
    let standing = fences(server).await?;
    if standing.is_empty() {
        return Ok(mended);
    }
    let now = now_ms(server).await?;
    for (run, fence) in standing {
        if fence.extra.get_i64("until_ms").is_ok_and(|until| until > now) {
            continue;
        }
        let objects = Objects::new(&run);
        let table = TableId { schema: Some(text(&fence, "database")?.to_owned()), name: fence.name.clone() };
        if let Some(newest) = seize(server, &table).await? {
            // Before anything that would wait for a transaction of the dead one's.
            end_sessions(server, &table, newest).await?;
        }
        hold_back(server, &objects, &fence).await?;
        put_back(server, &objects, &fence).await?;
        mended.push(fence.name.clone());
    }
    Ok(mended)
}

async fn hold_back(server: &Server, objects: &Objects, fence: &Object) -> Result<()> {
    let (database, incoming) = (text(fence, "database")?, text(fence, "incoming")?);
    for object in objects.all(server).await? {
        let is_incoming =
            matches!(object.role, ObjectRole::Shadow | ObjectRole::Retired) && object.name == incoming;
        if !is_incoming {
            continue;
        }
        let held = format!("{incoming}_held");
        // Before the rename: whoever goes on looks for the last of the names that is there.
        fence::note_name(server, objects, &object, &held).await?;
        fence::rename(server, database, incoming, &held).await?;
    }
    Ok(())
}
