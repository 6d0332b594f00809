#!/usr/bin/env bash
# Prints a folder with what the tests of the chart need beside Kubernetes, and makes it if it is not there:
#   kubeconform     compares objects with schemas
#   definitions/    the custom resources of others that the chart has objects of
set -euo pipefail
cd "$(dirname "$0")"

cache=${RRSA_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rrsa/cluster}
key=$(cat kubeconform/go.mod kubeconform/go.sum chart-tools.sh <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -c1-16)
folder=$cache/chart-$key

# The definitions of a module, which must have the checksum. go.sum would not keep it: nothing of them is compiled.
definitions() {
  local module=$1 sum=$2 below=$3 found
  shift 3
  found=$(cd "$folder" && go mod download -json "$module")
  if ! grep -qF "\"Sum\": \"$sum\"" <<< "$found"; then
    echo "chart tools: $module is not what it was: $found" >&2
    exit 1
  fi
  found=$(sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p' <<< "$found")
  for file in "$@"; do
    install -D -m 0644 "$found/$below/$file.yaml" "$folder/definitions/$file.yaml"
  done
}

if [ ! -e "$folder/complete" ]; then
  mkdir -p "$folder"
  # Two checkouts may ask at once: the second waits for the first.
  exec 9>"$folder/lock"
  flock 9
fi
if [ ! -e "$folder/complete" ]; then
  echo "chart tools: building kubeconform, fetching the custom resources of others (once for this machine)" >&2
  (cd kubeconform && go build -trimpath -ldflags "-s -w" -o "$folder/kubeconform" \
    github.com/yannh/kubeconform/cmd/kubeconform)
  definitions github.com/cert-manager/cert-manager@v1.21.2 h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68= \
    deploy/crds cert-manager.io_certificates cert-manager.io_issuers
  definitions github.com/prometheus-operator/prometheus-operator@v0.85.0 \
    h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s= example/prometheus-operator-crd \
    monitoring.coreos.com_podmonitors monitoring.coreos.com_servicemonitors monitoring.coreos.com_prometheusrules
  touch "$folder/complete"
fi
echo "$folder"
