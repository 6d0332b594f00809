#!/usr/bin/env bash
# Builds a program that uses the library alone (tests/consumer) as a static program with musl,
# proves that it is static, and runs it once without any network.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "static program: $*" >&2
  exit 1
}

target=$(uname -m)-unknown-linux-musl
if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
  command -v rustup > /dev/null ||
    fail "Rust has no standard library for $target here and there is no rustup to fetch it with; install rustup, or that target with whatever installed Rust"
  rustup target add "$target" ||
    fail "the standard library for $target could not be installed; is there a way to the network?"
fi

# The C of the TLS library is compiled for musl as well. The C compiler of the machine will do, so
# that no musl-gcc need be installed: Rust brings musl itself, and that code uses no more of the
# C library's headers than is the same in both. Only the checked variants of some functions, which
# some compilers ask for by themselves, are glibc's own.
command -v gcc > /dev/null ||
  fail "there is no gcc on the PATH; install it (Debian: apt-get install gcc)"
name=${target//-/_}
export "CC_$name=gcc" "CFLAGS_$name=-U_FORTIFY_SOURCE"

cargo build --locked --quiet --package consumer --target "$target"
program=${CARGO_TARGET_DIR:-target}/$target/debug/consumer

# A static program has no loader and needs no shared library.
if readelf --wide --program-headers --dynamic "$program" | grep -E 'INTERP|NEEDED'; then
  fail "$program is not static"
fi

said=$(env -i HOME=/nonexistent \
  ALIBABA_CLOUD_ACCESS_KEY_ID=akid ALIBABA_CLOUD_ACCESS_KEY_SECRET=aksecret \
  ALIBABA_CLOUD_SECURITY_TOKEN=ststoken ALIBABA_CLOUD_ECS_METADATA_DISABLED=true "$program") ||
  fail "$program failed"
for line in "env: chosen: akid" "credential_uri: not asked" \
  "default/env signed: host x-acs-action x-acs-content-sha256 x-acs-date x-acs-security-token x-acs-signature-nonce x-acs-version authorization"; do
  grep -qxF "$line" <<< "$said" || fail "$program did not print \"$line\" but: $said"
done
echo "static program: $program, $(stat -c %s "$program") bytes, runs" >&2
