//! Arguments of `podplumb trace`.

use std::path::PathBuf;
use std::str::FromStr;

use analyze::trace::Protocol;
use clap::Args;

use super::{LiveOptions, Shape};

#[derive(Debug, Args)]
pub(crate) struct TraceOptions {
    /// Where the packet starts: a pod, container, veth, pid, namespace (by path or
    /// name), address, or `host`
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// Where it is to go: the same, or any address (of IPv6 on a link: fe80::1%eth0)
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// What is sent: icmp, tcp/80, udp/53
    #[arg(long, value_name = "PROTOCOL/PORT", default_value = "icmp")]
    pub(crate) port: Flow,
    /// By IPv4, where both have both
    #[arg(short = '4', long, conflicts_with = "v6")]
    pub(crate) v4: bool,
    /// By IPv6, where both have both
    #[arg(short = '6', long)]
    pub(crate) v6: bool,
    /// Read a snapshot file instead of this node ('-': stdin); several, one of each
    /// node that the packet passes
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Vec<PathBuf>,
    /// Print all facts, also those that go without saying, and the answer's way
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Send real packets as well, and watch them in every namespace on the way
    #[arg(long, conflicts_with = "from")]
    pub(crate) live: bool,
    /// How long an answer to each of them may take
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "1s", requires = "live")]
    pub(crate) timeout: std::time::Duration,
    #[command(flatten)]
    pub(crate) node: LiveOptions,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

/// A protocol, and its port where it has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) port: Option<u16>,
}

impl FromStr for Flow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (protocol, port) = match text.split_once('/') {
            Some((protocol, port)) => (protocol, Some(port)),
            None => (text, None),
        };
        let port = port.map(|port| match port.parse() {
            Ok(0) | Err(_) => Err(format!("{port:?} is no port")),
            Ok(port) => Ok(port),
        });
        match (protocol, port.transpose()?) {
            ("icmp" | "ping", None) => Ok(Flow { protocol: Protocol::Icmp, port: None }),
            ("tcp", Some(port)) => Ok(Flow { protocol: Protocol::Tcp, port: Some(port) }),
            ("udp", Some(port)) => Ok(Flow { protocol: Protocol::Udp, port: Some(port) }),
            ("tcp" | "udp", None) => Err(format!("{protocol} needs a port: {protocol}/80")),
            _ => Err("not icmp, tcp/PORT or udp/PORT".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_a_protocol_and_a_port() {
        let tcp = Flow { protocol: Protocol::Tcp, port: Some(80) };
        assert_eq!("tcp/80".parse(), Ok(tcp));
        assert_eq!("icmp".parse(), Ok(Flow { protocol: Protocol::Icmp, port: None }));
        for bad in ["", "tcp", "80", "tcp/", "tcp/0", "tcp/65536", "icmp/8", "sctp/1", "tcp/80/1"] {
            assert!(bad.parse::<Flow>().is_err(), "{bad:?}");
        }
    }
}
