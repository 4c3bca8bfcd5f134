//! Topologies of labs, and what they come to. None is made.
#![no_main]

use std::io;
use std::path::Path;

use lab::{Plan, Wiring, topology};
use libfuzzer_sys::fuzz_target;

/// Machines in a lab that is drawn: time for it grows faster than their number.
const MOST_DRAWN: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Path::new("lab.yaml");
    let read = match topology::from_yaml(text, file) {
        Ok(read) => read,
        Err(error) => return line(&error.to_string()),
    };
    let again = topology::from_yaml(&topology::to_yaml(&read), file).expect("what was written can be read");
    assert_eq!(again, read);
    let conflist =
        |_: &str| Ok::<_, io::Error>(r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": []}"#.to_owned());
    let resolved = match lab::resolve(&read, "lab", &conflist) {
        Ok(resolved) => resolved,
        Err(fault) => return line(&fault.located(text, file).to_string()),
    };
    resolved.warnings.iter().for_each(|warning| line(warning));
    let wiring = resolved.wiring;
    let stored = serde_json::to_string(&wiring).expect("a wiring has string keys only");
    assert_eq!(serde_json::from_str::<Wiring>(&stored).expect("it was written so"), wiring);
    assert!(Plan::between(Some(&wiring), &wiring).is_empty(), "it differs from itself");
    assert!(!Plan::between(None, &wiring).is_empty());
    if wiring.machines.len() <= MOST_DRAWN {
        let shown = lab::show::text(&wiring, false, 80, analyze::render::Paint::PLAIN);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "control characters: {shown:?}");
    }
});

fn line(text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "not one line of text: {text:?}");
}
