//! `replank throttle`: change the limits of a run.

use std::collections::BTreeMap;

use replank_core::Result;
use replank_core::control::Control;
use replank_core::throttle::Limits;

use super::selected::select;
use crate::args::Throttle;
use crate::exit::Outcome;
use crate::live;
use crate::shell::Shell;

/// Sends new limits to the runner, or saves them for the next one.
pub async fn run(shell: &Shell, args: Throttle) -> Result<Outcome> {
    let set: BTreeMap<String, String> = args.set.into_iter().collect();
    // A mistake is found here, before anybody is told.
    let mut check = Limits::default();
    for (name, value) in &set {
        check.set(name, value)?;
    }
    let selected = select(shell, &args.run).await?;
    let run = &selected.run;
    shell.output.name_run(&run.id);
    let list: Vec<String> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let list = list.join(" ");
    if let Some(runner) = &selected.runner {
        let answer =
            live::tell(&*selected.connected.session, run, runner, &Control::Throttle { set }).await?;
        return Ok(Outcome::done(format!("run {}: {answer}: {list}", run.id)).state(run.state));
    }
    let run = shell.runner(&selected.connected.session).throttle(&run.id, &set).await?;
    Ok(Outcome::done(format!("run {}: limits for the next runner: {list}", run.id)).state(run.state))
}
