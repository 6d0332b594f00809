#!/usr/bin/env bash
# Builds the multi-call Kubernetes binary of the test cluster, unless it is there already, and
# prints the folder that holds its names (kube-apiserver, kubectl, helm, …) on standard output.
# RRSA_TEST_KUBERNETES=1.30 gives the control plane of that version, by the folder of that name here.
#
# The cache is shared by all checkouts and keyed by what decides the result: the module's
# checksums, the source and the Go toolchain. Only the first build on a machine is slow.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v go > /dev/null; then
  echo "test cluster: there is no 'go' on the PATH; install the version of go.mod or newer" >&2
  exit 1
fi

names=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl kubeadm helm)
source=. borrowed=()
if [ -n "${RRSA_TEST_KUBERNETES:-}" ]; then
  source=$RRSA_TEST_KUBERNETES
  if [ ! -e "$source/go.mod" ]; then
    echo "test cluster: RRSA_TEST_KUBERNETES=$source: there is no folder $PWD/$source" >&2
    exit 1
  fi
  names=(kube-apiserver kube-controller-manager kube-scheduler kubectl)
  # etcd and helm belong to no version of Kubernetes; kubeadm makes nothing but certificates.
  borrowed=(etcd helm kubeadm)
  others=$(RRSA_TEST_KUBERNETES='' ./build.sh)
fi
cache=${RRSA_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rrsa/cluster}
key=$(cat "$source"/{go.mod,go.sum,main.go} build.sh <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -c1-16)
bin=$cache/$key

if [ ! -e "$bin/complete" ]; then
  mkdir -p "$bin"
  # Two checkouts may ask at once: the second waits for the first instead of building again.
  exec 9>"$bin/lock"
  flock 9
fi
if [ ! -e "$bin/complete" ]; then
  cd "$source"
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=${version#v*.}
  stamp=k8s.io/component-base/version
  echo "test cluster: building Kubernetes $version, once for this machine (about 6 minutes on 2 cores) into $bin" >&2
  go mod download
  total=$(go list -deps . | wc -l)
  echo "test cluster: modules are here; compiling up to $total packages" >&2
  started=$SECONDS
  # -v names each package as it is compiled; a line every 10 s is enough to see that it moves.
  # Without the stamps the API server calls itself v0.0.0 and kubeadm refuses it.
  go build -v -trimpath -o "$bin/hyper" -ldflags "-s -w \
    -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}" . 2>&1 |
    while IFS= read -r package; do
      count=$((${count:-0} + 1))
      case "$package" in
        *:*) echo "$package" >&2 ;; # a compiler message, not a package
      esac
      if [ $((SECONDS - ${shown:-0})) -ge 10 ]; then
        shown=$SECONDS
        echo "test cluster: $count of $total packages after $((SECONDS - started)) s ($package)" >&2
      fi
    done
  for name in "${names[@]}"; do
    ln -sf hyper "$bin/$name"
  done
  for name in "${borrowed[@]}"; do
    ln -sfn "$others/$name" "$bin/$name"
  done
  touch "$bin/complete"
  echo "test cluster: built in $((SECONDS - started)) s" >&2
fi
echo "$bin"
