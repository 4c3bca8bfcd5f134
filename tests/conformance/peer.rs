//! Machines and pods that talk to each other.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sys::NetNs;

/// How long an answer may take. Every reachability test that expects none waits for so long.
const PATIENCE: Duration = Duration::from_millis(600);
/// How often somebody who has to be reachable is asked.
const ATTEMPTS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Listens in a namespace on TCP and UDP, and tells everybody who asks its own name and what address it sees.
pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Listener {
    /// In the namespace of that name; in the node's for "".
    #[track_caller]
    pub(crate) fn start(name: &'static str, port: u16) -> Self {
        let (tcp, udp) = at(name, || {
            let bind = |any: &str| {
                let any = SocketAddr::new(any.parse().expect("an address"), port);
                (TcpListener::bind(any).expect("a port"), UdpSocket::bind(any).expect("a port"))
            };
            // Linux's unspecified IPv6 address takes IPv4 too.
            bind("::")
        });
        let stop = Arc::new(AtomicBool::new(false));
        tcp.set_nonblocking(true).expect("a socket");
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
        let (stop_tcp, stop_udp) = (Arc::clone(&stop), Arc::clone(&stop));
        let accept = move || {
            while !stop_tcp.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut client, from)) => drop(client.write_all(greeting(name, from).as_bytes())),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        };
        let answer = move || {
            let mut buffer = [0; 64];
            while !stop_udp.load(Ordering::Relaxed) {
                if let Ok((_, from)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(greeting(name, from).as_bytes(), from);
                }
            }
        };
        Self { stop, threads: vec![std::thread::spawn(accept), std::thread::spawn(answer)] }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn greeting(name: &str, from: SocketAddr) -> String {
    format!("{name} sees {}", from.ip().to_canonical())
}

/// Runs something in the namespace of that name, in the node's for "".
#[track_caller]
pub(crate) fn at<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    if name.is_empty() {
        return work();
    }
    let netns = NetNs::open(Path::new("/run/netns").join(name)).expect("a namespace");
    netns.run(work).expect("a namespace can be entered")
}

/// What the listener at that address answers, if anybody does.
pub(crate) fn ask(from: &str, protocol: Protocol, to: &str, port: u16) -> Option<String> {
    let to = SocketAddr::new(to.parse::<IpAddr>().expect("an address"), port);
    at(from, || match protocol {
        Protocol::Tcp => ask_by_tcp(to),
        Protocol::Udp => {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            ask_by_udp(&UdpSocket::bind(any).ok()?, to)
        }
    })
}

fn ask_by_tcp(to: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The same through a socket that is there already.
pub(crate) fn ask_by_udp(socket: &UdpSocket, to: SocketAddr) -> Option<String> {
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.send_to(b"who", to).ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Whoever is at that address has to answer this.
#[track_caller]
pub(crate) fn assert_answer(from: &str, protocol: Protocol, to: &str, port: u16, expected: &str) {
    let mut answer = None;
    for _ in 0..ATTEMPTS {
        answer = ask(from, protocol, to, port);
        if answer.is_some() {
            break;
        }
    }
    assert_eq!(answer.as_deref(), Some(expected), "{from:?} asks {to}:{port} by {protocol:?}");
}

/// Whoever has that name has to answer, whatever address it sees.
#[track_caller]
pub(crate) fn assert_reaches(from: &str, protocol: Protocol, to: &str, port: u16, name: &str) {
    let answer = (0..ATTEMPTS).find_map(|_| ask(from, protocol, to, port));
    let is_right = answer.as_deref().is_some_and(|answer| answer.starts_with(&format!("{name} sees ")));
    assert!(is_right, "{from:?} asks {to}:{port} by {protocol:?} for {name}: {answer:?}");
}

/// Nobody may answer.
#[track_caller]
pub(crate) fn assert_silence(from: &str, protocol: Protocol, to: &str, port: u16) {
    let answer = ask(from, protocol, to, port);
    assert_eq!(answer, None, "{from:?} asks {to}:{port} by {protocol:?}");
}
