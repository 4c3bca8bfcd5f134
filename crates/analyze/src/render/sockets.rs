//! Sockets, as `ss` shows them, with the container of whoever has them.

use model::{Keeper, Socket, SocketProtocol, UnixKind, UnixName, UnixPeer, Unowned};

use super::text::{columns, printable, shorten};
use crate::who::Chain;

/// The table. `chain` gives containers their names; with `wide`, also what does not fit 80 columns.
pub fn sockets(sockets: &[Socket], chain: Option<&Chain>, wide: bool) -> String {
    let mut heads = vec!["PROTO", "STATE", "LOCAL", "REMOTE", "PROCESS", "CONTAINER"];
    if wide {
        heads.extend(["RECV-Q", "SEND-Q", "UID", "INODE"]);
    }
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(sockets.iter().map(|socket| row(socket, chain, wide)));
    let mut out = String::new();
    columns(&mut out, 0, &rows);
    out
}

fn row(socket: &Socket, chain: Option<&Chain>, wide: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    let state = match socket.protocol {
        SocketProtocol::Packet => dash(),
        _ => socket.state.to_string(),
    };
    let mut row = vec![
        protocol(socket),
        state,
        local(socket),
        remote(socket),
        process(socket),
        socket.owners.first().and_then(|keeper| container(keeper, chain)).unwrap_or_else(dash),
    ];
    if wide {
        let numbers = [socket.receive_queue, socket.send_queue, socket.uid].map(|number| number.to_string());
        row.extend(numbers);
        row.push(socket.inode.to_string());
    }
    row
}

/// What it speaks; of unix sockets, what they carry, in the words of `ss`.
fn protocol(socket: &Socket) -> String {
    match socket.unix.as_ref().map(|unix| unix.kind) {
        Some(UnixKind::Stream) => "u_str".to_owned(),
        Some(UnixKind::Datagram) => "u_dgr".to_owned(),
        Some(UnixKind::SeqPacket) => "u_seq".to_owned(),
        None => socket.protocol.to_string(),
    }
}

/// The other end. That of a unix socket seldom has a name: then it is whoever has it.
fn remote(socket: &Socket) -> String {
    let peer = |peer: &UnixPeer| match (&peer.name, peer.owners.first()) {
        (Some(name), _) => called(name),
        (None, Some(keeper)) => keeper_name(keeper),
        (None, None) => format!("inode {}", peer.inode),
    };
    let of_unix = || Some(peer(socket.unix.as_ref()?.peer.as_ref()?));
    socket.remote.map(|remote| remote.to_string()).or_else(of_unix).unwrap_or_else(|| "-".to_owned())
}

/// A path, or an abstract name with `@` for each NUL, as `ss` and /proc/net/unix have it; those with which many programs fill it up are
/// left out.
fn called(name: &UnixName) -> String {
    printable(&match name {
        UnixName::Path(path) => path.clone(),
        UnixName::Abstract(name) => format!("@{}", name.trim_end_matches('\0').replace('\0', "@")),
    })
}

/// Its own end: an address with the interface that it is bound to, a raw socket's protocol, a packet socket's Ethernet type.
fn local(socket: &Socket) -> String {
    if let Some(unix) = &socket.unix {
        return unix.name.as_ref().map_or_else(|| "-".to_owned(), called);
    }
    let interface = socket.interface_name.clone().or_else(|| Some(format!("if{}", socket.interface?.0)));
    let interface = interface.map(|name| printable(&name));
    let number = socket.number.unwrap_or_default();
    let Some(local) = socket.local else {
        /// `ETH_P_ALL`.
        const ALL: u16 = 3;
        let kind = if number == ALL { "all".to_owned() } else { format!("{number:#06x}") };
        return format!("{} {kind}", interface.unwrap_or_else(|| "*".to_owned()));
    };
    let at = interface.map(|name| format!("%{name}")).unwrap_or_default();
    match (socket.protocol, local.ip()) {
        (SocketProtocol::Raw, ip) => format!("{ip}{at} ip {number}"),
        (_, std::net::IpAddr::V4(ip)) => format!("{ip}{at}:{}", local.port()),
        (_, std::net::IpAddr::V6(ip)) => format!("[{ip}{at}]:{}", local.port()),
    }
}

fn process(socket: &Socket) -> String {
    let more = match socket.owners.len() {
        0 | 1 => String::new(),
        several => format!(" +{}", several - 1),
    };
    match (socket.owners.first(), socket.unowned()) {
        (Some(keeper), _) => format!("{}{more}", keeper_name(keeper)),
        (None, Some(Unowned::Orphan)) => "none (orphan)".into(),
        (None, Some(Unowned::Elsewhere)) => "elsewhere".into(),
        (None, Some(Unowned::Kernel) | None) => "-".into(),
    }
}

fn keeper_name(keeper: &Keeper) -> String {
    format!("{} {}", keeper.task.pid, printable(&keeper.task.command))
}

/// Its name in the pod, or else its id.
fn container(keeper: &Keeper, chain: Option<&Chain>) -> Option<String> {
    let containers = || chain.into_iter().flat_map(|chain| &chain.containers);
    let by_id = keeper.container.as_ref().map(|id| {
        let known = containers().find(|container| container.id == id.as_str());
        known.and_then(|container| container.name.clone()).unwrap_or_else(|| shorten(id.as_str()))
    });
    let by_pid = || containers().find(|container| container.pid == Some(keeper.task.pid))?.name.clone();
    by_id.or_else(by_pid).map(|name| printable(&name))
}

/// What the words in the table mean, for those that are in it.
pub fn about_sockets(sockets: &[Socket], question: &str) -> String {
    let has = |kind| sockets.iter().any(|socket| socket.unowned() == Some(kind));
    let mut out = String::new();
    if has(Unowned::Orphan) {
        out.push_str(
            "none (orphan): whoever had it closed it or died, and the kernel still sends the rest;\n",
        );
        out.push_str("  `podplumb holders` says for how long, and with --kill-orphans ends them\n");
    }
    if has(Unowned::Elsewhere) {
        out.push_str("elsewhere: no process in there has it; `podplumb holders ");
        out.push_str(&printable(question));
        out.push_str("` looks for who does\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use model::{SocketState, Task};

    use super::*;

    fn tcp(state: SocketState, inode: u64, owners: &[(u32, &str)]) -> Socket {
        let owners = owners.iter().map(|(pid, command)| Keeper {
            task: Task { pid: *pid, tid: None, command: (*command).into() },
            container: None,
        });
        Socket {
            protocol: SocketProtocol::Tcp,
            state,
            local: Some("10.0.0.2:80".parse().unwrap()),
            remote: None,
            v6_only: false,
            interface: None,
            interface_name: None,
            number: None,
            unix: None,
            receive_queue: 0,
            send_queue: 128,
            uid: 0,
            inode,
            cookie: 7,
            owners: owners.collect(),
        }
    }

    #[test]
    fn a_socket_says_whose_it_is_or_why_nobodys() {
        let all = [
            tcp(SocketState::Listen, 5, &[(812, "nginx"), (813, "nginx")]),
            tcp(SocketState::Established, 6, &[(9, "a\x1b[2J")]),
            tcp(SocketState::FinWait1, 0, &[]),
            tcp(SocketState::TimeWait, 0, &[]),
            tcp(SocketState::Listen, 8, &[]),
            Socket {
                protocol: SocketProtocol::Packet,
                local: None,
                number: Some(3),
                interface_name: Some("eth0".into()),
                ..tcp(SocketState::Unconnected, 9, &[(4, "tcpdump")])
            },
            Socket {
                protocol: SocketProtocol::Udp,
                local: Some("[fe80::1]:546".parse().unwrap()),
                interface_name: Some("eth0".into()),
                ..tcp(SocketState::Unconnected, 9, &[(4, "dhcp")])
            },
        ];
        let text = sockets(&all, None, false);
        let expected = "\
PROTO   STATE       LOCAL               REMOTE  PROCESS        CONTAINER
tcp     LISTEN      10.0.0.2:80         -       812 nginx +1   -
tcp     ESTAB       10.0.0.2:80         -       9 a\u{fffd}[2J        -
tcp     FIN-WAIT-1  10.0.0.2:80         -       none (orphan)  -
tcp     TIME-WAIT   10.0.0.2:80         -       -              -
tcp     LISTEN      10.0.0.2:80         -       elsewhere      -
packet  -           eth0 all            -       4 tcpdump      -
udp     UNCONN      [fe80::1%eth0]:546  -       4 dhcp         -
";
        assert_eq!(text, expected);
        let unix = |kind, name: Option<UnixName>, peer: Option<UnixPeer>, of: Socket| Socket {
            protocol: SocketProtocol::Unix,
            local: None,
            unix: Some(model::UnixSocket { kind, name, peer }),
            ..of
        };
        let path = || Some(UnixName::Path("/run/a\x1b[2J.sock".into()));
        let nobody = |inode| UnixPeer { inode, name: None, owners: Vec::new() };
        let known = UnixPeer { name: path(), ..nobody(10) };
        let server = tcp(SocketState::Established, 10, &[(812, "nginx")]);
        let php = || tcp(SocketState::Established, 11, &[(9, "php")]);
        let client = UnixPeer { owners: php().owners, ..nobody(11) };
        let text = sockets(
            &[
                unix(UnixKind::Stream, path(), None, tcp(SocketState::Listen, 5, &[(812, "nginx")])),
                unix(UnixKind::Stream, path(), Some(client), server),
                unix(UnixKind::Stream, None, Some(known), php()),
                unix(UnixKind::SeqPacket, None, Some(nobody(77)), php()),
                unix(
                    UnixKind::Datagram,
                    Some(UnixName::Abstract("a\0b\0\0\0".into())),
                    None,
                    tcp(SocketState::Unconnected, 13, &[(9, "php")]),
                ),
            ],
            None,
            false,
        );
        let expected = "\
PROTO  STATE   LOCAL            REMOTE           PROCESS    CONTAINER
u_str  LISTEN  /run/a\u{fffd}[2J.sock  -                812 nginx  -
u_str  ESTAB   /run/a\u{fffd}[2J.sock  9 php            812 nginx  -
u_str  ESTAB   -                /run/a\u{fffd}[2J.sock  9 php      -
u_seq  ESTAB   -                inode 77         9 php      -
u_dgr  UNCONN  @a@b             -                9 php      -
";
        assert_eq!(text, expected);
        let about = about_sockets(&all, "web\x1b");
        assert!(about.contains("holders web\u{fffd}`") && about.contains("--kill-orphans"), "{about}");
        assert!(about.lines().all(|line| line.chars().count() <= super::super::COLUMNS + 6), "{about}");
        assert!(sockets(&all, None, true).lines().next().unwrap().ends_with("UID  INODE"));
    }
}
