#!/usr/bin/env bash
# Records which ways the image's program goes under load, for deploy/program.sh: the compiler then lays
# what each review passes through side by side, and spends its effort there. The record names functions by
# the versions of their crates, so it is made anew with a release and when dependencies change much; a
# build says when it no longer fits.
#
# The load is the reviews of `make bench-webhook`, on loopback. The controller is not in it: it waits for
# others nearly all the time, and what is recorded of it costs the webhook half a megabyte of memory. Writes
# deploy/profile-ARCHITECTURE.profdata, for this machine's architecture. About a quarter of an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/architecture.sh ""
# The compiler's own tool, since the form of a record changes with its version.
profdata=$(rustc --print target-libdir)/../bin/llvm-profdata
if [ ! -x "$profdata" ]; then
  command -v rustup > /dev/null || fail "Rust has no llvm-tools here and there is no rustup to fetch them with"
  rustup component add llvm-tools || fail "llvm-tools could not be installed; is there a way to the network?"
fi

records=$PWD/target/image/records
rm -rf "$records"
mkdir -p "$records"
program=$(IMAGE_RECORD=$records IMAGE_TARGET=target/image/recorded deploy/program.sh $architecture)
tests/kubernetes/build.sh > /dev/null
cargo build --locked --example webhook-figures
LLVM_PROFILE_FILE=$records/%p.profraw target/debug/examples/webhook-figures --rrsa "$program" --only reviews --rounds 1
# Processes that were killed have written nothing.
find "$records" -size 0 -delete
"$profdata" merge --sparse --output "deploy/profile-$architecture.profdata" "$records"/*.profraw
