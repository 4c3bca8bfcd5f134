//! The recipes, as they are passed on, and podplumb.

/// A way to clean a node.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    /// What it takes for the proof of a leak, for the page.
    pub(crate) idea: &'static str,
    /// What a shell runs.
    pub(crate) script: &'static str,
    /// In the rig, containerd has no service manager: the rig restarts it.
    pub(crate) restart: bool,
}

const fn script(name: &'static str, idea: &'static str, script: &'static str) -> Recipe {
    Recipe { name, idea, script, restart: false }
}

/// In the order of the page; podplumb is the last.
pub(crate) const RECIPES: [Recipe; 10] = [
    script(
        "state DOWN",
        "A veth that is DOWN has lost its pod. A pod may set its own interface down, and a veth into an\n\
         abandoned namespace stays UP.",
        "ip -o link show type veth | grep 'state [A-Z]*DOWN' |
  sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/' |
  while read veth; do ip link delete \"$veth\"; done",
    ),
    script(
        "no master",
        "A veth that is in no bridge has lost its pod. Routed networks have none at all, and a leaked veth\n\
         stays in its bridge.",
        "ip -o link show type veth | grep -v ' master ' |
  sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/' |
  while read veth; do ip link delete \"$veth\"; done",
    ),
    script(
        "name prefix",
        "What is called veth… belongs to containers and will be made again.",
        "ip -o link show type veth | sed -n 's/^[0-9]*: \\(veth[^@:]*\\).*/\\1/p' |
  while read veth; do ip link delete \"$veth\"; done",
    ),
    script(
        "ip netns pids",
        "A namespace without processes is not used. It lists the leaders of thread groups: no socket, no\n\
         descriptor, no single thread, no router.",
        "ip netns list | while read netns rest; do
  [ -n \"$(ip netns pids \"$netns\")\" ] || ip netns delete \"$netns\"
done",
    ),
    script(
        "ip netns identify",
        "The same from the other side: a namespace that no process names as its own.",
        "used=$(for process in /proc/[0-9]*; do
  ip netns identify \"${process#/proc/}\"
done | sort -u)
ip netns list | while read netns rest; do
  echo \"$used\" | grep -qxF -- \"$netns\" || ip netns delete \"$netns\"
done",
    ),
    script(
        "lsns",
        "A pinned namespace that lsns does not list is not used. It reads the leaders of /proc, too.",
        "used=$(lsns --noheadings --type net --output NS)
for pin in /run/netns/*; do
  echo \"$used\" | grep -qw \"$(stat --format %i \"$pin\")\" || ip netns delete \"${pin##*/}\"
done",
    ),
    script(
        "rm leases",
        "When addresses run out, all leases are removed. The next pods get the addresses of living ones.",
        "rm -rf /var/lib/cni/networks/*",
    ),
    script(
        "docker network prune",
        "Docker removes networks without running containers: its own, also those that a stopped container\n\
         needs in order to start.",
        "docker network prune --force",
    ),
    Recipe {
        name: "restart containerd",
        idea: "The runtime cleans up when it starts: what it knows. What it has forgotten is what leaks.",
        script: "systemctl restart containerd",
        restart: true,
    },
    script(
        "podplumb",
        "See [verdicts](verdicts.md). (The test waits only so that everything is older than its short\n\
         `--grace`.)",
        "sleep 3; podplumb reclaim --apply --grace 2s",
    ),
];
