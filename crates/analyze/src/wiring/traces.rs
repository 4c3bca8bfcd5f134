//! Whose the rules are: iptables rules of the reference plugins, and elements of our own ruleset.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use model::reference::chain_name;
use model::{AttachmentKey, ContainerId, NetworkName, PluginRules, Snapshot, Source};

use super::{Join, Node, RuleUser, Wiring};

/// What ipMasq and portmap put behind `CNI-` in a chain's name; `SN-` until 0.8.
const PREFIXES: [&str; 3] = ["", "DN-", "SN-"];

impl<'a> Join<'a> {
    /// Containers by every name that somebody may have called CNI with: nerdctl's is `<containerd namespace>-<container id>`.
    fn callers(&self) -> HashMap<String, &'a ContainerId> {
        let mut known = self.containers();
        for (_, object) in self.snapshot.runtime_objects() {
            if let Some(partition) = &object.partition {
                known.entry(format!("{partition}-{}", object.id)).or_insert(&object.id);
            }
        }
        known
    }

    /// An element says in its comment whose it is.
    pub(super) fn elements(&mut self) {
        let known = self.callers();
        for (at, element) in self.snapshot.elements.iter().enumerate() {
            let Some(key) = AttachmentKey::from_file_name(&element.owner) else { continue };
            let owner = match known.get(key.container.as_str()) {
                Some(container) => Node::Container(container),
                None => Node::Owner(key.container.into()),
            };
            self.tie(Node::Element(at), owner);
        }
    }

    /// A chain of one container has a comment and a name made of network and container: both have to say the same. A rule of the
    /// firewall plugin has an address only.
    pub(super) fn plugin_rules(&mut self) {
        if self.snapshot.plugin_rules.is_empty() {
            return;
        }
        let by_name = self.chain_names();
        let known = self.callers();
        for (at, group) in self.snapshot.plugin_rules.iter().enumerate() {
            let node = Node::Rules(at);
            self.place(node.clone());
            if let Some(chain) = &group.chain {
                let owner = owner_of(group).or_else(|| by_name.get(chain.as_str()).copied());
                if let Some(owner) = owner {
                    self.tie(node, Node::Container(known.get(owner.as_str()).copied().unwrap_or(owner)));
                }
                continue;
            }
            let [address] = group.addresses.as_slice() else { continue };
            match self.claimants(*address).as_slice() {
                [only] => self.tie(node, Node::Container(only)),
                // That somebody has the address says who uses the rule, not whose it was.
                [] => {}
                // Whose it is now is the one that lives, if there is one; nobody's rule is removed on a guess.
                many => {
                    let is_listed = |id: &&&ContainerId| {
                        self.snapshot.runtime_objects().any(|(_, object)| object.id == ***id)
                    };
                    if let [listed] = many.iter().filter(is_listed).collect::<Vec<_>>().as_slice() {
                        self.tie(node, Node::Container(listed));
                    }
                }
            }
        }
    }

    /// The names of the chains that the reference plugins would make for every container that anybody knows.
    fn chain_names(&self) -> HashMap<String, &'a ContainerId> {
        let named = self.attachments().into_iter().flat_map(|(network, id)| {
            PREFIXES.map(|prefix| (chain_name(prefix, network.as_str(), id.as_str()), id))
        });
        named.collect()
    }

    /// Network and container of everything that is or may be attached: what lease, cache or record say, and each container of a runtime in
    /// each network.
    pub(super) fn attachments(&self) -> BTreeSet<(&'a NetworkName, &'a ContainerId)> {
        let snapshot = self.snapshot;
        let leases = snapshot.leases.iter().filter_map(|l| Some((&l.network, l.container.as_ref()?)));
        let cache = snapshot.cache.iter().filter_map(|e| e.key.as_ref()).map(|k| (&k.network, &k.container));
        let records = snapshot.records.iter().map(|r| (&r.key.network, &r.key.container));
        let mut all: BTreeSet<(&NetworkName, &ContainerId)> = leases.chain(cache).chain(records).collect();
        let configured = snapshot.configs.iter().filter_map(|config| config.network.as_ref());
        let networks: BTreeSet<&NetworkName> =
            all.iter().map(|(network, _)| *network).chain(configured).collect();
        let listed = snapshot.runtime_objects().map(|(_, object)| &object.id);
        all.extend(listed.flat_map(|id| networks.iter().map(move |network| (*network, id))));
        all
    }

    /// Containers that a lease, a cache entry or a record says to have the address.
    fn claimants(&self, address: IpAddr) -> Vec<&'a ContainerId> {
        let snapshot = self.snapshot;
        let leases = snapshot.leases.iter().filter(|lease| lease.address == address);
        let cache = snapshot.cache.iter().filter(|entry| entry.addresses.contains(&address));
        let has =
            |record: &&model::AttachmentRecord| record.addresses.iter().flatten().any(|a| *a == address);
        let claims: BTreeSet<&ContainerId> = leases
            .filter_map(|lease| lease.container.as_ref())
            .chain(cache.filter_map(|entry| Some(&entry.key.as_ref()?.container)))
            .chain(snapshot.records.iter().filter(has).map(|record| &record.key.container))
            .collect();
        claims.into_iter().collect()
    }
}

/// Finds who uses an address that another one's rules are about.
pub(super) fn users(wirings: &mut [Wiring<'_>], snapshot: &Snapshot) {
    let mut about: HashMap<IpAddr, Vec<usize>> = HashMap::new();
    for (at, wiring) in wirings.iter().enumerate() {
        let of_rules = wiring.rules.iter().flat_map(|rules| &rules.addresses);
        for address in of_rules.chain(wiring.elements.iter().flat_map(|element| &element.addresses)) {
            about.entry(*address).or_default().push(at);
        }
    }
    if about.is_empty() {
        return;
    }
    // What was not read may say that the address is somebody else's.
    let says_whose = [Source::Leases, Source::Cache, Source::Records, Source::Namespace];
    let is_blind = snapshot.coverage.iter().any(|gap| says_whose.contains(&gap.source));
    let hidden: Vec<usize> = wirings
        .iter()
        .enumerate()
        .filter(|(_, wiring)| wiring.namespaces.iter().any(|namespace| !namespace.readable))
        .map(|(at, _)| at)
        .collect();
    for (at, wiring) in wirings.iter_mut().enumerate() {
        wiring.may_have_users = is_blind || hidden.iter().any(|other| *other != at);
    }
    let mut found = Vec::new();
    for (own, user) in wirings.iter().enumerate() {
        let is_listed = !user.objects.is_empty() && !user.by_address_only && user.namespaces.len() == 1;
        for namespace in &user.namespaces {
            for link in namespace.links.iter().filter(|link| !link.loopback) {
                let named = link.addresses.iter().filter_map(|net| about.get(&net.addr())).flatten();
                let others = named.copied().filter(|at| *at != own);
                found.extend(others.map(|at| (at, RuleUser { namespace, link, is_listed })));
            }
        }
    }
    for (at, user) in found {
        wirings[at].users.push(user);
    }
}

/// The container in the comment, where the chain's name agrees.
fn owner_of(group: &PluginRules) -> Option<&ContainerId> {
    let (chain, (network, container)) = (group.chain.as_ref()?, group.owner.as_ref()?);
    let mut names = PREFIXES.iter().map(|prefix| chain_name(prefix, network.as_str(), container.as_str()));
    names.any(|name| name == *chain).then_some(container)
}
