//! `podplumb map`

use std::io::{self, IsTerminal};
use std::time::Duration;

use analyze::render::Detail;
use analyze::{Map, drawing, map};
use model::Snapshot;

use crate::arguments::{MapOptions, MapShape};
use crate::commands::{look, look_at_stacks, whole_snapshot_of};
use crate::output::{Ended, paint, print_more};

/// Between two looks that tell rates.
const APART: Duration = Duration::from_secs(1);
/// What is younger is in flight, not leaked.
const GRACE: Duration = Duration::from_secs(60);
/// To the upper left corner, and everything from there on cleared.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(crate) fn run(options: &MapOptions) -> anyhow::Result<Ended> {
    if let Some(every) = options.watch {
        return watch(options, every);
    }
    let earlier = if options.rates {
        let earlier = look(&options.node.live)?;
        std::thread::sleep(APART);
        Some(earlier)
    } else {
        None
    };
    print_more(&text(options, &whole_snapshot_of(&options.node)?, earlier.as_ref())?)?;
    Ok(Ended::Fine)
}

/// Shows one look after the other until a signal, or until nobody reads them any more.
fn watch(options: &MapOptions, every: Duration) -> anyhow::Result<Ended> {
    let mut earlier = look(&options.node.live)?;
    let is_redrawn = io::stdout().is_terminal() && matches!(options.output, MapShape::Tree | MapShape::Wide);
    loop {
        std::thread::sleep(every);
        let snapshot = look_at_stacks(&options.node.live)?;
        let clear = if is_redrawn { CLEAR } else { "" };
        if !print_more(&format!("{clear}{}", text(options, &snapshot, Some(&earlier))?))? {
            return Ok(Ended::Fine);
        }
        earlier = snapshot;
    }
}

fn text(options: &MapOptions, snapshot: &Snapshot, earlier: Option<&Snapshot>) -> anyhow::Result<String> {
    let ills = analyze::doctor::doctor(snapshot, |_| true);
    let map = Map::of(snapshot, earlier, &analyze::leaks(snapshot, None, GRACE), &ills);
    let graph = || map::graph(&map, options.all);
    Ok(match options.output {
        MapShape::Tree => analyze::render::map(&map, Detail::Usual, paint()),
        MapShape::Wide => analyze::render::map(&map, Detail::Wide, paint()),
        MapShape::Json if options.watch.is_some() => format!("{}\n", serde_json::to_string(&map)?),
        MapShape::Json => format!("{}\n", serde_json::to_string_pretty(&map)?),
        MapShape::Dot => drawing::dot(&graph()),
        MapShape::Mermaid => drawing::mermaid(&graph()),
        MapShape::Svg => drawing::svg(&graph()),
    })
}
