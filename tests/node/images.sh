#!/usr/bin/env bash
# Builds the small images of the node tier, unless they are there already, and prints the folder
# that holds them. No registry, no container runtime: a static program is an image.
#   pause.tar    what holds a pod's namespaces: waits, and collects processes that ended
#   busybox.tar  Debian's static busybox, for pods in which a test looks around
set -euo pipefail
cd "$(dirname "$0")"

cache=${RRSA_NODE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rrsa/node-images}
key=$(cat images.sh pause.c ../../deploy/oci-archive.sh /bin/busybox | sha256sum | cut -c1-16)
images=$cache/$key
if [ ! -e "$images/complete" ]; then
  mkdir -p "$images"
  exec 9> "$images/lock"
  flock 9
fi
if [ ! -e "$images/complete" ]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/rrsa-images-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/pause" "$work/busybox/bin" "$work/busybox/tmp"
  gcc -static -O2 -o "$work/pause/pause" pause.c
  ../../deploy/oci-archive.sh "$images/pause.tar" localhost/pause:1 "$work/pause" \
    '{"Entrypoint":["/pause"],"User":"65535:65535"}' > /dev/null
  cp /bin/busybox "$work/busybox/bin/busybox"
  for name in $(/bin/busybox --list); do
    [ "$name" = busybox ] || ln -s busybox "$work/busybox/bin/$name"
  done
  ../../deploy/oci-archive.sh "$images/busybox.tar" localhost/busybox:1 "$work/busybox" \
    '{"Entrypoint":["/bin/sh"],"Env":["PATH=/bin"],"User":"65532:65532"}' > /dev/null
  touch "$images/complete"
fi
echo "$images"
