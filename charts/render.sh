#!/usr/bin/env bash
# Renders the chart into the manifests of deploy/, for those who install without Helm:
#   kubectl apply --server-side -f crds/ -f deploy/namespace.yaml; kubectl apply --server-side -f deploy/
# Usage: render.sh FOLDER [VALUES]; writes FOLDER/*.yaml and FOLDER/optional/*.yaml. `helm` may be named by the variable HELM.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

folder=${1:?folder} values=${2:-$here/charts/rrsa/examples/manifests.yaml}
helm=${HELM:-$("$here/tests/kubernetes/build.sh")/helm}
mkdir -p "$folder/optional"
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

# Renders the whole chart, each template into a file of its own, without what only Helm would make true.
render() {
  rm -f "$parts"/*
  "$helm" template rrsa "$here/charts/rrsa" --namespace rrsa-system --values "$values" "$@" > "$parts/all"
  sed -e '/^ *helm.sh\/chart: /d' -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^ *$/d' "$parts/all" |
    awk -v parts="$parts" '
      /^---$/ { next }
      /^# Source: / { part = $3; sub("^rrsa/templates/", "", part); gsub("/", ".", part); part = parts "/" part; print "---" > part; next }
      { print > part }'
}

# Writes a file of the given templates, as far as these values make something of them.
write() {
  local file=$folder/$1 found=() template
  shift
  for template in "$@"; do
    [ ! -s "$parts/${template//\//.}" ] || found+=("$parts/${template//\//.}")
  done
  rm -f "$file"
  [ ${#found[@]} != 0 ] || return 0
  {
    echo "# Rendered from charts/rrsa; charts/render.sh FOLDER VALUES renders it with values of yours."
    cat "${found[@]}" | sed '1{/^---$/d}'
  } > "$file"
}

render
write users.yaml users.yaml
write policy.yaml policies.yaml
write controller.yaml controller/rbac.yaml controller/pod-look.yaml
write webhook.yaml webhook/rbac.yaml
write webhook-configuration.yaml webhook/configuration.yaml
write running.yaml configmap.yaml controller/deployment.yaml controller/pdb.yaml webhook/certificate.yaml \
  webhook/deployment.yaml webhook/service.yaml webhook/pdb.yaml networkpolicy.yaml monitoring.yaml prometheusrule.yaml
# For those who set podLook.enabled in the configuration.
render --set config.podLook.enabled=true
write optional/pod-look.yaml controller/pod-look.yaml
