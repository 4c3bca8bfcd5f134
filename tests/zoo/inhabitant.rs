//! `zoo-inhabitant uninterruptible|last-thread HOME`: a process that lives in the namespace in which it is started, in a state
//! that is hard to see or hard to end. HOME is a namespace that is none of its business.

use std::os::fd::AsFd;
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (way, home) = (arguments.next().expect("a way to live"), arguments.next().expect("a namespace"));
    match way.as_str() {
        "uninterruptible" => {
            let home = sys::NetNs::open(home).expect("a namespace");
            sys::zoo::wait_in_the_kernel(home.as_fd()).expect("a child");
        }
        "last-thread" => {
            std::thread::spawn(|| std::thread::sleep(Duration::from_secs(600)));
            sys::zoo::end_this_thread();
        }
        other => panic!("there is no way called {other}"),
    }
}
