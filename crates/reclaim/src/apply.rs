//! Carrying a plan out, operation by operation, each in the journal before and after.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use analyze::plan::{LinkIdentity, Operation, PinIdentity, Plan, Step};
use model::attachment::digest;
use serde::Serialize;

use crate::Error;
use crate::files;
use crate::journal::{Event, Journal, Outcome, Store};
use crate::kernel;
use crate::leases;

/// An operation and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The id by which `undo` finds it.
    pub id: String,
    /// The operation.
    #[serde(flatten)]
    pub step: Step,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Where things are that operations need.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Directories with CNI plugins, searched in order.
    pub plugin_dirs: Vec<PathBuf>,
}

/// Carries the plan out. Every operation is tried, whatever came of the others; an error means that the run could not
/// go on (the journal cannot be written), and then nothing was done that is not in the journal.
pub fn apply(
    plan: &Plan,
    store: &Store,
    surroundings: &Surroundings,
    mut report: impl FnMut(&Applied),
) -> Result<Vec<Applied>, Error> {
    let mut journal = store.open()?;
    if sys::boot_id().ok().as_ref() != Some(&plan.boot_id) {
        return Err(Error::OtherBoot);
    }
    let mut run = Run { journal: &mut journal, surroundings, saved: HashSet::new(), spared: HashMap::new() };
    let mut applied = Vec::new();
    let mut place = 0;
    while place < plan.steps.len() {
        // Links go together; everything else one by one.
        let together = plan.steps[place..].iter().take_while(|step| as_link(step).is_some()).count().max(1);
        let batch = &plan.steps[place..place + together];
        let ids: Vec<String> = (0..batch.len()).map(|at| run.journal.id(place + at + 1)).collect();
        for (id, step) in ids.iter().zip(batch) {
            run.journal.write(id, Event::Begun { step: Box::new(step.clone()) })?;
        }
        run.look_again(plan, batch);
        let outcomes = run.carry_out(batch, &ids);
        for ((id, step), outcome) in ids.into_iter().zip(batch).zip(outcomes) {
            run.journal.write(&id, Event::Ended { outcome: outcome.clone() })?;
            let done = Applied { id, step: step.clone(), outcome };
            report(&done);
            applied.push(done);
        }
        place += together;
    }
    Ok(applied)
}

fn as_link(step: &Step) -> Option<&LinkIdentity> {
    match &step.operation {
        Operation::RemoveLink(link) => Some(link),
        _ => None,
    }
}

struct Run<'a> {
    journal: &'a mut Journal,
    surroundings: &'a Surroundings,
    /// Files of which the quarantine has a copy.
    saved: HashSet<PathBuf>,
    /// Orphans that turned out, in the course of this run, to be none, or of which something has to stay; and why.
    spared: HashMap<String, String>,
}

impl Run<'_> {
    /// Plugins of earlier orphans may have taken minutes: before an operation that ends something, makes sure that nobody has moved
    /// into its orphan's namespace meanwhile.
    fn look_again(&mut self, plan: &Plan, batch: &[Step]) {
        let ends = |operation: &Operation| {
            matches!(
                operation,
                Operation::ReplayDel { .. } | Operation::RemoveLink(_) | Operation::Unpin { .. }
            )
        };
        for step in batch.iter().filter(|step| ends(&step.operation)) {
            let pins =
                plan.steps.iter().filter(|other| other.target == step.target).filter_map(
                    |other| match &other.operation {
                        Operation::Unpin { path, inode, ns_id } => {
                            Some(PinIdentity { path: path.clone(), inode: *inode, ns_id: *ns_id })
                        }
                        _ => None,
                    },
                );
            for pin in pins {
                if kernel::is_inhabited(&pin) {
                    let why = format!("a process moved into {} meanwhile", pin.path.display());
                    self.spared.insert(step.target.clone(), why);
                }
            }
        }
    }

    fn carry_out(&mut self, batch: &[Step], ids: &[String]) -> Vec<Outcome> {
        let spared =
            |step: &Step| self.spared.get(&step.target).map(|why| Outcome::Skipped { why: why.clone() });
        let mut outcomes: Vec<Option<Outcome>> = batch.iter().map(spared).collect();
        let free = |outcomes: &[Option<Outcome>]| -> Vec<usize> {
            (0..batch.len()).filter(|at| outcomes[*at].is_none()).collect()
        };
        let places: Vec<usize> =
            free(&outcomes).into_iter().filter(|at| as_link(&batch[*at]).is_some()).collect();
        let links: Vec<&LinkIdentity> = places.iter().filter_map(|at| as_link(&batch[*at])).collect();
        for (at, outcome) in places.iter().zip(kernel::remove_links(&links)) {
            outcomes[*at] = Some(outcome);
        }
        for at in free(&outcomes) {
            let step = &batch[at];
            let outcome = self.one(&step.operation, &ids[at]);
            if let (
                Operation::ReplayDel { essential: true, .. },
                Outcome::Failed { .. } | Outcome::Skipped { .. },
            ) = (&step.operation, &outcome)
            {
                let why = "its plugins' DEL did not succeed, and only they know what they made".to_owned();
                self.spared.insert(step.target.clone(), why);
            }
            outcomes[at] = Some(outcome);
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::AlreadyGone)).collect()
    }

    fn one(&mut self, operation: &Operation, id: &str) -> Outcome {
        match operation {
            Operation::SaveLease { path, content } => {
                let outcome = leases::save(path, content, &self.journal.store().quarantine(id));
                self.note(path, outcome)
            }
            Operation::SaveCache { path, digest: wanted } => {
                let quarantine = self.journal.store().quarantine(id);
                let outcome = files::save(path, &quarantine, |found| digest(found) == *wanted);
                self.note(path, outcome)
            }
            Operation::ReplayDel { cache, digest: wanted, key, netns, plugins, essential: _ } => {
                self.replay(cache, *wanted, key, netns.as_ref(), plugins)
            }
            Operation::RemoveLink(link) => {
                kernel::remove_links(&[link]).pop().expect("one outcome for one link")
            }
            Operation::Unpin { path, inode, ns_id } => kernel::unpin(path, *inode, *ns_id),
            Operation::RemoveLease { path, content } => {
                self.with_copy(path, || leases::release(path, content))
            }
            Operation::RemoveCache { path, digest: wanted } => {
                self.with_copy(path, || files::remove(path, |found| digest(found) == *wanted))
            }
            Operation::RemoveElements { owner, .. } => {
                let removed = netlink::Socket::netfilter()
                    .and_then(|mut socket| nft::remove_where(&mut socket, |other| other == owner));
                match removed {
                    Ok(0) => Outcome::AlreadyGone,
                    Ok(_) => Outcome::Done,
                    Err(error) => Outcome::Failed { why: error.to_string() },
                }
            }
            Operation::RemoveRecord { path, key } => files::remove(path, |content| {
                model::AttachmentRecord::parse(content).is_ok_and(|record| record.key == *key)
            }),
            Operation::RemoveStaleFile { path, inode } => remove_stale(path, *inode),
        }
    }

    fn note(&mut self, path: &Path, outcome: Outcome) -> Outcome {
        if outcome == Outcome::Done {
            self.saved.insert(path.to_owned());
        }
        outcome
    }

    /// Removes only what this run has saved: without a copy there is no way back.
    fn with_copy(&self, path: &Path, remove: impl FnOnce() -> Outcome) -> Outcome {
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::AlreadyGone,
            _ if self.saved.contains(path) => remove(),
            _ => Outcome::Failed { why: "there is no copy of it in the quarantine".to_owned() },
        }
    }

    fn replay(
        &self,
        cache: &Path,
        wanted: u64,
        key: &model::AttachmentKey,
        netns: Option<&PinIdentity>,
        plugins: &[String],
    ) -> Outcome {
        let dirs = &self.surroundings.plugin_dirs;
        if plugins.iter().all(|plugin| cni::chain::find(plugin, dirs).is_err()) {
            return Outcome::Skipped { why: "no plugin of the chain is installed".to_owned() };
        }
        if let Some(pin) = netns.filter(|pin| !kernel::is_pinned(pin)) {
            return Outcome::Changed {
                why: format!("{} leads to another namespace by now", pin.path.display()),
            };
        }
        if !self.saved.contains(cache) {
            return Outcome::Failed {
                why: "there is no copy of the cache entry in the quarantine".to_owned(),
            };
        }
        let content = match files::read(cache) {
            Ok(Some(content)) if digest(&content) == wanted => content,
            Ok(Some(_)) => {
                return Outcome::Changed { why: "the cache entry has another content by now".to_owned() };
            }
            Ok(None) => return Outcome::AlreadyGone,
            Err(error) => return failed(cache, error),
        };
        let errors = cni::chain::replay_del(&content, key, netns.map(|pin| pin.path.as_path()), dirs);
        match errors.as_slice() {
            [] => Outcome::Done,
            // Our own removal goes on with what the plugins left.
            errors => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Outcome::Failed { why: texts.join("; ") }
            }
        }
    }
}

fn remove_stale(path: &Path, inode: u64) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::AlreadyGone,
        Err(error) => failed(path, error),
        Ok(stat) if stat.ino() != inode || !stat.is_file() || stat.len() != 0 => {
            Outcome::Changed { why: format!("{} is another file by now", path.display()) }
        }
        Ok(_) => match std::fs::remove_file(path) {
            Ok(()) => Outcome::Done,
            Err(error) => failed(path, error),
        },
    }
}

fn failed(path: &Path, error: std::io::Error) -> Outcome {
    Outcome::Failed { why: format!("{}: {error}", path.display()) }
}
