//! `replank drivers`: what can be changed.

use replank_core::event::{Body, DriverLine};

use crate::exit::Outcome;
use crate::output::wrap;
use crate::shell::Shell;

/// Lists the drivers with their URL schemes.
pub fn run(shell: &Shell) -> Outcome {
    let drivers = shell.registry.drivers();
    for driver in drivers {
        let schemes: Vec<String> = driver.schemes().iter().map(|scheme| format!("{scheme}:")).collect();
        shell.output.line(&format!(
            "{}  {}",
            shell.output.paint().bold(&format!("{:<10}", driver.name())),
            schemes.join(" ")
        ));
        shell.output.line(&wrap::indented(driver.summary(), 12));
        shell.output.object(
            None,
            Body::Driver(DriverLine {
                name: driver.name().to_owned(),
                schemes: driver.schemes().iter().map(|scheme| (*scheme).to_owned()).collect(),
                summary: driver.summary().to_owned(),
            }),
        );
    }
    let noun = if drivers.len() == 1 { "driver" } else { "drivers" };
    Outcome::said(format!("{} {noun}", drivers.len()))
}
