//! The command line: it reads arguments, calls the library that does the work, and prints.

mod arguments;
mod commands;
mod installation;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::output::{Hinted, note};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Snapshot(options) => commands::snapshot::run(&options),
        Command::Map(options) => commands::map::run(&options),
        Command::Who(options) => commands::who::run(&options),
        Command::Holders(options) => commands::holders::run(&options),
        Command::Pods(options) => commands::pods::run(&options),
        Command::Leaks(options) => commands::leaks::run(&options),
        Command::Reclaim(options) => commands::reclaim::run(&options),
        Command::Gc(options) => commands::gc::run(&options),
        Command::Journal(options) => commands::journal::run(&options),
        Command::Undo(options) => commands::undo::run(&options),
        Command::Cni(command) => commands::cni::run(&command),
        Command::Lab(command) => commands::lab::run(&command),
    };
    match done {
        Ok(found) => found.into(),
        Err(error) => {
            note(format_args!("podplumb: {error:#}"));
            if let Some(hint) = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()) {
                note(format_args!("hint: {}", hint.hint));
            }
            ExitCode::FAILURE
        }
    }
}
