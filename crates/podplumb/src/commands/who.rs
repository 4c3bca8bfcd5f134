//! `podplumb who X`

use crate::arguments::{Shape, WhoOptions};
use crate::commands::{snapshot_of, tell_coverage};
use crate::output::{Ended, hinted, paint, print, print_json};

pub(crate) fn run(options: &WhoOptions) -> anyhow::Result<Ended> {
    let snapshot = snapshot_of(&options.node)?;
    let found = analyze::who::who(&snapshot, &options.question);
    if found.is_empty() {
        tell_coverage(&snapshot);
        return Err(hinted(
            format!("nothing on this node goes by {:?}", options.question),
            "give a veth, index, IP, MAC, pid, namespace path or inode, container id or pod name; `podplumb pods` lists what is here",
        ));
    }
    match options.output {
        Shape::Text => print(&analyze::render::who(&found, paint()))?,
        Shape::Json => print_json(&found)?,
    }
    tell_coverage(&snapshot);
    Ok(Ended::Fine)
}
