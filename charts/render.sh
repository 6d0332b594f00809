#!/usr/bin/env bash
# Renders the chart into the manifests of deploy/, for those who install without Helm:
#   kubectl apply --server-side -f crds/ -f deploy/namespace.yaml; kubectl apply --server-side -f deploy/
# Usage: render.sh FOLDER [VALUES]; writes FOLDER/*.yaml and FOLDER/optional/*.yaml. `helm` may be named by the variable HELM.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:?folder} values=${2:-charts/rrsa/examples/manifests.yaml}
helm=${HELM:-$(tests/kubernetes/build.sh)/helm}
mkdir -p "$folder/optional"
switches=()

# Writes a file of the given templates, without what only Helm would make true.
render() {
  local file=$1 arguments=()
  shift
  for template in "$@"; do
    arguments+=(--show-only "templates/$template")
  done
  {
    echo "# Rendered from charts/rrsa by \`make generate\`. Do not edit."
    "$helm" template rrsa charts/rrsa --namespace rrsa-system --values "$values" "${switches[@]}" \
      "${arguments[@]}" |
      sed -e '/^# Source: /d' -e '/^ *helm.sh\/chart: /d' -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^ *$/d' |
      sed '1{/^---$/d}'
  } > "$folder/$file"
}

render users.yaml users.yaml
render policy.yaml policies.yaml
render controller.yaml controller/rbac.yaml
render webhook.yaml webhook/rbac.yaml
# For those who set podLook.enabled in the configuration.
switches=(--set config.podLook.enabled=true)
render optional/pod-look.yaml controller/pod-look.yaml
switches=()
render webhook-configuration.yaml webhook/configuration.yaml
render running.yaml configmap.yaml controller/deployment.yaml controller/pdb.yaml webhook/deployment.yaml \
  webhook/service.yaml webhook/pdb.yaml networkpolicy.yaml
