//! Runs that are taken into the hand and given back: lease, record, and the handle on the rebuild.

use std::sync::Arc;
use std::time::Duration;

use super::Runner;
use crate::control::Answer;
use crate::driver::{LeaseHolder, Rebuild, RebuildJob, Revision};
use crate::engine::boundary::Boundary;
use crate::engine::record::Record;
use crate::event::Body;
use crate::ident::{Fence, RunId, TableId};
use crate::journal::patience::repeatedly;
use crate::journal::{host, lease};
use crate::run::Run;
use crate::{Error, ErrorKind, Result};

impl Runner {
    /// The run with the lease on its table, now ours.
    pub(super) async fn take_over(&self, id: &RunId) -> Result<Record> {
        let (run, _) = self.load(id).await?;
        if run.plan.is_rebuild() && !run.state.is_final() {
            // Where it must not go on, nothing is written, not even the lease.
            self.rebuild_of(&run, run.fence).await?;
        }
        let token = self.take_lease(&run.table, id).await?;
        // Read again: the holder before us may have saved until just now.
        let (run, revision) = self.load(id).await?;
        let me = host::this_process(id);
        let record =
            Record::new(Arc::clone(&self.session), Arc::clone(&self.reporter), run, revision, token, me);
        record.pass(Boundary::LeaseTaken);
        // What was asked of the runner before us was not asked of us: it may be long ago, and about a run
        // that has turned round since.
        let store = self.session.state();
        for stale in repeatedly(|| store.pending(id)).await? {
            let answer = Answer::refused("that runner is gone; ask again").write();
            repeatedly(|| store.acknowledge(stale.id, &answer)).await?;
        }
        Ok(record)
    }

    pub(super) async fn load(&self, id: &RunId) -> Result<(Run, Revision)> {
        repeatedly(|| self.session.state().load(id)).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no run `{id}`")).hint("`replank history` lists the runs")
        })
    }

    pub(super) async fn take_lease(&self, table: &TableId, id: &RunId) -> Result<Fence> {
        let me = host::this_process(id);
        let reporter = Arc::clone(&self.reporter);
        let table_name = table.to_string();
        let waiting = move |holder: &LeaseHolder, left: Duration| {
            let message = format!(
                "`{table_name}` is held by process {} on {}; waiting up to {} s for it to give way",
                holder.pid,
                holder.host,
                left.as_secs()
            );
            reporter.report(None, Body::Warning { message });
        };
        lease::take(self.session.state(), table, &me, waiting).await
    }

    pub(super) async fn open(&self, record: &Record) -> Result<Arc<dyn Rebuild>> {
        self.rebuild_of(&record.run, record.token()).await
    }

    async fn rebuild_of(&self, run: &Run, token: Fence) -> Result<Arc<dyn Rebuild>> {
        let rebuilder = self.session.rebuilder().ok_or_else(|| {
            Error::new(ErrorKind::Refused, "this target cannot rebuild a table")
                .hint("see `replank drivers` for what it can do")
        })?;
        let job = RebuildJob::of(run, token);
        // It changes nothing.
        repeatedly(|| rebuilder.open(&job)).await
    }

    /// Runs on a table are taken back newest first: what a later one keeps would be lost, or its way back.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] while a later run on the table is not over.
    pub async fn refuse_unless_newest(&self, run: &Run) -> Result<()> {
        let runs = repeatedly(|| self.session.state().runs()).await?;
        let later = runs.into_iter().skip_while(|other| other.id != run.id).skip(1).find(|other| {
            other.table == run.table && !other.state.is_final() && other.takes_back.as_ref() != Some(&run.id)
        });
        let Some(later) = later else { return Ok(()) };
        let hint = match later.state.is_reversible() {
            true => format!("`replank revert {0}` or `replank finalize {0}` first", later.id),
            false => format!("`replank resume {0}` or `replank abort {0}` first", later.id),
        };
        let what = format!("run {} on `{}` came later, and is {}", later.id, later.table, later.state);
        Err(Error::new(ErrorKind::Refused, what).hint(hint))
    }

    /// One run a table; and one retired table a table.
    pub(super) async fn refuse_if_busy(&self, new: &Run) -> Result<()> {
        let runs = repeatedly(|| self.session.state().runs()).await?;
        for run in runs.iter().filter(|run| run.table == new.table) {
            if !run.state.is_final() && !run.state.is_reversible() {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("run {} on `{}` is not over: it is {}", run.id, run.table, run.state),
                )
                .hint(format!("`replank resume {0}` or `replank abort {0}` first", run.id)));
            }
            if run.state.is_reversible() && run.plan.is_rebuild() && new.plan.is_rebuild() {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("run {} still keeps a retired table of `{}`", run.id, run.table),
                )
                .hint(format!("`replank finalize {0}` or `replank revert {0}` first", run.id)));
            }
        }
        Ok(())
    }

    pub(super) async fn give_back<T>(&self, record: &Record, error: Error) -> Result<T> {
        self.release(record).await?;
        Err(error)
    }

    pub(super) async fn release(&self, record: &Record) -> Result<()> {
        match record.release().await {
            // It expires by itself.
            Err(error) if error.kind() == ErrorKind::ConnectionLost => Ok(()),
            released => released,
        }
    }
}
