#!/usr/bin/env bash
# Builds the release image without Docker: the static program, certificate authorities, a user, and
# nothing else. Writes an OCI archive and its software bill of materials, and prints the digest. The
# same sources, toolchain and certificates give the same digest, wherever the checkout lies.
#
# Usage: image.sh [ARCHITECTURE]   amd64 or arm64; default: this machine's
#   IMAGE          name of the image, default localhost/rrsa:VERSION
#   IMAGE_OUTPUT   folder to write to, default target/image
#   IMAGE_TARGET   cargo's target folder for it, default target/image/build
#   IMAGE_ROOT     folder that gets the image's content as well (for deploy/Dockerfile)
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/architecture.sh "${1:-}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=${IMAGE:-localhost/rrsa:$version}
output=${IMAGE_OUTPUT:-target/image}
# Unpacked, as design and README promise.
largest=$((20 * 1024 * 1024))

authorities=/etc/ssl/certs/ca-certificates.crt
[ -s $authorities ] || fail "there is no $authorities; install certificate authorities (Debian: apt-get install ca-certificates)"
program=$(deploy/program.sh "$architecture")

root=$(mktemp -d "${TMPDIR:-/tmp}/rrsa-image-XXXXXX")
trap 'rm -rf "$root"' EXIT
install -D --mode=755 "$program" "$root/usr/bin/rrsa"
install -D --mode=644 $authorities "$root/etc/ssl/certs/ca-certificates.crt"
echo 'rrsa:x:65532:65532:rrsa:/:/sbin/nologin' > "$root/etc/passwd"
echo 'rrsa:x:65532:' > "$root/etc/group"
size=$(du --bytes --summarize "$root" | cut -f1)
[ "$size" -le $largest ] || fail "the image is $size bytes unpacked; it may be $largest"

[ -z "${IMAGE_ROOT:-}" ] || cp -a "$root" "$IMAGE_ROOT"

mkdir -p "$output"
file=$output/rrsa-$version-linux-$architecture
deploy/sbom.sh "$target" > "$file.cdx.json"
digest=$(deploy/oci-archive.sh "$file.oci.tar" "$name" "$root" \
  "{\"User\":\"65532:65532\",\"Entrypoint\":[\"/usr/bin/rrsa\"],\"Env\":[\"PATH=/usr/bin\"],\"WorkingDir\":\"/\",\"Labels\":{\"org.opencontainers.image.title\":\"rrsa\",\"org.opencontainers.image.version\":\"$version\",\"org.opencontainers.image.licenses\":\"Apache-2.0\"}}" \
  $architecture)
# A name without the version, for scripts.
ln -sf "$(basename "$file").oci.tar" "$output/rrsa-$architecture.oci.tar"
echo "image: $name, $architecture, $size bytes unpacked, in $file.oci.tar" >&2
echo "$digest"
