#!/usr/bin/env bash
# Prints the software bill of materials of the program for a target: CycloneDX 1.5 as JSON, with every
# crate that is linked into it, its version, licence and checksum. The same lock file gives the same text.
# Usage: sbom.sh TARGET
set -euo pipefail
cd "$(dirname "$0")/.."

cargo tree --locked --edges normal,no-proc-macro --prefix none --no-dedupe --format '{p}|{l}' --target "${1:?target}" |
  sort --unique | awk -F'|' '
    # Cargo.lock first: the checksum of each crate.
    FILENAME == "Cargo.lock" {
      split($0, field, "\"")
      if ($0 ~ /^name = /) name = field[2]
      if ($0 ~ /^version = /) version = field[2]
      if ($0 ~ /^checksum = /) checksum[name " " version] = field[2]
      next
    }
    {
      split($1, package, " ")
      name = package[1]
      version = substr(package[2], 2)
      if (name == "rrsa") { product = version; next }
      component = sprintf("{\"type\":\"library\",\"bom-ref\":\"pkg:cargo/%s@%s\",\"name\":\"%s\",\"version\":\"%s\",\"purl\":\"pkg:cargo/%s@%s\"", name, version, name, version, name, version)
      licence = $2
      gsub("/", " OR ", licence)
      if (licence != "") component = component sprintf(",\"licenses\":[{\"expression\":\"%s\"}]", licence)
      sum = checksum[name " " version]
      if (sum != "") component = component sprintf(",\"hashes\":[{\"alg\":\"SHA-256\",\"content\":\"%s\"}]", sum)
      components = components (count++ ? ",\n" : "") component "}"
    }
    END {
      printf "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,\n\"metadata\":{\"component\":{\"type\":\"application\",\"bom-ref\":\"rrsa\",\"name\":\"rrsa\",\"version\":\"%s\",\"licenses\":[{\"expression\":\"Apache-2.0\"}]}},\n\"components\":[\n%s\n]}\n", product, components
    }' Cargo.lock -
