//! The verdicts on nodes that nobody wrote by hand: whatever facts come together, a live thing is never an orphan.

mod node;

use std::collections::BTreeSet;
use std::time::Duration;

use model::Snapshot;
use node::{Eyes, Home, Life, Pod, eyes, id, observe, pod, possible};
use podplumb_analyze::{Operation, Plan, leaks};
use proptest::prelude::*;

const GRACE: Duration = Duration::from_secs(60);

/// What a run of reclaim would touch, by the identity that it compares.
fn touched(pods: &[Pod], eyes: &Eyes) -> BTreeSet<String> {
    let snapshot = observe(pods, eyes);
    let earlier = before(pods, &snapshot);
    let found = leaks(&snapshot, Some(&earlier), GRACE);
    let plan = Plan::new(&snapshot, &found);
    plan.steps.iter().map(|step| identity(&step.operation)).collect()
}

/// The observation before: nobody had sent anything yet.
fn before(pods: &[Pod], snapshot: &Snapshot) -> Snapshot {
    let mut earlier = snapshot.clone();
    if pods.iter().any(|pod| pod.life == Life::Sends) {
        let links = earlier.namespaces.iter_mut().flat_map(|namespace| &mut namespace.links);
        links.for_each(|link| link.tx_packets = link.tx_packets.min(10));
    }
    earlier
}

fn identity(operation: &Operation) -> String {
    match operation {
        Operation::RemoveLink(link) => format!("link {}", link.index),
        Operation::Unpin { path, .. } => format!("pin {}", path.display()),
        Operation::SaveLease { content, .. } | Operation::RemoveLease { content, .. } => {
            format!("lease of {}", content.lines().next().unwrap_or_default())
        }
        Operation::SaveCache { path, .. }
        | Operation::RemoveCache { path, .. }
        | Operation::ReplayDel { cache: path, .. } => format!("cache {}", path.display()),
        Operation::RemoveElements { owner, .. } => format!("elements of {owner}"),
        Operation::RemoveRules { rules } => match (&rules.chain, rules.addresses.as_slice()) {
            (Some(chain), _) => format!("chain {chain}"),
            (None, addresses) => format!("admission of {addresses:?}"),
        },
        Operation::ForgetFlows { address, .. } => format!("connections to {address}"),
        Operation::RemoveRecord { key, .. } => format!("record {}", key.file_name()),
        other => other.object(),
    }
}

/// Whether what has this identity is the pod's.
fn is_of(identity: &str, pod: &Pod, number: usize) -> bool {
    let own_pin = match pod.home {
        Home::Named(path) => identity == format!("pin /run/netns/pod{path}"),
        Home::Runtime => identity.starts_with("pin ") && identity.ends_with(&format!("00{number}")),
        Home::Bare | Home::Elsewhere => false,
    };
    let chain = model::reference::chain_name("", &format!("net{}", pod.network), &id(number));
    identity.contains(&id(number))
        || identity == format!("link {}", 100 + number)
        || identity == format!("chain {chain}")
        || own_pin
}

/// Whether it is about nothing but an address, and a pod that somebody works in has that.
fn is_about(identity: &str, pod: &Pod) -> bool {
    let address = format!("10.0.0.{}", pod.address);
    pod.life != Life::Dead
        && [format!("admission of [{address}]"), format!("connections to {address}")]
            .contains(&identity.to_owned())
}

/// The first live pod of which something would be touched.
fn harmed<'a>(pods: &'a [Pod], touched: &BTreeSet<String>) -> Option<(usize, &'a Pod, String)> {
    let live = pods.iter().enumerate().filter(|(_, pod)| pod.is_live());
    live.flat_map(|(number, pod)| touched.iter().map(move |identity| (number, pod, identity.clone())))
        .find(|(number, pod, identity)| is_of(identity, pod, *number) || is_about(identity, pod))
}

/// A lease that keeps its address from being given to somebody else while a live pod uses it without a lease of its own.
fn unguarded(pods: &[Pod], eyes: &Eyes, touched: &BTreeSet<String>) -> Option<String> {
    let is_seen = |number: usize, pod: &Pod| pod.namespace(number, eyes).is_some_and(|seen| seen.readable);
    let live =
        pods.iter().enumerate().filter(|(number, pod)| pod.life != Life::Dead && is_seen(*number, pod));
    live.map(|(_, live)| live).filter(|live| !live.lease).find_map(|live| {
        let same = |(_, pod): &(usize, &Pod)| {
            pod.lease && (pod.address, pod.network) == (live.address, live.network)
        };
        let (number, _) = pods.iter().enumerate().find(same)?;
        touched.get(&format!("lease of {}", id(number))).cloned()
    })
}

fn nodes() -> impl Strategy<Value = Vec<Pod>> {
    proptest::collection::vec(pod(), 1..=5).prop_map(possible)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// However little the observer sees, as long as he says so.
    #[test]
    fn nothing_of_a_live_pod_is_ever_touched(pods in nodes(), eyes in eyes()) {
        let touched = touched(&pods, &eyes);
        prop_assert!(harmed(&pods, &touched).is_none(), "{:?} of {touched:?}", harmed(&pods, &touched));
        prop_assert_eq!(unguarded(&pods, &eyes, &touched), None);
    }

    /// Seeing less, and saying so, never makes an orphan.
    #[test]
    fn blindness_makes_no_orphan(pods in nodes(), eyes in eyes()) {
        let sharp = Eyes { old_kernel: eyes.old_kernel, walks: eyes.walks, ..Eyes::SHARP };
        let (seen, guessed) = (touched(&pods, &sharp), touched(&pods, &eyes));
        prop_assert!(guessed.is_subset(&seen), "{:?}", guessed.difference(&seen));
    }

    /// The order in which things are found decides nothing.
    #[test]
    fn order_decides_nothing(pods in nodes(), eyes in eyes()) {
        let other = Eyes { backwards: !eyes.backwards, ..eyes.clone() };
        prop_assert_eq!(touched(&pods, &eyes), touched(&pods, &other));
    }

    /// A dead pod that somebody tied to a container is found, whole, whatever lives beside it.
    #[test]
    fn what_is_dead_is_found(mut pods in nodes(), at in 0..5usize) {
        let at = at % pods.len();
        pods[at] = Pod {
            life: Life::Dead, home: Home::Runtime, listed: None, young: false, locked: false, unreadable: false,
            address: 9, cache: true, record_of_last_boot: false, ..pods[at].clone()
        };
        let (pods, own) = (possible(pods.clone()), |identity: &&String| is_of(identity, &pods[at], at));
        let touched = touched(&pods, &Eyes::SHARP);
        let pod = &pods[at];
        let expected = 1 + usize::from(pod.wire != node::Wire::Without) + usize::from(pod.lease)
            + usize::from(pod.cache) + usize::from(pod.record) + 2 * usize::from(pod.element && pod.is_named());
        prop_assert_eq!(touched.iter().filter(own).count(), expected, "{:?}", touched);
    }
}
