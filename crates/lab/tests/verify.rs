//! Labs that are verified: what holds, what does not, and what is said about it.

use std::time::{Duration, Instant};

use analyze::render::Paint;
use podplumb_lab::verify::{Options, Report, Status};
use podplumb_lab::{Lab, resolve, topology};

/// A lab with the sentences of its topology, those included that reading the file would refuse.
fn lab(yaml: &str) -> Lab {
    assert!(sys::is_root(), "needs root");
    let mut topology = topology::from_yaml(yaml, "t".as_ref()).unwrap();
    let expect = std::mem::take(&mut topology.expect);
    let mut wiring = resolve(&topology, "test", &|_| unreachable!()).unwrap().wiring;
    wiring.expect = expect;
    Lab::new(wiring).unwrap_or_else(|error| panic!("{error}"))
}

/// Verifies what does not hold: with a short time limit.
fn verify(lab: &Lab) -> Report {
    lab.verify(&Options { within: Duration::from_millis(1500), ..Options::default() })
}

/// Verifies what holds, however busy the machine is: nothing waits once it does.
fn patiently(lab: &Lab) -> Report {
    lab.verify(&Options { within: Duration::from_secs(60), ..Options::default() })
}

/// What was seen of each sentence, `!` before those that do not hold and `?` before those that nobody knows.
fn seen(report: &Report) -> Vec<String> {
    let mark = |status| match status {
        Status::Passed => "",
        Status::Failed => "! ",
        Status::Unclear => "? ",
    };
    report.results.iter().map(|result| format!("{}{}", mark(result.status), result.seen)).collect()
}

/// Runs shell lines in a machine.
fn inside(lab: &Lab, machine: &str, lines: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test may use iproute2 and nft")]
    let output = lab.run(machine, || std::process::Command::new("sh").args(["-ec", lines]).output());
    let output = output.unwrap().expect("there is a shell");
    assert!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
}

const LINE: &str = "
hosts: [a, b]
routers: [r]
pool: [10.0.0.0/8, 'fd00::/48']
links: [a -- r, r -- b]
";

fn line(sentences: &[&str]) -> Lab {
    let lines: Vec<String> = sentences.iter().map(|sentence| format!("  - '{sentence}'\n")).collect();
    let expect = if lines.is_empty() { "" } else { "expect:\n" };
    lab(&format!("{LINE}{expect}{}", lines.concat()))
}

#[test]
fn what_works_holds_in_both_families() {
    let sentences = [
        "ping a -> b",
        "ping a -> b size 1500",
        "ping6 a -> b",
        "tcp a -> b:80",
        "udp a -> b:53",
        "mtu a -> b = 1500",
        "throughput a -> b >= 10mbit",
        "route a -> b via r dev eth0",
        "captured r:eth1 icmp while ping a -> b",
        "captured b udp port 53 host a while udp a -> b:53",
        "nothing captured b:lo icmp while ping a -> b",
        "no ping a -> 10.9.9.9",
        "no tcp a -> 10.9.9.9:80 within 300ms",
    ];
    let report = patiently(&line(&sentences));
    assert!(report.holds(), "{}", report.text(Paint::PLAIN));
    let order: Vec<&str> = report.results.iter().map(|result| result.text.as_str()).collect();
    assert_eq!(order, sentences);
    let seen = seen(&report);
    assert!(seen[0].contains("10.") && seen[0].contains("fd00:"), "{}", seen[0]);
    assert_eq!(seen[7].matches("via r (").count(), 2, "{}", seen[7]);
}

#[test]
fn what_does_not_work_says_what_was_seen_instead() {
    let lab = line(&[
        "ping4 a -> b",
        "ping a -> 203.0.113.1",
        "tcp a -> b:81",
        "no tcp a -> b:80",
        "mtu a -> b = 1500",
        "route a -> b via b",
        "captured r:eth1 tcp while ping a -> b",
        "nothing captured r:eth1 icmp while ping6 a -> b",
        "throughput a -> b:99 >= 10mbit",
        "http a -> http://b:8080/",
        "throughput a -> b >= 900gbit",
        "ping6 a -> b within 60s",
    ]);
    inside(
        &lab,
        "r",
        "ip link set eth1 mtu 1400
         nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; }
              add rule inet t f ip protocol icmp icmp type echo-request meta length 84 drop
              add rule inet t f tcp dport 81 reject with icmpx admin-prohibited
              add rule inet t f tcp dport 99 drop'",
    );
    let report = verify(&lab);
    let seen = seen(&report);
    let expected = [
        "! no answer in 1.5 s",
        "! r says: network unreachable",
        ": r says: prohibited",
        "! 10.",
        "1400 bytes; r takes 1400",
        "via r (",
        "none, but ",
        "it does: ",
        "! ",
        "connection refused",
        "bit",
        "reply after",
    ];
    for (seen, expected) in seen.iter().zip(expected) {
        assert!(seen.contains(expected), "{expected}: {seen}");
    }
    let failed = report.results.iter().filter(|result| result.status == Status::Failed).count();
    assert_eq!(failed, 11, "{}", report.text(Paint::PLAIN));
    let text = report.text(Paint::PLAIN);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.ends_with(" s)\n") && text.contains("test: 1 of 12 hold"), "{text}");
}

#[test]
fn a_black_hole_is_told_from_a_router_that_speaks() {
    let lab = line(&[
        "mtu a -> b = 1450",
        "mtu a -> b = 1500",
        "ping a -> b size 1400",
        "no ping a -> b size 1451",
    ]);
    inside(
        &lab,
        "r",
        "nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; }
              add rule inet t f meta length > 1450 drop'",
    );
    let report = lab.verify(&Options { within: Duration::from_secs(4), ..Options::default() });
    let marks: Vec<Status> = report.results.iter().map(|result| result.status).collect();
    assert_eq!(
        marks,
        [Status::Passed, Status::Failed, Status::Passed, Status::Passed],
        "{:?}",
        seen(&report)
    );
    assert!(report.results[1].seen.contains("1451 vanish without a word"), "{:?}", report.results[1]);
}

#[test]
fn a_sentence_is_tried_until_it_holds() {
    let lab = line(&["ping a -> b within 60s"]);
    inside(
        &lab,
        "r",
        "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1500));
            inside(
                &lab,
                "r",
                "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
            );
        });
        let start = Instant::now();
        assert!(lab.verify(&Options::default()).holds());
        assert!(start.elapsed() > Duration::from_millis(1400));
    });
}

#[test]
fn what_must_not_work_has_to_fail_for_its_whole_time_or_be_refused() {
    let lab = line(&["no ping4 a -> b", "no tcp a -> b:80", "no udp a -> b:53"]);
    inside(
        &lab,
        "r",
        "nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; }
              add rule inet t f ip protocol icmp drop
              add rule inet t f tcp dport 80 reject with tcp reset
              add rule inet t f udp dport 53 reject'",
    );
    let report = verify(&lab);
    assert!(report.holds(), "{:?}", seen(&report));
    assert!(report.results[0].took >= Duration::from_millis(900), "{:?}", report.results[0]);
    assert!(report.results[1].took < report.results[0].took, "{:?}", report.results);
    assert_eq!(report.results[0].seen, "no answer in 1 s");
    // It works after a while: that is seen.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(400));
            inside(&lab, "r", "nft delete table inet t");
        });
        let report = lab.verify(&Options { refuse_for: Duration::from_secs(60), ..Options::default() });
        assert_eq!(report.results[0].status, Status::Failed, "{:?}", report.results[0]);
    });
}

#[test]
fn our_listeners_are_where_ports_lead_and_nowhere_that_a_process_is() {
    let lab = lab("
nodes: {node: {pods: 1, forward: 'tcp/8080 -> 10.244.0.2:80'}}
hosts:
  client:
  server: {run: python3 -m http.server 8000 --directory /proc/self/fdinfo}
links: [client -- node, server -- node]
expect:
  - tcp client -> node:8080
  - http client -> http://server:8000/ = 200
  - http client -> http://server:8000/nothing = 404
  - tcp client -> server:8000
  - no http client -> http://server:8000/nothing = 200
");
    let report = patiently(&lab);
    assert!(report.holds(), "{}", report.text(Paint::PLAIN));
}

#[test]
fn pods_that_plugins_wired_are_found_by_the_addresses_that_they_got() {
    let conflist = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.8.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;
    let yaml = "
nodes: {node: {pods: 2, cni: net.conflist}}
hosts: [out]
links: [node -- out]
expect:
  - ping node-pod1 -> node-pod2
  - tcp node-pod1 -> out:80
  - tcp node -> node-pod2:80
  - route node-pod1 -> out via node dev eth0
  - captured node:cni0 icmp while ping node-pod1 -> out
";
    let topology = topology::from_yaml(yaml, "t".as_ref()).unwrap();
    let wiring = resolve(&topology, "test", &|_| Ok(conflist.to_owned())).unwrap().wiring;
    let lab = Lab::new(wiring).unwrap_or_else(|error| panic!("{error}"));
    let report = patiently(&lab);
    assert!(report.holds(), "{}", report.text(Paint::PLAIN));
}

#[test]
fn of_pods_that_ended_the_namespace_is_gone_or_without_anybody_and_the_others_live() {
    let conflist = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.8.0/24"}]]}}]}"#;
    let lab_of = |pods: &str, expect: &str| {
        let yaml = format!("nodes: {{node: {{cni: net.conflist, pods: {{{pods}}}}}}}\nexpect: [{expect}]\n");
        let topology = topology::from_yaml(&yaml, "t".as_ref()).unwrap();
        resolve(&topology, "test", &|_| Ok(conflist.to_owned())).map(|resolved| resolved.wiring)
    };
    let pods = "a: {run: sleep 60}, b: {ended: pinned}, c: {ended: without-del}, d: {ended: half-added}, e: {ended: restarted}";
    let wiring = lab_of(pods, "ping node-a -> node, ping node-b -> node").unwrap();
    let mut lab = Lab::new(wiring).unwrap_or_else(|error| panic!("{error}"));
    let report = patiently(&lab);
    assert!(report.holds(), "{}", report.text(Paint::PLAIN));
    let is_there = |lab: &Lab, pod: &str| lab.netns(pod).is_ok();
    let pods = ["node-a", "node-b", "node-c", "node-d", "node-e"];
    assert_eq!(pods.map(|pod| is_there(&lab, pod)), [true, true, false, false, false]);
    let veths = || {
        let mut socket = netlink::Socket::route().unwrap();
        let links = netlink::link::list(&mut socket, None).unwrap();
        links.iter().filter(|link| link.kind == "veth").count()
    };
    assert_eq!(lab.run("node", veths).unwrap(), 4, "of a and b one end, of d both");

    let wanted = lab_of("a: {ended: without-del}, c: {run: sleep 60}", "ping node-c -> node").unwrap();
    lab.change(wanted).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(pods.map(|pod| is_there(&lab, pod)), [false, false, true, false, false]);
    let report = patiently(&lab);
    assert!(report.holds(), "{}", report.text(Paint::PLAIN));
    // The kernel takes its time with a namespace.
    let start = std::time::Instant::now();
    while lab.run("node", veths).unwrap() > 1 {
        assert!(start.elapsed().as_secs() < 60, "of b and d nothing is left");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(lab.run("node", veths).unwrap(), 1);

    let fault = lab_of("a: {ended: without-del}", "ping node-a -> node").unwrap_err();
    assert!(fault.what.contains("`node-a` has ended"), "{fault:?}");
    let fault = lab_of("a: {ended: pinned, run: sleep 60}", "").unwrap_err();
    assert_eq!(fault.what, "nothing runs in a pod that ended");
}

#[test]
fn the_machine_that_is_named_is_meant_where_two_have_its_address() {
    let lab = lab("
hosts: [a1, b1, a2, b2]
links:
  - a1 10.0.0.1/24 -- b1 10.0.0.2/24
  - a2 10.0.0.1/24 -- b2 10.0.0.2/24
expect:
  - tcp a1 -> b1:80
  - tcp a2 -> b2:80
  - udp a2 -> b2:80
  - throughput a2 -> b2 >= 1mbit
");
    let report = patiently(&lab);
    assert!(report.holds(), "{}", report.text(Paint::PLAIN));
}

#[test]
fn sentences_that_are_not_understood_are_unclear_and_the_others_are_checked() {
    // Such files are refused; a wiring may come from elsewhere.
    let mut wiring = line(&[]).wiring().clone();
    wiring.expect = ["pnig a -> b", "ping a -> c", "ping a -> b"].map(str::to_owned).to_vec();
    let lab = Lab::new(wiring).unwrap();
    let report = lab.verify(&Options::default());
    assert!(!report.holds());
    let seen = seen(&report);
    assert_eq!(seen[0], "? column 1: `pnig` is not a check; did you mean `ping`?");
    assert_eq!(seen[1], "? column 11: there is no `c` in this lab; there are a, b, r");
    assert_eq!(report.results[2].status, Status::Passed);
}

#[test]
fn hundreds_of_sentences_take_no_longer_than_their_slowest() {
    let mut sentences: Vec<String> = (2..=60).map(|n| format!("  - ping h1 -> h{n}\n")).collect();
    sentences.extend((2..=30).map(|n| format!("  - no tcp h1 -> 10.0.9.{n}:80\n")));
    let yaml = format!(
        "switches: [sw]\nhosts: {{h: {{count: 60}}}}\nlinks: [h -- sw]\nexpect:\n{}",
        sentences.concat()
    );
    let lab = lab(&yaml);
    let report = patiently(&lab);
    assert!(report.holds(), "{}", report.text(Paint::PLAIN));
    let one_by_one: Duration = report.results.iter().map(|result| result.took).sum();
    assert!(report.took * 4 < one_by_one, "{:?} of {one_by_one:?}", report.took);
}

#[test]
fn the_documents_example_is_what_is_printed() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/labs.md")).unwrap();
    let lines = document.lines().skip_while(|line| !line.starts_with("A sentence that does not hold"));
    let example: Vec<&str> = lines.skip(2).map_while(|line| line.strip_prefix("    ")).collect();
    let lab = lab("
hosts: [client, server, cloud]
routers: [r1]
links: [client -- r1, server -- r1, cloud -- r1]
expect:
  - ping client -> server
  - mtu client -> server = 1500
  - mtu client -> cloud = 1500
");
    inside(
        &lab,
        "r1",
        "ip link set eth1 mtu 1400
         nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; }
              add rule inet t f oifname eth2 meta length > 1450 drop'",
    );
    let text = lab.verify(&Options::default()).text(Paint::PLAIN);
    // Times differ.
    let timeless = |line: &str| line.split(" after ").next().unwrap_or_default().to_owned();
    let printed: Vec<String> = text.lines().map(timeless).collect();
    let (_, printed) = printed.split_last().unwrap();
    assert_eq!(printed, example.into_iter().map(timeless).collect::<Vec<_>>(), "{text}");
}
