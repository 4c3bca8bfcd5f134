//! `podplumb leaks --watch`

use analyze::watch::{Line, Moment, Watch};
use model::Timestamp;
use observe::watch::{Watcher, Woken};

use crate::arguments::LiveOptions;
use crate::commands::cni_paths;
use crate::output::{Ended, print_more};

/// Prints a line for each attachment that comes or goes, until a signal, or until nobody reads them any more.
pub(crate) fn run(options: &LiveOptions) -> anyhow::Result<Ended> {
    let mut watcher = Watcher::new(cni_paths(options))?;
    let mut watch = Watch::default();
    let begun = watcher.everything(None)?;
    if !tell(&watch.hear(begun, now()))? {
        return Ok(Ended::Fine);
    }
    loop {
        let patience = watch.deadline().map(|deadline| deadline.saturating_sub(now().clock));
        let events = match watcher.wait(patience)? {
            Woken::Events(events) => events,
            Woken::Stopped => break,
        };
        let mut lines = Vec::new();
        for event in events {
            lines.extend(watch.hear(event, now()));
        }
        lines.extend(watch.due(now()));
        if !tell(&lines)? {
            return Ok(Ended::Fine);
        }
    }
    tell(&watch.end(now()))?;
    Ok(Ended::Fine)
}

fn now() -> Moment {
    Moment { wall: Timestamp::now(), clock: sys::since_boot() }
}

/// Whether anybody still reads.
fn tell(lines: &[Line]) -> anyhow::Result<bool> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    print_more(&text)
}
