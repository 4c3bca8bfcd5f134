//! Small networks to probe: namespaces that nobody else sees, wired by iproute2.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use netlink::{Socket, link};
use sys::NetNs;

/// Runs shell lines inside a namespace; each has to succeed.
pub(crate) fn inside(netns: &NetNs, lines: &str) -> String {
    netns
        .run(|| {
            #[expect(clippy::disallowed_methods, reason = "a test may use iproute2 and nft")]
            let mut shell = Command::new("sh");
            let output = shell.args(["-ec", lines]).stdin(Stdio::null()).output().expect("there is a shell");
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{lines}: {error}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .expect("the namespace can be entered")
}

/// An empty namespace whose loopback is up. Without detection of duplicate addresses: while a router's own is tentative, it cannot ask for
/// neighbours, and the first packets wait for seconds.
pub(crate) fn empty() -> NetNs {
    let netns = NetNs::create().expect("tests that make namespaces need root: run `make test` as root");
    inside(
        &netns,
        "ip link set lo up; cd /proc/sys/net/ipv6/conf; echo 0 | tee all/accept_dad > default/accept_dad",
    );
    netns
}

/// A veth pair between two namespaces, up.
pub(crate) fn veth(a: &NetNs, name: &str, b: &NetNs, peer: &str) {
    let pair = link::Veth {
        name: &name.parse().unwrap(),
        mac: None,
        master: None,
        mtu_bytes: None,
        peer_name: &peer.parse().unwrap(),
        peer_mac: None,
        peer_netns: Some(b.as_fd()),
        indices: Default::default(),
    };
    a.run(|| Socket::route().unwrap().ack(link::create_veth(&pair)).unwrap()).unwrap();
    inside(b, &format!("ip link set {peer} up"));
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// a and b with r between them: 10.0.1.2 and fd00:1::2, 10.0.2.2 and fd00:2::2.
pub(crate) struct Line {
    pub(crate) a: NetNs,
    pub(crate) r: NetNs,
    pub(crate) b: NetNs,
}

impl Line {
    pub(crate) const B: &str = "10.0.2.2";
    pub(crate) const B6: &str = "fd00:2::2";

    pub(crate) fn make() -> Self {
        let (a, r, b) = (empty(), empty(), empty());
        veth(&r, "r-a", &a, "eth0");
        veth(&r, "r-b", &b, "eth0");
        inside(
            &r,
            "ip addr add 10.0.1.1/24 dev r-a; ip addr add 10.0.2.1/24 dev r-b
             ip addr add fd00:1::1/64 dev r-a nodad; ip addr add fd00:2::1/64 dev r-b nodad
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        );
        for (netns, n) in [(&a, 1), (&b, 2)] {
            inside(
                netns,
                &format!(
                    "ip addr add 10.0.{n}.2/24 dev eth0; ip addr add fd00:{n}::2/64 dev eth0 nodad
                     ip route add default via 10.0.{n}.1; ip route add default via fd00:{n}::1",
                ),
            );
        }
        // The kernel puts IPv6 addresses into use by and by.
        for (netns, own) in [(&a, "fd00:1::2"), (&r, "fd00:1::1"), (&r, "fd00:2::1"), (&b, "fd00:2::2")] {
            inside(netns, &format!("until ip -6 route get {own} | grep -q ^local; do sleep 0.02; done"));
        }
        Self { a, r, b }
    }
}
