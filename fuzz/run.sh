#!/usr/bin/env bash
# Fuzzes review → patch for some seconds (600 by default), on one core. Further arguments go to
# libFuzzer. Ends with an error when a review breaks a promise; the review is in fuzz/artifacts/.
#
# Needs a C++ compiler for libFuzzer. The toolchain is the product's own: coverage is a matter of
# code generation, and the product has no unsafe code that would want a sanitizer.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
[ $# -eq 0 ] || shift

mkdir -p corpus artifacts
# Every case of admission is a seed.
(cd .. && RRSA_WRITE_SEEDS="$PWD/fuzz/corpus" \
    cargo test --locked --quiet --test webhook fuzzed::seeds > /dev/null)

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"
# A target triple keeps the flags away from build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$(echo $coverage) cargo build --locked --target "$host" --bin review
exec "target/$host/debug/review" corpus \
    -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix=artifacts/ -print_final_stats=1 "$@"
