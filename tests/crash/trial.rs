//! One trial: a plugin to which something happens at one system call, and a look at what that left.

use std::cell::RefCell;
use std::path::Path;

use netlink::{Socket, link};
use podplumb_tests::{Fault, Pod, Ruleset, STATE, Traced};
use serde_json::Value;
use sys::trace::{End, SystemCall};

use crate::chain::{Attachment, Chain};

/// The same container each time: the harder case, as a record or lease that stayed would be its own.
const ID: &str = "crash";

/// What cleans up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    Del,
    Gc,
}

/// Trials with a chain, and what they found.
pub(crate) struct Trials<'a> {
    chain: &'a Chain,
    attachment: Attachment<'a>,
    nftables: RefCell<Ruleset>,
    /// What a node has after a pod came and went: the bridge, the table, the locks.
    usual: Vec<String>,
    /// Whether each trial begins without all that.
    pub(crate) on_a_new_node: bool,
    pub(crate) count: usize,
    pub(crate) found: Vec<String>,
}

impl<'a> Trials<'a> {
    pub(crate) fn new(chain: &'a Chain, directory: &'a Path) -> Self {
        let attachment = Attachment { directory, id: ID };
        let mut trials = Self {
            chain,
            attachment,
            nftables: RefCell::new(Ruleset::open()),
            usual: Vec::new(),
            on_a_new_node: false,
            count: 0,
            found: Vec::new(),
        };
        let pod = Pod::new(ID);
        let result = trials.add_all().expect("ADD works");
        assert!(trials.traces(&pod).len() > 2, "an attachment leaves traces, or this test sees none");
        trials.undo(Undo::Del, &result).expect("DEL works");
        trials.usual = trials.traces(&pod);
        let is_of_a_pod =
            |trace: &&String| ["link veth", "eth0", "element"].iter().any(|part| trace.contains(part));
        let left: Vec<&String> = trials.usual.iter().filter(is_of_a_pod).collect();
        assert!(left.is_empty(), "an undisturbed DEL leaves {left:?}");
        trials
    }

    /// Something happens to each plugin of an ADD, at each of its system calls.
    pub(crate) fn add(&mut self, fault: Fault, undo: Undo) {
        for at in 0..self.chain.length() {
            self.until_it_ends(|trials, number| {
                let pod = Pod::new(ID);
                let mut previous = Value::Null;
                for earlier in 0..at {
                    previous = trials.expect("ADD", earlier, &previous)?;
                }
                let call = trials.call("ADD", at, &previous, Some((number, fault)));
                let result = trials.judge(&call, "ADD", at, fault)?;
                if let Some(result) = result.filter(|_| call.at.is_some()) {
                    trials.complete(at, result)?;
                }
                // Whether or not the runtime got a result, it does not pass one on after a failure.
                trials.clean(&pod, undo, &Value::Null)?;
                Ok(call.at)
            });
        }
    }

    /// Something happens to each plugin of a DEL, at each of its system calls.
    pub(crate) fn del(&mut self, fault: Fault, undo: Undo) {
        for at in (0..self.chain.length()).rev() {
            self.until_it_ends(|trials, number| {
                let pod = Pod::new(ID);
                let result = trials.add_all()?;
                for later in (at + 1..trials.chain.length()).rev() {
                    trials.expect("DEL", later, &result)?;
                }
                let call = trials.call("DEL", at, &result, Some((number, fault)));
                let succeeded = trials.judge(&call, "DEL", at, fault)?.is_some();
                if succeeded && at == 0 {
                    trials
                        .nothing_left(&pod)
                        .map_err(|left| format!("DEL says that it succeeded, but {left}"))?;
                }
                trials.clean(&pod, undo, &result)?;
                Ok(call.at)
            });
        }
    }

    /// Runs the trial with system call 0, 1, … until the plugin ends before.
    fn until_it_ends(&mut self, trial: impl Fn(&Self, usize) -> Result<Option<SystemCall>, String>) {
        for number in 0.. {
            self.count += 1;
            if self.on_a_new_node {
                self.renew_node();
            }
            match trial(self, number) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    self.found.push(format!("{}, system call {number}: {error}", self.chain.name));
                    // What one trial left is not the next one's fault.
                    self.scrub();
                    assert!(self.found.len() < 200, "too much goes wrong:\n{}", self.found.join("\n"));
                }
            }
        }
    }

    fn call(&self, command: &str, at: usize, previous: &Value, fault: Option<(usize, Fault)>) -> Traced {
        self.chain.call(&self.attachment, command, at, previous, fault)
    }

    /// Calls a plugin to which nothing happens.
    fn expect(&self, command: &str, at: usize, previous: &Value) -> Result<Value, String> {
        let call = self.call(command, at, previous, None);
        let kind = self.chain.kind(at);
        match call.end {
            End::Exited(0) => Ok(serde_json::from_str(&call.stdout).unwrap_or_default()),
            end => {
                Err(format!("{command} of {kind} fails afterwards ({end:?}): {}{}", call.stdout, call.stderr))
            }
        }
    }

    fn add_all(&self) -> Result<Value, String> {
        (0..self.chain.length()).try_fold(Value::Null, |previous, at| self.expect("ADD", at, &previous))
    }

    /// A plugin that reported success has to have done all of it: the rest of the chain can be added, and CHECK is content.
    fn complete(&self, at: usize, result: Value) -> Result<(), String> {
        let result = (at + 1..self.chain.length())
            .try_fold(result, |previous, at| self.expect("ADD", at, &previous))?;
        self.check_all(&result)
    }

    fn check_all(&self, result: &Value) -> Result<(), String> {
        (0..self.chain.length()).try_for_each(|at| self.expect("CHECK", at, result).map(drop))
    }

    fn undo(&self, undo: Undo, result: &Value) -> Result<(), String> {
        let length = self.chain.length();
        match undo {
            Undo::Del => (0..length).rev().try_for_each(|at| self.expect("DEL", at, result).map(drop)),
            Undo::Gc => (0..length).try_for_each(|at| self.expect("GC", at, &Value::Null).map(drop)),
        }
    }

    /// One DEL or GC leaves nothing, and the same container can be attached again.
    fn clean(&self, pod: &Pod, undo: Undo, result: &Value) -> Result<(), String> {
        self.undo(undo, result)?;
        self.nothing_left(pod).map_err(|left| format!("after {undo:?}, {left}"))?;
        let again = self.add_all().and_then(|result| self.check_all(&result).map(|()| result));
        let again = again.and_then(|result| self.undo(Undo::Del, &result));
        again.map_err(|error| format!("next time, {error}"))?;
        self.nothing_left(pod).map_err(|left| format!("after the next time, {left}"))
    }

    fn nothing_left(&self, pod: &Pod) -> Result<(), String> {
        let left: Vec<String> =
            self.traces(pod).into_iter().filter(|trace| !self.usual.contains(trace)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("there is left: {}", left.join(", "))) }
    }

    /// Whether a plugin ended as it may; its result if it succeeded.
    fn judge(&self, call: &Traced, command: &str, at: usize, fault: Fault) -> Result<Option<Value>, String> {
        let what = || format!("{command} of {}, {fault:?} at {:?}", self.chain.kind(at), call.at);
        if call.hung {
            return Err(format!("{}: it hangs", what()));
        }
        match (call.end, call.at, fault) {
            (End::Exited(0), ..) => Ok(Some(serde_json::from_str(&call.stdout).unwrap_or_default())),
            (_, Some(_), Fault::Kill) => Ok(None),
            (End::Signalled(_), Some(refused), _) if may_be_fatal(&refused) => Ok(None),
            (End::Exited(1), Some(refused), _) if is_answer(&refused) => Ok(None),
            (End::Exited(1), ..) if is_error(&call.stdout) => Ok(None),
            (end, ..) => Err(format!("{}: {end:?}, {:?}, {:?}", what(), call.stdout, call.stderr)),
        }
    }

    /// Makes this a node on which no pod has been: no bridge, no table, no state.
    fn renew_node(&self) {
        let mut socket = Socket::route().expect("rtnetlink");
        if let Ok(bridge) = link::by_name(&mut socket, "cni0") {
            socket.ack(link::delete(bridge.index)).expect("a bridge goes");
        }
        self.nftables.borrow_mut().remove_table("podplumb");
        for directory in STATE {
            let _ = std::fs::remove_dir_all(directory);
        }
    }

    /// Removes whatever is there.
    fn scrub(&self) {
        self.renew_node();
        let mut socket = Socket::route().expect("rtnetlink");
        for link in link::list(&mut socket, None).expect("links") {
            if link.name != "lo" {
                let _ = socket.ack(link::delete(link.index));
            }
        }
    }

    fn traces(&self, pod: &Pod) -> Vec<String> {
        podplumb_tests::traces(&mut self.nftables.borrow_mut(), [pod])
    }
}

/// Calls of the allocator, those that the C library and Rust's runtime make before `main`, and sleeping, which Rust takes to be
/// interrupted at most: a process that gets no memory or cannot even start ends as if it had been killed.
pub(crate) fn may_be_fatal(call: &SystemCall) -> bool {
    let numbers = [
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_set_tid_address,
        libc::SYS_ppoll,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_arch_prctl,
    ];
    numbers.iter().any(|number| number.cast_unsigned() == call.number)
}

/// Writing the answer: a plugin that cannot say anything cannot say why.
fn is_answer(call: &SystemCall) -> bool {
    call.number == libc::SYS_write.cast_unsigned() && call.arguments[0] == 1
}

fn is_error(stdout: &str) -> bool {
    let error: Value = serde_json::from_str(stdout).unwrap_or_default();
    error["code"].as_u64().is_some_and(|code| code > 0)
        && error["msg"].as_str().is_some_and(|message| !message.is_empty())
}
