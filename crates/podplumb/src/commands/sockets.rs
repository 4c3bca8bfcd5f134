//! `podplumb sockets X`

use std::io::Write;

use anyhow::Context;

use crate::arguments::{Format, SocketsOptions};
use crate::output::{Ended, hinted, print, print_json};
use crate::target::Target;

pub(crate) fn run(options: &SocketsOptions) -> anyhow::Result<Ended> {
    if !sys::is_root() {
        return Err(hinted(
            "sockets needs root: it looks into other people's namespaces",
            "sudo podplumb sockets …",
        ));
    }
    let target = Target::find(&options.question, &options.live)?;
    let table = observe::socket_table(&target.netns, options.unix);
    let mut table = table.with_context(|| format!("cannot list the sockets of {}", target.label))?;
    if options.listening {
        table.sockets.retain(model::Socket::is_listening);
    }
    let chain = target.chain.as_ref();
    match options.output {
        Format::Json => print_json(&serde_json::json!({
            "label": target.label,
            "inode": target.netns.inode()?,
            "sockets": table.sockets,
            "coverage": table.gaps,
        }))?,
        Format::Table | Format::Wide => {
            let wide = options.output == Format::Wide;
            print(&analyze::render::sockets(&table.sockets, chain, wide))?;
            let mut about = analyze::render::about_sockets(&table.sockets, &options.question);
            about.push_str(&analyze::render::coverage(&table.gaps));
            let _ = std::io::stderr().write_all(about.as_bytes());
        }
    }
    Ok(Ended::Fine)
}
