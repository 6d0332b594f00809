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

fail() {
  echo "image: $*" >&2
  exit 1
}

case ${1:-$(uname -m)} in
  amd64 | x86_64) architecture=amd64 machine=x86_64 ;;
  arm64 | aarch64) architecture=arm64 machine=aarch64 ;;
  *) fail "there is no image for the architecture $1; it is amd64 or arm64" ;;
esac
target=$machine-unknown-linux-musl
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=${IMAGE:-localhost/rrsa:$version}
output=${IMAGE_OUTPUT:-target/image}
build=$(realpath --canonicalize-missing "${IMAGE_TARGET:-target/image/build}")
# Unpacked, as design and README promise.
largest=$((20 * 1024 * 1024))

authorities=/etc/ssl/certs/ca-certificates.crt
[ -s $authorities ] || fail "there is no $authorities; install certificate authorities (Debian: apt-get install ca-certificates)"
if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
  command -v rustup > /dev/null || fail "Rust has no standard library for $target here and there is no rustup to fetch it with"
  rustup target add "$target" || fail "the standard library for $target could not be installed; is there a way to the network?"
fi
if [ "$machine" = "$(uname -m)" ]; then
  compiler=gcc
else
  compiler=$machine-linux-gnu-gcc
  export "CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<< "$target")_LINKER=$compiler"
fi
command -v "$compiler" > /dev/null ||
  fail "there is no $compiler on the PATH (Debian: apt-get install gcc, or gcc-$machine-linux-gnu for another architecture)"

# No path of this machine gets into the program. The C of the TLS library is compiled as tests/musl.sh
# says.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="--remap-path-prefix=$PWD=/rrsa --remap-path-prefix=$build=/build --remap-path-prefix=$cargo_home=/cargo"
export "CC_${target//-/_}=$compiler"
export "CFLAGS_${target//-/_}=-U_FORTIFY_SOURCE -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$build=/build"
export CARGO_TARGET_DIR=$build SOURCE_DATE_EPOCH=0
# The relocations of a program that may be loaded anywhere are packed: half a megabyte.
link=(-C link-arg=-Wl,-z,pack-relative-relocs)
if [ "$machine" = x86_64 ]; then
  # Linked before musl's own, which are slow on this architecture. The folder is relative, since cargo makes names
  # in the program from the words of its command line.
  mkdir -p target/image
  "$compiler" -O2 -Wall -Wextra -Werror -fPIC -ffreestanding -fno-stack-protector \
    -fno-tree-loop-distribute-patterns -c deploy/memory.c -o target/image/memory.o
  rm -f target/image/libmemory.a
  ar rcsD target/image/libmemory.a target/image/memory.o
  link+=(-L native=target/image -l static=memory)
fi
cargo rustc --locked --release --bin rrsa --target "$target" -- "${link[@]}" >&2
program=$build/$target/release/rrsa
if readelf --wide --program-headers --dynamic "$program" | grep -E 'INTERP|NEEDED' >&2; then
  fail "$program is not static"
fi
# Folders that have the very names which they are given tell nothing, as in deploy/Dockerfile.
for folder in "$PWD/src=/rrsa/src" "$cargo_home/registry=/cargo/registry" "$build/$target=/build/$target"; do
  [ "${folder%%=*}" != "${folder#*=}" ] || continue
  ! grep --quiet --fixed-strings --text -e "${folder%%=*}/" "$program" ||
    fail "$program names ${folder%%=*}, a folder of this machine"
done

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
