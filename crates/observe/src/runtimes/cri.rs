//! The Container Runtime Interface (k8s.io/cri-api, RuntimeService of runtime.v1, or of runtime.v1alpha2 before containerd 1.6 and
//! CRI-O 1.20; what is asked here has the same messages in both).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, future, stream};
use model::{ContainerId, PodName, RuntimeObject, RuntimeObjectKind, Timestamp};

use super::grpc::{Client, Failed};
use super::{Answer, Wanted};

/// How many sandboxes are asked for at once: the runtime asks a shim for each.
const AT_ONCE: usize = 16;

struct Methods {
    version: &'static str,
    list_pods: &'static str,
    list_containers: &'static str,
    pod_status: &'static str,
}

const V1: Methods = Methods {
    version: "/runtime.v1.RuntimeService/Version",
    list_pods: "/runtime.v1.RuntimeService/ListPodSandbox",
    list_containers: "/runtime.v1.RuntimeService/ListContainers",
    pod_status: "/runtime.v1.RuntimeService/PodSandboxStatus",
};

const V1ALPHA2: Methods = Methods {
    version: "/runtime.v1alpha2.RuntimeService/Version",
    list_pods: "/runtime.v1alpha2.RuntimeService/ListPodSandbox",
    list_containers: "/runtime.v1alpha2.RuntimeService/ListContainers",
    pod_status: "/runtime.v1alpha2.RuntimeService/PodSandboxStatus",
};

#[derive(Clone, PartialEq, prost::Message)]
struct VersionRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionResponse {
    #[prost(string, tag = "2")]
    runtime_name: String,
    #[prost(string, tag = "3")]
    runtime_version: String,
}

/// Without a filter: everything, in whatever state.
#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodsResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodMetadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "4")]
    created_at_ns: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerMetadata>,
    #[prost(int32, tag = "6")]
    state: i32,
    #[prost(int64, tag = "7")]
    created_at_ns: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodStatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<PodStatus>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<PodNetwork>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodNetwork {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    additional: Vec<PodIp>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodIp {
    #[prost(string, tag = "1")]
    ip: String,
}

/// Lists sandboxes and containers.
pub(super) async fn ask(socket: &Path, wanted: &Wanted) -> Result<Answer, String> {
    let client = Client::connect(socket).await?;
    let answer = list(&client, wanted).await.map_err(|failed| failed.to_string())?;
    answer.ok_or_else(|| "it has no CRI service".to_owned())
}

/// The same by an open connection; `None` when there is no such service, or it is switched off.
pub(super) async fn list(client: &Client, wanted: &Wanted) -> Result<Option<Answer>, Failed> {
    for methods in [V1, V1ALPHA2] {
        let answers = future::join3(
            client.call::<_, VersionResponse>(methods.version, VersionRequest {}, None),
            client.call::<_, ListPodsResponse>(methods.list_pods, ListRequest {}, None),
            client.call::<_, ListContainersResponse>(methods.list_containers, ListRequest {}, None),
        );
        let (version, pods, containers) = answers.await;
        let version = match version {
            Err(failed) if failed.is_absent() => continue,
            version => version?,
        };
        if version.runtime_name.is_empty() {
            return Err(Failed::nonsense(methods.version, "a runtime without a name: this is no CRI"));
        }
        let version = format!("{} {}", version.runtime_name, version.runtime_version).trim().to_owned();
        let objects = objects(client, &methods, pods?.items, containers?.containers, wanted).await?;
        return Ok(Some(Answer { version, objects }));
    }
    Ok(None)
}

async fn objects(
    client: &Client,
    methods: &Methods,
    pods: Vec<PodSandbox>,
    containers: Vec<Container>,
    wanted: &Wanted,
) -> Result<Vec<RuntimeObject>, Failed> {
    // The sandboxes of containers that are wanted.
    let named = containers.iter().filter(|container| {
        wanted.fits(&container.id, container.metadata.iter().map(|metadata| metadata.name.as_str()))
    });
    let needed: HashSet<&str> = named.map(|container| container.pod_sandbox_id.as_str()).collect();
    let names: HashMap<String, PodName> = pods.iter().map(|pod| (pod.id.clone(), pod.name())).collect();
    let sandboxes = stream::iter(pods).map(|pod| {
        let name = pod.name();
        let full = name.to_string();
        let is_wanted = needed.contains(pod.id.as_str()) || wanted.fits(&pod.id, [full.as_str(), &name.name]);
        sandbox(client, methods, pod, name, is_wanted)
    });
    let mut objects: Vec<RuntimeObject> = sandboxes.buffered(AT_ONCE).try_collect().await?;
    for container in containers {
        let state = match container.state {
            0 => "created",
            1 => "running",
            2 => "exited",
            _ => "unknown",
        };
        objects.push(RuntimeObject {
            id: id(methods.list_containers, &container.id)?,
            kind: RuntimeObjectKind::Container,
            partition: None,
            name: container.metadata.map(|metadata| metadata.name),
            pod: names.get(&container.pod_sandbox_id).cloned(),
            sandbox: container.pod_sandbox_id.parse().ok(),
            state: state.into(),
            pid: None,
            netns: None,
            addresses: Vec::new(),
            created: Some(Timestamp(container.created_at_ns / 1_000_000)),
            doubt: None,
        });
    }
    Ok(objects)
}

impl PodSandbox {
    fn name(&self) -> PodName {
        let metadata = self.metadata.clone().unwrap_or_default();
        let uid = Some(metadata.uid).filter(|uid| !uid.is_empty());
        PodName { namespace: metadata.namespace, name: metadata.name, uid }
    }
}

/// A sandbox, and if it is wanted, its details.
async fn sandbox(
    client: &Client,
    methods: &Methods,
    pod: PodSandbox,
    name: PodName,
    is_wanted: bool,
) -> Result<RuntimeObject, Failed> {
    let ready = pod.state == 0;
    let mut object = RuntimeObject {
        id: id(methods.list_pods, &pod.id)?,
        kind: RuntimeObjectKind::Sandbox,
        partition: None,
        name: Some(name.to_string()),
        pod: Some(name),
        sandbox: None,
        state: if ready { "Ready" } else { "NotReady" }.into(),
        pid: None,
        netns: None,
        addresses: Vec::new(),
        created: Some(Timestamp(pod.created_at_ns / 1_000_000)),
        doubt: None,
    };
    if is_wanted {
        let question = PodStatusRequest { id: pod.id, verbose: true };
        match client.call(methods.pod_status, question, None).await {
            Ok(answer) => details(&mut object, &answer),
            // A sandbox that was removed meanwhile stays in the list as it was: that errs on the safe side.
            Err(failed) if failed.is_not_found() => {}
            Err(failed) => return Err(failed),
        }
    }
    Ok(object)
}

/// A runtime whose ids are not what CNI allows is not one that we understand.
pub(super) fn id(method: &'static str, text: &str) -> Result<ContainerId, Failed> {
    text.parse().map_err(|error: model::IdError| Failed::nonsense(method, error.to_string()))
}

/// Pid, namespace and addresses from the verbose status, whose `info` is JSON of the runtime's own making: containerd's
/// and CRI-O's both have the pid and the runtime specification's namespaces.
fn details(object: &mut RuntimeObject, answer: &PodStatusResponse) {
    let network = answer.status.as_ref().and_then(|status| status.network.as_ref());
    let ips = network.into_iter().flat_map(|network| {
        std::iter::once(&network.ip).chain(network.additional.iter().map(|additional| &additional.ip))
    });
    object.addresses = ips.filter_map(|ip| ip.parse().ok()).collect();
    let Some(info) =
        answer.info.get("info").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
    else {
        return;
    };
    object.pid = info.get("pid").and_then(|pid| u32::try_from(pid.as_u64()?).ok()).filter(|pid| *pid > 0);
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces").and_then(|list| list.as_array());
    let network = namespaces
        .into_iter()
        .flatten()
        .find(|namespace| namespace.get("type").is_some_and(|kind| kind == "network"));
    let path = network.and_then(|namespace| namespace.get("path")?.as_str());
    let path =
        path.or_else(|| info.pointer("/sandboxMetadata/NetNSPath")?.as_str()).filter(|path| !path.is_empty());
    object.netns = path.map(Into::into);
}
