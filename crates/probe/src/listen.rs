//! Listeners that a probe opens where nobody listens, for as long as it lasts.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sys::NetNs;

use crate::icmp::readable;

/// How often a listener looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Accepts TCP connections and closes them, until dropped.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    _worker: Worker,
}

impl Listener {
    /// Listens in a namespace; port 0: the kernel chooses one. `None` when somebody listens there already.
    pub fn open(inside: &NetNs, address: SocketAddr) -> io::Result<Option<Self>> {
        let Some(listener) = unless_taken(inside.run(|| TcpListener::bind(address))?)? else {
            return Ok(None);
        };
        let address = listener.local_addr()?;
        let listener = OwnedFd::from(listener);
        let worker = Worker::start(move |is_over| {
            while !is_over() {
                if readable(&listener, LOOK_EVERY).unwrap_or(false) {
                    // Dropped at once. A connection that was reset meanwhile is an error of no interest.
                    let _ = rustix::net::accept(&listener);
                }
            }
            // A child that another thread of ours is just starting may have the descriptor too: closing alone does not end it.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        });
        Ok(Some(Self { address, _worker: worker }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Sends UDP datagrams back, until dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    _worker: Worker,
}

impl Echo {
    /// Listens in a namespace; port 0: the kernel chooses one. `None` when somebody listens there already.
    ///
    /// The address should be the one that is asked: from a wildcard, the kernel may answer with another of several addresses.
    pub fn open(inside: &NetNs, address: SocketAddr) -> io::Result<Option<Self>> {
        let Some(socket) = unless_taken(inside.run(|| UdpSocket::bind(address))?)? else { return Ok(None) };
        let address = socket.local_addr()?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let worker = Worker::start(move |is_over| {
            let mut buffer = vec![0; 65_535];
            while !is_over() {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Some(Self { address, _worker: worker }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn unless_taken<T>(bound: io::Result<T>) -> io::Result<Option<T>> {
    match bound {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

/// A thread that ends when this is dropped.
#[derive(Debug)]
struct Worker {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(work: impl FnOnce(&dyn Fn() -> bool) + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || work(&|| seen.load(Ordering::Relaxed)));
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
