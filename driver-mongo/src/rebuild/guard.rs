//! The fence: a validator that no document satisfies, on the live collection, for a moment.
//!
//! It outlives whoever put it there. So what it replaces, and until when it may stand, is in the records before it is raised, and
//! any command of replank's that finds one past its time takes it away again ([`mend`]).
//!
//! The command that raises it may come late: its runner stood still between the record and the command, and the fence was taken away
//! meanwhile. So the record stays when the fence is gone, with what the validator is then, and the validator says whose it is.
//! One that stands although the records say that it was taken away is a stray, and is taken away by whoever holds the table's
//! lease, at its next checkpoint, or by the next command where nobody does. Nobody else takes it away: it might open another
//! runner's fence, which the same command would look just like.

use std::time::Duration;

use bson::{Document, doc};
use replank_core::engine::boundary::{Boundary, reached};
use replank_core::ident::{RunId, TableId};
use replank_core::{Error, ErrorKind, Result};

use super::{Core, fence};
use crate::connect::{Server, answer, majority_document, millis};
use crate::inspect::{self, Collection};
use crate::state::{Object, ObjectRole, Objects, end_sessions, fences, lease, now_ms, seize, signed};

/// A runner that is alive takes its fence away within this, however slow the way to the server is. Chosen.
const GRACE: Duration = Duration::from_secs(2);

/// In front of whose a fence is.
const OURS: &str = "replank fence";
/// What no text that begins so is equal to.
const OPEN: &str = "open";

/// What no document satisfies, with whose fence it is.
fn closed(whose: &str) -> Document {
    doc! { "$expr": { "$eq": [format!("{OURS} {whose}"), OPEN] } }
}

/// Whose fence these options of a collection are; `None` for an application's own.
pub fn whose(options: &Document) -> Option<&str> {
    let equal = options.get_document("validator").ok()?.get_document("$expr").ok()?.get_array("$eq").ok()?;
    equal.first()?.as_str()?.strip_prefix(OURS).map(str::trim_start)
}

/// Ours, under our token.
fn own(core: &Core) -> String {
    format!("{} {}", core.job.run, core.fence())
}

/// The command that refuses every insert and update of a collection.
pub fn closing(collection: &str, whose: &str) -> Document {
    doc! {
        "collMod": collection,
        "validator": closed(whose),
        "validationLevel": "strict",
        "validationAction": "error",
    }
}

/// The record of this run's fence, if there ever was one.
async fn record(core: &Core) -> Result<Option<Object>> {
    core.objects.one(&core.server, ObjectRole::Fence).await
}

/// Whether the fence that was raised under our token stands on the live collection.
pub async fn stands(core: &Core) -> Result<bool> {
    let live = inspect::entry(&core.server.database(), core.live()).await?;
    let options = live.as_ref().and_then(|live| live.get_document("options").ok());
    Ok(options.and_then(whose) == Some(own(core).as_str()))
}

/// It was taken away; the record is there for a command that comes late.
const LOWERED: &str = "lowered";

fn is_lowered(fence: &Object) -> bool {
    fence.extra.get_bool(LOWERED).unwrap_or_default()
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
    let options = match whose(&live.options) {
        Some(_) => &core.spec.live(core.job.direction).options.0,
        None => &live.options,
    };
    let until = now_ms(&core.server).await? + millis(wait) + millis(core.job.fence_budget) + millis(GRACE);
    let mut record = doc! {
        "database": core.server.database_name(),
        "token": signed(core.fence().0),
        "uuid": &live.uuid,
        "incoming": incoming,
        "until_ms": until,
    };
    validator_of(options, &mut record);
    core.objects.put(&core.server, ObjectRole::Fence, core.live(), record).await?;
    forget_older(core).await?;
    reached(Boundary::Fencing);
    let mut raising = closing(core.live(), &own(core));
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
    reached(Boundary::Fencing);
    if !stands(core).await? {
        // Somebody may have taken it away: then it is theirs.
        core.check_token().await?;
        return Err(Error::new(
            ErrorKind::Refused,
            "the server says that writes are refused, and has no such validator",
        ));
    }
    Ok(())
}

/// Of other runs whose fences are gone: one record for a collection is enough to know what its validator is.
async fn forget_older(core: &Core) -> Result<()> {
    for (run, fence) in fences(&core.server).await? {
        let is_same = fence.name == core.live() && text(&fence, "database")? == core.server.database_name();
        if run != core.job.run && is_same && is_lowered(&fence) {
            Objects::new(&run).remove(&core.server, ObjectRole::Fence).await?;
        }
    }
    Ok(())
}

/// Takes away the fence that was raised under our own token. A runner that was overtaken leaves the other one's alone; what it raised
/// late goes if nobody holds the lease, and otherwise the holder takes it away.
pub async fn lift_own(core: &Core) -> Result<()> {
    match record(core).await? {
        Some(fence) if is_lowered(&fence) => {
            lift_stray(&core.server, &core.job.run, &fence).await.map(|_| ())
        }
        Some(fence) if fence.extra.get_i64("token").ok() == Some(signed(core.fence().0)) => {
            put_back(&core.server, &core.objects, &fence).await
        }
        _ => Ok(()),
    }
}

/// Takes this run's fence away, whoever raised it, if there is one, and one that came late. For who holds the lease. Calling it again is harmless.
pub async fn lift(core: &Core) -> Result<()> {
    match record(core).await? {
        Some(fence) => put_back(&core.server, &core.objects, &fence).await,
        None => Ok(()),
    }
}

/// Takes away what came late of this run. For who holds the lease, at any time: a fence that is up stays.
pub async fn sweep(core: &Core) -> Result<()> {
    match record(core).await? {
        Some(fence) if is_lowered(&fence) => put_back(&core.server, &core.objects, &fence).await,
        _ => Ok(()),
    }
}

/// Notes what the validator of the live collection is from here on: a swap has taken place.
pub async fn keep(core: &Core, options: &Document) -> Result<()> {
    let Some(mut fence) = record(core).await? else { return Ok(()) };
    validator_of(options, &mut fence.extra);
    core.objects.put(&core.server, ObjectRole::Fence, core.live(), fence.extra).await
}

fn validator_of(options: &Document, record: &mut Document) {
    let text = |option: &str, usual: &str| options.get_str(option).unwrap_or(usual).to_owned();
    record.insert("validator", options.get_document("validator").cloned().unwrap_or_default());
    record.insert("level", text("validationLevel", "strict"));
    record.insert("action", text("validationAction", "error"));
}

/// Gives the collection its validator back, where ours is on it.
async fn put_back(server: &Server, objects: &Objects, fence: &Object) -> Result<()> {
    let database = server.client().database(text(fence, "database")?);
    let entry = inspect::entry(&database, &fence.name).await?;
    let entry = entry.as_ref();
    let is_closed = entry
        .and_then(|entry| entry.get_document("options").ok())
        .is_some_and(|options| whose(options).is_some());
    if is_lowered(fence) && !is_closed {
        return Ok(());
    }
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
    reached(Boundary::Fencing);
    let mut gone = fence.extra.clone();
    gone.insert(LOWERED, true);
    objects.put(server, ObjectRole::Fence, &fence.name, gone).await
}

fn text<'a>(fence: &'a Object, field: &str) -> Result<&'a str> {
    fence.extra.get_str(field).map_err(|error| {
        Error::new(ErrorKind::Server, "the record of a fence cannot be read").caused_by(error)
    })
}

/// Takes away every fence whose time is over: its runner is dead, or cannot reach the server. A rename of that runner's that comes
/// late must not find its collection any more (R5), so that gets another name first, and its token is no longer the newest. And what
/// came late on a collection of this database whose lease nobody holds.
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
        if is_lowered(&fence) {
            if text(&fence, "database")? == server.database_name() && lift_stray(server, &run, &fence).await?
            {
                mended.push(fence.name.clone());
            }
            continue;
        }
        if fence.extra.get_i64("until_ms").is_ok_and(|until| until > now) {
            continue;
        }
        let objects = Objects::new(&run);
        let table = table_of(&fence)?;
        take_from_the_dead(server, &table).await?;
        reached(Boundary::Fencing);
        hold_back(server, &objects, &fence).await?;
        put_back(server, &objects, &fence).await?;
        mended.push(fence.name.clone());
    }
    Ok(mended)
}

/// Takes the lease for nobody, and ends what the one before has open, before anything that would wait for it.
async fn take_from_the_dead(server: &Server, table: &TableId) -> Result<()> {
    match seize(server, table).await? {
        Some(newest) => end_sessions(server, table, newest).await,
        None => Ok(()),
    }
}

fn table_of(fence: &Object) -> Result<TableId> {
    Ok(TableId { schema: Some(text(fence, "database")?.to_owned()), name: fence.name.clone() })
}

/// Takes away a fence that stands although it was taken away before, unless somebody holds the lease. Answers whether it did.
async fn lift_stray(server: &Server, run: &RunId, fence: &Object) -> Result<bool> {
    let entry = inspect::entry(&server.client().database(text(fence, "database")?), &fence.name).await?;
    let options = entry.as_ref().and_then(|entry| entry.get_document("options").ok());
    if options.and_then(whose).is_none() {
        return Ok(false);
    }
    let table = table_of(fence)?;
    let lease = lease(server, &table).await?;
    if lease.is_some_and(|lease| !lease.remaining.is_zero()) {
        return Ok(false);
    }
    // Whoever takes the lease in this moment finds it gone.
    take_from_the_dead(server, &table).await?;
    put_back(server, &Objects::new(run), fence).await?;
    Ok(true)
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
        reached(Boundary::Fencing);
        fence::rename(server, database, incoming, &held).await?;
        reached(Boundary::Fencing);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_says_whose_it_is_and_a_validator_of_an_application_does_not() {
        let mut options = closing("orders", "run7 12");
        options.remove("collMod");
        assert_eq!(whose(&options), Some("run7 12"));
        for own in [
            doc! {},
            doc! { "validator": {} },
            doc! { "validator": { "$expr": false } },
            doc! { "validator": { "$expr": { "$eq": ["$a", "$b"] } } },
            doc! { "validator": { "customer": { "$exists": true } } },
        ] {
            assert_eq!(whose(&own), None, "{own}");
        }
    }
}
