//! Lines that are slow and lossy (netem). Where the kernel has no CONFIG_NET_SCH_NETEM each test says that it is skipped; in a machine of
//! `make vm` that is a failure, since it would run nowhere.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use podplumb_lab::verify::{Options, Report, Status, verify};
use podplumb_lab::{Error, LabName, Labs, Raised, UpOptions, Wiring, resolve, topology};

/// A lab that is up, in a place that nobody else sees.
struct Up {
    directory: tempfile::TempDir,
    labs: Labs,
    name: LabName,
}

fn wiring(yaml: &str) -> Wiring {
    let topology = topology::from_yaml(yaml, Path::new("lab.yaml")).unwrap();
    resolve(&topology, "lab", &|_| unreachable!()).unwrap().wiring
}

/// `None`: this kernel has no netem.
fn up(yaml: &str) -> Option<Up> {
    assert!(sys::is_root(), "needs root");
    let directory = tempfile::tempdir().unwrap();
    sys::isolate_thread().unwrap();
    let labs = Labs::below(directory.path().join("labs"));
    let up = Up { directory, labs, name: "lab".parse().unwrap() };
    match up.labs.up(&wiring(yaml), &UpOptions::default(), &mut |_, _| {}) {
        Ok(_) => Some(up),
        Err(Error::Unsupported { option, .. }) => {
            assert!(std::env::var_os("PODPLUMB_WHOLE_KERNEL").is_none(), "this kernel lacks {option}");
            eprintln!("SKIPPED: this kernel lacks {option} (make vm has it)");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

impl Up {
    /// Makes of the lab what the text says; the steps that it took.
    fn edit(&self, yaml: &str) -> Vec<String> {
        match self.labs.up(&wiring(yaml), &UpOptions::default(), &mut |_, _| {}) {
            Ok(Raised::Unchanged) => Vec::new(),
            Ok(Raised::Made(plan)) => plan.to_string().lines().map(str::to_owned).collect(),
            Err(error) => panic!("{error}"),
        }
    }

    fn run<T: Send>(&self, machine: &str, work: impl FnOnce() -> T + Send) -> T {
        self.labs.netns(&self.name, machine).unwrap().run(work).unwrap()
    }

    fn inside(&self, machine: &str, line: &str) -> String {
        #[expect(clippy::disallowed_methods, reason = "a test may use iproute2")]
        let output = self.run(machine, || std::process::Command::new("sh").args(["-ec", line]).output());
        let output = output.expect("there is a shell");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The queue of a machine's eth0 in the words of tc, without its handle and who else knows it.
    fn queue(&self, machine: &str) -> String {
        let line = self.inside(machine, "tc qdisc show dev eth0");
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.ends_with(':')).collect();
        let known_to = words.iter().position(|word| *word == "refcnt").expect("a count");
        [&words[..known_to], &words[known_to + 2..]].concat().join(" ")
    }

    fn verify(&self) -> Report {
        let record = self.labs.record(&self.name).unwrap().unwrap();
        let open = |machine: &str| self.labs.pinned(&self.name, machine);
        verify(&record.wiring, &open, &Options::default())
    }

    /// How long a ping from a to b takes, as `lab verify` says.
    fn round_trip(&self) -> Duration {
        let report = self.verify();
        assert!(report.holds(), "{}", report.text(analyze::render::Paint::PLAIN));
        let seen = &report.results[0].seen;
        let words: Vec<&str> = seen.split_whitespace().collect();
        let ["reply", "after", number, "ms"] = words[..] else { panic!("{seen}") };
        Duration::from_secs_f64(number.parse::<f64>().unwrap() / 1e3)
    }

    fn down(self) {
        self.labs.down(&self.name, false).unwrap();
        drop(self.directory);
    }
}

fn pair(settings: &str) -> String {
    format!(
        "hosts: [a, b]\nlinks: [{{link: a 10.1.0.1/24 -- b 10.1.0.2/24{settings}}}]\nexpect: [ping a -> b]\n"
    )
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn a_delay_is_seen_by_verify_without_what_the_neighbours_take() {
    let Some(lab) = up(&pair(", delay: 100ms")) else { return };
    let round_trip = lab.round_trip();
    assert!(round_trip >= millis(200) && round_trip < millis(390), "{round_trip:?}");
    lab.down();
}

#[test]
fn an_answer_that_comes_late_is_an_answer() {
    let far = ", delay: 400ms";
    let yaml = pair(far).replace("[ping a -> b]", "[ping a -> b, no ping a -> b, no ping a -> 10.1.0.9]");
    let Some(lab) = up(&yaml) else { return };
    let report = lab.verify();
    let statuses: Vec<Status> = report.results.iter().map(|result| result.status).collect();
    let text = report.text(analyze::render::Paint::PLAIN);
    assert_eq!(statuses, [Status::Passed, Status::Failed, Status::Passed], "{text}");
    lab.down();
}

#[test]
fn everything_that_works_works_on_a_slow_line() {
    let sentences = [
        "ping a -> b",
        "ping a -> b size 1500",
        "tcp a -> b:80",
        "udp a -> b:53",
        "mtu a -> b = 1500",
        "throughput a -> b <= 12mbit",
        "captured b icmp while ping a -> b",
        "no ping a -> 10.1.0.9",
    ];
    let lines: Vec<String> = sentences.iter().map(|sentence| format!("  - {sentence}\n")).collect();
    let yaml = format!(
        "hosts: [a, b]\nlinks: [{{link: a 10.1.0.1/24 -- b 10.1.0.2/24, delay: 60ms, rate: 10mbit}}]\nexpect:\n{}",
        lines.concat()
    );
    let Some(lab) = up(&yaml) else { return };
    let report = lab.verify();
    assert!(report.holds(), "{}", report.text(analyze::render::Paint::PLAIN));
    lab.down();
}

#[test]
fn sentences_hold_on_a_line_that_loses_every_tenth_packet() {
    let yaml = "hosts: [a, b]\nlinks: [{link: a 10.1.0.1/24 -- b 10.1.0.2/24, loss: 10%}]\nexpect:\n  - ping a -> b\n  - mtu a -> b = 1500\n  - tcp a -> b:80\n  - udp a -> b:53\n";
    let Some(lab) = up(yaml) else { return };
    for _ in 0..5 {
        let report = lab.verify();
        assert!(report.holds(), "{}", report.text(analyze::render::Paint::PLAIN));
    }
    lab.down();
}

/// How many datagrams come from a to b of those that so many sockets send, of so many bytes each, with a pause after each.
fn arrive(lab: &Up, sockets: usize, each: usize, bytes: usize, pause: Duration) -> usize {
    let into = lab.run("b", || UdpSocket::bind("10.1.0.2:9").unwrap());
    // A socket may have some 200 KiB under way: several fill a queue. What comes is counted while it comes.
    into.set_read_timeout(Some(millis(1500))).unwrap();
    let counter = std::thread::spawn(move || {
        let mut count = 0;
        while into.recv_from(&mut [0; 2000]).is_ok() {
            count += 1;
        }
        count
    });
    lab.run("a", || {
        let all: Vec<UdpSocket> = (0..sockets).map(|_| UdpSocket::bind("10.1.0.1:0").unwrap()).collect();
        for socket in &all {
            socket.set_nonblocking(true).unwrap();
            for _ in 0..each {
                let _ = socket.send_to(&vec![0; bytes], "10.1.0.2:9");
                std::thread::sleep(pause);
            }
        }
    });
    counter.join().unwrap()
}

#[test]
fn of_many_packets_so_many_are_lost() {
    let Some(lab) = up(&pair(", loss: 25%")) else { return };
    // The neighbours know each other from here on.
    let _ = lab.verify();
    let came = arrive(&lab, 1, 400, 20, millis(2));
    // 300 are to be expected; outside of these limits they are once in a billion runs.
    assert!((240..=355).contains(&came), "{came} of 400");
    lab.down();

    let everything = "hosts: [a, b]\nlinks: [{link: a 10.1.0.1/24 -- b 10.1.0.2/24, loss: 100%}]\nexpect: [no ping a -> b]\n";
    let lab = up(everything).expect("it was there");
    assert!(lab.verify().holds());
    lab.down();
}

#[test]
fn a_rate_and_a_delay_go_together_and_what_waits_does_not_wait_for_seconds() {
    let Some(lab) = up(&pair(", delay: 20ms, rate: 20mbit")) else { return };
    let round_trip = lab.round_trip();
    assert!(round_trip >= millis(40) && round_trip < millis(78), "{round_trip:?}");
    let start = Instant::now();
    let sent = 20 * 80;
    let came = arrive(&lab, 20, 80, 1400, Duration::ZERO);
    let took = start.elapsed().saturating_sub(millis(1500));
    // 75 wait at most, and what goes meanwhile; were there room for all, all would come, the last after 0.9 s.
    assert!(came >= 60 && came < sent / 2 && took < millis(900), "{came} of {sent} in {took:?}");
    lab.down();
}

#[test]
fn a_second_up_changes_nothing_and_an_edit_changes_the_queues_alone() {
    let Some(lab) = up(&pair(", delay: 20ms")) else { return };
    let before = lab.labs.netns(&lab.name, "a").unwrap().inode().unwrap();
    let indices = lab.inside("a", "ip -o link; ip route");
    let netem = |words: &str, limit: u32| format!("qdisc netem root limit {limit} {words}");
    let steps = ["~ veth a:eth0 10.1.0.1/24", "~ veth b:eth0 10.1.0.2/24"];
    // From each to the next; what the kernel has, by tc.
    let stages: [(&str, String); 7] = [
        (", delay: 20ms", netem("delay 20ms", 10_000)),
        (", delay: 60ms", netem("delay 60ms", 10_000)),
        (", loss: 0.5%", netem("loss 0.5%", 10_000)),
        (", delay: 5s, loss: 100%", netem("delay 5s loss 100%", 10_000)),
        (", delay: 25ms, rate: 24mbit", netem("delay 25ms rate 24Mbit", 100)),
        (", delay: 1ms, rate: 80gbit", netem("delay 1ms rate 80Gbit", 10_000)),
        (", rate: 20mbit", "qdisc tbf root rate 20Mbit burst 128Kb lat 25ms".to_owned()),
    ];
    for (number, (settings, expected)) in stages.iter().enumerate() {
        let made = lab.edit(&pair(settings));
        assert_eq!(made, if number == 0 { &[][..] } else { &steps[..] }, "{settings}");
        assert_eq!(lab.edit(&pair(settings)), Vec::<String>::new(), "a second time: {settings}");
        for machine in ["a", "b"] {
            assert_eq!(lab.queue(machine), *expected, "{settings}");
        }
    }
    assert_eq!(lab.edit(&pair("")), steps);
    assert_eq!(lab.queue("a"), "qdisc noqueue root");
    assert!(lab.round_trip() < millis(40));
    // One that somebody took away by hand is no reason to fail.
    lab.edit(&pair(", delay: 20ms"));
    lab.inside("a", "tc qdisc del dev eth0 root");
    assert_eq!(lab.edit(&pair(", delay: 30ms")), steps);
    assert_eq!(lab.queue("a"), netem("delay 30ms", 10_000));
    assert_eq!(lab.labs.netns(&lab.name, "a").unwrap().inode().unwrap(), before);
    let strip = |text: &str| text.replace(" qdisc netem", "").replace(" qdisc noqueue", "");
    assert_eq!(strip(&lab.inside("a", "ip -o link; ip route")), strip(&indices));
    lab.down();
}
