//! What an ADD and a DEL cost does not depend on how many leases there are. System calls are counted: they are the same on every
//! machine. Those by which DEL waits until a link is gone are not: how many that takes, the kernel decides.

use std::process::Command;

use podplumb_tests::{Fault, Pod, Traced, World, require, run_traced};
use serde_json::{Value, json};
use sys::trace::{End, SystemCall};

/// As many pods as a node with a /18 may have.
const LEASES: u32 = 10_000;
/// The allocator may need a page more for a longer answer.
const TOLERANCE: usize = 4;
/// What DEL waits by.
const WAITING: [libc::c_long; 5] = [
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
];

struct Rig {
    world: World,
    kind: &'static str,
}

impl Rig {
    /// Calls the plugin about `id` and returns its result and how many system calls it made.
    fn count(&self, command: &str, id: &str, previous: &Value) -> (Value, usize) {
        let directory = self.world.shipped_dir();
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "pods", "type": self.kind, "bridge": "cni0", "isDefaultGateway": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.64.0.0/16" }]] },
        });
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        let mut program = Command::new(directory.join(self.kind));
        program
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_PATH", &directory)
            .env("CNI_CONTAINERID", id);
        program.env("CNI_NETNS", format!("/run/netns/{id}")).env("CNI_IFNAME", "eth0");
        // At a system call that it does not make, nothing happens.
        let fault = Some((usize::MAX, Fault::Kill));
        let Traced { end, stdout, stderr, calls, .. } =
            run_traced(&mut program, config.to_string().as_bytes(), fault);
        assert_eq!(end, End::Exited(0), "{command} {id}: {stdout}{stderr}");
        let is_wait = |call: &&SystemCall| WAITING.iter().any(|wait| wait.cast_unsigned() == call.number);
        let count = calls.len() - calls.iter().filter(is_wait).count();
        (serde_json::from_str(&stdout).unwrap_or_default(), count)
    }

    /// ADD and DEL.
    fn both(&self, id: &str) -> (Value, [usize; 2]) {
        let _pod = Pod::new(id);
        let (result, add) = self.count("ADD", id, &Value::Null);
        let (_, del) = self.count("DEL", id, &result);
        (result, [add, del])
    }
}

/// Leases of others, in the order in which they would have been given.
fn fill() {
    let first = u32::from_be_bytes([10, 64, 0, 2]);
    let directory = std::path::Path::new("/var/lib/cni/networks/pods");
    for number in 0..LEASES {
        let address = std::net::Ipv4Addr::from(first + number);
        std::fs::write(directory.join(address.to_string()), format!("other{number}\r\neth0"))
            .expect("a lease");
        std::fs::write(directory.join("last_reserved_ip.0"), address.to_string()).expect("a cursor");
    }
}

#[test]
fn add_and_del_make_as_many_system_calls_with_ten_thousand_leases_as_with_none() {
    if !require(&[]) {
        return;
    }
    for kind in ["host-local", "bridge"] {
        let rig = Rig { world: World::enter(), kind };
        // The first ones make bridge and directories.
        rig.both("first");
        let (_, without) = rig.both("without");
        fill();
        let (result, with) = rig.both("with");
        assert_eq!(result["ips"][0]["address"], "10.64.39.18/16", "the one after 10,000 others");
        eprintln!("{kind}: ADD and DEL make {without:?} system calls, with {LEASES} leases {with:?}");
        for (few, many) in without.into_iter().zip(with) {
            assert!(few.abs_diff(many) <= TOLERANCE, "{kind}: {without:?} and {with:?}");
        }
    }
}
