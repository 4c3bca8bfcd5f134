//! The configuration: `ipam` with type `dhcp`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cni::{Args, Code, Config, Error, Result};
use model::AttachmentKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message;

/// Where the daemon listens unless it is told otherwise; the reference daemon's place.
pub(super) const SOCKET: &str = "/run/cni/dhcp.sock";

/// `sun_path` has 108 bytes, the last of them 0 (unix(7)).
const LONGEST_SOCKET_BYTES: usize = 107;
/// All of a message has to fit a packet of 576 bytes, which is what every host takes (RFC 2131, section 2), and the rest of the
/// message needs less than half of that.
const MOST_PROVIDED_BYTES: usize = 300;
/// Length of an option's value.
const LONGEST_VALUE_BYTES: usize = 255;

/// The names of the reference plugin, which has them from dhcp-options(5).
const NAMES: [(&str, u8); 6] = [
    ("dhcp-client-identifier", message::CLIENT_ID),
    ("subnet-mask", message::SUBNET_MASK),
    ("routers", message::ROUTERS),
    ("host-name", 12),
    ("user-class", 77),
    ("vendor-class-identifier", 60),
];

/// What the protocol itself says with options: a value of the user's would make another message of it.
const PROTOCOL: [u8; 7] = [
    message::PAD,
    message::REQUESTED_ADDRESS,
    message::OVERLOAD,
    message::KIND,
    message::SERVER,
    message::REQUEST_LIST,
    message::END,
];

/// What a result can carry. Classless routes before the router: some servers leave out what comes later (RFC 3442).
const REQUESTED: [u8; 7] = [
    message::SUBNET_MASK,
    message::CLASSLESS_ROUTES,
    message::ROUTERS,
    message::STATIC_ROUTES,
    message::NAME_SERVERS,
    message::DOMAIN,
    message::SEARCH,
];

/// What a client tells a server about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The client identifier, with its type byte.
    pub(super) client_id: Vec<u8>,
    /// Further options to send.
    pub(super) provided: Vec<(u8, Vec<u8>)>,
    /// Options to ask for.
    pub(super) requested: Vec<u8>,
}

/// How the lease becomes a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Metric of the routes.
    pub(super) priority: Option<u32>,
    /// No default route.
    pub(super) without_gateway: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    provide: Option<Vec<Provide>>,
    #[serde(default)]
    request: Option<Vec<Request>>,
    #[serde(default)]
    priority: Option<u32>,
    #[serde(default)]
    suppress: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provide {
    option: Number,
    #[serde(default)]
    value: String,
    #[serde(default)]
    from_arg: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    skip_default: bool,
    #[serde(default)]
    option: Option<Number>,
}

/// An option's number, or its name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(u64),
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

impl Number {
    fn resolve(&self) -> Result<u8> {
        let number = match self {
            Number::Text(text) => match NAMES.iter().find(|(name, _)| name == text) {
                Some((_, number)) => Some(*number),
                None => text.parse().ok(),
            },
            Number::Number(number) => u8::try_from(*number).ok(),
        };
        // Neither is an option, and in a message they would end or shift the list.
        number.filter(|number| !matches!(*number, message::PAD | message::END)).ok_or_else(|| {
            let written: String = match self {
                Number::Text(text) => text.chars().take(40).collect(),
                Number::Number(number) => number.to_string(),
            };
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            invalid(format!("{written:?} is not a DHCP option"))
                .details(format!("a number from 1 to 254, or one of {}", names.join(", ")))
        })
    }
}

fn written(config: &Config) -> Result<Written> {
    Written::deserialize(part(config)?).map_err(|error| invalid("ipam is not valid").details(error))
}

fn part(config: &Config) -> Result<&Value> {
    let part = config.raw.get("ipam").filter(|part| part.is_object());
    let part = part.ok_or_else(|| invalid("the configuration has no ipam object"))?;
    match part.get("type").and_then(Value::as_str) {
        Some("dhcp") => Ok(part),
        other => Err(invalid(format!("ipam.type is {:?}, but this is dhcp", other.unwrap_or_default()))),
    }
}

/// Where the daemon listens. All that DEL needs of the configuration.
pub(super) fn socket(config: &Config) -> Result<PathBuf> {
    let path = match part(config)?.get("daemonSocketPath") {
        None | Some(Value::Null) => SOCKET,
        Some(Value::String(path)) if path.is_empty() => SOCKET,
        Some(Value::String(path)) => path,
        Some(_) => return Err(invalid("ipam.daemonSocketPath is not a string")),
    };
    check_socket(Path::new(path))
        .map_err(|why| invalid("ipam.daemonSocketPath is not valid").details(why))?;
    Ok(path.into())
}

/// Whether a socket can be at a path.
pub(super) fn check_socket(path: &Path) -> std::result::Result<(), &'static str> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if !path.is_absolute() || path.file_name().is_none() {
        return Err("it is not an absolute path of a file");
    }
    if bytes.contains(&0) || bytes.len() > LONGEST_SOCKET_BYTES {
        return Err("it is longer than 107 bytes or contains NUL");
    }
    Ok(())
}

impl Shape {
    pub(super) fn of(config: &Config) -> Result<Self> {
        let written = written(config)?;
        let suppress = written.suppress.unwrap_or_default();
        if let Some(other) = suppress.iter().find(|item| *item != "gateway") {
            let other: String = other.chars().take(40).collect();
            return Err(invalid(format!("ipam.suppress has {other:?}")).details("it can have \"gateway\""));
        }
        let priority = written.priority.filter(|priority| *priority > 0);
        Ok(Self { priority, without_gateway: !suppress.is_empty() })
    }
}

impl Identity {
    pub(super) fn of(config: &Config, key: &AttachmentKey, args: &Args) -> Result<Self> {
        let written = written(config)?;
        let mut provided = BTreeMap::new();
        for provide in written.provide.unwrap_or_default() {
            let number = provide.option.resolve()?;
            if PROTOCOL.contains(&number) {
                return Err(invalid(format!("ipam.provide has option {number}"))
                    .details("the protocol itself uses it; it cannot be given"));
            }
            let from_arg = args.get(&provide.from_arg).filter(|_| !provide.from_arg.is_empty());
            let value = from_arg.unwrap_or(&provide.value);
            if value.len() > LONGEST_VALUE_BYTES {
                return Err(invalid(format!("ipam.provide: the value of option {number} is too long"))
                    .details(format!("it has {} bytes, an option has at most 255", value.len())));
            }
            // As the reference plugin: an argument that is not there is not an error, and nothing is sent.
            if !value.is_empty() {
                provided.insert(number, value.as_bytes().to_vec());
            }
        }
        let bytes: usize = provided.values().map(|value| value.len() + 2).sum();
        if bytes > MOST_PROVIDED_BYTES {
            return Err(invalid("ipam.provide has more than a message can carry")
                .details(format!("{bytes} bytes, more than {MOST_PROVIDED_BYTES}")));
        }
        let client_id = provided.remove(&message::CLIENT_ID).unwrap_or_else(|| client_id(key));
        let requested = requested(&written.request.unwrap_or_default())?;
        Ok(Self { client_id, provided: provided.into_iter().collect(), requested })
    }
}

/// The options to ask for: the default ones, unless some entry skips them, and those that are named.
fn requested(requests: &[Request]) -> Result<Vec<u8>> {
    let skip = requests.iter().any(|request| request.skip_default);
    let mut numbers: Vec<u8> = if skip { Vec::new() } else { REQUESTED.to_vec() };
    for request in requests {
        let number = match &request.option {
            None if request.skip_default => continue,
            None => return Err(invalid("ipam.request has an entry without option")),
            Some(Number::Text(text)) if text.is_empty() && request.skip_default => continue,
            Some(number) => number.resolve()?,
        };
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// `<container>/<network>/<ifname>` of type 0, cut to what an option can carry: what the reference plugin sends, so that a
/// server knows an attachment again whichever plugin asks.
fn client_id(key: &AttachmentKey) -> Vec<u8> {
    let text = format!("{}/{}/{}", key.container, key.network, key.ifname);
    let mut id = vec![0];
    id.extend(text.bytes().take(LONGEST_VALUE_BYTES - 1));
    id
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(ipam: Value) -> Config {
        let raw = json!({ "cniVersion": "1.1.0", "name": "lan", "type": "bridge", "ipam": ipam });
        Config::from_value(raw).unwrap()
    }

    fn identity(ipam: Value, args: &str) -> Result<Identity> {
        let key = AttachmentKey {
            network: "lan".parse().unwrap(),
            container: "c".repeat(64).parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        Identity::of(&config(ipam), &key, &Args::parse(args).unwrap())
    }

    #[test]
    fn the_client_identifier_is_the_reference_plugins() {
        let plain = identity(json!({ "type": "dhcp" }), "").unwrap();
        let expected = [&[0][..], "c".repeat(64).as_bytes(), b"/lan/eth0"].concat();
        assert_eq!((plain.client_id, plain.requested), (expected, REQUESTED.to_vec()));
        let long = AttachmentKey {
            network: "n".repeat(200).parse().unwrap(),
            container: "c".repeat(200).parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        assert_eq!(client_id(&long).len(), 255);
    }

    #[test]
    fn options_have_names_numbers_and_values_from_arguments() {
        let ipam = json!({
            "type": "dhcp",
            "provide": [
                { "option": "host-name", "value": "fixed", "fromArg": "K8S_POD_NAME" },
                { "option": "60", "value": "podplumb" },
                { "option": 77, "fromArg": "ABSENT" },
                { "option": "dhcp-client-identifier", "value": "mine" },
            ],
            "request": [{ "skipDefault": true, "option": "subnet-mask" }, { "option": 42 }, { "option": "42" }],
        });
        let with = identity(ipam.clone(), "K8S_POD_NAME=web-0").unwrap();
        assert_eq!(with.provided, [(12, b"web-0".to_vec()), (60, b"podplumb".to_vec())]);
        assert_eq!((with.client_id, with.requested), (b"mine".to_vec(), vec![1, 42]));
        assert_eq!(identity(ipam, "").unwrap().provided[0], (12, b"fixed".to_vec()));
        let only_skip = json!({ "type": "dhcp", "request": [{ "skipDefault": true }] });
        assert_eq!(identity(only_skip, "").unwrap().requested, [0; 0]);
    }

    #[test]
    fn hostile_configurations_are_refused() {
        let long = "x".repeat(256);
        let most = "x".repeat(200);
        for part in [
            json!({ "provide": [{ "option": "no-such", "value": "x" }] }),
            json!({ "provide": [{ "option": "256", "value": "x" }] }),
            json!({ "provide": [{ "option": 0, "value": "x" }] }),
            json!({ "provide": [{ "option": 255, "value": "x" }] }),
            json!({ "provide": [{ "option": 53, "value": "\u{7}" }] }),
            json!({ "provide": [{ "option": "54", "value": "abcd" }] }),
            json!({ "provide": [{ "value": "x" }] }),
            json!({ "provide": [{ "option": 12, "value": long }] }),
            json!({ "provide": [{ "option": 12, "value": most }, { "option": 60, "value": most }] }),
            json!({ "provide": { "option": 12 } }),
            json!({ "request": [{}] }),
            json!({ "request": [{ "option": "-1" }] }),
            json!({ "request": [{ "option": 1.5 }] }),
            json!({ "priority": -1 }),
            json!({ "priority": "low" }),
        ] {
            let mut ipam = part.clone();
            ipam["type"] = "dhcp".into();
            assert_eq!(identity(ipam, "").unwrap_err().code, 7, "{part}");
        }
        let arg = json!({ "type": "dhcp", "provide": [{ "option": 12, "fromArg": "LONG" }] });
        assert_eq!(identity(arg, &format!("LONG={long}")).unwrap_err().code, 7);
        for path in [json!("relative.sock"), json!("/a\0b"), json!(7), json!(format!("/{long}")), json!("/")]
        {
            let ipam = json!({ "type": "dhcp", "daemonSocketPath": path });
            assert_eq!(socket(&config(ipam)).unwrap_err().code, 7, "{path}");
        }
        for ipam in [json!(null), json!([]), json!({}), json!({ "type": "host-local" })] {
            assert_eq!(socket(&config(ipam.clone())).unwrap_err().code, 7, "{ipam}");
        }
        let suppress = json!({ "type": "dhcp", "suppress": ["dns"] });
        assert_eq!(Shape::of(&config(suppress)).unwrap_err().code, 7);
    }

    #[test]
    fn a_result_is_shaped_as_wished() {
        let of = |ipam| Shape::of(&config(ipam)).unwrap();
        let plain = Shape { priority: None, without_gateway: false };
        assert_eq!(of(json!({ "type": "dhcp", "priority": 0, "suppress": [] })), plain);
        let shaped = of(json!({ "type": "dhcp", "priority": 200, "suppress": ["gateway"] }));
        assert_eq!(shaped, Shape { priority: Some(200), without_gateway: true });
        let sockets = |ipam| socket(&config(ipam)).unwrap();
        assert_eq!(sockets(json!({ "type": "dhcp", "daemonSocketPath": "" })), Path::new(SOCKET));
    }
}
