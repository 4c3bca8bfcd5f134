#!/usr/bin/env bash
# A node in miniature: three pods on a bridge, two of them crash, podplumb finds and reclaims what stays.
#
# Runs in network and mount namespaces of its own (`make demo`, or BIN=… examples/demo.sh as root): nothing on the machine
# changes. Every command that is shown is the one that runs.
set -euo pipefail

bin=${BIN:-$(cd "$(dirname "$0")/.." && pwd)/target/demo}
if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || { echo "the demo needs root: it makes network namespaces" >&2; exit 1; }
    BIN=$bin exec unshare --net --mount --propagation private -- "$0" inside
fi

# --- a world of its own -------------------------------------------------------------------------------------------------
mount -t tmpfs podplumb-demo /run
# Below an overlay, directories can be made that the machine does not have, and it will never have them.
for parent in /var/lib /etc /opt; do
    mkdir -p "/run/overlay$parent/upper" "/run/overlay$parent/work"
    mount -t overlay podplumb-demo \
        -o "lowerdir=$parent,upperdir=/run/overlay$parent/upper,workdir=/run/overlay$parent/work" "$parent"
done
for directory in /var/lib/cni /var/lib/podplumb /etc/cni; do
    mkdir -p "$directory"
    mount -t tmpfs podplumb-demo "$directory"
done
mkdir -p /run/netns /etc/cni/net.d /var/lib/cni/results /run/demo /opt/cni/bin
mount --bind "$bin" /opt/cni/bin
ip link set lo up
export PATH="/opt/cni/bin:$PATH"
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done' EXIT

bold=; dim=; plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m'; dim=$'\e[2m'; plain=$'\e[0m'; fi
say() { printf '\n%s# %s%s\n' "$dim" "$*" "$plain"; }
# Shows a command and runs it.
run() {
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@" || { local code=$?; printf '%s(exit %s)%s\n' "$dim" "$code" "$plain"; }
}

# --- what a container runtime does ---------------------------------------------------------------------------------------
cat > /etc/cni/net.d/10-pods.conflist <<'JSON'
{ "cniVersion": "1.0.0", "name": "pods", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/24" }]] } } ] }
JSON
plugin='{ "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
  "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/24" }]] } }'

# A pod: a namespace pinned under a runtime's kind of name, wired by CNI ADD, the result cached as libcni does, a process.
start_pod() {
    local name=$1 id=$2 uuid=$3 pin="/run/netns/cni-$3" args result pid
    ip netns add "cni-$uuid"
    args="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=$name"
    result=$(CNI_COMMAND=ADD CNI_CONTAINERID=$id CNI_NETNS=$pin CNI_IFNAME=eth0 CNI_ARGS=$args CNI_PATH=/opt/cni/bin \
        podplumb-cni <<< "$plugin")
    printf '{"kind":"cniCacheV1","containerId":"%s","config":"%s","ifName":"eth0","networkName":"pods","netns":"%s","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","%s"]],"result":%s}' \
        "$id" "$(base64 -w0 /etc/cni/net.d/10-pods.conflist)" "$pin" "$name" "$result" \
        > "/var/lib/cni/results/pods-$id-eth0"
    nsenter "--net=$pin" sleep 600 < /dev/null > /dev/null 2>&1 &
    pid=$!
    disown "$pid"
    pids+=("$pid")
    echo "$pid" > "/run/demo/$name.pid"
    echo "  shop/$name is up: sandbox ${id:0:12}, pid $pid"
}

web=7d0c1e5b9a3f4d2286b1c0ffee5a1d9e7d0c1e5b9a3f4d2286b1c0ffee5a1d9e
cart=b52f08c96e1d47aa9c3d1f7e60b2a4c8b52f08c96e1d47aa9c3d1f7e60b2a4c8
search=1f9be37c5d604e81a2f4096d8c7b3e151f9be37c5d604e81a2f4096d8c7b3e15

say "Three pods, wired by podplumb-cni the way a container runtime calls it."
start_pod web "$web" 0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e01
start_pod cart "$cart" 0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e02
start_pod search "$search" 0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e03

say "They reach each other and their gateway."
ping_from() { nsenter "--net=/run/netns/cni-0a6e12c4-55d1-4c0b-9a53-7f1b2c3d4e0$1" ping -c 1 -W 2 "$2" | sed -n '1p;/packet loss/p'; }
echo "${bold}\$ ping 10.88.0.4    ${plain}${dim}(in shop/web)${plain}"; ping_from 1 10.88.0.4
echo "${bold}\$ ping 10.88.0.1    ${plain}${dim}(in shop/search)${plain}"; ping_from 3 10.88.0.1

say "The node, as podplumb sees it. No runtime runs in this demo, so we say so."
run podplumb map --runtime none
run podplumb who 10.88.0.3 --runtime none

say "Two pods crash: their processes are gone, nobody calls DEL."
for name in web cart; do
    pid=$(cat "/run/demo/$name.pid")
    echo "${bold}\$ kill -9 $pid    ${plain}${dim}(shop/$name)${plain}"
    kill -9 "$pid"
done
sleep 2

say "Their veths stay UP and in the bridge. leaks tells them from the live one."
run podplumb leaks --runtime none --grace 2s

say "What reclaim would do."
run podplumb reclaim --runtime none --grace 2s

say "Do it. Everything is looked at twice, and written down before it is done."
run podplumb reclaim --runtime none --grace 2s --apply

say "Nothing is left, and the third pod never noticed."
run podplumb leaks --runtime none --grace 2s
echo "${bold}\$ ping 10.88.0.1    ${plain}${dim}(in shop/search)${plain}"; ping_from 3 10.88.0.1

say "A lease can be put back, should one ever have to."
run podplumb journal
run podplumb undo "$(podplumb journal | awk '/^run/ { print $2 }').1"
run ls /var/lib/cni/networks/pods
