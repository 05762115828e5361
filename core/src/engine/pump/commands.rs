//! Commands that another process left in the journal.

use tokio::time::{Instant, timeout};

use super::{End, Goal, JOURNAL_DEADLINE, Pump};
use crate::control::{Answer, Control};
use crate::run::RunState;
use crate::{Error, ErrorKind, Result};

impl Pump<'_> {
    /// Commands from other processes.
    pub(super) async fn obey(&mut self) -> Result<Option<End>> {
        let pending = match timeout(JOURNAL_DEADLINE, self.record.store().pending(&self.record.run.id)).await
        {
            Ok(Ok(pending)) => pending,
            // They are still there in half a second.
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        for command in pending {
            let (answer, end) = self.obey_one(command.control).await?;
            self.record.store().acknowledge(command.id, &answer.write()).await?;
            if end.is_some() {
                return Ok(end);
            }
        }
        Ok(None)
    }

    async fn obey_one(&mut self, control: Control) -> Result<(Answer, Option<End>)> {
        let run = &mut self.record.run;
        match control {
            Control::Pause if run.state == RunState::Paused => Ok((Answer::obeyed("paused already"), None)),
            // A run that has been applied only follows its live table: paused, it would be neither
            // reversible nor on its way.
            Control::Pause if self.goal != Goal::Swap => {
                Ok((Answer::refused(format!("nothing to pause: the run is {}", run.state)), None))
            }
            Control::Pause => {
                run.resume_state = Some(run.state);
                self.machine.set_paused(true);
                let message = match self.machine.keeps_changes() {
                    true => "paused; what changes meanwhile waits in the log",
                    false => "paused; changes are still applied",
                };
                self.record.enter(RunState::Paused, message).await?;
                Ok((Answer::obeyed("paused"), None))
            }
            Control::Resume => {
                let Some(state) = run.resume_state.take() else {
                    return Ok((Answer::obeyed("it was not paused"), None));
                };
                self.machine.set_paused(false);
                self.record.enter(state, "going on").await?;
                Ok((Answer::obeyed("going on"), None))
            }
            Control::Throttle { set } => {
                let mut limits = run.options.limits.clone();
                if let Err(error) = limits.set_all(&set) {
                    return Ok((Answer::refused(error.to_string()), None));
                }
                run.options.limits = limits.clone();
                self.machine.set_limits(limits);
                self.record.save().await?;
                self.due.load = Instant::now();
                Ok((Answer::obeyed("limits changed"), None))
            }
            Control::Cutover => {
                run.cutover_requested = true;
                self.record.save().await?;
                Ok((Answer::obeyed("will cut over when it is safe"), None))
            }
            Control::Abort => Ok((Answer::obeyed("aborting"), Some(End::Abort))),
            Control::Stop => Err(Error::new(ErrorKind::Gate, "stopped by command; the checkpoint is saved")
                .hint(format!("go on with `replank resume {}`", self.record.run.id))),
        }
    }
}
