//! The Container Runtime Interface (k8s.io/cri-api, RuntimeService of runtime.v1, or of runtime.v1alpha2 before containerd 1.6 and
//! CRI-O 1.20; what is asked here has the same messages in both).

use std::collections::HashMap;
use std::path::Path;

use model::{PodName, RuntimeObject, RuntimeObjectKind, Timestamp};

use super::Answer;
use super::grpc::{Client, is_absent, words};

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
pub(super) async fn ask(socket: &Path) -> Result<Answer, String> {
    let mut client = Client::connect(socket).await?;
    let answer = list(&mut client).await.map_err(|(method, status)| words(method, &status))?;
    answer.ok_or_else(|| "it has no CRI service".to_owned())
}

/// The same by an open connection; `None` when there is no such service, or it is switched off. The error says which call failed.
pub(super) async fn list(client: &mut Client) -> Result<Option<Answer>, (&'static str, tonic::Status)> {
    for methods in [V1, V1ALPHA2] {
        match client.call(methods.version, VersionRequest {}, None).await {
            Ok(version) => return list_by(client, &methods, version).await.map(Some),
            Err(status) if is_absent(&status) => {}
            Err(status) => return Err((methods.version, status)),
        }
    }
    Ok(None)
}

async fn list_by(
    client: &mut Client,
    methods: &Methods,
    version: VersionResponse,
) -> Result<Answer, (&'static str, tonic::Status)> {
    let failed = |method| move |status| (method, status);
    if version.runtime_name.is_empty() {
        return Err((methods.version, tonic::Status::data_loss("a runtime without a name: this is no CRI")));
    }
    let pods: ListPodsResponse =
        client.call(methods.list_pods, ListRequest {}, None).await.map_err(failed(methods.list_pods))?;
    let containers: ListContainersResponse = client
        .call(methods.list_containers, ListRequest {}, None)
        .await
        .map_err(failed(methods.list_containers))?;
    let mut objects = Vec::new();
    let mut names: HashMap<String, PodName> = HashMap::new();
    for pod in pods.items {
        let metadata = pod.metadata.unwrap_or_default();
        let name = PodName {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: Some(metadata.uid).filter(|uid| !uid.is_empty()),
        };
        names.insert(pod.id.clone(), name.clone());
        let ready = pod.state == 0;
        let mut object = RuntimeObject {
            id: id(&pod.id).map_err(failed(methods.list_pods))?,
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
        let question = PodStatusRequest { id: pod.id, verbose: true };
        match client.call::<_, PodStatusResponse>(methods.pod_status, question, None).await {
            Ok(answer) => details(&mut object, &answer),
            // A sandbox that was removed meanwhile stays in the list as it was: that errs on the safe side.
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err((methods.pod_status, status)),
        }
        objects.push(object);
    }
    for container in containers.containers {
        let state = match container.state {
            0 => "created",
            1 => "running",
            2 => "exited",
            _ => "unknown",
        };
        objects.push(RuntimeObject {
            id: id(&container.id).map_err(failed(methods.list_containers))?,
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
    Ok(Answer {
        version: format!("{} {}", version.runtime_name, version.runtime_version).trim().to_owned(),
        objects,
    })
}

/// A runtime whose ids are not what CNI allows is not one that we understand.
fn id(text: &str) -> Result<model::ContainerId, tonic::Status> {
    text.parse().map_err(|error: model::IdError| tonic::Status::data_loss(error.to_string()))
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
