//! The user's own command, when it could not be run: which, where it was looked for, and why, with the exit codes that shells have.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use analyze::render::printable;

use crate::output::hinted_as;

/// POSIX, "Exit Status for Commands": it was not found.
const NOT_FOUND: u8 = 127;
/// It was found, and could not be run.
const NOT_RUN: u8 = 126;
/// Where `execvp` looks if there is no PATH (confstr(_CS_PATH)).
const USUAL_PATH: &str = "/bin:/usr/bin";

/// Why it could not be run; `place` says whose files were looked at.
pub(crate) fn not_run(program: &OsStr, error: io::Error, place: &str) -> anyhow::Error {
    let name = printable(&program.to_string_lossy());
    let path = std::env::var("PATH").unwrap_or_else(|_| USUAL_PATH.into());
    let file = candidates(program, &path).into_iter().find(|file| file.exists());
    match file {
        None if error.kind() == io::ErrorKind::NotFound => {
            let message = format!("cannot run {name}: there is no such program {place}");
            let hint = match is_path(program) {
                true => "give the path as it is in there".to_owned(),
                false => format!("it was looked for in {}", printable(&path)),
            };
            hinted_as(NOT_FOUND, message, hint)
        }
        Some(file) if error.kind() == io::ErrorKind::NotFound => {
            let file = printable(&file.display().to_string());
            let message = format!("cannot run {file}: what interprets it is not there {place}");
            hinted_as(NOT_RUN, message, format!("`head -c 64 {file}` and `ldd {file}` say what it needs"))
        }
        Some(file) if !is_executable(&file) => {
            let file = printable(&file.display().to_string());
            let message = format!("cannot run {file}: it is not executable ({error})");
            hinted_as(NOT_RUN, message, format!("look at its mode with `ls -l {file}`"))
        }
        _ => {
            let hint = "is it a program for this machine, and does it have an interpreter?";
            hinted_as(NOT_RUN, format!("cannot run {name}: {error}"), hint)
        }
    }
}

/// Names with a slash are not looked for.
fn is_path(program: &OsStr) -> bool {
    program.as_encoded_bytes().contains(&b'/')
}

fn candidates(program: &OsStr, path: &str) -> Vec<PathBuf> {
    if is_path(program) {
        return vec![program.into()];
    }
    std::env::split_paths(path).map(|directory| directory.join(program)).collect()
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
}
