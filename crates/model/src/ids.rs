//! Names and numbers of things, each a type of its own so that one cannot stand in for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name or number was refused. The text names the value, the rule and, where there is one, the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {rule}")]
pub struct IdError {
    what: &'static str,
    value: String,
    rule: &'static str,
}

impl IdError {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        // A hostile value may be megabytes long; an error line must not be.
        let value = value.chars().take(80).collect();
        Self { what, value, rule }
    }
}

/// The kernel's identifier of a namespace (`NS_GET_ID`, equal to `SO_NETNS_COOKIE`), never reused
/// within a boot. Linux 5.14 for the cookie, 6.18 for the ioctl (`include/uapi/linux/nsfs.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NsId(pub u64);

/// The nsfs inode of a namespace, as in `net:[4026531840]`. Reused once the namespace is gone: it
/// says which namespace *now*, never whether it is still the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NsInode(pub u64);

/// An interface index: unique inside one network namespace only.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IfIndex(pub u32);

/// How one network namespace numbers another (rtnetlink's nsid). Reused like [`NsInode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nsid(pub i32);

impl Nsid {
    /// `NETNSA_NSID_NOT_ASSIGNED`: as a veth peer's nsid, the peer's namespace is being torn down.
    pub const NOT_ASSIGNED: Nsid = Nsid(-1);
}

macro_rules! display_inner {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_inner!(NsId, NsInode, IfIndex, Nsid, ContainerId, NetworkName, IfName, BootId);

/// A string type whose every value passed `check`; serde goes through the same check.
macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the value and takes it.
            pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
                let value = value.into();
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(&value) {
                    Ok(()) => Ok(Self(value)),
                    Err(rule) => Err(IdError::new($what, &value, rule)),
                }
            }

            /// The value.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                Self::new(value)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_string!(
    /// A container or sandbox id as CNI allows it: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`. Safe as a file name.
    ContainerId,
    "container id",
    cni_name
);

checked_string!(
    /// A CNI network name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`. Safe as a file name.
    NetworkName,
    "network name",
    cni_name
);

checked_string!(
    /// An interface name: 1 to 15 bytes, no `/`, `:`, white space or NUL, not `.` or `..`
    /// (`dev_valid_name` in net/core/dev.c).
    IfName,
    "interface name",
    if_name
);

checked_string!(
    /// `/proc/sys/kernel/random/boot_id`: a new one each time the machine starts.
    BootId,
    "boot id",
    |value| if value.is_empty() || value.len() > 64 { Err("is not 1 to 64 bytes long") } else { Ok(()) }
);

/// Longest id that still leaves room for the other parts of a file name made of several ids.
const NAME_MAX_BYTES: usize = 200;

fn cni_name(value: &str) -> Result<(), &'static str> {
    let mut bytes = value.bytes();
    match bytes.next() {
        None => return Err("is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => return Err("must start with a letter or digit"),
        Some(_) => {}
    }
    if !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Err("may contain only letters, digits, '_', '.' and '-'");
    }
    if value.len() > NAME_MAX_BYTES {
        return Err("is longer than 200 bytes");
    }
    Ok(())
}

fn if_name(value: &str) -> Result<(), &'static str> {
    match value {
        "" => return Err("is empty"),
        "." | ".." => return Err("is not an interface name"),
        _ if value.len() > 15 => return Err("is longer than 15 bytes"),
        _ => {}
    }
    // The kernel's isspace() counts 0xa0 too, but that cannot stand alone in UTF-8.
    let illegal = |b: u8| matches!(b, b'/' | b':' | 0) || b.is_ascii_whitespace() || b == 0x0b;
    if value.bytes().any(illegal) {
        return Err("contains '/', ':', white space or NUL");
    }
    Ok(())
}

/// A 48-bit Ethernet address, written `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address made of `bytes`, with the bits set that mark it as locally administered and unicast.
    pub fn local(mut bytes: [u8; 6]) -> Self {
        bytes[0] = (bytes[0] & 0xfe) | 0x02;
        Self(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = IdError;
    fn from_str(value: &str) -> Result<Self, IdError> {
        let refuse =
            || IdError::new("MAC address", value, "is not six hexadecimal bytes like 0a:58:0a:00:00:02");
        let separator = if value.contains('-') { '-' } else { ':' };
        let mut bytes = [0u8; 6];
        let mut parts = value.split(separator);
        for byte in &mut bytes {
            let hex = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(hex).ok_or_else(refuse)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() { Err(refuse()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        value.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_their_directory_are_refused() {
        for bad in ["", "../x", "a/b", ".hidden", "-x", "a\0b", "a b", "ä"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
            assert!(NetworkName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0", "a.b-c_d", "k8s-pod-network"] {
            assert!(ContainerId::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn interface_names_follow_the_kernels_rule() {
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{b}b", "a\0", "sixteen_bytes_xx"] {
            assert!(IfName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["eth0", "fifteen_bytes_x", "a.b", "...", "veth@1"] {
            assert!(IfName::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_mac_address_reads_back_what_it_wrote() {
        let mac: MacAddr = "0A:58:0a:00:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:00:00:02");
        for bad in ["", "0a:58:0a:00:00", "0a:58:0a:00:00:02:03", "0a:58:0a:00:00:0x", "+a:58:0a:00:00:02"] {
            let parsed = bad.parse::<MacAddr>();
            assert!(parsed.is_err(), "{bad:?} gave {parsed:?}");
        }
    }

    #[test]
    fn serde_applies_the_same_checks() {
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
        assert!(serde_json::from_str::<IfName>("\"a/b\"").is_err());
    }
}
