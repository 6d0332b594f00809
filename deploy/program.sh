#!/usr/bin/env bash
# Builds the program of the image, static, and prints its path. The same sources and toolchain give the
# same program, wherever the checkout lies.
#
# It is compiled by what was seen under load, if that was recorded for the architecture
# (deploy/profile-ARCHITECTURE.profdata, by deploy/profile.sh).
#
# Usage: program.sh [ARCHITECTURE [EXAMPLE]]   amd64 or arm64; default: this machine's
#   EXAMPLE        an example of the package is built instead, in the same way, to be measured beside it
#   IMAGE_TARGET   cargo's target folder for it, default target/image/build
#   IMAGE_RECORD   folder: the program is built to be recorded, and writes there as it ends
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/architecture.sh "${1:-}"
example=${2:-}
build=$(realpath --canonicalize-missing "${IMAGE_TARGET:-target/image/build}")
profile=$PWD/deploy/profile-$architecture.profdata
map=

if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
  command -v rustup > /dev/null || fail "Rust has no standard library for $target here and there is no rustup to fetch it with"
  rustup target add "$target" >&2 || fail "the standard library for $target could not be installed; is there a way to the network?"
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
# Folders are relative to the checkout, since cargo makes names in the program from the words of its
# command line; those in RUSTFLAGS it leaves out of them.
mkdir -p target/image
# The relocations of a program that may be loaded anywhere are packed: half a megabyte.
link=(-C link-arg=-Wl,-z,pack-relative-relocs)
if [ "$machine" = x86_64 ]; then
  # Linked before musl's own, which are slow on this architecture.
  "$compiler" -O2 -Wall -Wextra -Werror -fPIC -ffreestanding -fno-stack-protector \
    -fno-tree-loop-distribute-patterns -c deploy/memory.c -o target/image/memory.o
  rm -f target/image/libmemory.a
  ar rcsD target/image/libmemory.a target/image/memory.o
  link+=(-L native=target/image -l static=memory)
fi
if [ -n "${IMAGE_RECORD:-}" ]; then
  RUSTFLAGS+=" -C profile-generate=$(realpath --canonicalize-missing "$IMAGE_RECORD")"
  # The recorder keeps a file function of the TLS library, which names it as glibc does.
  link+=(-C link-arg=-Wl,--defsym=fopen64=fopen)
elif [ -e "$profile" ]; then
  # Under the name of its content, since cargo compiles anew only what it is told otherwise; and written
  # once, since a newer file would compile everything anew.
  used=$build/$(sha256sum "$profile" | cut -c1-16).profdata
  [ -e "$used" ] || install -D --mode=644 "$profile" "$used"
  RUSTFLAGS+=" -C profile-use=$used"
  map=target/image/${example:-rrsa}.map
  link+=(-C "link-arg=-Wl,-Map,$map")
fi
if [ -n "$example" ]; then
  built=(--example "$example") program=$build/$target/release/examples/$example
else
  built=(--bin rrsa) program=$build/$target/release/rrsa
fi
cargo rustc --locked --release "${built[@]}" --target "$target" -- "${link[@]}" >&2
if readelf --wide --program-headers --dynamic "$program" | grep -E 'INTERP|NEEDED' >&2; then
  fail "$program is not static"
fi
if [ -n "${IMAGE_RECORD:-}${example}" ]; then
  echo "$program"
  exit
fi
# Folders that have the very names which they are given tell nothing, as in deploy/Dockerfile.
for folder in "$PWD/src=/rrsa/src" "$cargo_home/registry=/cargo/registry" "$build/$target=/build/$target"; do
  [ "${folder%%=*}" != "${folder#*=}" ] || continue
  ! grep --quiet --fixed-strings --text -e "${folder%%=*}/" "$program" ||
    fail "$program names ${folder%%=*}, a folder of this machine"
done
if [ -n "$map" ]; then
  # Functions are known by name, and the versions of their crates are in it.
  for crate in rrsa hyper http tokio rustls; do
    grep --quiet "\.text\.hot\._ZN${#crate}$crate" "$map" ||
      fail "${profile#"$PWD/"} does not fit this program: it knows nothing of $crate as it is now. Record it anew (make profile), or remove it to build without"
  done
fi
echo "$program"
