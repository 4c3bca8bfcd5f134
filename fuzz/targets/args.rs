//! `CNI_ARGS`, and what each plugin reads there.
#![no_main]

use std::ffi::OsString;
use std::sync::LazyLock;

use cni::{Args, Call, Command, Config, Environment};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// One for each way in which arguments are used.
static CONFIGS: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let range = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.0.0.0/24" }], [{ "subnet": "fd00::/64" }]] });
    let provide = json!([{ "option": 12, "fromArg": "K8S_POD_NAME" }, { "option": "60", "fromArg": "IP" }]);
    let all = [
        json!({ "type": "bridge", "ipam": range }),
        json!({ "type": "host-local", "ipam": range }),
        json!({ "type": "static", "ipam": { "type": "static", "addresses": [{ "address": "10.0.0.2/24" }] } }),
        json!({ "type": "dhcp", "ipam": { "type": "dhcp", "provide": provide } }),
        json!({ "type": "macvlan", "mode": "bridge", "mac": "02:00:00:00:00:01" }),
        json!({ "type": "tuning", "mac": "02:00:00:00:00:01" }),
    ];
    let named = all.into_iter().map(|mut config| {
        config["name"] = "pods".into();
        config["cniVersion"] = "1.1.0".into();
        Config::from_value(config).expect("a configuration")
    });
    named.collect()
});

fuzz_target!(|text: &str| {
    let args = match Args::parse(text) {
        Ok(args) => args,
        Err(error) => return podplumb_fuzz::check(&error),
    };
    assert_eq!(Args::parse(&args.to_string()).as_ref(), Ok(&args));
    // What ADD took, DEL takes from the cache.
    assert_eq!(Args::from_pairs(args.pairs().to_vec()).as_ref(), Ok(&args));
    if let Some(pod) = args.pod() {
        assert!(text.contains(&pod.name) && text.contains(&pod.namespace));
    }
    if !text.contains('\0') {
        let variables = [
            ("CNI_CONTAINERID", "c"),
            ("CNI_NETNS", "/run/netns/blue"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", text),
        ];
        let environment = Environment::of(variables.map(|(name, value)| (name, OsString::from(value))));
        assert_eq!(environment.invocation(Command::Add).map(|call| call.args).as_ref(), Ok(&args));
    }
    for config in CONFIGS.iter() {
        let call: Call = podplumb_fuzz::call(config.clone(), args.clone());
        match plugins::read(&config.kind, &call).expect("a plugin of ours") {
            Err(error) => podplumb_fuzz::check(&error),
            Ok(()) => {
                let is_known = |key: &str| ["IP", "MAC", "GATEWAY", "IgnoreUnknown"].contains(&key);
                let unknown = args.pairs().iter().any(|(key, _)| !is_known(key));
                assert!(!unknown || args.get("IgnoreUnknown").is_some() || config.kind == "dhcp");
            }
        }
    }
});
