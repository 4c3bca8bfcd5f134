//! host-local and static: which addresses, and what is on disk.

use std::collections::BTreeSet;
use std::path::Path;

use podplumb_tests::Answer;
use serde_json::{Value, json};

use crate::case::Case;
use crate::node::{Network, Node, addresses};

const LEASES: &str = "/var/lib/cni/networks/pods";

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, run: fn(&Node)| Case::new(format!("host-local: {name}"), &["host-local"], &[], run);
    let fixed = |name, run: fn(&Node)| Case::new(format!("static: {name}"), &["static"], &[], run);
    vec![
        case("addresses go round robin", round_robin),
        case("a range is used from its first to its last address, then again", range_is_inclusive),
        case("an exhausted pool is an error, until one is released", exhaustion),
        case("several ranges of a set are used one after the other", several_ranges),
        case("each set gives one address", several_sets),
        case("the gateway is the first address unless given, and never leased", gateways),
        case("a requested address is leased: CNI_ARGS, args, runtimeConfig", requested),
        case("a requested address that is taken, foreign or the gateway is refused", requested_in_vain),
        case("ipRanges of the runtime come before those of the configuration", ranges_of_the_runtime),
        case("subnet without ranges, and a flat list", other_forms),
        case("routes and resolvConf are passed on", routes_and_dns),
        case("dataDir", data_directory),
        case("leases have the reference's files", files_on_disk),
        case("leases of other forms are heeded and released", files_of_others),
        case("an attachment has one lease", one_lease_each),
        case("DEL releases all of an attachment and nothing else", release),
        case("CHECK finds a missing lease", check_finds_lease),
        case("many at once get different addresses", many_at_once),
        case("wrong ranges are refused", wrong_ranges),
        case("an empty lease of a crash does not stop anybody", empty_lease),
        fixed("addresses, routes and dns are passed on", static_passes_on),
        fixed("both families", static_families),
        fixed("CNI_ARGS adds addresses", static_by_arguments),
        fixed("args and runtimeConfig replace them", static_replaced),
        fixed("without an address it is refused", static_without_address),
        fixed("DEL and CHECK have nothing to say", static_del_and_check),
    ]
}

fn pool(node: &Node, ipam: Value) -> Network {
    let mut own = json!({ "type": "host-local" });
    for (key, value) in ipam.as_object().expect("an object") {
        own[key] = value.clone();
    }
    node.network(&[json!({ "type": "host-local", "ipam": own })])
}

/// Four addresses: .2 to .5.
fn small(node: &Node) -> Network {
    pool(node, json!({ "ranges": [[{ "subnet": "10.66.0.0/29", "rangeEnd": "10.66.0.5" }]] }))
}

fn add(network: &Network, id: &str) -> Answer {
    network.call_in(0, "ADD", id, "/run/netns/none", &Value::Null)
}

#[track_caller]
fn leased(network: &Network, id: &str) -> Vec<String> {
    let answer = add(network, id);
    assert!(answer.ok, "ADD {id}: {:#}", answer.json);
    addresses(&answer.json)
}

#[track_caller]
fn refused(network: &Network, id: &str) {
    let answer = add(network, id);
    assert!(!answer.ok && answer.code() > 0, "ADD {id}: {:#}", answer.json);
}

/// Leases that are there.
fn leases() -> BTreeSet<String> {
    let names = std::fs::read_dir(LEASES).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
}

fn round_robin(node: &Node) {
    let network = small(node);
    for round in 0..3 {
        for last in 2..=5 {
            // Each is released at once, and still the next one is another.
            assert_eq!(leased(&network, "a"), [format!("10.66.0.{last}")], "round {round}");
            network.del_in("a", "", &Value::Null);
        }
    }
}

fn range_is_inclusive(node: &Node) {
    let range = json!({ "subnet": "10.66.0.0/24", "rangeStart": "10.66.0.10", "rangeEnd": "10.66.0.12" });
    let network = pool(node, json!({ "ranges": [[range]] }));
    let all: Vec<String> = ["a", "b", "c"].iter().flat_map(|id| leased(&network, id)).collect();
    assert_eq!(all, ["10.66.0.10", "10.66.0.11", "10.66.0.12"]);
    network.del_in("b", "", &Value::Null);
    assert_eq!(leased(&network, "d"), ["10.66.0.11"]);
}

fn exhaustion(node: &Node) {
    let network = small(node);
    for id in ["a", "b", "c", "d"] {
        leased(&network, id);
    }
    let full = leases();
    refused(&network, "e");
    refused(&network, "e");
    assert_eq!(leases(), full);
    network.del_in("c", "", &Value::Null);
    assert_eq!(leased(&network, "e"), ["10.66.0.4"]);
}

fn several_ranges(node: &Node) {
    let network = pool(
        node,
        json!({ "ranges": [[{ "subnet": "10.66.0.0/30" }, { "subnet": "10.67.0.0/30" }, { "subnet": "10.68.0.0/29" }]] }),
    );
    let all: Vec<String> = ["a", "b", "c", "d"].iter().flat_map(|id| leased(&network, id)).collect();
    assert_eq!(all, ["10.66.0.2", "10.67.0.2", "10.68.0.2", "10.68.0.3"]);
}

fn several_sets(node: &Node) {
    let sets =
        json!([[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "10.67.0.0/24" }], [{ "subnet": "fd66::/64" }]]);
    let network = pool(node, json!({ "ranges": sets }));
    let answer = add(&network, "a");
    assert_eq!(addresses(&answer.json), ["10.66.0.2", "10.67.0.2", "fd66::2"]);
    let gateways: Vec<&str> = (0..3).filter_map(|at| answer.json["ips"][at]["gateway"].as_str()).collect();
    assert_eq!(gateways, ["10.66.0.1", "10.67.0.1", "fd66::1"]);
    assert_eq!(answer.json["ips"][2]["address"], "fd66::2/64");
    assert_eq!(leased(&network, "b"), ["10.66.0.3", "10.67.0.3", "fd66::3"]);
    // One set that is exhausted releases what the others gave.
    let sets =
        json!([[{ "subnet": "10.69.0.0/24" }], [{ "subnet": "10.67.0.0/24", "rangeEnd": "10.67.0.3" }]]);
    let before = leases();
    refused(&pool(node, json!({ "ranges": sets })), "c");
    assert_eq!(leases(), before);
}

fn gateways(node: &Node) {
    let range = json!({ "subnet": "10.66.0.0/24", "rangeStart": "10.66.0.7", "gateway": "10.66.0.8" });
    let network = pool(node, json!({ "ranges": [[range]] }));
    let answer = add(&network, "a");
    assert_eq!(addresses(&answer.json), ["10.66.0.7"]);
    assert_eq!(answer.json["ips"][0]["gateway"], "10.66.0.8");
    assert_eq!(leased(&network, "b"), ["10.66.0.9"], "8 is the gateway");
}

fn requested(node: &Node) {
    let mut network = small(node);
    network.args = "IP=10.66.0.4".to_owned();
    assert_eq!(leased(&network, "a"), ["10.66.0.4"]);
    network.args = String::new();
    network.plugins[0].config["args"] = json!({ "cni": { "ips": ["10.66.0.5"] } });
    assert_eq!(leased(&network, "b"), ["10.66.0.5"]);
    let config = network.plugins[0].config.as_object_mut().expect("an object");
    config.remove("args");
    network.plugins[0].config["runtimeConfig"] = json!({ "ips": ["10.66.0.3"] });
    assert_eq!(leased(&network, "c"), ["10.66.0.3"]);
    // Some runtimes pass a prefix length.
    network.plugins[0].config["runtimeConfig"] = json!({ "ips": ["10.66.0.2/29"] });
    assert_eq!(leased(&network, "d"), ["10.66.0.2"]);
}

fn requested_in_vain(node: &Node) {
    let mut network = small(node);
    leased(&network, "a");
    let before = leases();
    for address in ["10.66.0.2", "192.0.2.9", "10.66.0.1", "not-an-address"] {
        network.args = format!("IP={address}");
        refused(&network, "b");
    }
    network.args = String::new();
    network.plugins[0].config["runtimeConfig"] = json!({ "ips": ["10.66.0.4", "192.0.2.9"] });
    refused(&network, "b");
    assert_eq!(leases(), before, "what is left of a request makes the whole ADD fail");
}

fn ranges_of_the_runtime(node: &Node) {
    let mut network = small(node);
    network.plugins[0].config["runtimeConfig"] = json!({ "ipRanges": [[{ "subnet": "10.77.0.0/24" }]] });
    assert_eq!(leased(&network, "a"), ["10.77.0.2", "10.66.0.2"]);
}

fn other_forms(node: &Node) {
    let flat =
        pool(node, json!({ "subnet": "10.66.0.0/24", "rangeStart": "10.66.0.50", "gateway": "10.66.0.254" }));
    let answer = add(&flat, "a");
    assert_eq!(addresses(&answer.json), ["10.66.0.50"]);
    assert_eq!(answer.json["ips"][0]["gateway"], "10.66.0.254");
    let both = pool(node, json!({ "subnet": "10.67.0.0/24", "ranges": [[{ "subnet": "10.68.0.0/24" }]] }));
    assert_eq!(leased(&both, "b"), ["10.67.0.2", "10.68.0.2"]);
}

fn routes_and_dns(node: &Node) {
    let file = node.world.path().join("resolv.conf");
    let text = "# of the node\nnameserver 10.66.0.53\nnameserver fd66::53\ndomain example.org\nsearch a.example.org b.example.org\noptions ndots:5\n";
    std::fs::write(&file, text).expect("a file");
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "192.0.2.0/24", "gw": "10.66.0.9" }]);
    let network = pool(node, json!({ "subnet": "10.66.0.0/24", "routes": routes, "resolvConf": file }));
    let answer = add(&network, "a");
    assert_eq!(answer.json["routes"], routes, "{:#}", answer.json);
    let dns = &answer.json["dns"];
    assert_eq!(dns["nameservers"], json!(["10.66.0.53", "fd66::53"]));
    assert_eq!(dns["domain"], "example.org");
    assert_eq!(dns["search"], json!(["a.example.org", "b.example.org"]));
    assert_eq!(dns["options"], json!(["ndots:5"]));
}

fn data_directory(node: &Node) {
    let directory = node.world.path().join("leases");
    let network = pool(node, json!({ "subnet": "10.66.0.0/24", "dataDir": directory }));
    leased(&network, "a");
    assert!(directory.join("pods/10.66.0.2").is_file());
    assert!(leases().is_empty());
    network.del_in("a", "", &Value::Null);
    assert!(!directory.join("pods/10.66.0.2").exists());
}

fn files_on_disk(node: &Node) {
    let network =
        pool(node, json!({ "ranges": [[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "fd66::/64" }]] }));
    leased(&network, "a");
    let read = |name: &str| std::fs::read_to_string(Path::new(LEASES).join(name)).expect(name);
    assert_eq!((read("10.66.0.2"), read("fd66::2")), ("a\r\neth0".to_owned(), "a\r\neth0".to_owned()));
    assert_eq!(read("last_reserved_ip.0"), "10.66.0.2");
    assert_eq!(read("last_reserved_ip.1"), "fd66::2");
    assert!(Path::new(LEASES).join("lock").exists());
}

fn files_of_others(node: &Node) {
    let network = small(node);
    std::fs::create_dir_all(LEASES).expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(Path::new(LEASES).join(name), text).expect("a file");
    write("10.66.0.2", "old\r\neth0");
    // Of before 0.7: without the interface.
    write("10.66.0.3", "older");
    write("last_reserved_ip.0", "10.66.0.3");
    assert_eq!(leased(&network, "new"), ["10.66.0.4"]);
    network.del_in("old", "", &Value::Null);
    assert_eq!(leases().into_iter().collect::<Vec<_>>(), ["10.66.0.3", "10.66.0.4"]);
    network.del_in("older", "", &Value::Null);
    assert_eq!(leases().into_iter().collect::<Vec<_>>(), ["10.66.0.4"]);
    // A cursor that is outside of the range begins it again.
    write("last_reserved_ip.0", "192.0.2.200");
    assert_eq!(leased(&network, "next"), ["10.66.0.2"]);
    write("last_reserved_ip.0", "rubbish");
    assert_eq!(leased(&network, "last"), ["10.66.0.3"]);
}

fn one_lease_each(node: &Node) {
    let network = small(node);
    leased(&network, "a");
    refused(&network, "a");
    assert_eq!(leases().len(), 1);
}

fn release(node: &Node) {
    let network =
        pool(node, json!({ "ranges": [[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "fd66::/64" }]] }));
    leased(&network, "a");
    leased(&network, "ab");
    network.del_in("a", "", &Value::Null);
    network.del_in("a", "", &Value::Null);
    network.del_in("never-there", "", &Value::Null);
    assert_eq!(leases().into_iter().collect::<Vec<_>>(), ["10.66.0.3", "fd66::3"]);
}

fn check_finds_lease(node: &Node) {
    let network = small(node);
    let answer = add(&network, "a");
    let check = || network.call_in(0, "CHECK", "a", "/run/netns/none", &answer.json).ok;
    assert!(check());
    std::fs::remove_file(Path::new(LEASES).join("10.66.0.2")).expect("a lease");
    assert!(!check());
}

fn many_at_once(node: &Node) {
    let network =
        pool(node, json!({ "ranges": [[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "fd66::/64" }]] }));
    let all: Vec<Vec<String>> = std::thread::scope(|scope| {
        let network = &network;
        let spawn = |number: usize| scope.spawn(move || leased(network, &format!("pod{number}")));
        let running: Vec<_> = (0..24).map(spawn).collect();
        running.into_iter().map(|thread| thread.join().expect("it succeeds")).collect()
    });
    for at in 0..2 {
        let different: BTreeSet<&String> = all.iter().map(|own| &own[at]).collect();
        assert_eq!(different.len(), 24);
    }
    assert_eq!(leases().len(), 48);
}

fn wrong_ranges(node: &Node) {
    for (what, ipam) in [
        ("no range", json!({})),
        ("host bits", json!({ "subnet": "10.66.0.7/24" })),
        ("too small", json!({ "subnet": "10.66.0.0/31" })),
        ("no subnet", json!({ "subnet": "10.66.0.0" })),
        ("start outside", json!({ "subnet": "10.66.0.0/24", "rangeStart": "10.67.0.2" })),
        ("end outside", json!({ "subnet": "10.66.0.0/24", "rangeEnd": "10.67.0.2" })),
        (
            "end before start",
            json!({ "subnet": "10.66.0.0/24", "rangeStart": "10.66.0.9", "rangeEnd": "10.66.0.5" }),
        ),
        ("overlap", json!({ "ranges": [[{ "subnet": "10.66.0.0/24" }], [{ "subnet": "10.66.0.128/25" }]] })),
        ("mixed families", json!({ "ranges": [[{ "subnet": "10.66.0.0/24" }, { "subnet": "fd66::/64" }]] })),
    ] {
        let answer = add(&pool(node, ipam), "a");
        assert!(!answer.ok && answer.code() > 0, "{what}: {:#}", answer.json);
    }
    assert!(leases().is_empty());
}

/// The reference writes a lease after it created the file: a crash in between leaves an empty one.
fn empty_lease(node: &Node) {
    let network = small(node);
    std::fs::create_dir_all(LEASES).expect("a directory");
    std::fs::write(Path::new(LEASES).join("10.66.0.2"), "").expect("a file");
    assert_eq!(leased(&network, "a"), ["10.66.0.3"]);
    network.del_in("a", "", &Value::Null);
}

fn fixed(node: &Node, ipam: Value) -> Network {
    let mut own = ipam;
    own["type"] = "static".into();
    node.network(&[json!({ "type": "static", "ipam": own })])
}

fn static_passes_on(node: &Node) {
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "192.0.2.0/24", "gw": "10.66.0.9" }]);
    let dns =
        json!({ "nameservers": ["10.66.0.53"], "domain": "example.org", "search": ["a"], "options": ["b"] });
    let addresses = json!([{ "address": "10.66.0.77/24", "gateway": "10.66.0.1" }]);
    let network = fixed(node, json!({ "addresses": addresses, "routes": routes, "dns": dns }));
    let answer = add(&network, "a");
    assert!(answer.ok, "{:#}", answer.json);
    assert_eq!(answer.json["ips"], addresses, "{:#}", answer.json);
    assert_eq!((&answer.json["routes"], &answer.json["dns"]), (&routes, &dns), "{:#}", answer.json);
}

fn static_families(node: &Node) {
    let network =
        fixed(node, json!({ "addresses": [{ "address": "10.66.0.77/24" }, { "address": "fd66::77/64" }] }));
    assert_eq!(leased(&network, "a"), ["10.66.0.77", "fd66::77"]);
}

fn static_by_arguments(node: &Node) {
    let mut network = fixed(node, json!({ "addresses": [{ "address": "10.66.0.77/24" }] }));
    network.args = "IP=10.66.0.78/24,fd66::78/64;GATEWAY=10.66.0.1,fd66::1".to_owned();
    let answer = add(&network, "a");
    assert_eq!(addresses(&answer.json), ["10.66.0.77", "10.66.0.78", "fd66::78"], "{:#}", answer.json);
    assert_eq!(answer.json["ips"][1]["gateway"], "10.66.0.1", "{:#}", answer.json);
    assert_eq!(answer.json["ips"][2]["gateway"], "fd66::1", "{:#}", answer.json);
}

fn static_replaced(node: &Node) {
    let mut network = fixed(node, json!({ "addresses": [{ "address": "10.66.0.77/24" }] }));
    network.plugins[0].config["args"] = json!({ "cni": { "ips": ["10.66.0.78/24"] } });
    assert_eq!(leased(&network, "a"), ["10.66.0.78"]);
    network.plugins[0].config["runtimeConfig"] = json!({ "ips": ["10.66.0.79/24", "fd66::79/64"] });
    assert_eq!(leased(&network, "a"), ["10.66.0.79", "fd66::79"], "the runtime's come before those of args");
}

fn static_without_address(node: &Node) {
    refused(&fixed(node, json!({ "addresses": [{ "address": "10.66.0.77" }] })), "a");
    refused(&fixed(node, json!({ "addresses": [{ "address": "rubbish/24" }] })), "a");
}

fn static_del_and_check(node: &Node) {
    let network = fixed(node, json!({ "addresses": [{ "address": "10.66.0.77/24" }] }));
    let answer = add(&network, "a");
    assert!(network.call_in(0, "CHECK", "a", "/run/netns/none", &answer.json).ok);
    let mut other = answer.json.clone();
    other["ips"][0]["address"] = "10.66.0.99/24".into();
    assert!(!network.call_in(0, "CHECK", "a", "/run/netns/none", &other).ok);
    network.del_in("a", "", &Value::Null);
}
