//! Services of IPVS, which kube-proxy may use in place of rules.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::{Served, VirtualService};

/// Those of the calling thread's namespace. None where the kernel has no IPVS.
pub(crate) fn services() -> io::Result<Vec<VirtualService>> {
    match std::fs::read_to_string("/proc/thread-self/net/ip_vs") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => Ok(parse(&text?)),
    }
}

/// net/netfilter/ipvs/ip_vs_ctl.c, `ip_vs_info_seq_show`: a line a service, and below it one for each server.
pub(crate) fn parse(text: &str) -> Vec<VirtualService> {
    let mut services: Vec<VirtualService> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if first == "->" {
            let server = address(second);
            if let Some(service) = services.last_mut() {
                service.servers.extend(server);
            }
            continue;
        }
        let of = match first {
            "TCP" => address(second).map(Served::Tcp),
            "UDP" => address(second).map(Served::Udp),
            "SCTP" => address(second).map(Served::Sctp),
            "FWM" => u32::from_str_radix(second, 16).ok().map(Served::Mark),
            _ => None,
        };
        services.extend(of.map(|of| VirtualService { of, servers: Vec::new() }));
    }
    services
}

/// `0A600001:01BB`, or `[fd00:0000:…:0001]:01BB`.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => IpAddr::V6(v6.parse().ok()?),
        None => IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(address, 16).ok()?)),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr
  -> C0A80164:192B      Masq    1      0          0
  -> C0A80165:192B      Masq    1      2          7
UDP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0035 rr
  -> [fd00:0010:0244:0000:0000:0000:0000:0002]:0035      Masq    1      0          0
FWM  00000010 wlc persistent 300
TCP  0A60000B:0050 rr
";
        let of = |of, servers: &[&str]| VirtualService {
            of,
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
        };
        assert_eq!(
            parse(text),
            [
                of(
                    Served::Tcp("10.96.0.1:443".parse().unwrap()),
                    &["192.168.1.100:6443", "192.168.1.101:6443"]
                ),
                of(Served::Udp("[fd00::a]:53".parse().unwrap()), &["[fd00:10:244::2]:53"]),
                of(Served::Mark(16), &[]),
                of(Served::Tcp("10.96.0.11:80".parse().unwrap()), &[]),
            ]
        );
        assert_eq!(parse("\u{1b}\nTCP\nTCP nonsense:x\n  -> 0A000001:0050\nUDP 0A6:zz rr"), []);
    }
}
