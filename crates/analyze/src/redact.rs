//! A snapshot, and texts about it, without the addresses and names of those whose node it is.
//!
//! What was the same stays the same, and what was near stays near: two addresses share as many leading bits as before, so subnets,
//! routes and overlaps are still what they were, and everything that is computed from the snapshot comes out alike. Without the key
//! nobody can turn it back; of a text alone, one who knows some of the addresses may guess others.
//!
//! Kept are: the ranges that have a meaning of their own (loopback, link-local, private, multicast, …), of others the first byte; the
//! last byte of IPv4 and the last two of IPv6, so that gateways are still the first of their subnet; the first byte of a MAC; ids, which
//! are random; interface names, process names, network names and paths, but for names in them.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use model::{MacAddr, Snapshot, SnapshotError};
use serde_json::Value;
use siphasher::sip::SipHasher13;

/// Names that every cluster has.
const EVERYBODYS: [&str; 7] =
    ["default", "kube-system", "kube-public", "kube-node-lease", "localhost", "host", "POD"];

/// Under these keys a string is a name as a whole. Elsewhere one that is all name is a word of the snapshot's own, such as a kind.
const NAME_KEYS: [&str; 4] = ["name", "namespace", "hostname", "label"];

/// Replaces addresses and names, the same always by the same.
#[derive(Debug)]
pub struct Redactor {
    key: [u8; 16],
    /// By its first word: each name that begins so, the longest first, with what stands for it.
    names: HashMap<String, Vec<(String, String)>>,
}

impl Redactor {
    /// For texts about this node. The key decides what becomes of addresses: a random one that is forgotten afterwards.
    pub fn new(snapshot: &Snapshot, key: [u8; 16]) -> Self {
        let mut redactor = Self { key, names: HashMap::new() };
        redactor.add("node", [snapshot.node.hostname.as_str()].into());
        let objects = || snapshot.runtime_objects().map(|(_, object)| object);
        let logged = snapshot.heard.values().filter_map(|heard| heard.pod.as_ref());
        let cached = snapshot.cache.iter().filter_map(|entry| entry.pod.as_ref());
        let pods: Vec<_> =
            objects().filter_map(|object| object.pod.as_ref()).chain(logged).chain(cached).collect();
        let said = || {
            let lines = snapshot.log.iter().flat_map(|log| &log.lines).map(|line| line.line.as_str());
            snapshot.heard.values().map(|heard| heard.line.as_str()).chain(lines)
        };
        let told: Vec<(&str, &str)> = said().flat_map(told_in).collect();
        let told = |kind| told.iter().filter(move |(of, _)| *of == kind).map(|(_, name)| *name);
        let namespaces: BTreeSet<&str> =
            pods.iter().map(|pod| pod.namespace.as_str()).chain(told("ns")).collect();
        let below = said().flat_map(|line| below_any(line, &namespaces));
        redactor
            .add("pod", pods.iter().map(|pod| pod.name.as_str()).chain(told("pod")).chain(below).collect());
        redactor.add("ns", namespaces);
        redactor.add("container", objects().filter_map(|object| object.name.as_deref()).collect());
        for names in redactor.names.values_mut() {
            names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        }
        redactor
    }

    fn add(&mut self, kind: &str, names: BTreeSet<&str>) {
        let mut number = 0;
        for name in names.into_iter().filter(|name| !EVERYBODYS.contains(name)) {
            let Some(first) = name.split(|c| !is_word(c)).next().filter(|first| !first.is_empty()) else {
                continue;
            };
            let known = self.names.entry(first.to_owned()).or_default();
            // A container's name is often its pod's.
            if known.iter().all(|(other, _)| other != name) {
                number += 1;
                known.push((name.to_owned(), format!("{kind}-{number}")));
            }
        }
    }

    /// How many names there are.
    pub fn names(&self) -> usize {
        self.names.values().map(Vec::len).sum()
    }

    /// The snapshot with everything in it replaced.
    ///
    /// # Errors
    /// When what came out is no snapshot: then nothing of it may be given away.
    pub fn snapshot(&self, snapshot: &Snapshot) -> Result<Snapshot, SnapshotError> {
        let mut value = serde_json::to_value(snapshot)?;
        self.value(&mut value, "");
        Ok(serde_json::from_value(value)?)
    }

    fn value(&self, value: &mut Value, key: &str) {
        match value {
            Value::String(text) => {
                let is_own_word = self.name_at(text).is_some_and(|(name, _)| name.len() == text.len());
                if !is_own_word || NAME_KEYS.contains(&key) {
                    *text = self.text(text);
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|one| self.value(one, key)),
            Value::Object(map) => map.iter_mut().for_each(|(key, one)| self.value(one, key)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The text with everything in it replaced.
    pub fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((address, length)) = address_at(rest) {
                let (words, length) = self.address(address, rest, length);
                out.push_str(&words);
                rest = &rest[length..];
            } else if let Some((name, instead)) = self.name_at(rest) {
                out.push_str(instead);
                rest = &rest[name.len()..];
            } else {
                // On to the next word: names and addresses begin at none's middle.
                let length = if is_word(first) { word(rest).len() } else { first.len_utf8() };
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
        out
    }

    /// The name with which a text begins, and what stands for it.
    fn name_at(&self, text: &str) -> Option<(&str, &str)> {
        let all = self.names.get(word(text))?;
        let ends = |name: &str| !text[name.len()..].starts_with(is_word);
        let found = all.iter().find(|(name, _)| text.starts_with(name.as_str()) && ends(name))?;
        Some((&found.0, &found.1))
    }

    /// What stands for the address with which a text begins, with its prefix length if it has one, and how much of the text that is.
    fn address(&self, address: Address, text: &str, length: usize) -> (String, usize) {
        match address {
            Address::Mac(mac) => (self.mac(mac).to_string(), length),
            Address::Ip(address) => {
                let instead = self.ip(address);
                let after = text[length..].strip_prefix('/').unwrap_or_default();
                let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let net =
                    after[..digits].parse().ok().and_then(|prefix| ipnet::IpNet::new(address, prefix).ok());
                match net {
                    // A subnet stays one.
                    Some(net) if net.trunc() == net => {
                        let net = ipnet::IpNet::new(instead, net.prefix_len()).map_or(net, |net| net.trunc());
                        (net.to_string(), length + 1 + digits)
                    }
                    _ => (instead.to_string(), length),
                }
            }
        }
    }

    /// What stands for an address.
    pub fn ip(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let bits = self.scramble(u128::from(v4.to_bits()) << 96, 8..24, &V4);
                Ipv4Addr::from_bits((bits >> 96) as u32).into()
            }
            IpAddr::V6(v6) => Ipv6Addr::from_bits(self.scramble(v6.to_bits(), 16..112, &V6)).into(),
        }
    }

    /// Turns bits, counted from the top, each by a coin that depends on all bits before it: so what two addresses have in common at the
    /// beginning they have in common afterwards, and no two become one (Xu, Fan, Ammar, Moon: Prefix-preserving IP address
    /// anonymization). The coin of a bit that belongs to one of the ranges, or leads there, is not thrown.
    fn scramble(&self, bits: u128, places: Range<u32>, kept: &[Kept]) -> u128 {
        let mut out = bits;
        for at in places {
            let before = bits >> (128 - at);
            if kept.iter().any(|range| range.keeps(at, before)) {
                continue;
            }
            let mut hasher = SipHasher13::new_with_key(&self.key);
            hasher.write_u32(at);
            hasher.write_u128(before);
            out ^= u128::from(hasher.finish() & 1) << (127 - at);
        }
        out
    }

    /// What stands for a MAC. That of nobody and that of everybody stay.
    pub fn mac(&self, mac: MacAddr) -> MacAddr {
        if mac.0 == [0; 6] || mac.0[0] & 1 == 1 {
            return mac;
        }
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&mac.0);
        let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
        MacAddr([mac.0[0], a, b, c, d, e])
    }
}

/// Where kubelet and containerd write names into their lines: what stands before one, and whose name it is.
const BEFORE_NAMES: [(&str, &str); 8] = [
    ("K8S_POD_NAME=", "pod"),
    ("K8S_POD_NAMESPACE=", "ns"),
    ("podName=\"", "pod"),
    ("namespace=\"", "ns"),
    ("{Name:", "pod"),
    (",Namespace:", "ns"),
    ("pod=\"", "ns"),
    ("pods=[\"", "ns"),
];

/// Pods and Kubernetes namespaces that a line names, each with its kind: those are gone, and nothing else of the snapshot knows them.
fn told_in(line: &str) -> impl Iterator<Item = (&'static str, &str)> {
    BEFORE_NAMES.iter().flat_map(move |(before, kind)| {
        line.match_indices(before).map(move |(at, _)| (*kind, dns_name(&line[at + before.len()..])))
    })
}

/// Names that follow one of the namespaces, as in `shop/web-0`, and in directories in `shop_web-0_UID`.
fn below_any<'a>(line: &'a str, namespaces: &BTreeSet<&str>) -> impl Iterator<Item = &'a str> {
    line.match_indices(['/', '_']).filter_map(|(at, _)| {
        let before = &line[line[..at].rfind(|c| !is_word(c)).map_or(0, |end| end + 1)..at];
        namespaces.contains(before).then(|| dns_name(&line[at + 1..]))
    })
}

/// What a text begins with that can be a name in Kubernetes.
fn dns_name(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    text[..text.len() - text.trim_start_matches(is_part).len()].trim_end_matches(['.', '-'])
}

enum Address {
    Ip(IpAddr),
    Mac(MacAddr),
}

/// The address with which a text begins, and its length.
fn address_at(text: &str) -> Option<(Address, usize)> {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let run = &text[..text.len() - text.trim_start_matches(is_part).len()];
    // What ends in a letter that is no digit of it is a word.
    if text[run.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let v4 = |candidate: &str| candidate.parse().ok().map(|ip| Address::Ip(IpAddr::V4(ip)));
    let whole = |candidate: &str| {
        let mac = || candidate.parse().ok().map(Address::Mac);
        mac()
            .or_else(|| v4(candidate))
            .or_else(|| candidate.parse().ok().map(|ip| Address::Ip(IpAddr::V6(ip))))
    };
    let trimmed = run.trim_end_matches(['.', ':']);
    // `::` and `fd00::` end in colons of their own; after `10.0.0.1` may come a port.
    for candidate in [run, trimmed] {
        if let Some(address) = whole(candidate).filter(|_| candidate.len() > 1) {
            return Some((address, candidate.len()));
        }
    }
    let (before_port, _) = trimmed.split_once(':')?;
    v4(before_port).map(|address| (address, before_port.len()))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-'
}

fn word(text: &str) -> &str {
    &text[..text.len() - text.trim_start_matches(is_word).len()]
}

/// A range of addresses that has a meaning of its own.
struct Kept {
    /// Its addresses' first bits, at the top.
    bits: u128,
    length: u32,
    /// Also what is in it has a meaning.
    whole: bool,
}

impl Kept {
    const fn v4(a: u8, b: u8, length: u32, whole: bool) -> Self {
        Self { bits: (Ipv4Addr::new(a, b, 0, 0).to_bits() as u128) << 96, length, whole }
    }

    const fn v6(first: u16, length: u32, whole: bool) -> Self {
        Self { bits: (first as u128) << 112, length, whole }
    }

    /// Whether the bit at this place, after these, is one of the range's own, or one inside it that has a meaning.
    fn keeps(&self, at: u32, before: u128) -> bool {
        if at < self.length {
            self.bits >> (128 - at) == before
        } else {
            self.whole && self.bits >> (128 - self.length) == before >> (at - self.length)
        }
    }
}

/// This host, loopback, multicast and what is above; link-local, private (10.0.0.0/8 is kept as the first byte always is), shared.
const V4: [Kept; 7] = [
    Kept::v4(0, 0, 8, true),
    Kept::v4(127, 0, 8, true),
    Kept::v4(224, 0, 3, true),
    Kept::v4(169, 254, 16, false),
    Kept::v4(172, 16, 12, false),
    Kept::v4(192, 168, 16, false),
    Kept::v4(100, 64, 10, false),
];

/// Unspecified, loopback and addresses of IPv4 in other clothes; multicast; link-local.
const V6: [Kept; 4] =
    [Kept::v6(0, 16, true), Kept::v6(0x64, 16, true), Kept::v6(0xff00, 8, true), Kept::v6(0xfe80, 64, false)];

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let snapshot = serde_json::json!({
            "version": 1, "taken_at": 0,
            "node": {"hostname": "db7.example.com", "kernel": "6.18.0", "boot_id": "b", "booted_at": 0},
            "namespaces": [],
            "runtimes": [{"kind": "containerd", "endpoint": "/run/containerd.sock", "status": {"state": "answered", "version": "1.7.0"},
                "objects": [
                    {"id": "7d0c1e5b9a3f4d22", "kind": "sandbox", "state": "Ready", "name": "ready",
                     "pod": {"namespace": "payroll", "name": "salaries-0"}},
                    {"id": "7d0c1e5b9a3f4d23", "kind": "container", "state": "running", "name": "sandbox",
                     "pod": {"namespace": "payroll", "name": "salaries"}},
                ]}],
        });
        Redactor::new(&serde_json::from_value(snapshot).unwrap(), [7; 16])
    }

    #[test]
    fn addresses_keep_what_they_have_in_common_and_nothing_else() {
        let redactor = redactor();
        let ip = |text: &str| redactor.ip(text.parse().unwrap());
        let common = |a: &str, b: &str| {
            let bits = |ip: IpAddr| match ip {
                IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
                IpAddr::V6(v6) => v6.to_bits(),
            };
            (bits(ip(a)) ^ bits(ip(b))).leading_zeros()
        };
        assert_eq!(common("10.244.1.1", "10.244.2.1"), 22);
        assert_eq!(common("2001:db8:1::1", "2001:db8:3::1"), 46);
        assert_ne!(ip("10.244.1.1"), "10.244.1.1".parse::<IpAddr>().unwrap());
        assert_eq!(ip("10.244.1.1").to_string().rsplit('.').next(), Some("1"));
        for kept in
            ["127.0.0.1", "0.0.0.0", "224.0.0.251", "255.255.255.255", "::", "::1", "ff02::1", "169.254.1.1"]
        {
            let kept: IpAddr = kept.parse().unwrap();
            if kept.to_string() != "169.254.1.1" {
                assert_eq!(redactor.ip(kept), kept);
            }
        }
        for (address, range) in [
            ("172.17.0.2", "172.16.0.0/12"),
            ("192.168.3.4", "192.168.0.0/16"),
            ("169.254.1.1", "169.254.0.0/16"),
            ("100.64.0.1", "100.64.0.0/10"),
            ("fe80::1", "fe80::/64"),
        ] {
            let range: ipnet::IpNet = range.parse().unwrap();
            assert!(range.contains(&ip(address)), "{address} became {}", ip(address));
        }
        for public in ["172.15.0.1", "172.32.0.1", "192.167.0.1", "192.0.2.1"] {
            let private: [ipnet::IpNet; 2] =
                ["172.16.0.0/12".parse().unwrap(), "192.168.0.0/16".parse().unwrap()];
            assert!(
                private.iter().all(|range| !range.contains(&ip(public))),
                "{public} became {}",
                ip(public)
            );
        }
    }

    #[test]
    fn addresses_and_names_are_found_in_any_text_and_the_rest_stays() {
        let redactor = redactor();
        let (ip, mac) = (redactor.ip("10.244.1.7".parse().unwrap()), "0a:58:0a:f4:01:07".parse().unwrap());
        let (mac, v6) = (redactor.mac(mac), redactor.ip("fd00::7".parse().unwrap()));
        let net = redactor.text("10.244.0.0/14");
        assert!(
            net.ends_with("/14") && net.parse::<ipnet::IpNet>().is_ok_and(|net| net.trunc() == net),
            "{net}"
        );
        for (text, wanted) in [
            ("/var/lib/cni/networks/pods/10.244.1.7", format!("/var/lib/cni/networks/pods/{ip}")),
            ("dial 10.244.1.7:8080: refused.", format!("dial {ip}:8080: refused.")),
            ("at 10.244.1.7.", format!("at {ip}.")),
            ("[fd00::7]:80 and fd00::7,", format!("[{v6}]:80 and {v6},")),
            ("lladdr 0a:58:0a:f4:01:07", format!("lladdr {mac}")),
            ("10.244.1.7/24 dev eth0", format!("{ip}/24 dev eth0")),
            (
                "containerd 1.6.20 at 12:34:56, v10.244.1.7x",
                "containerd 1.6.20 at 12:34:56, v10.244.1.7x".into(),
            ),
            ("/var/log/pods/payroll_salaries-0_1234-abcd", "/var/log/pods/ns-1_pod-2_1234-abcd".into()),
            (
                "salaries-0-x of payroll/salaries on db7.example.com:",
                "salaries-0-x of ns-1/pod-1 on node-1:".into(),
            ),
            ("7d0c1e5b9a3f4d22 face:b00c", "7d0c1e5b9a3f4d22 face:b00c".into()),
            ("größe ü10.244.1.7", "größe ü10.244.1.7".into()),
        ] {
            assert_eq!(redactor.text(text), wanted);
        }
        assert_eq!(redactor.names(), 6);
    }

    #[test]
    fn pods_called_like_the_snapshots_own_words_do_not_break_it() {
        let mut snapshot = Snapshot::empty(
            model::Timestamp(0),
            model::Node {
                hostname: "kind".into(),
                kernel: "6".into(),
                boot_id: "sandbox".parse().unwrap(),
                booted_at: model::Timestamp(0),
            },
        );
        let object = serde_json::json!({"id": "7d0c1e5b9a3f4d22", "kind": "sandbox", "state": "Ready", "name": "sandbox",
            "pod": {"namespace": "containerd", "name": "answered"}});
        snapshot.runtimes = serde_json::from_value(
            serde_json::json!([{"kind": "containerd", "endpoint": "/run/answered.sock",
            "status": {"state": "answered", "version": "1"}, "objects": [object]}]),
        )
        .unwrap();
        let redacted = Redactor::new(&snapshot, [1; 16]).snapshot(&snapshot).unwrap();
        let object = &redacted.runtimes[0].objects[0];
        assert_eq!(redacted.node.hostname, "node-1");
        assert_eq!(object.pod.as_ref().unwrap().to_string(), "ns-1/pod-1");
        assert_eq!(object.name.as_deref(), Some("container-1"));
        assert_eq!(redacted.runtimes[0].endpoint.to_str(), Some("/run/pod-1.sock"));
        assert_eq!(redacted.runtimes[0].kind, snapshot.runtimes[0].kind);
    }
}
