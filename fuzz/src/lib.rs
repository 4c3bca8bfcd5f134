//! What several targets need: mutations of JSON, and a call to hand to a plugin.

mod json;

use cni::{Args, Call, Config, Error, Invocation, Version};

pub use json::{mutate, mutate_head};

/// An ADD with this configuration and these arguments.
pub fn call(config: Config, args: Args) -> Call {
    let invocation = Invocation {
        container: "7d0c1e5b9a3f4d22".parse().expect("an id"),
        netns: Some("/run/netns/blue".into()),
        ifname: "eth0".parse().expect("a name"),
        args,
        path: Vec::new(),
        netns_override: false,
    };
    Call { invocation, config }
}

/// What is true of every error: a code, one line that says what, and it survives the way to the runtime.
pub fn check(error: &Error) {
    assert!(error.code != 0 && !error.message.is_empty(), "{error:?}");
    assert!(!error.message.contains(['\n', '\0', '\x1b']), "the message is not one line of text: {error:?}");
    for version in Version::ALL {
        assert_eq!(Error::from_json(&error.to_json(version)).as_ref(), Some(error));
    }
}
