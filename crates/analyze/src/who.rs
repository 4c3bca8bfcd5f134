//! Finding one thing by any of its names, and following the chain from there.

use std::net::IpAddr;
use std::path::PathBuf;

use model::{IfIndex, Link, MacAddr, NsId, NsInode, Nsid, PodName, Runtime, RuntimeObject, Snapshot};
use serde::Serialize;

use crate::wiring::{Wiring, wirings};

/// The whole chain of one wiring, by value, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// What to call it.
    pub label: String,
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Sandbox, or the only container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// What runtimes list of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerLine>,
    /// Processes in its namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<model::Task>,
    /// The namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceLine>,
    /// Interfaces, inside and outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceLine>,
    /// Addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Lease files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<PathBuf>,
    /// Cache files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<PathBuf>,
    /// Attachment records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<PathBuf>,
    /// The last that a log says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<model::Heard>,
}

/// A container of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerLine {
    /// Full id.
    pub id: String,
    /// Whether it is the sandbox.
    pub sandbox: bool,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// State in the runtime's words.
    pub state: String,
    /// First process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Who lists it: `containerd (k8s.io)`.
    pub runtime: String,
    /// Where that runtime answered.
    pub endpoint: PathBuf,
}

/// The namespace of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamespaceLine {
    /// A path that leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Inode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<NsInode>,
    /// Identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<NsId>,
    /// The host's number for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nsid: Option<Nsid>,
}

impl NamespaceLine {
    /// What is shown of a namespace.
    pub(crate) fn of(namespace: &model::Namespace) -> Self {
        Self { path: namespace.path(), inode: namespace.inode, ns_id: namespace.ns_id, nsid: namespace.nsid }
    }
}

/// One interface of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceLine {
    /// Inside end; for a veth whose other end could not be seen, only the host's is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<Link>,
    /// Host end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Link>,
    /// The bridge that the host end is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
}

/// What `who` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Found {
    /// A pod, container or namespace.
    Chain {
        /// As what the question was understood.
        by: &'static str,
        /// The chain.
        chain: Box<Chain>,
    },
    /// An interface of the host itself.
    HostLink {
        /// As what the question was understood.
        by: &'static str,
        /// The interface.
        link: Box<Link>,
    },
    /// A process in the host's own namespace.
    HostProcess {
        /// The process.
        task: model::Task,
    },
}

/// The chain of every wiring, pods first, by name.
pub fn chains(snapshot: &Snapshot) -> Vec<Chain> {
    let mut chains: Vec<Chain> = wirings(snapshot).iter().map(|wiring| chain(wiring, snapshot)).collect();
    chains.sort_by(|a, b| (a.pod.is_none(), &a.label).cmp(&(b.pod.is_none(), &b.label)));
    chains
}

/// Everything that `question` may mean: a veth or other host interface, an interface index, an IP or MAC address, a
/// pid, a namespace's path or inode, a container id (or a prefix of one), a container's or a pod's name. A kind can be
/// forced: `pid:812`, `ifindex:7`, `inode:4026532290`.
pub fn who(snapshot: &Snapshot, question: &str) -> Vec<Found> {
    let query = Query::new(question);
    let mut found: Vec<Found> = wirings(snapshot)
        .iter()
        .filter_map(|wiring| {
            let by = query.matches(wiring)?;
            Some(Found::Chain { by, chain: Box::new(chain(wiring, snapshot)) })
        })
        .collect();
    let host = snapshot.host();
    let wired = |link: &Link| link.kind == "veth" && !found.is_empty();
    let links = host.into_iter().flat_map(|host| &host.links);
    let of_host: Vec<Found> = links
        .filter(|link| !wired(link))
        .filter_map(|link| {
            Some(Found::HostLink { by: query.matches_link(link)?, link: Box::new(link.clone()) })
        })
        .collect();
    let tasks = host.into_iter().flat_map(|host| &host.tasks).filter(|task| query.pid == Some(task.pid));
    let of_tasks: Vec<Found> = tasks.map(|task| Found::HostProcess { task: task.clone() }).collect();
    found.extend(of_host);
    found.extend(of_tasks);
    found
}

#[derive(Debug, Default)]
pub(crate) struct Query<'q> {
    pub(crate) text: &'q str,
    pub(crate) pid: Option<u32>,
    index: Option<IfIndex>,
    inode: Option<NsInode>,
    ip: Option<IpAddr>,
    /// The interface that has the address: `fe80::1%eth0` (RFC 4007).
    scope: Option<&'q str>,
    mac: Option<MacAddr>,
    /// A kind was given, so names and prefixes are not meant.
    forced: bool,
}

impl<'q> Query<'q> {
    pub(crate) fn new(text: &'q str) -> Self {
        let forced = |kind: &str| text.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':'));
        let (pid, index, inode) = (forced("pid"), forced("ifindex"), forced("inode"));
        let bracketed = text.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
        let any = pid.or(index).or(inode).or(bracketed);
        let plain = if any.is_none() { Some(text) } else { None };
        let scoped = text.split_once('%').and_then(|(address, scope)| {
            let address = address.parse().ok().filter(IpAddr::is_ipv6)?;
            Some((address, Some(scope)))
        });
        let (ip, scope) = scoped.map_or((text.parse().ok(), None), |(address, scope)| (Some(address), scope));
        Self {
            text,
            pid: pid.or(plain).and_then(|n| n.parse().ok()),
            index: index.or(plain).and_then(|n| n.parse().ok()).map(IfIndex),
            inode: inode.or(bracketed).or(plain).and_then(|n| n.parse().ok()).map(NsInode),
            ip,
            scope,
            mac: text.parse().ok(),
            forced: any.is_some(),
        }
    }

    pub(crate) fn matches(&self, wiring: &Wiring<'_>) -> Option<&'static str> {
        for namespace in &wiring.namespaces {
            if self.inode.is_some() && namespace.inode == self.inode {
                return Some("namespace inode");
            }
            if namespace
                .tasks
                .iter()
                .any(|task| Some(task.pid) == self.pid || task.tid.is_some() && task.tid == self.pid)
            {
                return Some("pid");
            }
            let inside = || namespace.links.iter().filter(|link| !link.loopback);
            if inside().any(|link| self.is_address_of(link)) {
                return Some("address");
            }
            if self.mac.is_some() && inside().any(|link| link.mac == self.mac) {
                return Some("MAC of the inside interface");
            }
            if self.text.starts_with('/') && is_at(namespace, self.text) {
                return Some("namespace path");
            }
        }
        if self.scope.is_none() && self.ip.is_some_and(|ip| wiring.addresses().contains(&ip)) {
            return Some("leased address");
        }
        for host in &wiring.links {
            if let Some(by) = self.matches_link(host.link) {
                return Some(by);
            }
        }
        if self.forced || self.text.is_empty() {
            return None;
        }
        if wiring.pod_or_logged().is_some_and(|pod| pod.name == self.text || pod.to_string() == self.text) {
            return Some("pod");
        }
        if wiring.objects.iter().any(|(_, object)| object.name.as_deref() == Some(self.text)) {
            return Some("container name");
        }
        // Of a prefix, three characters are the least that people type.
        let is_prefix = |id: &str| self.text.len() >= 3 && id.starts_with(self.text);
        if wiring.containers.iter().any(|id| is_prefix(id.as_str())) {
            return Some("container id");
        }
        wiring
            .stamps
            .iter()
            .any(|key| is_prefix(key.container.as_str()))
            .then_some("container id in the stamp")
    }

    fn matches_link(&self, link: &Link) -> Option<&'static str> {
        if !self.forced && link.name == self.text {
            return Some("host interface");
        }
        if self.index == Some(link.index) {
            return Some("host interface index");
        }
        if self.mac.is_some() && link.mac == self.mac {
            return Some("MAC of the host interface");
        }
        self.is_address_of(link).then_some("host address")
    }

    fn is_address_of(&self, link: &Link) -> bool {
        let has_ip = |ip| link.addresses.iter().any(|address| address.addr() == ip);
        self.scope.is_none_or(|scope| scope == link.name) && self.ip.is_some_and(has_ip)
    }
}

fn is_at(namespace: &model::Namespace, path: &str) -> bool {
    let path = PathBuf::from(path);
    namespace.is_pinned_at(&path) || namespace.tasks.iter().any(|task| task.netns_path() == path)
}

pub(crate) fn chain(wiring: &Wiring<'_>, snapshot: &Snapshot) -> Chain {
    let mut interfaces: Vec<InterfaceLine> = wiring
        .links
        .iter()
        .map(|host| InterfaceLine {
            inside: host.inside.cloned(),
            bridge: host
                .link
                .master
                .and_then(|master| snapshot.host_link(master))
                .map(|link| link.name.clone()),
            host: Some(host.link.clone()),
        })
        .collect();
    let seen: Vec<IfIndex> = interfaces.iter().filter_map(|line| Some(line.inside.as_ref()?.index)).collect();
    let inside = wiring.namespace().into_iter().flat_map(|namespace| &namespace.links);
    let others = inside.filter(|link| !link.loopback && !seen.contains(&link.index));
    interfaces.extend(others.map(|link| InterfaceLine {
        inside: Some(link.clone()),
        host: None,
        bridge: None,
    }));
    Chain {
        heard: wiring.heard.cloned(),
        label: wiring.label(),
        pod: wiring.pod_or_logged().cloned(),
        sandbox: wiring.container().map(|id| id.as_str().to_owned()),
        containers: wiring.objects.iter().map(|(runtime, object)| container_line(runtime, object)).collect(),
        tasks: wiring.namespace().map(|namespace| namespace.tasks.clone()).unwrap_or_default(),
        namespace: wiring.namespace().map(NamespaceLine::of),
        interfaces,
        addresses: wiring.addresses(),
        leases: wiring.leases.iter().map(|lease| lease.path.clone()).collect(),
        cache: wiring.cache.iter().map(|entry| entry.path.clone()).collect(),
        records: wiring
            .records
            .iter()
            .filter_map(|record| Some(record.seen.as_ref()?.path.clone()))
            .collect(),
    }
}

fn container_line(runtime: &Runtime, object: &RuntimeObject) -> ContainerLine {
    let partition = object.partition.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    ContainerLine {
        id: object.id.as_str().to_owned(),
        sandbox: object.kind == model::RuntimeObjectKind::Sandbox,
        name: object.name.clone(),
        state: object.state.clone(),
        pid: object.pid,
        runtime: format!("{}{partition}", runtime.kind),
        endpoint: runtime.endpoint.clone(),
    }
}
