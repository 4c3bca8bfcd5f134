//! `leaks --metrics`, read back with Prometheus' own parser.

use std::collections::BTreeMap;
use std::path::Path;

use podplumb_tests::{Plugin, Plugins, Podplumb, World, require, run};

const NEEDS: [&str; 2] = ["ip", "python3"];
const PACKAGE: &str = "/usr/lib/python3/dist-packages/prometheus_client";

/// Every sample by its name and labels.
fn parse(file: &Path) -> BTreeMap<String, f64> {
    let script = "import sys, json
from prometheus_client.parser import text_string_to_metric_families as parse
for family in parse(open(sys.argv[1]).read()):
    assert family.documentation and family.type == 'gauge', family
    for s in family.samples:
        print(json.dumps([s.name + ''.join(f' {k}={v}' for k, v in sorted(s.labels.items())), s.value]))";
    let lines = run("/usr/bin/python3", &["-c", script, &file.display().to_string()]);
    let mut samples = BTreeMap::new();
    for line in lines.lines() {
        let (name, value): (String, f64) = serde_json::from_str(line).expect("a sample");
        assert!(samples.insert(name.clone(), value).is_none(), "{name} is there twice");
    }
    samples
}

#[test]
fn metrics_read_back_and_are_replaced_whole() {
    if !require(&NEEDS) {
        return;
    }
    assert!(
        Path::new(PACKAGE).exists(),
        "missing: python3-prometheus-client (xtask/install test installs it)"
    );
    let world = World::enter();
    world.network("10.66.0.0/24");
    let plugin = Plugin::bridge(&world, Plugins::Podplumb);
    plugin.add("a1b2c3");
    plugin.add("d4e5f6");
    run("ip", &["netns", "del", "d4e5f6"]);
    let directory = world.path().join("textfile");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("podplumb.prom");
    let path = file.display().to_string();
    let podplumb = Podplumb::with(&["--runtime", "none", "--grace", "0s"]);
    podplumb.expect(3, &["leaks", "--metrics", &path]);
    let samples = parse(&file);
    let value = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("{name} in {samples:#?}"));
    assert!(value("podplumb_pieces kind=lease verdict=orphan") >= 1.0);
    assert_eq!(value("podplumb_leases_used family=ipv4 network=pods"), 2.0);
    assert_eq!(value("podplumb_leases_free family=ipv4 network=pods"), 251.0);
    for kind in ["namespace", "veth", "link", "lease", "cache", "record", "file"] {
        for verdict in ["orphan", "unknown", "in-use"] {
            value(&format!("podplumb_pieces kind={kind} verdict={verdict}"));
        }
    }
    let orphans = value("podplumb_wirings verdict=orphan");
    assert!(orphans >= 1.0);
    assert!(value("podplumb_duration_seconds") > 0.0);
    let gaps = value("podplumb_coverage_gaps");
    assert_eq!(value("podplumb_coverage_complete"), f64::from(u8::from(gaps == 0.0)));
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
        - value("podplumb_last_run_timestamp_seconds");
    assert!((0.0..60.0).contains(&age), "{age}");

    // Again, while somebody reads the old file: it is another one.
    let old = std::fs::File::open(&file).unwrap();
    podplumb.run(&["leaks", "--metrics", &path]);
    assert_eq!(std::io::read_to_string(old).unwrap().lines().count(), samples.len() + names(&samples) * 2);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left there");
    let missing = podplumb.run(&["leaks", "--metrics", "/no/such/dir/x.prom"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/dir/x.prom"));
}

#[test]
fn names_of_others_do_not_break_the_file() {
    if !require(&NEEDS) {
        return;
    }
    let world = World::enter();
    let file = world.path().join("podplumb.prom");
    let podplumb = Podplumb::with(&["--docker", "/no/a\n\"\\b.sock", "--docker", "/no/a\r\"\\b.sock"]);
    podplumb.expect(0, &["leaks", "--metrics", &file.display().to_string()]);
    let samples = parse(&file);
    let silent = samples.iter().find(|(name, _)| name.contains("runtime_answered")).expect("a runtime");
    assert_eq!(
        silent,
        (&"podplumb_runtime_answered endpoint=/no/a\u{fffd}\"\\b.sock runtime=Docker".to_owned(), &0.0)
    );
    assert_eq!(samples["podplumb_coverage_complete"], 0.0, "a runtime that is silent hides things");
}

fn names(samples: &BTreeMap<String, f64>) -> usize {
    let names: std::collections::BTreeSet<&str> =
        samples.keys().filter_map(|name| name.split(' ').next()).collect();
    names.len()
}
