//! Carrying a plan out, phase by phase, each operation in the journal before and after.
//!
//! Operations of one phase go together, in batches: their journal lines and copies reach the disk at once, processes are walked once,
//! links are deleted as a group, plugins of different containers work at the same time.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use analyze::plan::{LinkIdentity, Operation, Phase, PinIdentity, Plan, Step};
use model::attachment::digest;
use serde::Serialize;

use crate::Error;
use crate::elements::Elements;
use crate::files::{self, Unsynced};
use crate::journal::{Event, Journal, Outcome};
use crate::kernel;
use crate::leases;
use crate::replay::{self, Replay};

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

/// How many operations go together at most: as many are in doubt after a crash.
fn most_together(phase: Phase) -> usize {
    match phase {
        // One each that has a process of its own for a while.
        Phase::Plugins => 8,
        Phase::Copies | Phase::Links | Phase::Pins | Phase::Traces => 256,
    }
}

/// Carries the plan out. Every operation is tried, whatever came of those of other orphans; an error means that the run could not
/// go on (the journal cannot be written), and then nothing was done that is not in the journal.
pub fn apply(
    plan: &Plan,
    journal: &mut Journal,
    surroundings: &Surroundings,
    mut report: impl FnMut(&Applied),
) -> Result<Vec<Applied>, Error> {
    if *journal.boot_id() != plan.boot_id {
        return Err(Error::OtherBoot);
    }
    let pins = pins(plan);
    let mut run = Run { journal, surroundings, pins, saved: HashSet::new(), spared: HashMap::new() };
    let mut applied = Vec::new();
    while applied.len() < plan.steps.len() {
        let place = applied.len();
        let phase = plan.steps[place].operation.phase();
        let same = plan.steps[place..].iter().take_while(|step| step.operation.phase() == phase).count();
        let batch = &plan.steps[place..place + same.min(most_together(phase))];
        let ids: Vec<String> = (0..batch.len()).map(|at| run.journal.id(place + at + 1)).collect();
        let begun = ids.iter().zip(batch);
        run.journal
            .write_all(begun.map(|(id, step)| (id.clone(), Event::Begun { step: Box::new(step.clone()) })))?;
        let outcomes = run.carry_out(phase, batch, &ids);
        let ended = ids.iter().zip(&outcomes);
        run.journal
            .write_all(ended.map(|(id, outcome)| (id.clone(), Event::Ended { outcome: outcome.clone() })))?;
        for ((id, step), outcome) in ids.into_iter().zip(batch).zip(outcomes) {
            run.judge(step, &outcome);
            let done = Applied { id, step: step.clone(), outcome };
            report(&done);
            applied.push(done);
        }
    }
    Ok(applied)
}

/// The pins of each orphan's namespace.
fn pins(plan: &Plan) -> HashMap<String, Vec<PinIdentity>> {
    let mut pins: HashMap<String, Vec<PinIdentity>> = HashMap::new();
    for step in &plan.steps {
        if let Operation::Unpin { path, inode, ns_id } = &step.operation {
            let pin = PinIdentity { path: path.clone(), inode: *inode, ns_id: *ns_id };
            pins.entry(step.target.clone()).or_default().push(pin);
        }
    }
    pins
}

struct Run<'a> {
    journal: &'a mut Journal,
    surroundings: &'a Surroundings,
    /// Where each orphan's namespace is pinned.
    pins: HashMap<String, Vec<PinIdentity>>,
    /// Files of which the quarantine has a copy.
    saved: HashSet<PathBuf>,
    /// Orphans that turned out, in the course of this run, to be none, or of which something has to stay; and why.
    spared: HashMap<String, String>,
}

impl Run<'_> {
    fn carry_out(&mut self, phase: Phase, batch: &[Step], ids: &[String]) -> Vec<Outcome> {
        if matches!(phase, Phase::Plugins | Phase::Pins) {
            let targets: Vec<&str> = batch.iter().map(|step| step.target.as_str()).collect();
            let inhabited = inhabited(&self.pins, &targets);
            self.spare(&targets, &inhabited);
        }
        // What is spared is not touched; the others are carried out together.
        let mut outcomes: Vec<Option<Outcome>> = batch.iter().map(|step| self.spares(step)).collect();
        let free: Vec<usize> = (0..batch.len()).filter(|at| outcomes[*at].is_none()).collect();
        let steps: Vec<&Step> = free.iter().map(|at| &batch[*at]).collect();
        let done = match phase {
            Phase::Copies => {
                let ids: Vec<&str> = free.iter().map(|at| ids[*at].as_str()).collect();
                self.copy(&steps, &ids)
            }
            Phase::Plugins => self.replay(&steps),
            Phase::Links => self.remove_links(&steps),
            Phase::Pins | Phase::Traces => {
                let mut unsynced = Unsynced::default();
                let elements = Elements::remove(&steps);
                let outcomes = steps.iter().map(|step| match &step.operation {
                    Operation::RemoveElements { owner, .. } => elements.outcome(owner),
                    operation => self.one(operation, &mut unsynced),
                });
                let outcomes = outcomes.collect();
                // What a power failure brings back of it is found again.
                let _ = unsynced.sync();
                outcomes
            }
        };
        for (at, outcome) in free.into_iter().zip(done) {
            outcomes[at] = Some(outcome);
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::AlreadyGone)).collect()
    }

    fn spares(&self, step: &Step) -> Option<Outcome> {
        self.spared.get(&step.target).map(|why| Outcome::Skipped { why: why.clone() })
    }

    fn spare(&mut self, targets: &[&str], reasons: &[Option<String>]) {
        for (target, why) in targets.iter().zip(reasons) {
            if let Some(why) = why {
                self.spared.insert((*target).to_owned(), why.clone());
            }
        }
    }

    /// What an outcome means for the rest of its orphan.
    fn judge(&mut self, step: &Step, outcome: &Outcome) {
        if matches!(outcome, Outcome::Done | Outcome::AlreadyGone) {
            return;
        }
        let why = match &step.operation {
            // What has no copy cannot be put back, and DEL of the plugins would release the lease.
            operation if operation.copied().is_some() => "there is no copy of all of its files",
            Operation::ReplayDel { essential: true, .. } => {
                "its plugins' DEL did not succeed, and only they know what they made"
            }
            // As long as the address is on an interface, it must not be given to somebody else.
            Operation::RemoveLink(_) => "its interface is still there",
            Operation::Unpin { .. } => "its namespace is still there",
            _ => return,
        };
        self.spared.entry(step.target.clone()).or_insert_with(|| why.to_owned());
    }

    fn copy(&mut self, steps: &[&Step], ids: &[&str]) -> Vec<Outcome> {
        let mut unsynced = Unsynced::default();
        let mut outcomes = Vec::new();
        for (step, id) in steps.iter().zip(ids) {
            let quarantine = self.journal.store().quarantine(id);
            outcomes.push(match &step.operation {
                Operation::SaveLease { path, content } => {
                    leases::save(path, content, &quarantine, &mut unsynced)
                }
                Operation::SaveCache { path, digest: wanted } => {
                    files::save(path, &quarantine, |found| digest(found) == *wanted, &mut unsynced)
                }
                Operation::SaveRecord { path, key } => {
                    files::save(path, &quarantine, |found| is_record_of(found, key), &mut unsynced)
                }
                other => Outcome::Failed { why: format!("{} is no copy", other.object()) },
            });
        }
        if let Err(error) = unsynced.sync() {
            let why = format!("the quarantine could not be written: {error}");
            return outcomes.iter().map(|_| Outcome::Failed { why: why.clone() }).collect();
        }
        for (step, outcome) in steps.iter().zip(&outcomes) {
            if let (Some(path), Outcome::Done) = (step.operation.copied(), outcome) {
                self.saved.insert(path.to_owned());
            }
        }
        outcomes
    }

    fn replay(&self, steps: &[&Step]) -> Vec<Outcome> {
        let replays: Vec<Replay<'_>> = steps
            .iter()
            .filter_map(|step| Replay::of(step, &self.surroundings.plugin_dirs, &self.saved))
            .collect();
        replay::all(&replays)
    }

    fn remove_links(&mut self, steps: &[&Step]) -> Vec<Outcome> {
        let links: Vec<&LinkIdentity> = steps
            .iter()
            .filter_map(|step| match &step.operation {
                Operation::RemoveLink(link) => Some(link),
                _ => None,
            })
            .collect();
        let targets: Vec<&str> = steps.iter().map(|step| step.target.as_str()).collect();
        let mut reasons = Vec::new();
        let outcomes = kernel::remove_links(&links, || {
            reasons = inhabited(&self.pins, &targets);
            reasons.clone()
        });
        self.spare(&targets, &reasons);
        outcomes
    }

    fn one(&self, operation: &Operation, unsynced: &mut Unsynced) -> Outcome {
        match operation {
            Operation::Unpin { path, inode, ns_id } => kernel::unpin(path, *inode, *ns_id),
            Operation::RemoveLease { path, content } => {
                self.with_copy(path, || leases::release(path, content, unsynced))
            }
            Operation::RemoveCache { path, digest: wanted } => {
                self.with_copy(path, || files::remove(path, |found| digest(found) == *wanted, unsynced))
            }
            Operation::RemoveRules { rules } => crate::rules::remove(rules),
            Operation::ForgetFlows { address, flows } => crate::flows::forget(*address, flows),
            Operation::RemoveRecord { path, key } => {
                files::remove(path, |content| is_record_of(content, key), unsynced)
            }
            Operation::RemoveStaleFile { path, inode } => remove_stale(path, *inode),
            Operation::SaveLease { .. }
            | Operation::SaveCache { .. }
            | Operation::SaveRecord { .. }
            | Operation::RemoveElements { .. }
            | Operation::ReplayDel { .. }
            | Operation::RemoveLink(_) => Outcome::Failed { why: "it is not done one by one".to_owned() },
        }
    }

    /// Removes only what this run has saved: without a copy there is no way back.
    fn with_copy(&self, path: &Path, remove: impl FnOnce() -> Outcome) -> Outcome {
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::AlreadyGone,
            _ if self.saved.contains(path) => remove(),
            _ => Outcome::Failed { why: "there is no copy of it in the quarantine".to_owned() },
        }
    }
}

/// Who is in the namespaces of these orphans by now. Plugins of earlier ones may have taken minutes.
fn inhabited(pins: &HashMap<String, Vec<PinIdentity>>, targets: &[&str]) -> Vec<Option<String>> {
    let mut open = Vec::new();
    for target in targets.iter().collect::<HashSet<_>>() {
        let own = pins.get(*target).into_iter().flatten();
        open.extend(own.filter_map(|pin| Some((*target, pin, kernel::open(pin)?))));
    }
    let namespaces: Vec<&sys::NetNs> = open.iter().map(|(_, _, netns)| netns).collect();
    let mut found: HashMap<&str, String> = HashMap::new();
    for ((target, pin, _), occupant) in open.iter().zip(observe::occupants(&namespaces)) {
        if let Some(occupant) = occupant {
            found.insert(target, format!("{} is in use by now: {occupant}", pin.path.display()));
        }
    }
    targets.iter().map(|target| found.get(target).cloned()).collect()
}

fn is_record_of(content: &[u8], key: &model::AttachmentKey) -> bool {
    model::AttachmentRecord::parse(content).is_ok_and(|record| record.key == *key)
}

fn remove_stale(path: &Path, inode: u64) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::AlreadyGone,
        Err(error) => files::failed(path, error),
        Ok(stat) if stat.ino() != inode || !stat.is_file() || stat.len() != 0 => {
            Outcome::Changed { why: format!("{} is another file by now", path.display()) }
        }
        Ok(_) => match std::fs::remove_file(path) {
            Ok(()) => Outcome::Done,
            Err(error) => files::failed(path, error),
        },
    }
}
