//! The node as a tree: networks, uplinks, tunnels, bridges with their ports and pods.

use model::{Link, RuntimeStatus};

use super::COLUMNS;
use super::text::{Paint, coverage, hang, printable, shorten};
use crate::drawing::Mark;
use crate::map::{Behind, Bridge, Map, Network, Place, Rate, Remark, Station, Tunnel, Uplink};

/// A bridge may have thousands of stations; its page should not.
const STATIONS: usize = 12;

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What one looks for first.
    Usual,
    /// Also indices, MACs, namespaces and ids.
    Wide,
}

/// The whole node.
pub fn map(map: &Map, detail: Detail, paint: Paint) -> String {
    let mut out = String::new();
    out.push_str(&paint.bold(&printable(&map.node.hostname)));
    out.push_str(&format!("  Linux {}  {}\n", printable(&map.node.kernel), map.taken_at));
    let mut writer = Writer { out, detail, paint };
    writer.section("networks", &map.networks, Writer::network);
    writer.section("uplinks", &map.uplinks, Writer::uplink);
    writer.section("VXLAN", &map.tunnels, Writer::tunnel);
    for bridge in &map.bridges {
        writer.bridge(bridge, &map.chains);
    }
    let rest = map.chains.iter().filter(|place| bridge_of(place).is_none());
    let (routed, unlinked): (Vec<&Place>, Vec<&Place>) =
        rest.partition(|place| place.chain.interfaces.iter().any(|interface| interface.host.is_some()));
    for (title, places) in [("routed, without a bridge", routed), ("without a veth to the host", unlinked)] {
        if !places.is_empty() {
            writer.out.push_str(&format!("\n{title}\n"));
            writer.places(&places, None, &[]);
        }
    }
    writer.runtimes(map);
    let Writer { mut out, .. } = writer;
    if !map.remarks.is_empty() {
        out.push_str("\nalso wrong\n");
        for remark in &map.remarks {
            hang(&mut out, "  ", 2, &told(remark, true, paint));
        }
    }
    let gaps = coverage(&map.coverage);
    if !gaps.is_empty() {
        out.push('\n');
        out.push_str(&gaps);
    }
    out
}

fn bridge_of(place: &Place) -> Option<&str> {
    place.chain.interfaces.iter().find_map(|interface| interface.bridge.as_deref())
}

struct Writer {
    out: String,
    detail: Detail,
    paint: Paint,
}

impl Writer {
    fn section<T>(&mut self, title: &str, things: &[T], mut write: impl FnMut(&mut Self, &T, [&str; 2])) {
        if things.is_empty() {
            return;
        }
        self.out.push_str(&format!("\n{title}\n"));
        for (at, thing) in things.iter().enumerate() {
            write(self, thing, branch(at + 1 == things.len()));
        }
    }

    /// A line of the tree, and what hangs below it.
    fn line(&mut self, [branch, stem]: [&str; 2], head: &str, details: &[String]) {
        self.out.push_str(&format!("{branch}{}\n", head.trim_end()));
        for text in details.iter().filter(|text| !text.is_empty()) {
            hang_under(&mut self.out, stem, text);
        }
    }

    fn network(&mut self, network: &Network, branch: [&str; 2]) {
        let config = &network.config;
        let name =
            config.network.as_ref().map_or_else(|| "unnamed".to_owned(), |name| printable(name.as_str()));
        let head = format!(
            "{}  {}",
            self.paint.bold(&name),
            config.plugins.iter().map(|p| printable(p)).collect::<Vec<_>>().join(", ")
        );
        let path = printable(&config.path.display().to_string());
        let mut details = vec![match (&config.problem, network.in_force) {
            (Some(problem), _) => self.paint.red(&format!("{path}: {}", printable(problem))),
            (None, true) => path,
            (None, false) => format!("{path}, after another in its directory"),
        }];
        let subnets: Vec<String> = config.subnets.iter().map(ToString::to_string).collect();
        if !subnets.is_empty() {
            let of = config
                .capacity
                .filter(|capacity| capacity.ipv6 == 0)
                .map(|capacity| format!(" of {}", capacity.ipv4));
            details.push(format!(
                "pods {}, {}{} leased",
                subnets.join(" "),
                network.leased,
                of.unwrap_or_default()
            ));
        }
        self.line(branch, &head, &details);
    }

    fn uplink(&mut self, uplink: &Uplink, branch: [&str; 2]) {
        let via: String = uplink.gateways.iter().map(|gateway| format!("  default via {gateway}")).collect();
        self.interface(branch, &uplink.link, &via, uplink.rate, &uplink.remarks, Vec::new());
    }

    fn tunnel(&mut self, tunnel: &Tunnel, branch: [&str; 2]) {
        let on = tunnel.lower.as_ref().map(|lower| format!(" on {}", printable(lower))).unwrap_or_default();
        let what = format!("  VNI {} UDP {}{on}", tunnel.vxlan.id, tunnel.vxlan.port);
        let peers = tunnel.peers.iter().map(|peer| {
            let subnets: Vec<String> = peer.subnets.iter().map(ToString::to_string).collect();
            let to = match (peer.remote, peer.mac) {
                (Some(remote), Some(mac)) if mac.0 == [0; 6] => {
                    format!("peer {remote} for what is for nobody in particular")
                }
                (Some(remote), _) => format!("peer {remote}"),
                (None, mac) => {
                    let mac = mac.map(|mac| format!(" ({mac})")).unwrap_or_default();
                    self.paint.yellow(&format!("peer not known{mac}: no forwarding entry"))
                }
            };
            format!("{to}  {}", subnets.join(" ")).trim_end().to_owned()
        });
        let peers: Vec<String> = peers.collect();
        self.interface(branch, &tunnel.link, &what, tunnel.rate, &tunnel.remarks, peers);
    }

    fn interface(
        &mut self,
        branch: [&str; 2],
        link: &Link,
        more: &str,
        rate: Option<Rate>,
        remarks: &[Remark],
        mut details: Vec<String>,
    ) {
        let head =
            format!("{}{}{more}{}", self.paint.bold(&printable(&link.name)), facts(link), passing(rate));
        if self.detail == Detail::Wide {
            details.insert(0, numbers(link));
        }
        details.extend(remarks.iter().map(|remark| told(remark, false, self.paint)));
        self.line(branch, &head, &details);
    }

    fn bridge(&mut self, bridge: &Bridge, all: &[Place]) {
        let link = &bridge.link;
        let head = format!(
            "\nbridge {}{}{}\n",
            self.paint.bold(&printable(&link.name)),
            facts(link),
            passing(bridge.rate)
        );
        self.out.push_str(&head);
        let mut details = Vec::new();
        if self.detail == Detail::Wide {
            let ports = super::count(bridge.ports, "port");
            details.push(format!(
                "{}, {ports}, {} learned and {} set in its FDB",
                numbers(link),
                bridge.learned,
                bridge.set
            ));
        }
        details.extend(bridge.remarks.iter().map(|remark| told(remark, false, self.paint)));
        for text in details {
            hang(&mut self.out, "  ", 2, &text);
        }
        if self.detail == Detail::Wide {
            self.stations(&bridge.stations);
        }
        let places: Vec<&Place> = all.iter().filter(|place| port_of(place, &link.name).is_some()).collect();
        self.places(&places, Some(&link.name), &bridge.other_ports);
    }

    /// Stations that say more than that a pod is behind its own port.
    fn stations(&mut self, all: &[Station]) {
        let telling: Vec<&Station> = all.iter().filter(|station| !station.goes_without_saying()).collect();
        let shown = &telling[..telling.len().min(STATIONS)];
        let port = |station: &Station| printable(&station.port);
        let width = shown.iter().map(|station| port(station).chars().count()).max().unwrap_or(0);
        for station in shown {
            let head = format!("  fdb  {}  {:<width$}  ", station.mac, port(station));
            let text = standing(station);
            let text = if station.is_elsewhere() { self.paint.yellow(&text) } else { text };
            hang(&mut self.out, &head, head.chars().count(), &text);
        }
        if telling.len() > shown.len() {
            self.out.push_str(&format!("  fdb  … {} more (-o json has all)\n", telling.len() - shown.len()));
        }
    }

    fn places(&mut self, places: &[&Place], bridge: Option<&str>, others: &[String]) {
        for (at, place) in places.iter().enumerate() {
            self.place(place, bridge, branch(at + 1 == places.len() && others.is_empty()));
        }
        for (at, port) in others.iter().enumerate() {
            self.line(branch(at + 1 == others.len()), &printable(port), &[]);
        }
    }

    fn place(&mut self, place: &Place, bridge: Option<&str>, branch: [&str; 2]) {
        let chain = &place.chain;
        let interface = match bridge {
            Some(bridge) => {
                chain.interfaces.iter().find(|interface| interface.bridge.as_deref() == Some(bridge))
            }
            None => {
                let addressed = |interface: &&crate::who::InterfaceLine| {
                    interface.host.is_some()
                        || interface.inside.as_ref().is_some_and(|inside| !inside.addresses.is_empty())
                };
                chain.interfaces.iter().find(addressed).or(chain.interfaces.first())
            }
        };
        let host = interface.and_then(|interface| interface.host.as_ref());
        let inside = interface.and_then(|interface| interface.inside.as_ref());
        let mut head = String::new();
        if let Some(host) = host {
            head.push_str(&format!("{} ── ", printable(&host.name)));
        }
        if let Some(inside) = inside {
            let own = inside.addresses.iter().filter(|net| !crate::wiring::is_link_local(net.addr()));
            let addresses: Vec<String> = own.map(ToString::to_string).collect();
            head.push_str(&format!("{} {}", printable(&inside.name), addresses.join(" ")));
            head = head.trim_end().to_owned();
            head.push_str("  ");
        }
        head.push_str(&self.paint.bold(&shorten(&chain.label)));
        head.push_str(&passing(place.rate));
        let mut lines = vec![details(place, host, inside)];
        if self.detail == Detail::Wide {
            lines.extend(identities(place));
        }
        lines.extend(place.remarks.iter().map(|remark| told(remark, false, self.paint)));
        self.line(branch, &head, &lines);
    }

    fn runtimes(&mut self, map: &Map) {
        let (out, paint) = (&mut self.out, self.paint);
        if map.runtimes.is_empty() {
            let text = if map.runtime_none { "none, as you said" } else { "none found" };
            out.push_str(&format!("\nruntimes: {text}\n"));
            return;
        }
        out.push_str("\nruntimes\n");
        for runtime in &map.runtimes {
            let state = match &runtime.status {
                RuntimeStatus::Answered { version } => {
                    // A store on disk has none.
                    let version = match version.as_str() {
                        "" => String::new(),
                        version => format!(", version {}", printable(version)),
                    };
                    paint.green(&format!("{} objects{version}", runtime.objects.len()))
                }
                RuntimeStatus::Silent { why } => paint.yellow(&format!("silent: {}", printable(why))),
            };
            let head = format!("  {:<12}", runtime.kind);
            let endpoint = printable(&runtime.endpoint.display().to_string());
            hang(out, &head, head.chars().count(), &format!("{endpoint}  {state}"));
        }
    }
}

fn port_of<'c>(place: &'c Place, bridge: &str) -> Option<&'c Link> {
    let mut interfaces = place.chain.interfaces.iter();
    interfaces.find(|interface| interface.bridge.as_deref() == Some(bridge))?.host.as_ref()
}

/// What an entry of a forwarding database comes to.
fn standing(station: &Station) -> String {
    let how = if station.set { "set" } else { "learned" };
    let what = match (&station.owner, &station.behind, station.remote) {
        (Some(owner), ..) if station.is_elsewhere() => {
            format!("but {} has it, behind {}", shorten(&owner.label), printable(&owner.port))
        }
        (Some(owner), ..) => format!("for {}", shorten(&owner.label)),
        (None, Behind::Pod(label), _) => format!("no interface in {} has it", shorten(label)),
        (None, Behind::Tunnel, Some(remote)) => format!("behind {remote}"),
        (None, Behind::Tunnel, None) => "behind a peer that is not known".to_owned(),
        (None, Behind::Uplink, _) => "beyond this node".to_owned(),
        (None, Behind::Other, _) => return how.to_owned(),
    };
    format!("{how}, {what}")
}

/// What is worth a second line: state, processes, where it lives, what is kept about it, and what is odd.
fn details(place: &Place, host: Option<&Link>, inside: Option<&Link>) -> String {
    let chain = &place.chain;
    let mut parts = Vec::new();
    match chain.containers.first() {
        Some(container) => parts.push(format!("{} {}", container.runtime, container.state)),
        None if chain.sandbox.is_some() => parts.push("listed by no runtime".to_owned()),
        None => {}
    }
    match chain.tasks.as_slice() {
        [] => parts.push("no process".into()),
        [task] => parts.push(task.to_string()),
        [task, rest @ ..] => parts.push(format!("{task} +{}", rest.len())),
    }
    for (name, paths) in [("lease", &chain.leases), ("cache", &chain.cache), ("record", &chain.records)] {
        if !paths.is_empty() {
            parts.push(name.to_owned());
        }
    }
    for (link, end) in [(host, "host end"), (inside, "inside")] {
        if link.is_some_and(|link| !link.up) {
            parts.push(format!("{end} is DOWN"));
        }
    }
    if let (Some(host), Some(inside)) = (host, inside)
        && host.mtu_bytes != inside.mtu_bytes
    {
        parts.push(format!("mtu {} outside, {} inside", host.mtu_bytes, inside.mtu_bytes));
    }
    shorten(&parts.join(", "))
}

fn hang_under(out: &mut String, stem: &str, text: &str) {
    let head = format!("{stem}   ");
    let mut block = String::new();
    hang(&mut block, "", head.chars().count(), text);
    for (at, line) in block.lines().enumerate() {
        let line = if at == 0 { line } else { line.trim_start() };
        out.push_str(&format!("{head}{line}\n"));
    }
}

/// Addresses, MTU and state of an interface of the node.
fn facts(link: &Link) -> String {
    let own = link.addresses.iter().filter(|net| !crate::wiring::is_link_local(net.addr()));
    let mut text: String = own.map(|net| format!("  {net}")).collect();
    text.push_str(&format!("  mtu {}", link.mtu_bytes));
    if !link.up {
        text.push_str("  DOWN");
    }
    if link.up && !link.carrier {
        text.push_str("  no carrier");
    }
    text
}

/// What passes, when that is known.
fn passing(rate: Option<Rate>) -> String {
    let Some(rate) = rate else { return String::new() };
    let dropped = if rate.dropped > 0.0 { format!(" dropped {:.0}/s", rate.dropped) } else { String::new() };
    format!("  {} b/s{dropped}", rate.short())
}

/// What is wrong, coloured by how bad it is; also about what, where the line does not say it.
fn told(remark: &Remark, with_object: bool, paint: Paint) -> String {
    let text = match with_object {
        true => format!("! {}: {}", remark.object, remark.text),
        false => format!("! {}", remark.text),
    };
    let text = shorten(&text);
    match remark.mark {
        Mark::Bad => paint.red(&text),
        Mark::Warning => paint.yellow(&text),
        Mark::Fine => text,
    }
}

/// What other tools number an interface by.
fn numbers(link: &Link) -> String {
    let mac = link.mac.map(|mac| format!(", {mac}")).unwrap_or_default();
    format!("index {}{mac}", link.index)
}

/// What other tools call a place: its namespace, its containers, and both ends of its wires.
fn identities(place: &Place) -> Vec<String> {
    let chain = &place.chain;
    let namespace = chain.namespace.iter().flat_map(|namespace| {
        let path = namespace.path.as_ref().map(|path| printable(&path.display().to_string()));
        let inode = namespace.inode.map(|inode| format!("net:[{inode}]"));
        let nsid = namespace.nsid.map(|nsid| format!("nsid {nsid}"));
        let numbers = [inode, nsid].into_iter().flatten().collect::<Vec<_>>().join(" ");
        match path {
            // As runtimes name them: with their numbers they would not fit a line.
            Some(path) if path.chars().count() + numbers.chars().count() > COLUMNS - 7 => vec![path, numbers],
            path => vec![path.into_iter().chain([numbers]).collect::<Vec<_>>().join(" ")],
        }
    });
    let wires = chain.interfaces.iter().map(|interface| {
        let end = |link: &Link| format!("{} {}", printable(&link.name), numbers(link));
        let ends = [interface.host.as_ref().map(end), interface.inside.as_ref().map(end)];
        ends.into_iter().flatten().collect::<Vec<_>>().join(" ── ")
    });
    let containers = chain
        .containers
        .iter()
        .map(|container| printable(&format!("{} {}", container.runtime, container.id)));
    namespace.chain(wires).chain(containers).collect()
}

fn branch(last: bool) -> [&'static str; 2] {
    if last { ["└─ ", "   "] } else { ["├─ ", "│  "] }
}
