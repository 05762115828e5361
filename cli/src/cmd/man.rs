//! `replank man`: the manual page, in roff.

use std::io::Write;

use clap_mangen::Man;
use replank_core::{Error, ErrorKind, Result};

use crate::args;
use crate::exit::Outcome;
use crate::shell::Shell;

/// Prints one page with every command: `replank man | man -l -`.
pub fn run(shell: &Shell) -> Result<Outcome> {
    let page = page().map_err(|error| {
        Error::new(ErrorKind::Internal, "the manual could not be written").caused_by(error)
    })?;
    let page = String::from_utf8_lossy(&page);
    shell.output.line(page.trim_end());
    // A program that asks for JSON gets the page as the result's message.
    Ok(Outcome::said(page))
}

fn page() -> std::io::Result<Vec<u8>> {
    let mut command = args::command();
    command.build();
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        writeln!(page, ".SH \"REPLANK {}\"", sub.get_name().to_uppercase())?;
        let man = Man::new(sub.clone());
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    Ok(page)
}
