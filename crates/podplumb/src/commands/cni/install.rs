//! `podplumb cni install`

use std::path::{Path, PathBuf};

use crate::arguments::InstallOptions;
use crate::installation::{Done, Installation};
use crate::output::{Ended, hinted, print};

pub(super) fn run(options: &InstallOptions) -> anyhow::Result<Ended> {
    let names: Vec<&'static str> = plugins::names().collect();
    let installation = Installation::of(&options.bin_dir, &names);
    let done = match options.undo {
        true => installation.undo(),
        false => installation.install(&plugin(options)?),
    };
    let done = done.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => hinted(error.to_string(), "sudo podplumb cni install …"),
        _ => error.into(),
    })?;
    for (name, done) in done {
        let path = options.bin_dir.join(&name);
        let text = match done {
            Done::Installed => "installed".to_owned(),
            Done::Replaced(backup) => format!("installed; the former one is in {}", backup.display()),
            Done::Kept => "is podplumb's already".to_owned(),
            Done::Restored => "put back".to_owned(),
            Done::Removed => "removed".to_owned(),
            Done::LeftAlone(why) => {
                eprintln!("left alone: {}: {why}", path.display());
                continue;
            }
        };
        print(&format!("{}: {text}\n", path.display()))?;
    }
    Ok(Ended::Fine)
}

/// The plugin binary: as given, or beside podplumb.
fn plugin(options: &InstallOptions) -> anyhow::Result<PathBuf> {
    let plugin = match &options.plugin {
        Some(given) => given.clone(),
        None => std::env::current_exe()?.parent().unwrap_or(Path::new("/")).join("podplumb-cni"),
    };
    match plugin.is_file() {
        true => Ok(plugin),
        false => Err(hinted(
            format!("there is no plugin binary {}", plugin.display()),
            "--plugin FILE says where podplumb-cni is",
        )),
    }
}
