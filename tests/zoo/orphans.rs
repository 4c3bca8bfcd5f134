//! TCP connections that nobody has, and those that somebody has.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use podplumb_tests::{Podplumb, World, require, wait_until};

use crate::cage::Cage;
use crate::creatures::leave_tcp_orphan;

/// Without a record nobody knows the namespace's id: all that leads to it is the number that the host gave it.
#[test]
fn a_namespace_that_only_a_number_leads_to_is_entered_by_a_device_to_end_its_orphans() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let mut cage = Cage::new(0);
    let _silent = leave_tcp_orphan(&cage, 1);
    cage.open();
    std::fs::remove_dir_all("/run/podplumb").unwrap();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let findings = podplumb.findings("0s");
    let own = findings.iter().find(|finding| finding.0["pieces"].to_string().contains(&cage.veth()));
    assert_eq!(own.expect("a finding").verdict(), "unknown");
    let before = podplumb.expect(0, &["holders", &cage.veth()]);
    assert!(before.contains("--kill-orphans goes in and looks"), "{before}");
    let said = podplumb.expect(0, &["holders", &cage.veth(), "--kill-orphans"]);
    assert!(said.contains("\nended 10.77.1.2:"), "{said}");
    cage.expect_gone("tcp-orphan", std::time::Duration::from_secs(90));
}

#[test]
fn a_connection_that_somebody_has_is_not_ended() {
    if !require(&["ip"]) {
        return;
    }
    let world = World::enter();
    world.hide_others();
    let cage = Cage::new(0);
    let (mut stream, mut accepted) = cage.inside(|| {
        podplumb_tests::run("ip", &["link", "set", "lo", "up"]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (stream, listener.accept().unwrap().0)
    });
    // Half closed: FIN-WAIT-2 on this side, but somebody still reads.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let podplumb = Podplumb::with(&["--runtime", "none"]);
    let said = podplumb.expect(0, &["holders", &cage.veth(), "--kill-orphans"]);
    assert!(said.contains("nothing was ended"), "{said}");
    accepted.write_all(b"still here").unwrap();
    let mut text = [0; 10];
    std::io::Read::read_exact(&mut stream, &mut text).unwrap();
    assert_eq!(&text, b"still here");
    drop((stream, accepted));
    wait_until("the sockets are gone", || {
        let netns = cage.netns();
        netns
            .run(|| std::fs::read_to_string("/proc/thread-self/net/sockstat").unwrap())
            .unwrap()
            .starts_with("sockets: used 0")
    });
}
