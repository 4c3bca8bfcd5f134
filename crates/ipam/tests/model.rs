//! Allocation against a plain model: lists of addresses, a map of owners, and what the cursor files say.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use model::{ContainerId, IfName, Timestamp};
use podplumb_ipam::{AllocateError, Past, RangeSets, RangeSpec, Request, Store, allocate, free};
use proptest::prelude::*;

/// A range of a subnet of eight addresses, by offsets.
#[derive(Debug, Clone)]
struct Shape {
    start: Option<u8>,
    end: Option<u8>,
    gateway: Option<u8>,
}

/// A set: its family, and its ranges.
#[derive(Debug, Clone)]
struct SetShape {
    is_ipv4: bool,
    ranges: Vec<Shape>,
}

/// Something that happens to the directory.
#[derive(Debug, Clone)]
enum Step {
    /// Places in the list of all addresses of all ranges, gateways included; past its end is an address of no range.
    Add {
        owner: u8,
        wishes: Vec<usize>,
    },
    /// DEL of an attachment whose addresses nobody remembers.
    Forget {
        owner: u8,
    },
    /// Release of one address, whoever has it.
    Release {
        owner: u8,
        place: usize,
    },
    Cursor {
        set: usize,
        content: Cursor,
    },
    /// A file in an address's place that is no lease, or one in the old form.
    Foreign {
        place: usize,
        content: &'static str,
    },
}

#[derive(Debug, Clone)]
enum Cursor {
    Missing,
    Text(&'static str),
    Of(usize),
}

fn shape() -> impl Strategy<Value = Shape> {
    let offset = |range: std::ops::RangeInclusive<u8>| proptest::option::of(range);
    (offset(1..=3), offset(3..=6), offset(0..=7)).prop_map(|(start, end, gateway)| Shape {
        start,
        end,
        gateway,
    })
}

fn set_shape() -> impl Strategy<Value = SetShape> {
    let ranges = proptest::collection::vec(shape(), 1..=3);
    (any::<bool>(), ranges).prop_map(|(is_ipv4, ranges)| SetShape { is_ipv4, ranges })
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..70usize;
    let owner = 0..8u8;
    let wishes = prop_oneof![
        3 => Just(Vec::new()),
        2 => proptest::collection::vec(place.clone(), 1..=3),
    ];
    let cursor = prop_oneof![
        Just(Cursor::Missing),
        prop::sample::select(vec![
            "",
            "garbage",
            "10.0.0.2\n",
            " 10.0.1.3",
            "192.0.2.9",
            "fd00::3",
            "::ffff:10.0.0.2"
        ])
        .prop_map(Cursor::Text),
        place.clone().prop_map(Cursor::Of),
    ];
    let foreign = prop::sample::select(vec!["", "hands off", "\r\n", "c1\r\n"]);
    prop_oneof![
        8 => (owner.clone(), wishes).prop_map(|(owner, wishes)| Step::Add { owner, wishes }),
        3 => owner.clone().prop_map(|owner| Step::Forget { owner }),
        2 => (owner, place.clone()).prop_map(|(owner, place)| Step::Release { owner, place }),
        1 => (0..3usize, cursor).prop_map(|(set, content)| Step::Cursor { set, content }),
        1 => (place, foreign).prop_map(|(place, content)| Step::Foreign { place, content }),
    ]
}

/// The specification of a set, and what it offers: its addresses in order, which of them are gateways.
fn offer(shape: &SetShape, number: usize) -> (Vec<RangeSpec>, Vec<(IpAddr, bool)>) {
    let (mut specs, mut offered) = (Vec::new(), Vec::new());
    for (at, range) in shape.ranges.iter().enumerate() {
        let subnet = number * 4 + at;
        let address = |offset: u8| -> IpAddr {
            let text = if shape.is_ipv4 {
                format!("10.0.{subnet}.{offset}")
            } else {
                format!("fd00:{subnet}::{offset}")
            };
            text.parse().unwrap()
        };
        let length = if shape.is_ipv4 { 29 } else { 125 };
        specs.push(RangeSpec {
            subnet: IpNet::new(address(0), length).unwrap(),
            range_start: range.start.map(address),
            range_end: range.end.map(address),
            gateway: range.gateway.map(address),
        });
        // The last address of an IPv4 subnet is for broadcasts.
        let last = if shape.is_ipv4 { 6 } else { 7 };
        let gateway = range.gateway.unwrap_or(1);
        offered.extend(
            (range.start.unwrap_or(1)..=range.end.unwrap_or(last)).map(|n| (address(n), n == gateway)),
        );
    }
    (specs, offered)
}

/// What the model says of a failure.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Exhausted(usize),
    Taken(IpAddr),
    Gateway(IpAddr),
    NotServed(IpAddr),
}

impl Refusal {
    fn of(error: AllocateError) -> Self {
        match error {
            AllocateError::Exhausted { set, .. } => Self::Exhausted(set),
            AllocateError::Taken(address) => Self::Taken(address),
            AllocateError::Gateway(address) => Self::Gateway(address),
            AllocateError::NotServed(address) => Self::NotServed(address),
            other => panic!("{other}"),
        }
    }
}

#[derive(Debug)]
struct Model {
    sets: Vec<Vec<(IpAddr, bool)>>,
    files: BTreeMap<IpAddr, String>,
    cursors: Vec<Option<IpAddr>>,
}

impl Model {
    fn place(&self, place: usize) -> IpAddr {
        let mut all = self.sets.iter().flatten().map(|(address, _)| *address);
        all.nth(place).unwrap_or_else(|| "192.0.2.1".parse().unwrap())
    }

    fn add(&mut self, owner: &str, wishes: &[IpAddr]) -> Result<Vec<IpAddr>, Refusal> {
        let mut given = Vec::new();
        let result = self.add_each(owner, wishes, &mut given);
        if result.is_err() {
            given.iter().for_each(|address| drop(self.files.remove(address)));
        }
        result.map(|()| given)
    }

    fn add_each(&mut self, owner: &str, wishes: &[IpAddr], given: &mut Vec<IpAddr>) -> Result<(), Refusal> {
        let mut wishes = wishes.to_vec();
        for (at, set) in self.sets.iter().enumerate() {
            let wish = wishes.iter().position(|wish| set.iter().any(|(address, _)| address == wish));
            let address = match wish.map(|wish| wishes.remove(wish)) {
                Some(wish) if set.contains(&(wish, true)) => return Err(Refusal::Gateway(wish)),
                Some(wish) if self.files.contains_key(&wish) => return Err(Refusal::Taken(wish)),
                Some(wish) => wish,
                None => {
                    let last = set.iter().position(|(address, _)| Some(*address) == self.cursors[at]);
                    let begin = last.map_or(0, |last| last + 1);
                    let mut round = (begin..begin + set.len()).map(|n| set[n % set.len()]);
                    let free =
                        round.find(|(address, is_gateway)| !is_gateway && !self.files.contains_key(address));
                    free.ok_or(Refusal::Exhausted(at))?.0
                }
            };
            self.files.insert(address, owner.to_owned());
            self.cursors[at] = Some(address);
            given.push(address);
        }
        wishes.first().map_or(Ok(()), |left| Err(Refusal::NotServed(*left)))
    }

    fn free(&self) -> Vec<u128> {
        let is_free =
            |(address, is_gateway): &&(IpAddr, bool)| !is_gateway && !self.files.contains_key(address);
        self.sets.iter().map(|set| set.iter().filter(is_free).count() as u128).collect()
    }
}

/// Of earlier boots, nothing is known.
struct Nothing;

impl Past for Nothing {
    fn earliest(&self) -> Option<Timestamp> {
        None
    }

    fn is_gone(&mut self, _: &ContainerId) -> bool {
        true
    }
}

/// Whether a file is a lease of the attachment, in the old form of a container as well.
fn belongs(file: &str, container: &ContainerId, content: &str) -> bool {
    file == content || file.trim() == container.as_str()
}

/// Eight attachments of four containers.
fn attachment(owner: u8) -> (ContainerId, IfName, String) {
    let (id, ifname) = (format!("c{}", owner / 2), format!("eth{}", owner % 2));
    let content = format!("{id}\r\n{ifname}");
    (id.parse().unwrap(), ifname.parse().unwrap(), content)
}

fn files(directory: &Path) -> BTreeMap<IpAddr, String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let read = entries.filter_map(|entry| {
        let address = entry.file_name().to_str()?.parse().ok()?;
        Some((address, std::fs::read_to_string(entry.path()).unwrap()))
    });
    read.collect()
}

proptest! {
    #[test]
    fn every_history_gives_what_a_plain_model_gives(
        shapes in proptest::collection::vec(set_shape(), 1..=3),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let data_dir = tempfile::tempdir().unwrap();
        let directory = data_dir.path().join("net");
        let (specs, offered): (Vec<_>, Vec<_>) =
            shapes.iter().enumerate().map(|(number, shape)| offer(shape, number)).unzip();
        let sets = RangeSets::new(&specs).unwrap();
        let mut model = Model { cursors: vec![None; offered.len()], sets: offered, files: BTreeMap::new() };
        for step in steps {
            // As each call of the plugin does.
            let store = Store::create(data_dir.path(), &"net".parse().unwrap()).unwrap();
            match step {
                Step::Add { owner, wishes } => {
                    let mut wishes: Vec<IpAddr> = wishes.into_iter().map(|place| model.place(place)).collect();
                    wishes.sort();
                    wishes.dedup();
                    let (container, ifname, content) = attachment(owner);
                    let request = Request { container: &container, ifname: &ifname, requested: &wishes, takeover: None };
                    let given = allocate(&store, &sets, request);
                    let wanted = model.add(&content, &wishes);
                    if let Ok(given) = &given {
                        for allocation in given {
                            let set = sets.iter().find_map(|set| set.range_of(allocation.address.addr())).unwrap();
                            prop_assert_eq!(allocation.gateway, set.gateway);
                            prop_assert_eq!(allocation.address.trunc(), set.subnet);
                        }
                    }
                    let given = given.map(|given| given.iter().map(|given| given.address.addr()).collect::<Vec<_>>());
                    prop_assert_eq!(given.map_err(Refusal::of), wanted);
                }
                Step::Forget { owner } => {
                    let (container, ifname, content) = attachment(owner);
                    let before = model.files.len();
                    model.files.retain(|_, file| !belongs(file, &container, &content));
                    prop_assert_eq!(store.release_all(&container, &ifname).unwrap(), before - model.files.len());
                }
                Step::Release { owner, place } => {
                    let (container, ifname, content) = attachment(owner);
                    let address = model.place(place);
                    let is_own = model.files.get(&address).is_some_and(|file| belongs(file, &container, &content));
                    if is_own {
                        model.files.remove(&address);
                    }
                    prop_assert_eq!(store.release(address, &container, &ifname).unwrap(), is_own);
                }
                Step::Cursor { set, content } => {
                    let file = directory.join(format!("last_reserved_ip.{set}"));
                    let (text, address) = match content {
                        Cursor::Missing => {
                            let _ = std::fs::remove_file(&file);
                            (None, None)
                        }
                        Cursor::Text(text) => (Some(text.to_owned()), text.trim().parse().ok()),
                        Cursor::Of(place) => (Some(model.place(place).to_string()), Some(model.place(place))),
                    };
                    if let Some(text) = text {
                        std::fs::write(&file, text).unwrap();
                    }
                    if let Some(cursor) = model.cursors.get_mut(set) {
                        *cursor = address;
                    }
                }
                Step::Foreign { place, content } => {
                    let address = model.place(place);
                    model.files.entry(address).or_insert_with(|| {
                        std::fs::write(directory.join(address.to_string()), content).unwrap();
                        content.to_owned()
                    });
                }
            }
            prop_assert_eq!(&files(&directory), &model.files);
            prop_assert_eq!(free(&store, &sets, &mut Nothing).unwrap(), model.free());
            let names = std::fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.file_name());
            let stray: Vec<_> = names.filter(|name| name.to_str().is_some_and(|name| name.starts_with('.'))).collect();
            prop_assert!(stray.is_empty(), "{stray:?}");
        }
    }
}
