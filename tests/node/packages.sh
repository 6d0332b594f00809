#!/usr/bin/env bash
# Installs the Debian packages that the node tier needs, where that is possible (root and apt);
# elsewhere it says what is missing and leaves it at that: the tests then say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")"

missing=$(./namespace.sh --check)
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "node tier: it will be skipped, for it needs: ${missing//$'\n'/; }" >&2
  exit 0
fi
echo "node tier: installing containerd, runc, CNI plugins, iptables, conntrack, iproute2, busybox, python3-pip" >&2
# Nothing goes for it: where Docker's own containerd is installed, apt would take that, and Docker, away.
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends --no-remove \
  containerd runc containernetworking-plugins iptables conntrack iproute2 util-linux busybox-static python3 python3-pip > /dev/null; }; then
  echo "node tier: apt could not install them all; its own words stand above" >&2
fi
missing=$(./namespace.sh --check)
[ -z "$missing" ] || echo "node tier: it will be skipped, for it needs: ${missing//$'\n'/; }" >&2
