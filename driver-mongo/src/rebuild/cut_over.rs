//! The fence, the one rename, and who owns the name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::{Document, doc};
use replank_core::driver::{Applied, Compared, CutOver, Holder, Owner, Revision, SwapGuard, SwapOutcome};
use replank_core::engine::boundary::{Boundary, reached};
use replank_core::run::{Direction, Run};
use replank_core::value::{Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use super::guard;
use super::{Core, Handle, apply, compare, log, prepare, tail};
use crate::connect::{majority_document, millis};
use crate::holders;
use crate::inspect;
use crate::key;
use crate::state::{ObjectRole, save_run};

#[async_trait]
impl CutOver for Handle {
    async fn holders(&self, budget: Duration) -> Result<Vec<Holder>> {
        holders::holders(&self.core.server, budget).await
    }

    async fn lock(&self, budget: Duration) -> Result<Box<dyn SwapGuard>> {
        let core = Arc::clone(&self.core);
        core.check_token().await?;
        guard::sweep(&core).await?;
        prepare::check_source(&core).await?;
        let incoming = core.targets()?.remove(0);
        if !inspect::exists(&core.server, &incoming.name).await? {
            return Err(super::copy::fenced(&incoming.name));
        }
        is_ours(&core, incoming.role, &incoming.name).await?;
        let stage = Arc::new(Mutex::new(Stage::Fenced));
        // From before it is raised: whatever becomes of this call, the fence goes.
        tokio::spawn(lift_after(Arc::clone(&core), Arc::clone(&stage), budget + core.job.fence_budget));
        // Whoever takes it away waits for this: a runner that stood still meanwhile would take away what does not stand yet.
        let raising = stage.lock().await;
        let raised = guard::raise(&core, &incoming.name, budget).await;
        drop(raising);
        if let Err(error) = raised {
            over(&core, &stage).await;
            return Err(error);
        }
        if !core.spec.fence_waits {
            // Single writes that began before it pass it as well: they are acknowledged up to here. Measured on SecantusDB, see
            // docs/mongodb.md.
            tokio::time::sleep(PASSING.min(budget / 2)).await;
        }
        let guard = Guard {
            deadline: Instant::now() + core.job.fence_budget,
            stage: Arc::clone(&stage),
            incoming: (incoming.role, incoming.name),
            core: Arc::clone(&core),
            head: None,
        };
        // Somebody who took over between the look and the fence finds it in the records, and takes it away.
        if let Err(error) = guard.core.check_token().await {
            over(&guard.core, &stage).await;
            return Err(error);
        }
        Ok(Box::new(guard))
    }

    async fn owner(&self) -> Result<Owner> {
        let core = &self.core;
        let shape = shape(core).await?;
        let owner = match (core.job.direction, shape) {
            (Direction::Forward, Some(Shape::Old | Shape::Back)) | (Direction::Reverse, Some(Shape::New)) => {
                Owner::Original
            }
            (Direction::Forward, Some(Shape::New)) | (Direction::Reverse, Some(Shape::Back)) => Owner::Shadow,
            (Direction::Reverse, Some(Shape::Old)) | (_, None) => Owner::Unknown,
        };
        if owner == Owner::Shadow {
            // A runner that was killed behind its rename has left this to us.
            swapped(core).await?;
        }
        Ok(owner)
    }
}

/// Whether the collection that is to come in is the one that was made and filled, and not one that a late statement made of its name.
async fn is_ours(core: &Core, role: ObjectRole, name: &str) -> Result<()> {
    if !core.spec.uuids_last {
        return Ok(());
    }
    let identity = core.objects.one(&core.server, ObjectRole::Identity).await?;
    let known = identity.map(|identity| identity.extra).unwrap_or_default();
    let uuid = inspect::uuid(&core.server, name).await?.unwrap_or_default();
    if known.get_str(role.word()).ok() == Some(&uuid) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::OutcomeUnknown,
        format!("`{name}` is not the collection that this run has filled"),
    )
    .with("its identity", uuid)
    .hint("nothing was swapped; `replank abort` removes what was made, and the change can be begun again"))
}

/// What bears the live name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The collection that was planned for.
    Old,
    /// The new one.
    New,
    /// The one that was kept, after a swap back.
    Back,
}

/// Told by the identities that are in the records. Where a server gives a collection another identity with each name, a swap that
/// was intended has taken place if and only if the collection that was to come in is gone: nothing else renames or drops it
/// before it was looked at.
async fn shape(core: &Core) -> Result<Option<Shape>> {
    let Some(live) = inspect::uuid(&core.server, core.live()).await? else { return Ok(None) };
    let identity = core.objects.one(&core.server, ObjectRole::Identity).await?;
    let known = identity.map(|identity| identity.extra).unwrap_or_default();
    let is = |name: &str| known.get_str(name).is_ok_and(|known| !known.is_empty() && known == live);
    if live == core.spec.uuid {
        return Ok(Some(Shape::Old));
    }
    if core.spec.uuids_last {
        return Ok(if is("shadow") {
            Some(Shape::New)
        } else if is("retired") {
            Some(Shape::Back)
        } else {
            None
        });
    }
    if is("live_new") {
        return Ok(Some(Shape::New));
    }
    if is("live_back") {
        return Ok(Some(Shape::Back));
    }
    let Some(intent) = core.objects.one(&core.server, ObjectRole::Tail).await? else { return Ok(None) };
    if inspect::exists(&core.server, &intent.name).await? {
        return Ok(None);
    }
    Ok(match intent.extra.get_str("direction") {
        Ok("forward") => Some(Shape::New),
        Ok("reverse") => Some(Shape::Back),
        _ => None,
    })
}

/// Brings the records up to a swap that took place, and makes good what was deleted between the last look and it.
async fn swapped(core: &Core) -> Result<()> {
    if let (Some(identity), Some(live)) = (
        core.objects.one(&core.server, ObjectRole::Identity).await?,
        inspect::uuid(&core.server, core.live()).await?,
    ) {
        let name = match core.job.direction {
            Direction::Forward => "live_new",
            Direction::Reverse => "live_back",
        };
        if identity.extra.get_str(name).ok() != Some(live.as_str()) {
            let mut extra = identity.extra;
            extra.insert(name, live);
            core.objects.put(&core.server, ObjectRole::Identity, core.live(), extra).await?;
        }
    }
    let (incoming, side) = match core.job.direction {
        Direction::Forward => (ObjectRole::Shadow, &core.spec.new),
        Direction::Reverse => (ObjectRole::Retired, &core.spec.old),
    };
    core.objects.remove(&core.server, incoming).await?;
    guard::lift(core).await?;
    prepare::keep_options(core, side).await?;
    guard::keep(core, &side.options.0).await?;
    tail::settle(core).await
}

/// How far a guard has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fenced,
    /// Swapped, or the fence is gone.
    Over,
}

/// The raised fence. Dropping it takes the fence away as soon as the server can be told.
struct Guard {
    core: Arc<Core>,
    stage: Arc<Mutex<Stage>>,
    deadline: Instant,
    incoming: (ObjectRole, String),
    head: Option<Position>,
}

/// As long as a write may take that has passed the fence. Chosen: below the shortest time that a fence stands.
const PASSING: Duration = Duration::from_millis(250);

/// A server that elects a primary is there again within this.
const LIFTS: u32 = 60;
const LIFT_AGAIN: Duration = Duration::from_millis(500);

/// Takes the fence away when its time is over, unless the swap was faster. It waits for a rename that is on its way.
async fn lift_after(core: Arc<Core>, stage: Arc<Mutex<Stage>>, budget: Duration) {
    tokio::time::sleep(budget).await;
    over(&core, &stage).await;
}

async fn over(core: &Core, stage: &Mutex<Stage>) {
    let mut stage = stage.lock().await;
    if *stage == Stage::Over {
        return;
    }
    *stage = Stage::Over;
    for _ in 0..LIFTS {
        match guard::lift_own(core).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the fence is not away yet"),
        }
        tokio::time::sleep(LIFT_AGAIN).await;
    }
    // It is in the records: the next command of anybody's takes it away.
    tracing::warn!("writes are refused until the next command of replank's");
}

impl Guard {
    async fn still_fenced(&self) -> Result<()> {
        if *self.stage.lock().await == Stage::Fenced && Instant::now() < self.deadline {
            return Ok(());
        }
        Err(Error::new(ErrorKind::LockTimeout, "writes could not be refused for any longer"))
    }

    /// The rename, and what the server says of it.
    async fn rename(&self) -> Result<Document> {
        let database = self.core.server.database_name();
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.core
            .server
            .admin(doc! {
                "renameCollection": format!("{database}.{}", self.incoming.1),
                "to": format!("{database}.{}", self.core.live()),
                "dropTarget": true,
                "writeConcern": majority_document(),
                "maxTimeMS": millis(left).max(1),
            })
            .await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (core, stage) = (Arc::clone(&self.core), Arc::clone(&self.stage));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { over(&core, &stage).await });
        }
    }
}

#[async_trait]
impl SwapGuard for Guard {
    async fn head(&mut self) -> Result<Position> {
        self.still_fenced().await?;
        let head = log::head(&self.core).await?;
        // What is applied and compared under the fence is what came up to the first one: a delete that comes later is the tail's.
        self.head.get_or_insert_with(|| head.clone());
        Ok(head)
    }

    async fn apply(&mut self, changes: &[Change]) -> Result<Applied> {
        self.still_fenced().await?;
        apply::apply(&self.core, changes).await
    }

    async fn compare_keys(&mut self, keys: &[Key]) -> Result<Compared> {
        self.still_fenced().await?;
        let mut compared = compare::keys(&self.core, keys).await?;
        // A delete passes the fence at any moment: what is gone from the live collection is the tail's.
        let ids = key::decode_all(compared.differing.iter().map(|change| &change.key))?;
        let there = apply::those_there(&self.core, &ids).await?;
        compared.differing.retain(|change| there.contains(&change.key));
        Ok(compared)
    }

    async fn install_reverse(&mut self) -> Result<Position> {
        // The collection for the way back is there, and in step up to here.
        self.head().await
    }

    async fn save(&mut self, run: &Run, expected: Revision) -> Result<Revision> {
        self.still_fenced().await?;
        save_run(&self.core.server, run, expected, self.core.fence()).await
    }

    async fn commit(&mut self) -> SwapOutcome {
        let from = match &self.head {
            Some(head) => Ok(head.clone()),
            None => self.head().await,
        };
        let intended = match from {
            Ok(from) => tail::intend(&self.core, &self.incoming.1, &from).await,
            Err(error) => Err(error),
        };
        if let Err(error) = intended {
            return SwapOutcome::NotDone(error);
        }
        // Whoever takes the fence away waits for this.
        let stage = Arc::clone(&self.stage);
        let mut stage = stage.lock().await;
        if *stage == Stage::Over || Instant::now() >= self.deadline {
            return SwapOutcome::NotDone(Error::new(
                ErrorKind::LockTimeout,
                "writes could not be refused for any longer",
            ));
        }
        if let Err(error) = self.core.check_token().await {
            return SwapOutcome::NotDone(error);
        }
        // A command of a runner before us that came late may have opened it.
        match guard::stands(&self.core).await {
            Ok(true) => {}
            Ok(false) => {
                let says = "somebody let writes in again before the swap";
                return SwapOutcome::NotDone(Error::new(ErrorKind::LockTimeout, says));
            }
            Err(error) => return SwapOutcome::NotDone(error),
        }
        reached(Boundary::Fencing);
        match self.rename().await {
            Ok(_) => {}
            // It may be done and not yet of the majority, or still be waiting: only the catalogue knows.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::Retry) => {
                *stage = Stage::Over;
                return SwapOutcome::Unknown(error);
            }
            // What was to come in has another name by now.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return SwapOutcome::NotDone(super::copy::fenced(&self.incoming.1).caused_by(error));
            }
            Err(error) => return SwapOutcome::NotDone(error),
        }
        *stage = Stage::Over;
        if let Err(error) = swapped(&self.core).await {
            // The swap stands; what is left of it is made good by whoever asks for the owner next.
            return SwapOutcome::Unknown(error);
        }
        SwapOutcome::Done
    }

    async fn release(self: Box<Self>) -> Result<()> {
        over(&self.core, &self.stage).await;
        Ok(())
    }
}
