//! The one thing that is meant, where a command does something with it: a name that fits two does nothing with either.

use model::{RuntimeObject, Snapshot};

use crate::who::{Chain, ContainerLine, Found};

/// What a question comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant<'a> {
    /// This one.
    One(&'a Chain),
    /// One of these.
    Several(Vec<&'a Chain>),
    /// One whose namespace is gone, or cannot be seen.
    Gone(&'a Chain),
    /// Something of the host itself: an interface, or a process.
    Host(String),
    /// Nothing.
    Nothing,
}

/// Which of what `who` found is meant. What has no namespace any more, such as the sandbox that a pod had before it was restarted, is
/// not what one wants to do something in.
pub fn meant(found: &[Found]) -> Meant<'_> {
    let chains = || {
        found.iter().filter_map(|found| match found {
            Found::Chain { chain, .. } => Some(&**chain),
            _ => None,
        })
    };
    let mut alive: Vec<&Chain> = Vec::new();
    for chain in chains().filter(|chain| chain.namespace.is_some()) {
        if !alive.iter().any(|other| other.namespace == chain.namespace) {
            alive.push(chain);
        }
    }
    match alive.as_slice() {
        [one] => return Meant::One(one),
        [] => {}
        _ => return Meant::Several(alive),
    }
    if let Some(gone) = chains().next() {
        return Meant::Gone(gone);
    }
    match found.first() {
        Some(Found::HostLink { link, .. }) => Meant::Host(format!("interface {}", link.name)),
        Some(Found::HostProcess { task }) => Meant::Host(task.to_string()),
        Some(Found::Chain { .. }) | None => Meant::Nothing,
    }
}

/// The first process of what goes by this name and has no network of its own, with what to call it: such a container has no wiring.
pub fn on_host_network(snapshot: &Snapshot, question: &str) -> Option<(String, u32)> {
    let tasks = &snapshot.host()?.tasks;
    let is_named = |object: &RuntimeObject| {
        let is_pod = |pod: &model::PodName| pod.name == question || pod.to_string() == question;
        let is_prefix = question.len() >= 3 && object.id.as_str().starts_with(question);
        object.name.as_deref() == Some(question) || object.pod.as_ref().is_some_and(is_pod) || is_prefix
    };
    snapshot.runtime_objects().find_map(|(_, object)| {
        let pid = object.pid.filter(|pid| tasks.iter().any(|task| task.pid == *pid))?;
        let pod = || object.pod.as_ref().map(ToString::to_string);
        let label = pod().or_else(|| object.name.clone()).unwrap_or_else(|| object.id.as_str().to_owned());
        is_named(object).then_some((label, pid))
    })
}

/// The container whose process stands for a chain where containers of a pod differ: their files and processes.
///
/// # Errors
/// Several, of which the question names none.
pub fn container<'a>(
    chain: &'a Chain,
    question: &str,
) -> Result<Option<&'a ContainerLine>, Vec<&'a ContainerLine>> {
    let with_process = || chain.containers.iter().filter(|container| container.pid.is_some());
    // As `who` understands it: of an id, three characters will do.
    let is_named = |container: &&ContainerLine| {
        container.name.as_deref() == Some(question)
            || question.len() >= 3 && container.id.starts_with(question)
    };
    if let Some(named) = with_process().find(is_named) {
        return Ok(Some(named));
    }
    let main: Vec<&ContainerLine> = with_process().filter(|container| !container.sandbox).collect();
    match main.as_slice() {
        [] => Ok(with_process().next()),
        [one] => Ok(Some(one)),
        _ => Err(main),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(label: &str, inode: Option<u64>, containers: &[(&str, bool, u32)]) -> Chain {
        let namespace = inode.map(|inode| crate::who::NamespaceLine {
            path: None,
            inode: Some(model::NsInode(inode)),
            ns_id: None,
            nsid: None,
        });
        let containers = containers.iter().map(|(name, sandbox, pid)| ContainerLine {
            id: format!("{name}-id"),
            sandbox: *sandbox,
            name: Some((*name).into()),
            state: "running".into(),
            pid: Some(*pid),
            runtime: "containerd".into(),
            endpoint: "/run/containerd/containerd.sock".into(),
        });
        Chain {
            label: label.into(),
            pod: None,
            sandbox: None,
            containers: containers.collect(),
            tasks: Vec::new(),
            namespace,
            interfaces: Vec::new(),
            addresses: Vec::new(),
            leases: Vec::new(),
            cache: Vec::new(),
            records: Vec::new(),
            heard: None,
        }
    }

    fn found(chain: Chain) -> Found {
        Found::Chain { by: "pod", chain: Box::new(chain) }
    }

    #[test]
    fn one_of_two_is_meant_only_if_the_other_is_gone() {
        let (first, second) = (chain("shop/web", Some(1), &[]), chain("test/web", Some(2), &[]));
        let old = chain("shop/web", None, &[]);
        let both = [found(first.clone()), found(second.clone())];
        assert_eq!(meant(&both), Meant::Several(vec![&first, &second]));
        assert_eq!(meant(&[found(old.clone()), found(first.clone())]), Meant::One(&first));
        assert_eq!(meant(&[found(old.clone())]), Meant::Gone(&old));
        // Leases that tie two containers to one namespace make it no two.
        assert_eq!(meant(&[found(first.clone()), found(first.clone())]), Meant::One(&first));
        assert_eq!(meant(&[]), Meant::Nothing);
    }

    #[test]
    fn of_a_pods_containers_the_one_that_is_named_is_meant_and_the_pause_process_last() {
        let pod = chain("shop/web", Some(1), &[("pause", true, 1), ("web", false, 2), ("log", false, 3)]);
        let pid = |question| container(&pod, question).map(|container| container.and_then(|c| c.pid));
        assert_eq!(pid("web"), Ok(Some(2)));
        assert_eq!(pid("log-"), Ok(Some(3)), "by its id");
        assert_eq!(pid("pause"), Ok(Some(1)), "who names it means it");
        assert_eq!(pid("shop/web").unwrap_err().len(), 2);
        let alone = chain("shop/web", Some(1), &[("pause", true, 1), ("web", false, 2)]);
        assert_eq!(container(&alone, "shop/web").unwrap().and_then(|c| c.pid), Some(2));
        let idle = chain("shop/web", Some(1), &[("pause", true, 1)]);
        assert_eq!(container(&idle, "shop/web").unwrap().and_then(|c| c.pid), Some(1));
    }
}
