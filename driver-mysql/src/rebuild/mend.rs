//! Making good what a process left half-way that was moving foreign keys and triggers: the next command on the run does
//! it, under a lock of its own, before anything else.

use std::time::Duration;

use replank_core::{Error, ErrorKind, Result};
use tokio::time::sleep;

use super::Core;
use super::cut_over::{live_shape, locking_session};
use super::lock::{Locks, lock_within};
use super::moving::{self, Move, Shape, carry_out, have_gap, steps_left};
use super::orphans::{self, Look};
use crate::attached::Attached;
use crate::connect::{Conn, Product};
use crate::foreign_key::ForeignKey;
use crate::sql::run;

/// As a swap's by default: nobody waits longer for a lock of ours.
const LOCK_BUDGET: Duration = Duration::from_millis(200);
/// With growing pauses in between: half a minute. Chosen.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(150);

/// Makes good what is in the journal. Nothing there, nothing is done.
///
/// # Errors
/// [`ErrorKind::Mismatch`] while there are rows without a parent; the keys are on then, and no new ones can come.
pub async fn mend(core: &Core) -> Result<()> {
    let mut aside = core.server.take().await?;
    if let Some(begun) = moving::noted(core, &mut aside).await? {
        let begun = put_right(core, &mut aside, begun).await?;
        if begun.has_gap {
            look_for_orphans(core, &mut aside, &begun.attached).await?;
        }
        moving::forget(core, &mut aside).await?;
    }
    core.server.keep(aside);
    Ok(())
}

async fn put_right(core: &Core, aside: &mut Conn, mut begun: Move) -> Result<Move> {
    let mut tries = 0;
    loop {
        let Some((shape, other)) = state(core, aside).await? else {
            // Who owns the name is asked next, and answered.
            return Err(Error::new(ErrorKind::OutcomeUnknown, "it cannot be shown which table is live")
                .hint("foreign keys and triggers may hang on the other; see `replank status`"));
        };
        let left = steps_left(core, aside, shape, other.as_ref(), &begun).await?;
        if left.is_empty() {
            return Ok(begun);
        }
        if core.server.product() == Product::MariaDb && have_gap(&left) && !begun.has_gap {
            begun.has_gap = true;
            moving::note(core, aside, &begun).await?;
        }
        match under_lock(core, aside, shape, other.as_ref(), &begun).await {
            Ok(()) => {}
            Err(error) if tries >= TRIES => {
                return Err(
                    error.hint("foreign keys or triggers hang on the wrong table until it can be locked")
                );
            }
            Err(error) => tracing::debug!(%error, "not mended yet"),
        }
        tries += 1;
        sleep(PAUSE * tries.min(10)).await;
    }
}

async fn under_lock(
    core: &Core,
    aside: &mut Conn,
    shape: Shape,
    other: Option<&(String, String)>,
    begun: &Move,
) -> Result<()> {
    let mut locked = locking_session(core).await?;
    let joined = core.joined(aside, &begun.attached.inbound).await?;
    let locks = Locks::for_mending(core, other, &joined);
    lock_within(&mut locked, aside, core, &locks, LOCK_BUDGET).await?;
    // What was read before the lock is old by now.
    let now = live_shape(aside, core).await?;
    if now != Some(shape) {
        return Err(Error::new(ErrorKind::Retry, "the names were swapped meanwhile"));
    }
    let left = steps_left(core, &mut locked, shape, other, begun).await?;
    carry_out(core, &mut locked, &left).await?;
    run(&mut locked, "UNLOCK TABLES").await.map(drop)
}

/// Which shape is live, and which table is not.
async fn state(core: &Core, aside: &mut Conn) -> Result<Option<(Shape, Option<(String, String)>)>> {
    let Some(shape) = live_shape(aside, core).await? else { return Ok(None) };
    let role = shape.role_of_other();
    let other = core.standing(aside, role).await?;
    Ok(Some((shape, other.map(|name| (core.home(role).to_owned(), name)))))
}

async fn look_for_orphans(core: &Core, aside: &mut Conn, attached: &Attached) -> Result<()> {
    let Some(shape) = live_shape(aside, core).await? else { return Ok(()) };
    let (schema, live) = (core.schema(), &core.job.table.name);
    let own = core.own_keys(shape).into_iter().map(|key| orphans::look(schema, live, &key));
    let inbound = attached.inbound.iter().map(|it| {
        // It hung on another table when it was read.
        let key = ForeignKey { schema: Some(schema.to_owned()), table: live.clone(), ..it.key.clone() };
        orphans::look(&it.schema, &it.table, &key)
    });
    let looks: Vec<Look> = own.chain(inbound).collect();
    let Some((look, found)) = orphans::first(aside, &looks).await? else { return Ok(()) };
    let became = "a swap was interrupted while it was off";
    Err(found
        .error(ErrorKind::Mismatch, &look, became)
        .hint(format!("it is on again; delete or mend these rows, then `replank resume {}`", core.job.run)))
}
