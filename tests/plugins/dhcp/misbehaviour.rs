//! Servers that are silent, refuse, or answer with what is no answer. What no real server does comes from one of the test's own.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podplumb_tests::{run, wait_until};

use super::lan::{LEASES, Lan, can_run, count, join, recorded};

/// A reply to a client's message.
fn reply(request: &[u8], kind: u8, yours: [u8; 4], options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = request[..240].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&yours);
    bytes.extend_from_slice(&[53, 1, kind]);
    bytes.extend_from_slice(&options.concat());
    bytes.push(255);
    bytes
}

/// The kind of a client's message; it comes first.
fn kind(request: &[u8]) -> Option<u8> {
    request.get(240..243).filter(|option| option[..2] == [53, 1]).map(|option| option[2])
}

const SERVER: &[u8] = &[54, 4, 10, 77, 0, 1];
const MASK: &[u8] = &[1, 4, 255, 255, 255, 0];
const MINUTE: &[u8] = &[51, 4, 0, 0, 0, 60];

/// A server of the test's own: `answers` makes messages of each one that comes.
struct OwnServer {
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl OwnServer {
    fn start(mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let netns = sys::NetNs::open("/run/netns/server").unwrap();
        let socket = netns.run(|| UdpSocket::bind("0.0.0.0:67")).unwrap().unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
                for answer in answers(&buffer[..length]) {
                    let _ = socket.send_to(&answer, "255.255.255.255:68");
                }
            }
        });
        Self { end, thread: Some(thread) }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn malformed_and_foreign_answers_are_ignored() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let daemon = lan.daemon(&[]);
    let _server = OwnServer::start(|request| {
        let (answer, yours): (u8, [u8; 4]) = match kind(request) {
            Some(1) => (2, [10, 77, 0, 50]),
            Some(3) => (5, [10, 77, 0, 50]),
            _ => return Vec::new(),
        };
        let good = reply(request, answer, yours, &[SERVER, MASK, MINUTE]);
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let mut answers: Vec<Vec<u8>> =
            (0..good.len()).step_by(3).map(|length| good[..length].to_vec()).collect();
        answers.extend([
            changed(0, 1),
            changed(1, 7),
            changed(4, request[4].wrapping_add(1)),
            changed(28, request[28] ^ 2),
            changed(236, 0),
            // The first option's length leads out of the message.
            changed(241, 255),
            reply(request, answer, [127, 0, 0, 1], &[SERVER, MASK, MINUTE]),
            reply(request, answer, [10, 77, 0, 66], &[]),
            vec![0xff; 1400],
        ]);
        answers.push(good);
        answers
    });
    let answer = lan.add("a");
    assert_eq!(answer.ip(), "10.77.0.50", "{}", daemon.log());
    assert_eq!(count(&daemon.log(), "leased"), 1);
}

#[test]
fn a_server_that_never_stops_refusing_is_not_asked_for_ever() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _daemon = lan.daemon(&["-timeout", "4s"]);
    let discovers = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&discovers);
    let _server = OwnServer::start(move |request| match kind(request) {
        Some(1) => {
            counted.fetch_add(1, Ordering::Relaxed);
            vec![reply(request, 2, [10, 77, 0, 50], &[SERVER, MASK, MINUTE])]
        }
        Some(3) => vec![reply(request, 6, [0; 4], &[SERVER])],
        _ => Vec::new(),
    });
    join("a");
    let answer = lan.plugin.on("ADD", "a");
    assert_eq!(answer.code(), 100, "{:#}", answer.json);
    // It began anew, but with the pauses of a client that hears nothing.
    let discovers = discovers.load(Ordering::Relaxed);
    assert!((2..=5).contains(&discovers), "{discovers} DISCOVERs");
    assert_eq!(recorded(), [""; 0]);
}

#[test]
fn an_add_that_died_with_its_daemon_is_given_back_by_the_next_one() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let mut daemon = lan.daemon(&[]);
    let released = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&released);
    // It gives the address, but its ACK is lost.
    let _server = OwnServer::start(move |request| match kind(request) {
        Some(1) => vec![reply(request, 2, [10, 77, 0, 50], &[SERVER, MASK, MINUTE])],
        Some(7) if request[12..16] == [10, 77, 0, 50] => {
            seen.store(true, Ordering::Relaxed);
            Vec::new()
        }
        _ => Vec::new(),
    });
    join("a");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| lan.plugin.on("ADD", "a"));
        let record = Path::new(LEASES).join("lan:a:eth0");
        let asked = || std::fs::read_to_string(&record).is_ok_and(|text| text.contains("requesting"));
        wait_until("the address is asked for", asked);
        daemon.crash();
        assert_eq!(add.join().unwrap().code(), 11);
    });
    assert_eq!(recorded(), ["lan:a:eth0"]);
    assert!(!released.load(Ordering::Relaxed));
    // The server is no part of that network any more for a renewal, but the release needs only the MAC that was noted.
    let _daemon = lan.daemon(&[]);
    wait_until("the address is given back", || released.load(Ordering::Relaxed) && recorded().is_empty());
    lan.plugin.del("a");
}

#[test]
fn without_a_server_an_add_fails_in_time_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let lan = Lan::new();
    let _daemon = lan.daemon(&["-timeout", "2s"]);
    join("a");
    let answer = lan.plugin.on("ADD", "a");
    assert_eq!(answer.code(), 11, "{:#}", answer.json);
    assert_eq!(recorded(), [""; 0]);
    assert!(lan.status().ok);
    run("ip", &["netns", "add", "bare"]);
    let bare = lan.plugin.on("ADD", "bare");
    assert!(!bare.ok && bare.json["msg"].as_str().unwrap().contains("eth0"), "{:#}", bare.json);
    assert_eq!(recorded(), [""; 0]);
}
