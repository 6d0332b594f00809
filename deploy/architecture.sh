# Sourced by the scripts beside it, with an architecture or with nothing for this machine's. Sets
# `architecture` as images name it, `machine` as compilers do, and the `target` of Rust; and brings `fail`.

fail() {
  echo "$(basename "$0" .sh): $*" >&2
  exit 1
}

case ${1:-$(uname -m)} in
  amd64 | x86_64) architecture=amd64 machine=x86_64 ;;
  arm64 | aarch64) architecture=arm64 machine=aarch64 ;;
  *) fail "there is no image for the architecture ${1:-$(uname -m)}; it is amd64 or arm64" ;;
esac
target=$machine-unknown-linux-musl
