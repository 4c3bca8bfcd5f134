//! Requests for devices that not every kernel has, compared with what iproute2 6.1 sends for the same
//! (`strace -e trace=sendmsg -e write=3 ip link add …`), attribute by attribute.

use std::collections::BTreeMap;

use model::{IfIndex, IfName, Vlans};
use podplumb_netlink::bridge_vlan;
use podplumb_netlink::device::{Device, IpvlanMode, Kind, create};
use podplumb_netlink::{Attributes, Request};

const NLMSGHDR: usize = 16;
const IFINFOMSG: usize = 16;

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect()
}

/// Attributes by their path of types; those in `nested` have attributes inside. Strings come with or without their final NUL.
fn attributes(bytes: &[u8], nested: &[&[u16]]) -> BTreeMap<Vec<u16>, Vec<Vec<u8>>> {
    fn walk(
        attributes: Attributes<'_>,
        path: &[u16],
        nested: &[&[u16]],
        all: &mut BTreeMap<Vec<u16>, Vec<Vec<u8>>>,
    ) {
        for attribute in attributes {
            let path = [path, &[attribute.kind]].concat();
            if nested.contains(&path.as_slice()) {
                walk(attribute.nested(), &path, nested, all);
            } else {
                let end = attribute.value.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                all.entry(path).or_default().push(attribute.value[..end].to_vec());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(Attributes::after(bytes, NLMSGHDR + IFINFOMSG), &[], nested, &mut all);
    all
}

/// IFLA_LINKINFO, its IFLA_INFO_DATA, and IFLA_AF_SPEC.
const NESTED: [&[u16]; 3] = [&[18], &[18, 2], &[26]];

fn assert_same(request: &Request, recorded: &str) {
    let (ours, theirs) = (request.as_bytes(), bytes(recorded));
    assert_eq!(ours[4..6], theirs[4..6], "the message's type");
    assert_eq!(ours[NLMSGHDR..NLMSGHDR + 8], theirs[NLMSGHDR..NLMSGHDR + 8], "family and index");
    assert_eq!(attributes(ours, &NESTED), attributes(&theirs, &NESTED));
}

fn device(name: &str, kind: Kind) -> Request {
    let name: IfName = name.parse().unwrap();
    create(&Device { name: &name, kind, mac: None, mtu_bytes: None, netns: None, up: false, index: None })
}

#[test]
fn a_vlan_is_asked_for_as_iproute2_does() {
    assert_same(
        &device("v0", Kind::Vlan { lower: IfIndex(1), id: 100 }),
        "48 00 00 00 10 00 05 06 78 6d 01 6b 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         08 00 05 00 01 00 00 00 07 00 03 00 76 30 00 00 18 00 12 00 08 00 01 00 76 6c 61 6e 0c 00 02 00
         06 00 01 00 64 00 00 00",
    );
}

#[test]
fn an_ipvlan_is_asked_for_as_iproute2_does() {
    let ours = device("i0", Kind::Ipvlan { lower: IfIndex(1), mode: IpvlanMode::L3s });
    let recorded =
        "54 00 00 00 10 00 05 06 78 6d 01 6b 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         08 00 05 00 01 00 00 00 07 00 03 00 69 30 00 00 24 00 12 00 0a 00 01 00 69 70 76 6c 61 6e 00 00
         14 00 02 00 06 00 01 00 02 00 00 00 06 00 02 00 00 00 00 00";
    let mut theirs = attributes(&bytes(recorded), &NESTED);
    // IFLA_IPVLAN_FLAGS (4.15), which is 0 for who does not ask for it.
    assert!(theirs.remove(&vec![18, 2, 2]).is_some());
    assert_eq!(attributes(ours.as_bytes(), &NESTED), theirs);
}

#[test]
fn a_dummy_and_a_vrf_are_asked_for_as_iproute2_does() {
    assert_same(
        &device("d0", Kind::Dummy),
        "38 00 00 00 10 00 05 06 78 6d 01 6b 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         07 00 03 00 64 30 00 00 10 00 12 00 09 00 01 00 64 75 6d 6d 79 00 00 00",
    );
    assert_same(
        &device("vrf0", Kind::Vrf { table: 10 }),
        "44 00 00 00 10 00 05 06 78 6d 01 6b 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         09 00 03 00 76 72 66 30 00 00 00 00 18 00 12 00 07 00 01 00 76 72 66 00 0c 00 02 00 08 00 01 00
         0a 00 00 00",
    );
}

#[test]
fn a_bridge_with_vlans_and_the_vlans_of_a_port_are_asked_for_as_iproute2_does() {
    assert_same(
        &device("br1", Kind::Bridge { vlans: true, stp: false }),
        "44 00 00 00 10 00 05 06 78 6d 01 6b 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         08 00 03 00 62 72 31 00 1c 00 12 00 0a 00 01 00 62 72 69 64 67 65 00 00 0c 00 02 00 05 00 07 00
         01 00 00 00",
    );
    assert_same(
        &bridge_vlan::add(IfIndex(2), Vlans { first: 100, last: 100, pvid: true, untagged: true }, false),
        "2c 00 00 00 13 00 05 00 79 6d 01 6b 00 00 00 00 07 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00
         0c 00 1a 00 08 00 02 00 06 00 64 00",
    );
    assert_same(
        &bridge_vlan::add(IfIndex(2), Vlans { first: 10, last: 20, pvid: false, untagged: false }, false),
        "34 00 00 00 13 00 05 00 79 6d 01 6b 00 00 00 00 07 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00
         14 00 1a 00 08 00 02 00 08 00 0a 00 08 00 02 00 10 00 14 00",
    );
}
