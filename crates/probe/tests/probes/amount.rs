//! HTTP, path MTU, throughput: what goes through, and how much of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use podplumb_probe::http::{Get, get};
use podplumb_probe::path_mtu::path_mtu;
use podplumb_probe::throughput::throughput;
use podplumb_probe::{Failure, Listener};
use sys::NetNs;

use crate::net::{Line, inside, ip, lab};

const SOON: Duration = Duration::from_secs(5);

/// Answers one request inside a namespace with these bytes, and closes.
fn answer(inside: &NetNs, address: &str, bytes: &'static [u8]) -> std::thread::JoinHandle<String> {
    let address: SocketAddr = address.parse().unwrap();
    let listener = inside.run(|| TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // A program that another test is just starting may have the descriptor too.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(bytes).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    })
}

#[test]
fn a_page_has_a_status_and_a_length_and_what_is_no_page_is_told() {
    let line = Line::make();
    let to = "10.0.2.2:80".parse().unwrap();
    let request = Get { to, host: "b", path: "/x?y=1" };
    // Status, length, and whether all of it came.
    type Expected = Result<(u16, u64, bool), &'static str>;
    let table: [(&'static [u8], Expected); 7] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok((200, 5, true))),
        (b"HTTP/1.0 404 Not Found\r\n\r\nno", Ok((404, 2, true))),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Later\r\n\r\n", Ok((503, 0, true))),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello", Ok((200, 5, false))),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Err("not HTTP")),
        (b"HTTP/1.1 2000 OK\r\n\r\n", Err("not HTTP")),
        (b"", Err("the server closed without an answer")),
    ];
    for (bytes, expected) in table {
        let server = answer(&line.b, "10.0.2.2:80", bytes);
        let got = get(&line.a, &request, SOON).map(|got| (got.status, got.bytes, got.whole));
        assert_eq!(got.map_err(|failure| failure.to_string()), expected.map_err(str::to_owned));
        let asked = server.join().unwrap();
        assert!(asked.starts_with("GET /x?y=1 HTTP/1.1\r\nHost: b\r\n"), "{asked}");
    }
    assert_eq!(get(&line.a, &request, SOON), Err(Failure::Refused));
    let _silent = line.b.run(|| TcpListener::bind(to)).unwrap().unwrap();
    let briefly = Duration::from_millis(200);
    assert_eq!(get(&line.a, &request, briefly), Err(Failure::Silence { waited: briefly }));
    for path in ["x", "/a b", "/a\r\nHost: c"] {
        assert!(
            matches!(get(&line.a, &Get { path, ..request }, SOON), Err(Failure::Setup { .. })),
            "{path:?}"
        );
    }
}

#[test]
fn the_path_mtu_is_what_the_narrowest_router_says() {
    let line = Line::make();
    for to in [Line::B, Line::B6] {
        let wide = path_mtu(&line.a, ip(to), SOON).unwrap();
        assert_eq!((wide.bytes, wide.device_bytes), (1500, 1500));
        assert!(wide.told.is_empty() && wide.vanishes_from.is_none(), "{wide:?}");
    }
    inside(&line.r, "ip link set r-b mtu 1400");
    for (to, router) in [(Line::B, "10.0.1.1"), (Line::B6, "fd00:1::1")] {
        // Twice: what the sender's kernel has learnt by then does not count.
        for _ in 0..2 {
            let narrow = path_mtu(&line.a, ip(to), SOON).unwrap();
            assert_eq!((narrow.bytes, narrow.device_bytes), (1400, 1500));
            assert_eq!((narrow.told, narrow.vanishes_from), (vec![(ip(router), 1400)], None));
        }
    }
    inside(&line.a, "ip link set eth0 mtu 1300");
    let own = path_mtu(&line.a, ip(Line::B), SOON).unwrap();
    assert_eq!((own.bytes, own.device_bytes, own.told.len()), (1300, 1300, 0));
}

#[test]
fn where_large_packets_vanish_without_a_word_is_a_black_hole() {
    let line = Line::make();
    for (mtu, to) in [(1401, Line::B), (1400, Line::B6), (1280, Line::B6), (600, Line::B)] {
        let drop = "add rule inet t f meta length >";
        inside(
            &line.r,
            &format!(
                "nft 'add table inet t; add chain inet t f {{ type filter hook forward priority 0; }}
                      {drop} {mtu} drop'"
            ),
        );
        let hole = path_mtu(&line.a, ip(to), SOON).unwrap();
        assert_eq!((hole.bytes, hole.vanishes_from), (mtu, Some(mtu + 1)), "{hole:?}");
        assert!(hole.told.is_empty());
        inside(&line.r, "nft delete table inet t");
    }
    inside(&line.r, "ip route add blackhole 10.0.2.2/32");
    let wait = Duration::from_millis(300);
    assert_eq!(path_mtu(&line.a, ip(Line::B), wait), Err(Failure::Silence { waited: wait }));
}

#[test]
fn the_path_mtu_is_found_where_every_other_packet_is_lost() {
    let line = Line::make();
    inside(
        &line.r,
        "nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; }
              add rule inet t f iifname r-a numgen inc mod 2 0 drop'",
    );
    for _ in 0..2 {
        let found = path_mtu(&line.a, ip(Line::B), SOON).unwrap();
        assert_eq!((found.bytes, found.vanishes_from), (1500, None), "{found:?}");
    }
}

#[test]
fn a_router_that_says_too_big_before_a_black_hole_hides_neither() {
    let line = Line::make();
    inside(
        &line.r,
        "ip link set r-b mtu 1400
         nft 'add table inet t; add chain inet t f { type filter hook postrouting priority 0; }
              add rule inet t f oifname r-b meta length > 1350 drop'",
    );
    let both = path_mtu(&line.a, ip(Line::B), SOON).unwrap();
    assert_eq!((both.bytes, both.told.as_slice()), (1350, [(ip("10.0.1.1"), 1400)].as_slice()));
    assert_eq!(both.vanishes_from, Some(1351));
}

#[test]
fn throughput_is_what_the_narrowest_link_lets_through() {
    let [a, b] = lab("{hosts: [a, b], links: [a -- b]}", ["a", "b"]);
    let to: SocketAddr = "10.0.0.2:0".parse().unwrap();
    let moment = Duration::from_millis(700);
    let fast = throughput(&a, &b, to, moment, SOON).unwrap().bits_per_second();
    assert!(fast > 100_000_000, "{fast}");
    inside(&a, "tc qdisc add dev eth0 root tbf rate 20mbit burst 32k latency 50ms");
    let slow = throughput(&a, &b, to, moment, SOON).unwrap().bits_per_second();
    // A busy machine does not get as much through as it may.
    assert!((2_000_000..21_000_000).contains(&slow), "{slow}");
    inside(&b, "nft 'add table ip t; add chain ip t i { type filter hook input priority 0; policy drop; }'");
    let briefly = Duration::from_millis(200);
    assert_eq!(throughput(&a, &b, to, moment, briefly), Err(Failure::Silence { waited: briefly }));
    inside(
        &b,
        "nft 'delete table ip t; add table ip n; add chain ip n p { type nat hook prerouting priority -100; }
              add rule ip n p tcp dport 98 redirect to :97'",
    );
    let _elsewhere = Listener::open(&b, "10.0.0.2:97".parse().unwrap()).unwrap().unwrap();
    let elsewhere = throughput(&a, &b, "10.0.0.2:98".parse().unwrap(), moment, briefly).unwrap_err();
    assert_eq!(elsewhere.to_string(), "the connection went to somebody else");
    let _taken = Listener::open(&b, "10.0.0.2:99".parse().unwrap()).unwrap().unwrap();
    let taken = throughput(&a, &b, "10.0.0.2:99".parse().unwrap(), moment, briefly);
    assert!(matches!(taken, Err(Failure::Setup { .. })), "{taken:?}");
}
