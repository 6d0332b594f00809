#!/usr/bin/env bash
# Packs a folder into a container image without Docker: an OCI archive, as `ctr images import`,
# `skopeo copy oci-archive:…`, `podman load` and `docker load` (25 or later) read it. The same
# content gives the same bytes: owners, times and order are fixed.
#
# Usage: oci-archive.sh OUTPUT.tar NAME ROOT CONFIG [ARCHITECTURE]
#   NAME    the image's full name, for example localhost/rrsa:1
#   ROOT    the folder that becomes /
#   CONFIG  the image configuration's "config" object (user, entry point, …) as JSON
set -euo pipefail

output=${1:?output} name=${2:?name} root=${3:?root} config=${4:?config} architecture=${5:-amd64}
time=${SOURCE_DATE_EPOCH:-0}
created=$(date --utc --date="@$time" +%Y-%m-%dT%H:%M:%SZ)
work=$(mktemp -d "${TMPDIR:-/tmp}/rrsa-image-XXXXXX")
trap 'rm -rf "$work"' EXIT
blobs=$work/layout/blobs/sha256
mkdir -p "$blobs"

pack() { tar --create --sort=name --format=gnu --mtime="@$time" --owner=0 --group=0 --numeric-owner "$@"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
# Puts a file among the blobs; prints its descriptor.
blob() {
  local sum size
  sum=$(digest "$2") size=$(stat --format=%s "$2")
  mv "$2" "$blobs/$sum"
  echo "{\"mediaType\":\"$1\",\"digest\":\"sha256:$sum\",\"size\":$size}"
}

pack --mode=u+rw,go+r,go-w,a+X --directory="$root" . > "$work/layer.tar"
content=$(digest "$work/layer.tar")
gzip --no-name -9 "$work/layer.tar"
layer=$(blob application/vnd.oci.image.layer.v1.tar+gzip "$work/layer.tar.gz")
printf '{"created":"%s","architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$created" "$architecture" "$config" "$content" > "$work/config.json"
configuration=$(blob application/vnd.oci.image.config.v1+json "$work/config.json")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
  "$configuration" "$layer" > "$work/manifest.json"
manifest=$(blob application/vnd.oci.image.manifest.v1+json "$work/manifest.json")
# The annotations by which containerd and others learn the image's name.
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
  "${manifest%\}}" "$name" "${name##*:}" > "$work/layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' > "$work/layout/oci-layout"

mkdir -p "$(dirname "$output")"
pack --directory="$work/layout" . > "$work/archive.tar"
mv "$work/archive.tar" "$output"
echo "$manifest" | sed 's/.*"digest":"\([^"]*\)".*/\1/'
