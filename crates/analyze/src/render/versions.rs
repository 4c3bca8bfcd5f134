//! Versions that are known to go wrong.

use super::text::{hang, shorten};
use crate::versions::Versions;

/// The warnings, each with its source; empty when there is nothing to say.
pub fn versions(versions: &Versions) -> String {
    let mut out = String::new();
    if !versions.warnings.is_empty() {
        out.push_str("versions that are known to go wrong:\n");
    }
    for warning in &versions.warnings {
        hang(&mut out, "  ", 4, &shorten(&format!("{}: {}", warning.subject, warning.what)));
        out.push_str(&format!("    {}\n", warning.source));
    }
    for subject in &versions.unknown {
        hang(
            &mut out,
            "",
            2,
            &shorten(&format!("not compared with versions that are known to go wrong: {subject}")),
        );
    }
    out
}
