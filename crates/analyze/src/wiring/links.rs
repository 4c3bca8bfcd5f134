//! Whose a host interface is: a veth's end, an ifb, a macvlan that came back from a container.

use std::collections::HashMap;

use model::reference::{IFB_PREFIX, ifb_name};
use model::{AttachmentKey, ContainerId, Link, MacAddr, Nsid};

use super::{Join, Node};

impl<'a> Join<'a> {
    pub(super) fn host_links(&mut self) {
        let Some(host) = self.snapshot.host() else { return };
        let known = self.containers();
        let ifbs = if host.links.iter().any(is_limiter) { self.ifb_names() } else { HashMap::new() };
        for link in &host.links {
            let place = match (link.kind.as_str(), link.peer.map(|peer| (peer.nsid, peer.index))) {
                // The kernel is taking that namespace down; the veth goes with it.
                ("veth", Some((Some(Nsid::NOT_ASSIGNED), _))) => continue,
                ("veth", Some((Some(nsid), _))) => match self.by_nsid.get(&nsid) {
                    Some(at) => Node::Namespace(*at),
                    None => Node::Link(link.index),
                },
                // Both ends on the host: one node for the pair.
                ("veth", Some((None, peer))) => Node::Link(link.index.min(peer)),
                // Hardware that host-device lent to a container has a stamp too: it comes back, and is nobody's to delete.
                ("ifb", _) if is_stamped(link) || is_limiter(link) => Node::Link(link.index),
                ("macvlan" | "macvtap", _) if self.lent_to(link).is_some() => Node::Link(link.index),
                _ => continue,
            };
            self.place(place.clone());
            self.claimed.push((place.clone(), link));
            let owner = self.owner_of(link).and_then(|id| known.get(&id).copied());
            let owner = owner.or_else(|| ifbs.get(&link.name).copied().filter(|_| is_limiter(link)));
            if let Some(owner) = owner.or_else(|| self.lent_to(link)) {
                self.tie(place, Node::Container(owner));
            }
        }
    }

    /// The container that a stamp, a record or a cached result names as the owner of a host interface.
    fn owner_of(&self, link: &Link) -> Option<String> {
        let stamp = link.alias.as_deref().and_then(AttachmentKey::from_alias);
        if let Some(key) = stamp {
            return Some(key.container.into());
        }
        let same_mac = |mac: Option<MacAddr>| mac.is_none() || mac == link.mac;
        let of_record = self.snapshot.records.iter().find(|record| {
            let same_boot = record.boot_id == self.snapshot.node.boot_id;
            let same_name = record.host_interface.as_ref().is_some_and(|name| name.as_str() == link.name);
            same_boot && same_name && record.host_mac.is_some() && same_mac(record.host_mac)
        });
        if let Some(record) = of_record {
            return Some(record.key.container.as_str().to_owned());
        }
        let of_cache = self.snapshot.cache.iter().find(|entry| {
            entry
                .host_interfaces
                .iter()
                .any(|(name, mac)| *name == link.name && mac.is_some() && same_mac(*mac))
        });
        // A bridge is in every result as well; it does not come here.
        of_cache.and_then(|entry| Some(entry.key.as_ref()?.container.as_str().to_owned()))
    }

    /// The container whose interface a macvlan of the host was, by the MAC that the cached result gives to its inside. Somebody took it
    /// out of the container's namespace before that ended.
    fn lent_to(&self, link: &Link) -> Option<&'a ContainerId> {
        if !matches!(link.kind.as_str(), "macvlan" | "macvtap") {
            return None;
        }
        let was = |entry: &&model::CacheEntry| {
            link.mac.is_some() && entry.container_interfaces.iter().any(|(_, mac)| *mac == link.mac)
        };
        Some(&self.snapshot.cache.iter().find(was)?.key.as_ref()?.container)
    }

    /// What bandwidth would call the ifb of every container that anybody knows.
    fn ifb_names(&self) -> HashMap<String, &'a ContainerId> {
        let named = self.attachments().into_iter();
        named.map(|(network, id)| (ifb_name(network.as_str(), id.as_str()), id)).collect()
    }
}

fn is_stamped(link: &Link) -> bool {
    link.alias.as_deref().and_then(AttachmentKey::from_alias).is_some()
}

/// An ifb with a name as the bandwidth plugin gives them.
fn is_limiter(link: &Link) -> bool {
    let is_hash = |rest: &str| rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    link.kind == "ifb" && link.name.len() == 15 && link.name.strip_prefix(IFB_PREFIX).is_some_and(is_hash)
}
