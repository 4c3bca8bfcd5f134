//! Lines about attachments that come and go.

use std::time::Duration;

use model::{Call, Caller, Claim, ClaimKind, Event, IfIndex, Link, PodName, Timestamp};
use podplumb_analyze::watch::{Del, Happening, Line, Moment, Watch};

fn at(ms: u64) -> Moment {
    Moment { wall: Timestamp(1_000_000 + i64::try_from(ms).unwrap()), clock: Duration::from_millis(ms) }
}

fn begun() -> Watch {
    let mut watch = Watch::default();
    let lines = watch.hear(Event::Everything { links: vec![], claims: vec![], missed: None }, at(0));
    assert_eq!((lines.len(), lines[0].event), (1, Happening::Began));
    watch
}

fn link(index: u32, name: &str) -> Link {
    Link { index: IfIndex(index), name: name.into(), kind: "veth".into(), ..Link::default() }
}

fn made(index: u32, name: &str) -> Event {
    Event::Link { link: Box::new(link(index, name)) }
}

fn gone(index: u32) -> Event {
    Event::LinkGone { index: IfIndex(index), moved: false }
}

fn claim(kind: ClaimKind, host: &[&str]) -> Claim {
    let (file, pod) = match kind {
        ClaimKind::Lease => ("/networks/pods/10.0.0.2", None),
        ClaimKind::Record => ("/attachments/pods:web:eth0", None),
        ClaimKind::Cache => {
            let pod = PodName { namespace: "shop".into(), name: "web-0".into(), uid: None };
            ("/results/pods-web-eth0", Some(pod))
        }
    };
    Claim {
        path: file.into(),
        kind,
        network: "pods".parse().unwrap(),
        container: "web".parse().unwrap(),
        ifname: Some("eth0".parse().unwrap()),
        pod,
        host_interfaces: host.iter().map(|name| ((*name).to_owned(), None)).collect(),
    }
}

fn events(lines: &[Line]) -> Vec<(Happening, Option<Del>)> {
    lines.iter().map(|line| (line.event, line.del)).collect()
}

fn attached() -> Watch {
    let mut watch = begun();
    assert!(watch.hear(Event::Claimed(claim(ClaimKind::Lease, &[])), at(10)).is_empty());
    let call = |pid, command: &str, container: &str| Call {
        command: command.into(),
        container: container.parse().unwrap(),
        by: Caller { pid, command: "bridge".into(), parent: Some("containerd".into()) },
    };
    let calls = vec![call(5, "ADD", "other"), call(6, "DEL", "web"), call(7, "ADD", "web")];
    watch.hear(Event::Calls(calls), at(11));
    assert!(watch.hear(made(5, "veth1"), at(11)).is_empty(), "whose it is is not known yet");
    let lines = watch.hear(Event::Claimed(claim(ClaimKind::Cache, &["cni0", "veth1"])), at(40));
    assert_eq!(events(&lines), [(Happening::Appeared, None)]);
    let line = &lines[0];
    assert_eq!(line.at, at(11).wall, "when it was made, not when it was joined");
    assert_eq!(line.attachment.as_ref().unwrap().file_name(), "pods:web:eth0");
    assert_eq!(line.pod.as_ref().unwrap().to_string(), "shop/web-0");
    assert_eq!(line.by.as_ref().unwrap().pid, 7, "the plugin that adds this container");
    watch
}

#[test]
fn a_whole_del_is_seen_whatever_goes_first() {
    let release = |kind| Event::Released(claim(kind, &[]).path);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut watch = attached();
        let mut lines = Vec::new();
        for (step, what) in order.into_iter().enumerate() {
            let event = match what {
                0 => release(ClaimKind::Lease),
                1 => gone(5),
                _ => release(ClaimKind::Cache),
            };
            lines.extend(watch.hear(event, at(1000 + 10 * step as u64)));
        }
        assert_eq!(events(&lines), [(Happening::Vanished, Some(Del::Seen))], "{order:?}");
        assert_eq!(lines[0].pod.as_ref().unwrap().name, "web-0");
        assert!(watch.due(at(60_000)).is_empty() && watch.deadline().is_none());
    }
}

#[test]
fn what_stays_behind_is_told_after_a_while() {
    let mut watch = attached();
    assert!(watch.hear(gone(5), at(1000)).is_empty());
    assert_eq!(watch.deadline(), Some(Duration::from_secs(4)));
    assert_eq!(events(&watch.due(at(4000))), [(Happening::Vanished, Some(Del::NotSeen))]);

    let mut watch = attached();
    watch.hear(Event::Released(claim(ClaimKind::Lease, &[]).path), at(990));
    watch.hear(gone(5), at(1000));
    assert_eq!(events(&watch.due(at(4000))), [(Happening::Vanished, Some(Del::Incomplete))]);
}

#[test]
fn a_link_of_nobody_known_is_told_too_and_one_that_moves_on_is_not() {
    let mut watch = begun();
    watch.hear(made(5, "mine"), at(10));
    watch.hear(made(6, "eth0"), at(10));
    watch.hear(Event::LinkGone { index: IfIndex(6), moved: true }, at(11));
    let lines = watch.due(at(3010));
    assert_eq!((events(&lines), &lines[0].attachment), (vec![(Happening::Appeared, None)], &None));
    watch.hear(gone(5), at(5000));
    assert_eq!(events(&watch.due(at(8000))), [(Happening::Vanished, Some(Del::Unknown))]);
    let bridge = Link { kind: "bridge".into(), ..link(7, "cni0") };
    watch.hear(Event::Link { link: Box::new(bridge) }, at(9000));
    assert!(watch.due(at(20_000)).is_empty(), "a bridge is no attachment");
}

#[test]
fn an_attachment_without_a_link_here_is_told_by_its_cache_entry() {
    let mut watch = begun();
    watch.hear(Event::Claimed(claim(ClaimKind::Cache, &[])), at(10));
    assert_eq!(events(&watch.due(at(3010))), [(Happening::Appeared, None)]);
    let lines = watch.hear(Event::Released(claim(ClaimKind::Cache, &[]).path), at(9000));
    assert_eq!(events(&lines), [(Happening::Vanished, Some(Del::Seen))]);
}

#[test]
fn after_something_was_missed_the_difference_is_told() {
    let mut watch = attached();
    watch.hear(made(6, "veth2"), at(100));
    assert_eq!(watch.due(at(3100)).len(), 1);
    let everything = Event::Everything {
        links: vec![link(6, "veth2"), link(9, "veth3")],
        claims: vec![],
        missed: Some("a burst".into()),
    };
    let lines = watch.hear(everything, at(5000));
    let wanted = [(Happening::Resync, None), (Happening::Vanished, Some(Del::Seen))];
    assert_eq!(events(&lines), wanted, "what was known and is as it was is not told");
    assert!(lines[0].note.as_ref().unwrap().starts_with("a burst; 2 attachments"));
    let lines = watch.due(at(8000));
    assert_eq!((events(&lines), lines[0].by.is_none()), (vec![(Happening::Appeared, None)], true));
}

#[test]
fn a_clock_that_is_set_back_delays_nothing() {
    let mut watch = begun();
    watch.hear(made(5, "veth1"), at(10));
    let later = Moment { wall: Timestamp(0), clock: Duration::from_millis(3010) };
    assert_eq!(watch.due(later).len(), 1);
}
