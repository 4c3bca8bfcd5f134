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
    /// As the command did that was run.
    As(u8),
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Fine => ExitCode::SUCCESS,
            Ended::Failed => ExitCode::FAILURE,
            Ended::Found => ExitCode::from(3),
            Ended::As(code) => ExitCode::from(code),
        }
    }
}

/// An error with a line that says what to do about it.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    pub(crate) hint: String,
    /// What the program exits with.
    pub(crate) code: u8,
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// An error with a hint.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    hinted_as(1, message, hint)
}

/// The same, where the exit code says more than that something failed.
pub(crate) fn hinted_as(code: u8, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into(), code }.into()
}

/// Colour on terminals, unless NO_COLOR is set (<https://no-color.org>).
pub(crate) fn paint() -> Paint {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Paint { color: io::stdout().is_terminal() && !unwanted }
}

/// Writes data to stdout. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_more(text).map(drop)
}

/// Writes one of many pieces of data to stdout, and says whether there is still a reader.
pub(crate) fn print_more(text: &str) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => Ok(result.map(|()| true)?),
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
