#!/usr/bin/env bash
# Builds the webhooks that ours is measured beside, from checkouts, as their Dockerfiles do but for
# the container. Nothing of theirs comes into this repository.
#
#   benches/webhook/neighbours.sh OUT AWS_CHECKOUT [AZURE_CHECKOUT]
#
# AWS_CHECKOUT is one of amazon-eks-pod-identity-webhook, AZURE_CHECKOUT one of
# azure-workload-identity. Writes OUT/aws-webhook and OUT/azure-webhook, and does nothing for a
# program that is there already.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] && [ $# -le 3 ] || usage
out=$(mkdir -p "$1" && cd "$1" && pwd)
export CGO_ENABLED=0 GOTOOLCHAIN=local

if [ ! -x "$out/aws-webhook" ]; then
    (cd "$2" && go build -ldflags="-buildid='' -w -s" -o "$out/aws-webhook" .)
fi
if [ $# -eq 3 ] && [ ! -x "$out/azure-webhook" ]; then
    version=github.com/Azure/azure-workload-identity/pkg/version.BuildVersion
    (cd "$3" && go build -ldflags "-X $version=latest" -o "$out/azure-webhook" ./cmd/webhook)
fi
echo "$out"
