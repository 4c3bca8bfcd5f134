//! The command line: it reads arguments, calls the library that does the work, and prints.

mod arguments;
mod commands;
mod exposure;
mod installation;
mod output;
mod program;
mod target;

use std::process::ExitCode;

use crate::arguments::Command;
use crate::output::{Hinted, note};

fn main() -> ExitCode {
    let arguments = arguments::arguments();
    let done = match arguments.command {
        Command::Snapshot(options) => commands::snapshot::run(&options),
        Command::Map(options) => commands::map::run(&options),
        Command::Who(options) => commands::who::run(&options),
        Command::Holders(options) => commands::holders::run(&options),
        Command::Exec(options) => commands::exec::run(&options),
        Command::Report(options) => commands::report::run(&options),
        Command::Trace(options) => commands::trace::run(&options),
        Command::Pods(options) => commands::pods::run(&options),
        Command::Expose(options) => commands::expose::run(&options),
        Command::Sockets(options) => commands::sockets::run(&options),
        Command::Capture(options) => commands::capture::run(&options),
        Command::Leaks(options) => commands::leaks::run(&options),
        Command::Doctor(options) => commands::doctor::run(&options),
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
            let hinted = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>());
            if let Some(hinted) = hinted {
                note(format_args!("hint: {}", hinted.hint));
            }
            hinted.map_or(ExitCode::FAILURE, |hinted| ExitCode::from(hinted.code))
        }
    }
}
