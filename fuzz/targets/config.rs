//! Network configurations, as files and as plugins get them.
#![no_main]

use cni::{Args, Config, Network};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use serde_json::{Value, json};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    podplumb_fuzz::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    for (loaded, is_list) in [(Network::parse(data), true), (Network::parse_single(data), false)] {
        let problems = cni::problems(data, is_list);
        match loaded {
            // Whoever asks `podplumb cni validate` why nothing works gets an answer.
            Err(error) => {
                podplumb_fuzz::check(&error);
                assert!(!problems.is_empty(), "{error} is no problem");
            }
            Ok(network) => chain(&network),
        }
    }
    cni::plugin_problems(data, 1);
    match Config::parse(data) {
        Err(error) => podplumb_fuzz::check(&error),
        Ok(config) => plugins::names().for_each(|kind| read(kind, &config)),
    }
});

/// What each plugin of a chain would get.
fn chain(network: &Network) {
    assert!(!network.name.as_str().is_empty() && network.plugins.len() == network.inlined);
    let capabilities = json!({ "mac": "0a:58:0a:00:00:02", "ips": ["10.0.0.9/24"], "portMappings": [] });
    let again = Network::from_cached(&network.list);
    if network.plugins.is_empty() {
        // They may be in the folder of its name.
        return;
    }
    let again = again.expect("what was loaded can be loaded from the cache");
    assert_eq!(
        (&again.name, again.version, &again.plugins),
        (&network.name, network.version, &network.plugins)
    );
    for plugin in &network.plugins {
        let config = Config::from_value(network.plugin_config(plugin, &capabilities, &Value::Null));
        match config {
            Err(error) => podplumb_fuzz::check(&error),
            Ok(config) => {
                assert_eq!((&config.network, config.version), (&network.name, network.version));
                read(&config.kind, &config);
            }
        }
    }
}

fn read(kind: &str, config: &Config) {
    let call = podplumb_fuzz::call(config.clone(), Args::default());
    if let Some(Err(error)) = plugins::read(kind, &call) {
        podplumb_fuzz::check(&error);
    }
}
