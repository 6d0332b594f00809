#!/usr/bin/env bash
# Builds the images in which the official SDKs run, unless they are there already, and prints the folder
# that holds them. They are busybox (a shell, and `cat` for profiles of mode External) and
#   sdk-go.tar      a static program with the Go SDK
#   sdk-python.tar  Debian's Python with the Python SDK
# The versions of the SDKs are pinned in sdk/go/go.sum and sdk/python/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")"

python=$(realpath /usr/bin/python3)
lib=/usr/lib/$(basename "$python")
cache=${RRSA_NODE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rrsa/node-images}
key=$(cat sdk.sh sdk/*/* ../../deploy/oci-archive.sh /bin/busybox <($python --version) | sha256sum | cut -c1-16)
images=$cache/sdk-$key
if [ ! -e "$images/complete" ]; then
  mkdir -p "$images"
  exec 9> "$images/lock"
  flock 9
fi
if [ ! -e "$images/complete" ]; then
  echo "node tier: building the images of the SDKs, once for this machine, into $images" >&2
  work=$(mktemp -d "${TMPDIR:-/tmp}/rrsa-sdk-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  for image in go python; do
    mkdir -p "$work/$image/bin" "$work/$image/tmp"
    cp /bin/busybox "$work/$image/bin/busybox"
    for name in sh cat ls sleep env id; do
      ln -s busybox "$work/$image/bin/$name"
    done
  done
  config='{"Entrypoint":["/bin/sdk"],"Env":["PATH=/bin","HOME=/home/app"],"User":"65532:65532"}'

  (cd sdk/go && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/go/bin/sdk" .)
  ../../deploy/oci-archive.sh "$images/sdk-go.tar" localhost/sdk-go:1 "$work/go" "$config" > /dev/null

  root=$work/python
  $python -m pip install --quiet --no-compile --no-deps --disable-pip-version-check --no-warn-script-location \
    --root-user-action=ignore --target "$root/app" --requirement sdk/python/requirements.txt
  cp sdk/python/sdk.py "$root/app/"
  mkdir -p "$root/usr/lib"
  cp -a "$lib" "$root/usr/lib/"
  rm -rf "$root$lib"/{test,idlelib,ensurepip,config-*}
  find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +
  cp "$python" "$root/bin/python3"
  # What the interpreter and its modules are linked with, where they expect it.
  find "$root$lib/lib-dynload" "$root/app" "$root/bin/python3" -type f \
    \( -name '*.so*' -o -name python3 \) -exec ldd {} + 2> /dev/null |
    awk '$2 == "=>" && $3 ~ /^\// { print $3 } /^\t\// && NF == 2 { print $1 }' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp --dereference "$library" "$root$library"
  done
  printf '#!/bin/sh\nexec python3 /app/sdk.py "$@"\n' > "$root/bin/sdk"
  chmod +x "$root/bin/sdk"
  ../../deploy/oci-archive.sh "$images/sdk-python.tar" localhost/sdk-python:1 "$root" \
    "${config/\"HOME/\"PYTHONPATH=\/app\",\"PYTHONDONTWRITEBYTECODE=1\",\"HOME}" > /dev/null
  touch "$images/complete"
fi
echo "$images"
