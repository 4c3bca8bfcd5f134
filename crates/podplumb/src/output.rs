//! What all commands do alike: exit codes, hints, colour, data on stdout.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use analyze::render::Paint;
use serde::Serialize;

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing to report.
    Fine,
    /// An operation of several failed; it was said which.
    Failed,
    /// Leaks were found.
    Found,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Fine => ExitCode::SUCCESS,
            Ended::Failed => ExitCode::FAILURE,
            Ended::Found => ExitCode::from(3),
        }
    }
}

/// An error with a line that says what to do about it.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    pub(crate) hint: String,
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// An error with a hint.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// Colour on terminals, unless NO_COLOR is set (<https://no-color.org>).
pub(crate) fn paint() -> Paint {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Paint { color: io::stdout().is_terminal() && !unwanted }
}

/// Writes data to stdout. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes a line to stderr, for people. Nobody may be there to read it (a log service that restarts), and what is at work must not end
/// for that, as it would with `eprintln!`.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes data to stdout as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}
