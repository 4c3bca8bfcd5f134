//! What a server's ACK gives: an address, for how long, and what goes with it.

use std::net::Ipv4Addr;
use std::time::Duration;

use cni::{Dns, Ip, Outcome};
use ipnet::{IpNet, Ipv4Net};
use model::MacAddr;
use serde::{Deserialize, Serialize};

use super::message::{self, Message};

/// More search domains than a resolver looks at (glibc before 2.26 took six) are not a list but an attack.
const MOST_SEARCH_DOMAINS: usize = 32;
/// RFC 1035, section 2.3.4.
const LONGEST_NAME_BYTES: usize = 255;
/// "For ever" (RFC 2131, section 3.3).
const INFINITE: u32 = u32::MAX;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    /// The address, with its prefix length.
    pub(super) address: Ipv4Net,
    /// Who gave it.
    pub(super) server: Ipv4Addr,
    /// Where the server's, or its relay's, frames come from.
    pub(super) server_mac: MacAddr,
    /// The first router.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Routes in the order of the server; a gateway of 0.0.0.0 means that the destination is on the link.
    pub(super) routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Resolver settings.
    pub(super) dns: Dns,
    /// When it has to be renewed; `None`: never.
    pub(super) times: Option<Times>,
}

/// When a lease changes its state, as time since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times {
    /// T1: ask the server for more.
    pub(super) renew: Duration,
    /// T2: ask any server.
    pub(super) rebind: Duration,
    /// The address is somebody else's from now on.
    pub(super) expire: Duration,
}

impl Lease {
    /// Reads an ACK; `asked` is when its REQUEST was sent.
    pub(super) fn from_ack(ack: &Message, server_mac: MacAddr, asked: Duration) -> Result<Self, String> {
        let mask = ack.address(message::SUBNET_MASK).ok_or("it has no subnet mask (option 1)")?;
        let address =
            Ipv4Net::with_netmask(ack.yours, mask).map_err(|_| format!("{mask} is not a subnet mask"))?;
        if !is_host(ack.yours) {
            return Err(format!("{} is not an address of a host", ack.yours));
        }
        let server = ack.address(message::SERVER).ok_or("it does not say from which server (option 54)")?;
        let seconds =
            ack.seconds_of(message::LEASE_TIME).ok_or("it does not say for how long (option 51)")?;
        if seconds == 0 {
            return Err("it is for 0 seconds".to_owned());
        }
        let gateway = ack.options.get(&message::ROUTERS).and_then(|list| addresses(list).next());
        Ok(Self {
            address,
            server,
            server_mac,
            gateway,
            routes: routes(ack, gateway),
            dns: dns(ack),
            times: (seconds != INFINITE).then(|| times(ack, asked, seconds)),
        })
    }

    /// The lease as a plugin's result, with this metric on its routes, and, if so wished, without its default route.
    pub(super) fn outcome(&self, priority: Option<u32>, without_gateway: bool) -> Outcome {
        let gateway = self.gateway.filter(|_| !without_gateway);
        let routes = self.routes.iter().filter(|(dst, _)| !(without_gateway && dst.prefix_len() == 0));
        let route = |(dst, gw): &(Ipv4Net, Ipv4Addr)| cni::Route {
            dst: IpNet::V4(*dst),
            // The kernel takes 0.0.0.0 for "none"; an absent one would be replaced by the address's gateway.
            gw: Some((*gw).into()),
            mtu: None,
            advmss: None,
            priority,
            table: None,
            scope: gw.is_unspecified().then_some(SCOPE_LINK),
        };
        Outcome {
            ips: vec![Ip {
                interface: None,
                address: IpNet::V4(self.address),
                gateway: gateway.map(Into::into),
            }],
            routes: routes.map(route).collect(),
            dns: self.dns.clone(),
            ..Outcome::default()
        }
    }
}

/// Whether a host may have this address.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let is_reserved = address.octets()[0] == 0 || address.octets()[0] >= 240;
    !(is_reserved || address.is_loopback() || address.is_multicast())
}

/// T1 and T2 as the server says, or a half and seven eighths of the time (RFC 2131, section 4.4.5).
fn times(ack: &Message, asked: Duration, seconds: u32) -> Times {
    let whole = Duration::from_secs(seconds.into());
    let said = |option| ack.seconds_of(option).map(|seconds| Duration::from_secs(seconds.into()));
    let rebind = said(message::REBINDING_TIME).filter(|time| *time < whole).unwrap_or(whole * 7 / 8);
    let renew = said(message::RENEWAL_TIME).filter(|time| *time < rebind).unwrap_or((whole / 2).min(rebind));
    Times { renew: asked + renew, rebind: asked + rebind, expire: asked + whole }
}

/// Classless routes, or, where there are none, static routes and the router (RFC 3442).
fn routes(ack: &Message, gateway: Option<Ipv4Addr>) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let classless = ack.options.get(&message::CLASSLESS_ROUTES).and_then(|bytes| classless(bytes));
    if let Some(routes) = classless.filter(|routes| !routes.is_empty()) {
        return routes;
    }
    let pairs = ack.options.get(&message::STATIC_ROUTES).map(Vec::as_slice).unwrap_or_default();
    let pairs = pairs.chunks_exact(8).filter_map(|pair| {
        let mut both = addresses(pair);
        Some((classful(both.next()?)?, both.next()?))
    });
    let default = gateway.map(|gateway| (Ipv4Net::default(), gateway));
    pairs.chain(default).collect()
}

/// Option 121: prefix length, the octets of the destination that it covers, router. `None` when it is malformed.
fn classless(mut bytes: &[u8]) -> Option<Vec<(Ipv4Net, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((&width, rest)) = bytes.split_first() {
        let significant = usize::from(width).div_ceil(8);
        let (given, rest) = rest.split_at_checked(significant)?;
        let (router, rest) = rest.split_at_checked(4)?;
        let mut destination = [0; 4];
        destination.get_mut(..significant)?.copy_from_slice(given);
        let destination = Ipv4Net::new(destination.into(), width).ok()?.trunc();
        routes.push((destination, addresses(router).next()?));
        bytes = rest;
    }
    Some(routes)
}

/// The network that an address names by its class; classes D and E name none, and 0.0.0.0 is not allowed here (RFC 2132,
/// section 5.8).
fn classful(destination: Ipv4Addr) -> Option<Ipv4Net> {
    let width = match destination.octets()[0] {
        0 | 224.. => return None,
        1..=127 => 8,
        128..=191 => 16,
        192..=223 => 24,
    };
    Ipv4Net::new(destination, width).ok().map(|net| net.trunc())
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    bytes.chunks_exact(4).map(|b| Ipv4Addr::new(b[0], b[1], b[2], b[3]))
}

fn dns(ack: &Message) -> Dns {
    let option = |number| ack.options.get(&number).map(Vec::as_slice).unwrap_or_default();
    let domain = std::str::from_utf8(option(message::DOMAIN)).unwrap_or_default();
    // Some servers count the C string's NUL.
    let domain = domain.trim_end_matches(['\0', '.']);
    Dns {
        nameservers: addresses(option(message::NAME_SERVERS)).map(|address| address.to_string()).collect(),
        domain: if is_name(domain) { domain.to_owned() } else { String::new() },
        search: search(option(message::SEARCH)).unwrap_or_default(),
        options: Vec::new(),
    }
}

/// A domain as a resolv.conf may carry it: whatever else comes from the network could add lines of its own there.
fn is_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let labels = || text.split('.').all(|label| !label.is_empty() && label.bytes().all(legal));
    text.len() <= LONGEST_NAME_BYTES && labels()
}

/// Option 119: names as in DNS messages, with pointers into the option itself (RFC 3397). `None` when it is malformed.
fn search(bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (name, next) = name(bytes, at)?;
        at = next;
        if is_name(&name) && names.len() < MOST_SEARCH_DOMAINS {
            names.push(name);
        }
    }
    Some(names)
}

/// The name at a place, and where the next one begins.
fn name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels: Vec<&str> = Vec::new();
    let mut length = 0;
    let (mut at, mut next) = (start, None);
    // A pointer may only lead back, to before where the last one led: so this ends.
    let mut limit = start;
    loop {
        let first = *bytes.get(at)?;
        match first >> 6 {
            0 if first == 0 => return Some((labels.join("."), next.unwrap_or(at + 1))),
            0 => {
                let end = at + 1 + usize::from(first);
                let label = bytes.get(at + 1..end)?;
                length += label.len() + 1;
                if length > LONGEST_NAME_BYTES {
                    return None;
                }
                // What is not text is not a name; it is left out as a whole.
                labels.push(std::str::from_utf8(label).unwrap_or(" "));
                at = end;
            }
            3 => {
                let target = usize::from(first & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
                if target >= limit {
                    return None;
                }
                next = next.or(Some(at + 2));
                (at, limit) = (target, target);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dhcp::message::Options;

    const NOW: Duration = Duration::from_secs(1000);

    fn ack(more: &[(u8, &[u8])]) -> Message {
        let mut options = Options::from([
            (message::KIND, vec![5]),
            (message::SUBNET_MASK, vec![255, 255, 255, 0]),
            (message::SERVER, vec![10, 0, 0, 1]),
            (message::LEASE_TIME, 100u32.to_be_bytes().to_vec()),
        ]);
        options.extend(more.iter().map(|(number, value)| (*number, value.to_vec())));
        Message {
            is_reply: true,
            id: 1,
            seconds: 0,
            broadcast: false,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::new(10, 0, 0, 9),
            mac: MacAddr([2; 6]),
            options,
        }
    }

    fn lease(more: &[(u8, &[u8])]) -> Lease {
        Lease::from_ack(&ack(more), MacAddr([2; 6]), NOW).unwrap()
    }

    fn routes_of(more: &[(u8, &[u8])]) -> Vec<String> {
        lease(more).routes.iter().map(|(dst, gw)| format!("{dst} {gw}")).collect()
    }

    #[test]
    fn classless_routes_come_before_static_ones_and_the_router() {
        let router: (u8, &[u8]) = (3, &[10, 0, 0, 1]);
        let old: (u8, &[u8]) =
            (33, &[192, 168, 7, 9, 10, 0, 0, 2, 0, 0, 0, 0, 10, 0, 0, 3, 172, 16, 0, 0, 10, 0, 0, 4]);
        let new: (u8, &[u8]) = (121, &[0, 10, 0, 0, 254, 20, 172, 16, 0xff, 0, 0, 0, 0]);
        assert_eq!(routes_of(&[]), [""; 0]);
        assert_eq!(routes_of(&[router]), ["0.0.0.0/0 10.0.0.1"]);
        let static_ones = ["192.168.7.0/24 10.0.0.2", "172.16.0.0/16 10.0.0.4", "0.0.0.0/0 10.0.0.1"];
        assert_eq!(routes_of(&[router, old]), static_ones);
        assert_eq!(routes_of(&[router, old, new]), ["0.0.0.0/0 10.0.0.254", "172.16.240.0/20 0.0.0.0"]);
        for malformed in [&[33, 1, 2, 3, 4, 5, 1, 1, 1, 1][..], &[24, 10, 0], &[8]] {
            assert_eq!(routes_of(&[router, old, (121, malformed)]), static_ones, "{malformed:?}");
        }
    }

    #[test]
    fn a_result_has_metrics_and_no_gateway_as_wished() {
        let given = lease(&[(121, &[0, 10, 0, 0, 254, 24, 192, 0, 2, 0, 0, 0, 0]), (3, &[10, 0, 0, 1])]);
        let all = given.outcome(Some(7), false);
        assert_eq!(all.ips[0].gateway, Some([10, 0, 0, 1].into()));
        assert_eq!(all.ips[0].address.to_string(), "10.0.0.9/24");
        assert!(all.routes.iter().all(|route| route.priority == Some(7)));
        assert_eq!(all.routes[1].scope, Some(SCOPE_LINK));
        let less = given.outcome(None, true);
        assert_eq!((less.ips[0].gateway, less.routes.len()), (None, 1));
    }

    #[test]
    fn resolver_settings_are_names_or_left_out() {
        let search = [3, b'e', b'n', b'g', 5, b'a', b'p', b'p', b'l', b'e', 0, 2, b'q', b'a', 0xc0, 4];
        let given = lease(&[(6, &[10, 0, 0, 3, 10, 0, 0, 4]), (15, b"example.org\0"), (119, &search)]).dns;
        assert_eq!(given.nameservers, ["10.0.0.3", "10.0.0.4"]);
        assert_eq!(given.domain, "example.org");
        assert_eq!(given.search, ["eng.apple", "qa.apple"]);
        for hostile in [&b"a\nnameserver 1.1.1.1"[..], b"a b", b"..", b"\xff", b""] {
            assert_eq!(lease(&[(15, hostile)]).dns.domain, "", "{hostile:?}");
        }
        let line = [3, b'a', b'\n', b'b', 0, 1, b'c', 0];
        assert_eq!(lease(&[(119, &line)]).dns.search, ["c"]);
        for endless in [&[0xc0, 0][..], &[1, b'a', 0xc0, 0], &[1, b'a', 0, 0xc0, 3], &[0xc0], &[5, b'a']] {
            assert_eq!(lease(&[(119, endless)]).dns.search, [""; 0], "{endless:?}");
        }
    }

    #[test]
    fn times_are_the_servers_where_they_make_sense() {
        let of = |more: &[(u8, &[u8])]| {
            lease(more).times.map(|t| [t.renew, t.rebind, t.expire].map(|t| (t - NOW).as_millis()))
        };
        assert_eq!(of(&[]), Some([50_000, 87_500, 100_000]));
        assert_eq!(of(&[(58, &[0, 0, 0, 10]), (59, &[0, 0, 0, 20])]), Some([10_000, 20_000, 100_000]));
        assert_eq!(of(&[(58, &[0, 0, 0, 99]), (59, &[0, 0, 1, 0])]), Some([50_000, 87_500, 100_000]));
        assert_eq!(of(&[(51, &[0xff; 4])]), None);
    }

    #[test]
    fn an_ack_that_makes_no_lease_is_refused() {
        let refused = |more: &[(u8, &[u8])]| Lease::from_ack(&ack(more), MacAddr([2; 6]), NOW).is_err();
        assert!(refused(&[(1, &[255, 0, 255, 0])]) && refused(&[(1, &[255])]));
        assert!(refused(&[(51, &[0; 4])]) && refused(&[(51, &[1])]) && refused(&[(54, &[])]));
        for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
            let message = Message { yours: address.into(), ..ack(&[]) };
            assert!(Lease::from_ack(&message, MacAddr([2; 6]), NOW).is_err(), "{address:?}");
        }
    }

    proptest! {
        #[test]
        fn no_option_makes_it_panic(number in 1u8..255, value in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(lease) = Lease::from_ack(&ack(&[(number, &value)]), MacAddr([2; 6]), NOW) {
                let text = serde_json::to_string(&lease).unwrap();
                prop_assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease);
            }
        }

        #[test]
        fn no_search_list_makes_it_panic(bytes in prop::collection::vec(prop_oneof![0u8..5, 0xc0u8..0xc2, any::<u8>()], 0..80)) {
            prop_assert!(search(&bytes).is_none_or(|names| names.iter().all(|name| is_name(name))));
        }
    }
}
