//! Labs that are remembered: changed, disturbed, and removed. Each test has a mount namespace and a directory of its own.

use std::path::Path;

use podplumb_lab::{Error, LabName, Labs, Raised, UpOptions, Wiring, resolve, topology};
use rustix::mount::MountFlags;

fn wiring(yaml: &str) -> Wiring {
    let topology = topology::from_yaml(yaml, Path::new("lab.yaml")).unwrap();
    resolve(&topology, "lab", &|_| unreachable!()).unwrap().wiring
}

/// A place for labs that nobody else sees.
fn labs() -> (tempfile::TempDir, Labs) {
    assert!(sys::is_root(), "needs root");
    let directory = tempfile::tempdir().unwrap();
    sys::isolate_thread().unwrap();
    let labs = Labs::below(directory.path().join("labs"));
    (directory, labs)
}

fn up(labs: &Labs, wiring: &Wiring) -> podplumb_lab::Result<Raised> {
    labs.up(wiring, &UpOptions::default(), &mut |_, _| {})
}

fn steps(raised: podplumb_lab::Result<Raised>) -> Vec<String> {
    match raised.unwrap() {
        Raised::Unchanged => Vec::new(),
        Raised::Made(plan) => plan.to_string().lines().map(str::to_owned).collect(),
    }
}

fn name() -> LabName {
    "lab".parse().unwrap()
}

const PAIR: &str = "hosts: [a, b]\nlinks: [a 10.1.0.1/24 -- b 10.1.0.2/24]\n";

#[test]
fn what_a_user_removed_by_hand_comes_back_and_nothing_else_is_touched() {
    let (directory, labs) = labs();
    let wiring = wiring("hosts: [a, b]\nrouters: [r]\nlinks: [a -- r, b -- r]\n");
    up(&labs, &wiring).unwrap();
    assert_eq!(steps(up(&labs, &wiring)), Vec::<String>::new());
    let before = labs.netns(&name(), "b").unwrap().inode().unwrap();
    // `umount` and `rm` of a namespace, and `ip link del` of an interface in another.
    let pin = directory.path().join("labs/lab/ns/a");
    rustix::mount::unmount(&pin, rustix::mount::UnmountFlags::DETACH).unwrap();
    std::fs::remove_file(&pin).unwrap();
    let made = steps(up(&labs, &wiring));
    assert!(made.iter().any(|line| line == "+ namespace a"), "{made:?}");
    assert!(!made.iter().any(|line| line.contains("namespace b") || line.contains("veth b:")), "{made:?}");
    assert_eq!(labs.netns(&name(), "b").unwrap().inode().unwrap(), before);
    assert_eq!(steps(up(&labs, &wiring)), Vec::<String>::new());
    labs.down(&name(), false).unwrap();
}

#[test]
fn a_change_that_fails_is_taken_back() {
    let (_directory, labs) = labs();
    let there = wiring(PAIR);
    up(&labs, &there).unwrap();
    // The gateway of the new route is on no link: only the kernel notices.
    let mut wanted = wiring("hosts: [a, b, c]\nlinks: [a 10.1.0.1/24 -- b 10.1.0.3/24, c -- a]\n");
    wanted.machines[2].routes.push(podplumb_lab::wiring::Route {
        destination: "10.9.0.0/24".parse().unwrap(),
        gateway: Some("203.0.113.9".parse().unwrap()),
        device: "eth0".parse().unwrap(),
        onlink: false,
        mtu_bytes: None,
        source: None,
        metric: None,
    });
    let error = up(&labs, &wanted).unwrap_err();
    assert!(error.to_string().starts_with("route 10.9.0.0/24 via 203.0.113.9 on c:eth0"), "{error}");
    assert_eq!(steps(up(&labs, &there)), Vec::<String>::new(), "as it was before");
    labs.down(&name(), false).unwrap();
}

#[test]
fn a_lab_that_cannot_be_made_leaves_nothing() {
    let (directory, labs) = labs();
    let mut wanted = wiring(PAIR);
    wanted.machines[1].run.push(vec!["/no/such/program".to_owned()]);
    let error = up(&labs, &wanted).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    assert_eq!(labs.names().unwrap(), []);
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains(&directory.path().display().to_string()));
}

#[test]
fn of_two_who_make_a_lab_at_once_one_is_told_to_wait() {
    let (_directory, labs) = labs();
    let wiring = wiring(PAIR);
    let mut second = None;
    let first = labs.up(&wiring, &UpOptions::default(), &mut |_, _| {
        second.get_or_insert_with(|| up(&labs, &wiring));
    });
    assert!(first.is_ok());
    assert!(matches!(second, Some(Err(Error::Busy(name))) if name == "lab"));
    labs.down(&name(), false).unwrap();
}

#[test]
fn a_full_run_is_an_error_and_leaves_nothing() {
    let (directory, labs) = labs();
    let base = directory.path().join("labs");
    std::fs::create_dir(&base).unwrap();
    // Itself, and one file: the lock.
    rustix::mount::mount("full", &base, "tmpfs", MountFlags::empty(), Some(c"nr_inodes=2")).unwrap();
    let error = up(&labs, &wiring(PAIR)).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(labs.names().unwrap(), []);
}

#[test]
fn a_lab_in_which_somebody_works_is_not_removed_unless_forced() {
    let (_directory, labs) = labs();
    up(&labs, &wiring("hosts: {a: {run: sleep 1000}}\n")).unwrap();
    let netns = labs.netns(&name(), "a").unwrap();
    #[expect(clippy::disallowed_methods, reason = "somebody in the lab")]
    let mut guest = netns.run(|| std::process::Command::new("sleep").arg("999").spawn()).unwrap().unwrap();
    drop(netns);
    match labs.down(&name(), false) {
        Err(Error::Guests { guests, .. }) => {
            assert_eq!((guests[0].machine.as_str(), guests[0].pid), ("a", guest.id()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(labs.names().unwrap(), [name()]);
    let removed = labs.down(&name(), true).unwrap();
    assert_eq!((removed.namespaces, removed.processes), (1, 2));
    guest.wait().unwrap();
}

#[test]
fn who_is_about_to_leave_a_lab_does_not_keep_it() {
    let (_directory, labs) = labs();
    up(&labs, &wiring("hosts: {a: }\n")).unwrap();
    let netns = labs.netns(&name(), "a").unwrap();
    #[expect(clippy::disallowed_methods, reason = "somebody in the lab")]
    let mut guest = netns.run(|| std::process::Command::new("sleep").arg("0.2").spawn()).unwrap().unwrap();
    drop(netns);
    let removed = labs.down(&name(), false).unwrap();
    assert_eq!((removed.namespaces, removed.processes), (1, 0));
    assert!(guest.wait().unwrap().success(), "it was not ended");
}

#[test]
fn labs_with_the_same_names_of_interfaces_are_each_others_business_in_nothing() {
    let (_directory, labs) = labs();
    let other = wiring(&format!("name: other\n{PAIR}"));
    up(&labs, &wiring(PAIR)).unwrap();
    up(&labs, &other).unwrap();
    labs.down(&name(), false).unwrap();
    assert_eq!(steps(up(&labs, &other)), Vec::<String>::new());
    labs.down(&other.lab, false).unwrap();
    assert!(matches!(labs.down(&name(), false), Err(Error::Unknown(_))));
}

#[test]
fn everything_that_is_made_says_whose_it_is() {
    let (_directory, labs) = labs();
    up(&labs, &wiring("routers: {r: {bridges: [br0]}}\nhosts: [a]\nlinks: [a -- r/br0]\n")).unwrap();
    for machine in ["a", "r"] {
        let netns = labs.netns(&name(), machine).unwrap();
        let mut socket = netns.run(netlink::Socket::route).unwrap().unwrap();
        let links = netlink::link::list(&mut socket, None).unwrap();
        let unstamped =
            links.iter().filter(|link| !link.loopback && link.alias.as_deref() != Some("podplumb lab lab"));
        assert_eq!(unstamped.map(|link| &link.name).collect::<Vec<_>>(), Vec::<&String>::new());
    }
    labs.down(&name(), false).unwrap();
}

#[test]
fn delay_needs_a_kernel_that_has_it_or_is_left_out_on_request() {
    let (_directory, labs) = labs();
    let wiring = wiring("hosts: [a, b]\nlinks: [{link: a -- b, delay: 20ms, rate: 10mbit}]\n");
    match up(&labs, &wiring) {
        Ok(_) => {}
        Err(Error::Unsupported { option, .. }) => {
            assert_eq!(option, "CONFIG_NET_SCH_NETEM");
            assert_eq!(labs.names().unwrap(), [], "before anything is made");
            let options = UpOptions { skip_unsupported: true, ..UpOptions::default() };
            labs.up(&wiring, &options, &mut |_, _| {}).unwrap();
        }
        Err(error) => panic!("{error}"),
    }
    labs.down(&name(), false).unwrap();
}

#[test]
fn a_lab_of_another_podplumb_is_left_to_its_owner() {
    let (directory, labs) = labs();
    up(&labs, &wiring(PAIR)).unwrap();
    let record = directory.path().join("labs/lab/lab.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replacen("\"version\":1", "\"version\":7", 1)).unwrap();
    assert!(matches!(up(&labs, &wiring(PAIR)), Err(Error::Record { .. })));
    assert_eq!(labs.gc().unwrap(), []);
    assert_eq!(labs.down(&name(), false).unwrap().namespaces, 2);
}
