//! Leases that an earlier boot left: which of them are taken over, when, and that nothing is lost on the way.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use model::{ContainerId, Timestamp};
use podplumb_ipam::{
    AllocateError, LeaseFile, Past, RangeSets, RangeSpec, Request, Store, Takeover, allocate, free,
};

/// A past that the test tells, and a journal in memory.
struct Told {
    earliest: Option<Timestamp>,
    alive: Vec<&'static str>,
    journal: Vec<String>,
    is_full: bool,
}

impl Past for Told {
    fn earliest(&self) -> Option<Timestamp> {
        self.earliest
    }

    fn is_gone(&mut self, container: &ContainerId) -> bool {
        !self.alive.contains(&container.as_str())
    }
}

impl Takeover for Told {
    fn past(&mut self) -> &mut dyn Past {
        self
    }

    fn begin(&mut self, store: &Store, lease: &LeaseFile) -> io::Result<()> {
        if self.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let still = std::fs::read_to_string(store.path().join(lease.address.to_string()))?;
        assert_eq!(still, lease.content, "it is noted before it is done");
        self.journal.push(format!("{} of {:?}", lease.address, lease.content));
        Ok(())
    }

    fn end(&mut self, error: Option<String>) {
        self.journal.push(error.unwrap_or_else(|| "done".to_owned()));
    }
}

/// A boot that began after everything that is written before the call.
fn after_all() -> Told {
    let in_a_minute = Timestamp(Timestamp::now().0 + 60_000);
    Told { earliest: Some(in_a_minute), alive: Vec::new(), journal: Vec::new(), is_full: false }
}

struct Rig {
    data_dir: tempfile::TempDir,
    store: Store,
    sets: RangeSets,
}

impl Rig {
    /// A set of 10.0.0.2 to 10.0.0.6, or as many sets as there are subnets.
    fn new(subnets: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::create(data_dir.path(), &"net".parse().unwrap()).unwrap();
        let spec = |subnet: &&str| {
            vec![RangeSpec {
                subnet: subnet.parse().unwrap(),
                range_start: None,
                range_end: None,
                gateway: None,
            }]
        };
        let sets = RangeSets::new(&subnets.iter().map(spec).collect::<Vec<_>>()).unwrap();
        Self { data_dir, store, sets }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data_dir.path().join("net").join(name)
    }

    fn content(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn add(&self, id: &str, wishes: &[IpAddr], told: &mut Told) -> Result<Vec<String>, AllocateError> {
        let (container, ifname) = (id.parse().unwrap(), "eth0".parse().unwrap());
        let request =
            Request { container: &container, ifname: &ifname, requested: wishes, takeover: Some(told) };
        let given = allocate(&self.store, &self.sets, request)?;
        Ok(given.iter().map(|given| given.address.addr().to_string()).collect())
    }

    fn fill(&self) {
        while self.add("old", &[], &mut Told { earliest: None, ..after_all() }).is_ok() {}
    }

    fn free(&self, told: &mut Told) -> Vec<u128> {
        free(&self.store, &self.sets, told).unwrap()
    }
}

#[test]
fn leases_of_an_earlier_boot_are_taken_over_one_at_a_time_once_nothing_else_is_free() {
    let rig = Rig::new(&["10.0.0.0/29"]);
    let mut told = after_all();
    for _ in 0..4 {
        rig.add("old", &[], &mut told).unwrap();
    }
    assert_eq!(rig.add("new1", &[], &mut told).unwrap(), ["10.0.0.6"]);
    assert!(told.journal.is_empty(), "there was a free one");
    assert_eq!(rig.free(&mut told), [1], "STATUS does not keep pods away that would get an address");
    told.alive.extend(["new1", "new2", "new3"]);
    // Round robin goes on.
    assert_eq!(rig.add("new2", &[], &mut told).unwrap(), ["10.0.0.2"]);
    assert_eq!(rig.add("new3", &[], &mut told).unwrap(), ["10.0.0.3"]);
    assert_eq!(rig.content("10.0.0.2"), "new2\r\neth0");
    assert_eq!(rig.content("10.0.0.4"), "old\r\neth0");
    let of = |address: &str| format!("{address} of \"old\\r\\neth0\"");
    assert_eq!(told.journal, [of("10.0.0.2"), "done".into(), of("10.0.0.3"), "done".into()]);
    let hidden = std::fs::read_dir(rig.path("")).unwrap().flatten();
    assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
}

#[test]
fn a_doubt_about_boot_or_container_leaves_a_lease_alone() {
    let rig = Rig::new(&["10.0.0.0/29"]);
    rig.fill();
    let doubts = [
        ("the boot's begin is not known", Told { earliest: None, ..after_all() }),
        (
            "they are of this boot",
            Told { earliest: Some(Timestamp(Timestamp::now().0 - 60_000)), ..after_all() },
        ),
        ("the container lives", Told { alive: vec!["old"], ..after_all() }),
    ];
    for (why, mut told) in doubts {
        assert!(matches!(rig.add("new", &[], &mut told), Err(AllocateError::Exhausted { .. })), "{why}");
        assert_eq!(rig.free(&mut told), [0], "{why}");
        assert!(told.journal.is_empty(), "{why}");
    }
    assert_eq!(rig.add("new", &[], &mut after_all()).unwrap(), ["10.0.0.2"], "and there is no doubt now");
}

#[test]
fn what_is_not_exactly_a_lease_is_never_taken_over() {
    let rig = Rig::new(&["10.0.0.0/29"]);
    let foreign = ["", "reserved", "hands off\r\neth0", "old\neth0", "old\r\neth0\n"];
    for (at, content) in foreign.iter().enumerate() {
        std::fs::write(rig.path(&format!("10.0.0.{}", at + 2)), content).unwrap();
    }
    let mut told = after_all();
    assert!(matches!(rig.add("new", &[], &mut told), Err(AllocateError::Exhausted { .. })));
    assert_eq!(rig.free(&mut told), [0]);
    for (at, content) in foreign.iter().enumerate() {
        assert_eq!(rig.content(&format!("10.0.0.{}", at + 2)), *content);
    }
}

#[test]
fn a_requested_address_of_an_old_lease_stays_refused() {
    let rig = Rig::new(&["10.0.0.0/29"]);
    rig.fill();
    let mut told = after_all();
    let wish = "10.0.0.4".parse().unwrap();
    assert!(matches!(rig.add("new", &[wish], &mut told), Err(AllocateError::Taken(_))));
    assert!(told.journal.is_empty());
}

#[test]
fn each_set_takes_over_for_itself() {
    let rig = Rig::new(&["10.0.0.0/29", "fd00::/126"]);
    rig.fill();
    // The second set has two addresses only: of the first one, some are free.
    assert_eq!(rig.free(&mut Told { earliest: None, ..after_all() }), [3, 0]);
    let mut told = after_all();
    assert_eq!(rig.add("new", &[], &mut told).unwrap(), ["10.0.0.5", "fd00::2"]);
    assert_eq!(told.journal, ["fd00::2 of \"old\\r\\neth0\"", "done"]);
}

#[test]
fn without_a_note_there_is_no_takeover() {
    let rig = Rig::new(&["10.0.0.0/29"]);
    rig.fill();
    let mut told = Told { is_full: true, ..after_all() };
    let error = rig.add("new", &[], &mut told).unwrap_err();
    assert!(matches!(error, AllocateError::Note { .. }), "{error}");
    assert_eq!(rig.content("10.0.0.2"), "old\r\neth0");
}

#[test]
fn what_a_killed_takeover_left_is_used_or_removed_by_the_next() {
    let rig = Rig::new(&["10.0.0.0/29"]);
    rig.fill();
    let left = rig.path(".podplumb-replacement");
    std::fs::write(&left, "killed\r\neth0").unwrap();
    assert_eq!(rig.add("new", &[], &mut after_all()).unwrap(), ["10.0.0.2"]);
    assert!(!left.exists());
    std::fs::write(&left, "killed\r\neth0").unwrap();
    let (container, ifname) = ("killed".parse().unwrap(), "eth0".parse().unwrap());
    assert_eq!(rig.store.release_all(&container, &ifname).unwrap(), 0);
    assert!(!left.exists());
}

#[test]
fn a_lease_that_changed_meanwhile_is_not_replaced() {
    let rig = Rig::new(&["10.0.0.0/29"]);
    rig.fill();
    let address = "10.0.0.2".parse().unwrap();
    let seen = rig.store.lease(address).unwrap().unwrap();
    std::fs::write(rig.path("10.0.0.2"), "other\r\neth0").unwrap();
    assert!(!rig.store.replace(&seen, &"new".parse().unwrap(), &"eth0".parse().unwrap()).unwrap());
    assert_eq!(rig.content("10.0.0.2"), "other\r\neth0");
}
