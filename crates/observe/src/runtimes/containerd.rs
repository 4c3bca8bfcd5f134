//! containerd: its CRI service, and its own metadata in every namespace, where ctr, nerdctl and Docker keep theirs
//! (containerd's api/services/{namespaces,containers,tasks,version}/v1).

use std::collections::HashMap;
use std::path::Path;

use model::{ContainerId, RuntimeObject, RuntimeObjectKind};

use super::Answer;
use super::cri;
use super::grpc::{Client, is_absent, words};

const VERSION: &str = "/containerd.services.version.v1.Version/Version";
const NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
const CONTAINERS: &str = "/containerd.services.containers.v1.Containers/List";
const TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionResponse {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamespacesResponse {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TasksResponse {
    #[prost(message, repeated, tag = "1")]
    tasks: Vec<Task>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Task {
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint32, tag = "3")]
    pid: u32,
    #[prost(int32, tag = "4")]
    status: i32,
}

/// Lists what CRI knows, and what only containerd knows.
pub(super) async fn ask(socket: &Path) -> Result<Answer, String> {
    let mut client = Client::connect(socket).await?;
    // Without one, the CRI plugin is switched off, as in Docker's containerd.
    let of_cri = cri::list(&mut client).await.map_err(|(method, status)| words(method, &status))?;
    let own: Result<Vec<RuntimeObject>, (&'static str, tonic::Status)> = own(&mut client).await;
    let (objects, version) = match (own, of_cri) {
        (Ok(own), Some(cri)) => (merge(cri.objects, own), cri.version),
        (Ok(own), None) => {
            let answer: VersionResponse =
                client.call(VERSION, Empty {}, None).await.map_err(|status| words(VERSION, &status))?;
            if answer.version.is_empty() {
                return Err("Version: no version: this is no containerd".to_owned());
            }
            (own, answer.version)
        }
        // Not containerd after all: a CRI socket of another runtime that has its name.
        (Err((_, status)), Some(cri)) if is_absent(&status) => (cri.objects, cri.version),
        (Err((method, status)), _) => return Err(words(method, &status)),
    };
    Ok(Answer { version, objects })
}

/// The containers of all of containerd's namespaces.
async fn own(client: &mut Client) -> Result<Vec<RuntimeObject>, (&'static str, tonic::Status)> {
    let failed = |method| move |status| (method, status);
    let namespaces: NamespacesResponse =
        client.call(NAMESPACES, Empty {}, None).await.map_err(failed(NAMESPACES))?;
    let mut objects = Vec::new();
    for Namespace { name } in namespaces.namespaces {
        let containers: ContainersResponse =
            client.call(CONTAINERS, Empty {}, Some(&name)).await.map_err(failed(CONTAINERS))?;
        let tasks: TasksResponse = client.call(TASKS, Empty {}, Some(&name)).await.map_err(failed(TASKS))?;
        let mut tasks: HashMap<String, Task> =
            tasks.tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
        for container in containers.containers {
            let id: ContainerId = container
                .id
                .parse()
                .map_err(|error: model::IdError| (CONTAINERS, tonic::Status::data_loss(error.to_string())))?;
            let task = tasks.remove(&container.id);
            let label = |name: &str| container.labels.get(name).cloned();
            let sandbox = label("io.cri-containerd.kind").is_some_and(|kind| kind == "sandbox");
            let own_name = label("io.kubernetes.container.name").or_else(|| label("nerdctl/name"));
            objects.push(RuntimeObject {
                id,
                kind: if sandbox { RuntimeObjectKind::Sandbox } else { RuntimeObjectKind::Container },
                partition: Some(name.clone()),
                name: own_name,
                pod: None,
                sandbox: None,
                state: task.as_ref().map_or("no task", |task| state(task.status)).into(),
                pid: task.map(|task| task.pid).filter(|pid| *pid > 0),
                netns: None,
                addresses: Vec::new(),
                created: None,
                doubt: None,
            });
        }
    }
    Ok(objects)
}

/// `containerd.v1.types.Status`.
fn state(status: i32) -> &'static str {
    match status {
        1 => "created",
        2 => "running",
        3 => "stopped",
        4 => "paused",
        5 => "pausing",
        _ => "unknown",
    }
}

/// CRI's objects with what containerd adds (its namespace, the pids of containers), then those that CRI does not have.
fn merge(mut objects: Vec<RuntimeObject>, own: Vec<RuntimeObject>) -> Vec<RuntimeObject> {
    for other in own {
        match objects.iter_mut().find(|object| object.id == other.id) {
            Some(object) => {
                object.partition = other.partition;
                object.pid = object.pid.or(other.pid);
            }
            None => objects.push(other),
        }
    }
    objects
}
