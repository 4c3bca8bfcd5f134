//! Masquerading pods: what leaves a pod for elsewhere than its own subnet gets the node's address.
//!
//! The same traffic as with the reference plugins' ipMasq (plugins/pkg/ip/ipmasq): not what stays in the pod's subnet, and not
//! multicast. A pod is one element in each of two sets: its address, and its address with the subnet that it may reach
//! unchanged.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::message::{APPEND, CREATE};
use netlink::{Attributes, Error, Request, Result, Socket};

use crate::wire::expression::{
    Compare, compare, lookup, mask, masquerade, meta_nfproto, network_header, ret,
};
use crate::wire::{self, INET, Kind, message};

/// The table, in family `inet`.
pub const TABLE: &str = "podplumb";
const CHAIN: &str = "postrouting";

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_LIST_ELEM: u16 = 1;

/// What differs between the families.
struct Family {
    /// Pods' addresses.
    pods: &'static str,
    /// Pods' addresses with the subnets that they reach unchanged.
    local: &'static str,
    /// `NFPROTO_*`.
    protocol: u8,
    /// Offsets of source and destination in the network header, and their length, in bytes.
    source: u32,
    destination: u32,
    length: u32,
    /// nft's number of the type (`TYPE_IPADDR`, `TYPE_IP6ADDR`), for `nft list` to show addresses as such.
    kind: u32,
    /// Multicast: the first byte under a mask.
    multicast: (u8, u8),
}

const FAMILIES: [Family; 2] = [
    Family {
        pods: "pods4",
        local: "local4",
        protocol: 2,
        source: 12,
        destination: 16,
        length: 4,
        kind: 7,
        multicast: (0xf0, 0xe0),
    },
    Family {
        pods: "pods6",
        local: "local6",
        protocol: 10,
        source: 8,
        destination: 24,
        length: 16,
        kind: 8,
        multicast: (0xff, 0xff),
    },
];

impl Family {
    fn of(address: IpAddr) -> &'static Family {
        &FAMILIES[usize::from(address.is_ipv6())]
    }
}

/// Masquerades these pod addresses; each comes with its subnet's prefix length. One transaction, and no complaint about an
/// address that is there already. The table is made when it is not there.
pub fn add(addresses: &[IpNet]) -> Result<()> {
    let mut socket = Socket::netfilter()?;
    let elements = || addresses.iter().flat_map(|net| elements(*net, Kind::NewElement, CREATE)).collect();
    match commit(&mut socket, elements()) {
        // The table is made once a boot: so first try without.
        Err(error) if error.is_gone() => {
            commit(&mut socket, ruleset())?;
            commit(&mut socket, elements())
        }
        result => result,
    }
}

/// Stops masquerading these pod addresses, given as to [`add`]. Succeeds when they are not there.
pub fn remove(addresses: &[IpNet]) -> Result<()> {
    remove_with(&mut Socket::netfilter()?, addresses)
}

/// Like [`remove`], by a socket that is open already. The change is in force when this returns; closing the socket may then
/// wait for the kernel to free memory (5 to 34 ms).
pub fn remove_with(socket: &mut Socket, addresses: &[IpNet]) -> Result<()> {
    let all = || addresses.iter().flat_map(|net| elements(*net, Kind::DeleteElement, 0));
    match commit(socket, all().collect()) {
        // One that is not there takes the others with it: so one by one.
        Err(error) if error.is_gone() => {
            for element in all() {
                match commit(socket, vec![element]) {
                    Err(error) if !error.is_gone() => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        }
        result => result,
    }
}

/// All masqueraded addresses. Empty when the table does not exist.
pub fn list() -> Result<Vec<IpAddr>> {
    let mut socket = Socket::netfilter()?;
    let mut all = Vec::new();
    for family in &FAMILIES {
        let keys = match list_keys(&mut socket, family.pods) {
            Err(error) if error.is_gone() => continue,
            keys => keys?,
        };
        all.extend(keys.iter().filter_map(|key| ip(key)));
    }
    Ok(all)
}

/// `family name` of every nftables table.
pub fn tables() -> Result<Vec<String>> {
    let mut socket = Socket::netfilter()?;
    let request = message("list nftables tables", Kind::GetTable, 0, 0);
    socket.dump(&request, |payload| {
        let family = match payload.first()? {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "unknown",
        };
        let name = Attributes::after(payload, 4).find(NFTA_TABLE_NAME)?.string();
        Some(format!("{family} {name}"))
    })
}

/// The ruleset as nft would write it, without elements.
pub fn text() -> String {
    let mut text = format!("table inet {TABLE} {{\n");
    for (family, addr) in FAMILIES.iter().zip(["ipv4_addr", "ipv6_addr"]) {
        text.push_str(&format!("\tset {} {{\n\t\ttype {addr}\n\t}}\n\n", family.pods));
        text.push_str(&format!(
            "\tset {} {{\n\t\ttype {addr} . {addr}\n\t\tflags interval\n\t}}\n\n",
            family.local
        ));
    }
    text.push_str(&format!(
        "\tchain {CHAIN} {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
    ));
    for (family, (ip, multicast)) in FAMILIES.iter().zip([("ip", "224.0.0.0/4"), ("ip6", "ff00::/8")]) {
        text.push_str(&format!("\t\t{ip} saddr . {ip} daddr @{} return\n", family.local));
        text.push_str(&format!("\t\t{ip} saddr @{} {ip} daddr != {multicast} masquerade\n", family.pods));
    }
    text.push_str("\t}\n}\n");
    text
}

/// Runs messages as one transaction: all take effect or none.
fn commit(socket: &mut Socket, messages: Vec<Request>) -> Result<()> {
    let mut batch = vec![(wire::begin(), false)];
    batch.extend(messages.into_iter().map(|message| (message, true)));
    batch.push((wire::end(), false));
    socket.transact(batch)?.all().map_err(|error: Error| error.on(format_args!("table inet {TABLE}")))
}

/// Table, sets, chain and rules.
fn ruleset() -> Vec<Request> {
    let table =
        message("create nftables table", Kind::NewTable, INET, CREATE).attr_str(NFTA_TABLE_NAME, TABLE);
    let mut messages = vec![table];
    for (at, family) in FAMILIES.iter().enumerate() {
        messages.extend([pods_set(family, at as u32), local_set(family, at as u32)]);
    }
    messages.push(chain());
    messages.extend(FAMILIES.iter().flat_map(|family| [return_rule(family), masquerade_rule(family)]));
    messages
}

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_CONCAT: u32 = 0x80;
/// nft writes a concatenated type as its parts' numbers, 6 bits each (`TYPE_BITS`, nftables' include/datatype.h).
const TYPE_BITS: u32 = 6;

fn set(name: &str, kind: u32, length: u32, id: u32) -> Request {
    message("create nftables set", Kind::NewSet, INET, CREATE)
        .attr_str(NFTA_SET_TABLE, TABLE)
        .attr_str(NFTA_SET_NAME, name)
        .attr_be32(NFTA_SET_KEY_TYPE, kind)
        .attr_be32(NFTA_SET_KEY_LEN, length)
        .attr_be32(NFTA_SET_ID, id)
}

fn pods_set(family: &Family, at: u32) -> Request {
    set(family.pods, family.kind, family.length, 2 * at + 1)
}

fn local_set(family: &Family, at: u32) -> Request {
    let field = |r: Request| r.nest(NFTA_LIST_ELEM, |r| r.attr_be32(NFTA_SET_FIELD_LEN, family.length));
    set(family.local, family.kind << TYPE_BITS | family.kind, 2 * family.length, 2 * at + 2)
        .attr_be32(NFTA_SET_FLAGS, NFT_SET_INTERVAL | NFT_SET_CONCAT)
        .nest(NFTA_SET_DESC, |r| r.nest(NFTA_SET_DESC_CONCAT, |r| field(field(r))))
}

fn chain() -> Request {
    const NF_INET_POST_ROUTING: u32 = 4;
    const NF_IP_PRI_NAT_SRC: u32 = 100;
    const NF_ACCEPT: u32 = 1;
    message("create nftables chain", Kind::NewChain, INET, CREATE)
        .attr_str(1, TABLE)
        .attr_str(3, CHAIN)
        .nest(4, |r| r.attr_be32(1, NF_INET_POST_ROUTING).attr_be32(2, NF_IP_PRI_NAT_SRC))
        .attr_be32(5, NF_ACCEPT)
        .attr_str(7, "nat")
}

fn rule(fill: impl FnOnce(Request) -> Request) -> Request {
    message("create nftables rule", Kind::NewRule, INET, CREATE | APPEND)
        .attr_str(1, TABLE)
        .attr_str(2, CHAIN)
        .nest(4, fill)
}

/// Register 8 is `NFT_REG32_00`; an IPv4 address takes one, an IPv6 address four, and the second part of a
/// concatenation comes right after the first.
const REGISTER: u32 = 8;

/// `ip saddr . ip daddr @local4 return`
fn return_rule(family: &Family) -> Request {
    rule(|r| {
        let r = compare(meta_nfproto(r, REGISTER), REGISTER, Compare::Equal, &[family.protocol]);
        let r = network_header(r, REGISTER, family.source, family.length);
        let r = network_header(r, REGISTER + family.length / 4, family.destination, family.length);
        ret(lookup(r, family.local, REGISTER))
    })
}

/// `ip saddr @pods4 ip daddr != 224.0.0.0/4 masquerade`
fn masquerade_rule(family: &Family) -> Request {
    let (bits, value) = family.multicast;
    rule(|r| {
        let r = compare(meta_nfproto(r, REGISTER), REGISTER, Compare::Equal, &[family.protocol]);
        let r = lookup(network_header(r, REGISTER, family.source, family.length), family.pods, REGISTER);
        let mut word = vec![0; family.length as usize];
        let mut wanted = word.clone();
        word[0] = bits;
        wanted[0] = value;
        let r = mask(network_header(r, REGISTER, family.destination, family.length), REGISTER, &word);
        masquerade(compare(r, REGISTER, Compare::NotEqual, &wanted))
    })
}

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_DATA_VALUE: u16 = 1;

fn elements(net: IpNet, kind: Kind, flags: u16) -> [Request; 2] {
    [local_element(net.addr(), net.trunc(), kind, flags), pod_element(net.addr(), kind, flags)]
}

fn element(set: &str, kind: Kind, flags: u16, key: &[u8], end: Option<&[u8]>) -> Request {
    message("change nftables set", kind, INET, flags)
        .attr_str(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .attr_str(NFTA_SET_ELEM_LIST_SET, set)
        .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |r| {
            r.nest(NFTA_LIST_ELEM, |r| {
                let r = r.nest(NFTA_SET_ELEM_KEY, |r| r.attr(NFTA_DATA_VALUE, key));
                match end {
                    Some(end) => r.nest(NFTA_SET_ELEM_KEY_END, |r| r.attr(NFTA_DATA_VALUE, end)),
                    None => r,
                }
            })
        })
}

fn pod_element(address: IpAddr, kind: Kind, flags: u16) -> Request {
    element(Family::of(address).pods, kind, flags, &octets(address), None)
}

fn local_element(address: IpAddr, subnet: IpNet, kind: Kind, flags: u16) -> Request {
    let join = |last: IpAddr| [octets(address), octets(last)].concat();
    let (key, end) = (join(subnet.network()), join(subnet.broadcast()));
    element(Family::of(address).local, kind, flags, &key, Some(&end))
}

/// The keys of a set's elements.
fn list_keys(socket: &mut Socket, set: &str) -> Result<Vec<Vec<u8>>> {
    let request = message("list nftables set", Kind::GetElement, INET, 0)
        .attr_str(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .attr_str(NFTA_SET_ELEM_LIST_SET, set);
    let lists = socket.dump(&request, |payload| {
        let elements = Attributes::after(payload, 4).find(NFTA_SET_ELEM_LIST_ELEMENTS)?.nested();
        let key = |element: netlink::Attribute<'_>| {
            Some(element.nested().find(NFTA_SET_ELEM_KEY)?.nested().find(NFTA_DATA_VALUE)?.value.to_vec())
        };
        Some(elements.filter_map(key).collect::<Vec<_>>())
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
        _ => None,
    }
}
