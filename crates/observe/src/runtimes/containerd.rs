//! containerd: its CRI service, and its own metadata in every namespace, where ctr, nerdctl and Docker keep theirs
//! (containerd's api/services/{namespaces,containers,tasks,version}/v1).

use std::collections::HashMap;
use std::path::Path;

use futures_util::future;
use model::{RuntimeObject, RuntimeObjectKind};

use super::cri;
use super::grpc::{Client, Failed};
use super::{Answer, Wanted};

const VERSION: &str = "/containerd.services.version.v1.Version/Version";
const NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
const CONTAINERS: &str = "/containerd.services.containers.v1.Containers/List";
const TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";
const TASK: &str = "/containerd.services.tasks.v1.Tasks/Get";

/// Labels of the CRI service's and of nerdctl's containers.
const POD_NAME: &str = "io.kubernetes.pod.name";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const NERDCTL_NAME: &str = "nerdctl/name";

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
struct ContainersRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
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
struct TaskRequest {
    #[prost(string, tag = "1")]
    container_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TaskResponse {
    #[prost(message, optional, tag = "1")]
    task: Option<Task>,
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
pub(super) async fn ask(socket: &Path, wanted: &Wanted) -> Result<Answer, String> {
    let client = Client::connect(socket).await?;
    // Without a CRI service, that plugin is switched off, as in Docker's containerd.
    let (of_cri, own) = future::join(cri::list(&client, wanted), own(&client, wanted)).await;
    let words = |failed: Failed| failed.to_string();
    let (objects, version) = match (own, of_cri.map_err(words)?) {
        (Ok(own), Some(cri)) => (merge(cri.objects, own), cri.version),
        (Ok(own), None) => {
            let answer: VersionResponse = client.call(VERSION, Empty {}, None).await.map_err(words)?;
            if answer.version.is_empty() {
                return Err("Version: no version: this is no containerd".to_owned());
            }
            (own, answer.version)
        }
        // Not containerd after all: a CRI socket of another runtime that has its name.
        (Err(failed), Some(cri)) if failed.is_absent() => (cri.objects, cri.version),
        (Err(failed), _) => return Err(words(failed)),
    };
    Ok(Answer { version, objects })
}

/// The containers of all of containerd's namespaces.
async fn own(client: &Client, wanted: &Wanted) -> Result<Vec<RuntimeObject>, Failed> {
    let namespaces: NamespacesResponse = client.call(NAMESPACES, Empty {}, None).await?;
    let each = namespaces.namespaces.iter().map(|namespace| objects(client, &namespace.name, wanted));
    Ok(future::try_join_all(each).await?.into_iter().flatten().collect())
}

/// The containers of one of them.
async fn objects(client: &Client, namespace: &str, wanted: &Wanted) -> Result<Vec<RuntimeObject>, Failed> {
    let question = ContainersRequest { filters: filters(wanted) };
    let listed: ContainersResponse = client.call(CONTAINERS, question, Some(namespace)).await?;
    let tasks = tasks(client, namespace, &listed.containers, wanted).await?;
    let mut tasks: HashMap<String, Task> = tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
    let object = |container: Container| {
        let task = tasks.remove(&container.id);
        let label = |name: &str| container.labels.get(name).cloned();
        let sandbox = label("io.cri-containerd.kind").is_some_and(|kind| kind == "sandbox");
        Ok(RuntimeObject {
            id: cri::id(CONTAINERS, &container.id)?,
            kind: if sandbox { RuntimeObjectKind::Sandbox } else { RuntimeObjectKind::Container },
            partition: Some(namespace.to_owned()),
            name: label(CONTAINER_NAME).or_else(|| label(NERDCTL_NAME)),
            pod: None,
            sandbox: None,
            state: task.as_ref().map_or("no task", |task| state(task.status)).into(),
            pid: task.map(|task| task.pid).filter(|pid| *pid > 0),
            netns: None,
            addresses: Vec::new(),
            created: None,
            doubt: None,
        })
    };
    listed.containers.into_iter().map(object).collect()
}

/// What containerd is to list (its pkg/filters; one of them has to fit): for one name, not everything, since each container comes
/// with its whole OCI specification. The names that it has no label for are other runtimes' own.
fn filters(wanted: &Wanted) -> Vec<String> {
    let is_plain = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    // Of a pod's full name the second part; what comes is compared whole.
    let name = wanted.name().map(|name| name.rsplit('/').next().unwrap_or(name)).filter(is_plain);
    let Some(name) = name else { return Vec::new() };
    let of_label = |label: &str| format!(r#"labels."{label}"=="{name}""#);
    let by_id = format!(r#"id~="^{}""#, name.replace('.', r"[.]"));
    [POD_NAME, CONTAINER_NAME, NERDCTL_NAME].map(of_label).into_iter().chain([by_id]).collect()
}

/// The tasks of a namespace's containers: all in one call, for which containerd asks every shim, or each that is wanted.
async fn tasks(
    client: &Client,
    namespace: &str,
    containers: &[Container],
    wanted: &Wanted,
) -> Result<Vec<Task>, Failed> {
    if wanted.is_all() {
        let answer: TasksResponse = client.call(TASKS, Empty {}, Some(namespace)).await?;
        return Ok(answer.tasks);
    }
    let those = containers.iter().filter(|container| is_wanted(container, wanted));
    let asked = those.map(|container| async move {
        let question = TaskRequest { container_id: container.id.clone() };
        match client.call::<_, TaskResponse>(TASK, question, Some(namespace)).await {
            Ok(answer) => Ok(answer.task),
            Err(failed) if failed.is_not_found() => Ok(None),
            Err(failed) => Err(failed),
        }
    });
    Ok(future::try_join_all(asked).await?.into_iter().flatten().collect())
}

fn is_wanted(container: &Container, wanted: &Wanted) -> bool {
    let label = |name: &str| container.labels.get(name).map(String::as_str);
    let pod = label("io.kubernetes.pod.namespace")
        .zip(label(POD_NAME))
        .map(|(namespace, name)| format!("{namespace}/{name}"));
    let names = [POD_NAME, CONTAINER_NAME, NERDCTL_NAME];
    wanted.fits(&container.id, names.into_iter().filter_map(label).chain(pod.as_deref()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_by_a_name_is_listed_for_one() {
        assert_eq!(filters(&Wanted(None)), [""; 0], "all");
        let of_pod = filters(&Wanted(Some("shop/web-0.a".into())));
        assert_eq!(of_pod[0], r#"labels."io.kubernetes.pod.name"=="web-0.a""#);
        assert_eq!(of_pod[3], r#"id~="^web-0[.]a""#);
        // A name that could be read as something else of the filter's language is not sent.
        assert_eq!(filters(&Wanted(Some(r#"x"||id!="""#.into()))), [""; 0]);
    }
}
