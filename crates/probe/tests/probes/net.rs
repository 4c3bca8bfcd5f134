//! Small networks to probe: labs, changed by iproute2 and nft.

use std::net::IpAddr;
use std::process::{Command, Stdio};

use lab::Lab;
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

/// The namespaces of a lab's machines.
pub(crate) fn lab<const N: usize>(topology: &str, machines: [&str; N]) -> [NetNs; N] {
    let lab = Lab::from_yaml(topology).unwrap_or_else(|error| panic!("{error}"));
    machines.map(|machine| lab.run(machine, NetNs::current).unwrap().unwrap())
}

/// An empty namespace.
pub(crate) fn empty() -> NetNs {
    let [netns] = lab("hosts: [alone]", ["alone"]);
    netns
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
        let topology = "
hosts: [a, b]
routers: [r]
links:
  - a 10.0.1.2/24 fd00:1::2/64 -- r:r-a 10.0.1.1/24 fd00:1::1/64
  - b 10.0.2.2/24 fd00:2::2/64 -- r:r-b 10.0.2.1/24 fd00:2::1/64
";
        let [a, r, b] = lab(topology, ["a", "r", "b"]);
        // The kernel puts IPv6 addresses into use by and by.
        for (netns, own) in [(&a, "fd00:1::2"), (&r, "fd00:1::1"), (&r, "fd00:2::1"), (&b, "fd00:2::2")] {
            inside(netns, &format!("until ip -6 route get {own} | grep -q ^local; do sleep 0.02; done"));
        }
        Self { a, r, b }
    }
}
