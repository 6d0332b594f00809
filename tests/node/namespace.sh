#!/usr/bin/env bash
# Runs a program as if on a machine of its own, so that a real node can be set up beside it and
# nothing of it stays: network, mounts and processes are in new namespaces, cgroups in a folder of
# their own. When the program ends, or is killed, or whoever started it is, the kernel ends every
# process in there, and with the last one go addresses, routes, iptables rules and mounts. What the
# kernel leaves (a folder of files, empty cgroups) is removed by a janitor outside.
#
# Usage: namespace.sh PROGRAM ARGUMENTS…   runs it, and ends with its exit code
#        namespace.sh --check              says what is missing here, one line each
#
# The program finds in RRSA_NODE the name of its cgroup folder; it runs as a child of process 1.
set -euo pipefail

# Where things are in there; tests/support/kubernetes/node.rs knows the same addresses.
node_address=10.99.0.1
service_addresses=(10.99.0.2 100.100.100.200)

missing() {
  [ "$(uname -s)" = Linux ] || echo "Linux (this is $(uname -s))"
  [ "$(id -u)" = 0 ] || echo "root (for namespaces, mounts and a real kubelet)"
  local program
  for program in unshare ip iptables conntrack containerd runc ctr; do
    command -v "$program" > /dev/null || echo "the program $program (tests/node/packages.sh installs it)"
  done
  for program in ptp host-local loopback portmap; do
    [ -x "/usr/lib/cni/$program" ] || echo "the CNI plugin $program (tests/node/packages.sh installs it)"
  done
  /usr/bin/python3 -m pip --version > /dev/null 2>&1 || echo "Debian's Python with pip (tests/node/packages.sh installs it)"
  [ -e /bin/busybox ] || echo "the program /bin/busybox (tests/node/packages.sh installs it)"
  [ "$(id -u)" = 0 ] || return 0
  unshare --net --mount --pid --fork true 2> /dev/null || {
    echo "the right to make network, mount and process namespaces"
    return 0
  }
  unshare --net sh -c 'ip link add rrsa0 type bridge && ip link add rrsa1 type veth' 2> /dev/null ||
    echo "a kernel with bridges and veth pairs"
  unshare --net iptables -t nat -L > /dev/null 2>&1 || echo "a kernel with iptables' nat table"
  grep -qw overlay /proc/filesystems || echo "a kernel with overlay file systems"
}

# The cgroup hierarchies: one with cgroup v2, one for each controller with v1, or both.
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts; }

# Waits until everything in there has ended (nobody holds the pipe any more), then tidies up.
clean() {
  local folder=$1 name=${1##*/} rounds=50 left hierarchy
  cat "$folder/alive" > /dev/null
  while [ $rounds -gt 0 ]; do
    left=0
    for hierarchy in $(hierarchies); do
      [ ! -d "$hierarchy/$name" ] || {
        find "$hierarchy/$name" -depth -type d -exec rmdir {} \; 2> /dev/null || true
        [ ! -d "$hierarchy/$name" ] || left=1
      }
    done
    [ $left = 1 ] || break
    rounds=$((rounds - 1))
    sleep 0.1
  done
  rm -rf --one-file-system "$folder"
}

# Process 1 of the new namespaces: sets the machine up, then runs the program.
inside() {
  local folder=$1 name=${1##*/} address file value
  shift
  # kubelet and containerd pass mounts on to containers; none goes out, the root is private.
  mount --make-rshared /
  mount -t tmpfs tmpfs /run
  mount -t tmpfs tmpfs /var/log
  mkdir -p /run/lock /run/netns "$folder/var-lib" "$folder/tmp"
  mount --bind "$folder/var-lib" /var/lib
  # The kubelet insists on settings that are the whole machine's: it gets files of its own.
  for file in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    value=$folder/sysctl-${file//\//-}
    cat "/proc/sys/$file" > "$value"
    mount --bind "$value" "/proc/sys/$file"
  done
  ip link set lo up
  ip link add node0 type bridge
  ip addr add "$node_address/24" dev node0
  for address in "${service_addresses[@]}"; do
    ip addr add "$address/32" dev node0
  done
  ip link set node0 up
  echo 1 > /proc/sys/net/ipv4/ip_forward
  for hierarchy in $(hierarchies); do
    mkdir -p "$hierarchy/$name"
    # Without these two a cpuset of cgroup v1 takes no process.
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "$hierarchy/$name/$file" ] || [ -e "$hierarchy/cgroup.controllers" ] ||
        cat "$hierarchy/$file" > "$hierarchy/$name/$file"
    done
  done
  export RRSA_NODE=$name TMPDIR=$folder/tmp
  "$@" &
  local program=$! status=0
  trap 'kill -TERM $program' TERM INT
  # A signal ends one wait; the program is waited for until it has ended.
  while :; do
    status=0
    wait $program || status=$?
    kill -0 $program 2> /dev/null || break
  done
  exit $status
}

case ${1:?usage: namespace.sh PROGRAM ARGUMENTS…} in
  --check) missing ;;
  --clean) clean "$2" ;;
  --inside)
    shift
    inside "$@"
    ;;
  *)
    script=$(realpath "$0")
    folder=$(mktemp -d "${TMPDIR:-/tmp}/rrsa-node-XXXXXX")
    mkfifo "$folder/alive"
    setsid "$script" --clean "$folder" < /dev/null > /dev/null 2>&1 &
    # Held open by everything that is started from here on.
    exec 9> "$folder/alive"
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$script" --inside "$folder" "$@"
    ;;
esac
