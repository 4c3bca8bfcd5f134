//! How much passes: the difference of two looks' counters.

use std::collections::HashMap;

use model::{IfIndex, Link, Namespace, NsId, NsInode, Snapshot};
use serde::Serialize;

/// What passes by an interface, a second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Rate {
    /// Bits received.
    pub rx_bits: f64,
    /// Bits sent.
    pub tx_bits: f64,
    /// Packets received.
    pub rx_packets: f64,
    /// Packets sent.
    pub tx_packets: f64,
    /// Packets dropped, both ways.
    pub dropped: f64,
}

impl Rate {
    /// As the other end of the wire sees it.
    pub fn turned(self) -> Self {
        Self {
            rx_bits: self.tx_bits,
            tx_bits: self.rx_bits,
            rx_packets: self.tx_packets,
            tx_packets: self.rx_packets,
            dropped: self.dropped,
        }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            rx_bits: self.rx_bits + other.rx_bits,
            tx_bits: self.tx_bits + other.tx_bits,
            rx_packets: self.rx_packets + other.rx_packets,
            tx_packets: self.tx_packets + other.tx_packets,
            dropped: self.dropped + other.dropped,
        }
    }

    /// In a few characters, `↓ 1.2M ↑ 30k`: bits a second received and sent.
    pub fn short(self) -> String {
        format!("↓ {} ↑ {}", bits(self.rx_bits), bits(self.tx_bits))
    }
}

/// A number of bits with a decimal prefix and at most three digits.
fn bits(number: f64) -> String {
    let mut number = number;
    for prefix in ["", "k", "M", "G"] {
        if number < 999.5 {
            return if number < 9.95 && !prefix.is_empty() {
                format!("{number:.1}{prefix}")
            } else {
                format!("{number:.0}{prefix}")
            };
        }
        number /= 1_000.0;
    }
    format!("{number:.1}T")
}

/// The rates of all interfaces of a node.
#[derive(Debug, Clone, Default)]
pub struct Rates(HashMap<(Key, IfIndex), Rate>);

/// A namespace, in two looks at the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Host,
    Id(NsId),
    /// Where the kernel tells no id.
    Inode(NsInode),
}

impl Key {
    fn of(namespace: &Namespace) -> Option<Self> {
        if namespace.host {
            return Some(Key::Host);
        }
        namespace.ns_id.map(Key::Id).or(namespace.inode.map(Key::Inode))
    }
}

impl Rates {
    /// What passed between two looks. An interface that was not there, or another, has none.
    pub fn between(earlier: &Snapshot, later: &Snapshot) -> Self {
        let seconds = (later.taken_at.0 - earlier.taken_at.0) as f64 / 1_000.0;
        if seconds <= 0.0 || earlier.node.boot_id != later.node.boot_id {
            return Self::default();
        }
        let before: HashMap<(Key, IfIndex), &Link> = links(earlier).collect();
        let rates = links(later).filter_map(|(key, link)| {
            let before =
                before.get(&key).filter(|before| before.name == link.name && before.mac == link.mac)?;
            let rate =
                |count: fn(&Link) -> u64| count(link).checked_sub(count(before)).map(|n| n as f64 / seconds);
            let rate = Rate {
                rx_bits: rate(|link| link.rx_bytes)? * 8.0,
                tx_bits: rate(|link| link.tx_bytes)? * 8.0,
                rx_packets: rate(|link| link.rx_packets)?,
                tx_packets: rate(|link| link.tx_packets)?,
                dropped: rate(|link| link.rx_dropped)? + rate(|link| link.tx_dropped)?,
            };
            Some((key, rate))
        });
        Self(rates.collect())
    }

    /// What passes by an interface.
    pub fn of(&self, namespace: &Namespace, link: IfIndex) -> Option<Rate> {
        self.0.get(&(Key::of(namespace)?, link)).copied()
    }
}

fn links(snapshot: &Snapshot) -> impl Iterator<Item = ((Key, IfIndex), &Link)> {
    snapshot.namespaces.iter().flat_map(|namespace| {
        let key = Key::of(namespace);
        namespace.links.iter().filter_map(move |link| Some(((key?, link.index), link)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_at_most() {
        let texts = [0.0, 999.0, 999.6, 1_234.0, 56_789.0, 999_600.0, 12e9, 3e12].map(bits);
        assert_eq!(texts, ["0", "999", "1.0k", "1.2k", "57k", "1.0M", "12G", "3.0T"]);
    }
}
