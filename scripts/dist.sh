#!/usr/bin/env bash
# Builds everything that a release has for this kind of machine, into target/dist: .deb, .rpm, a tarball with an installer, the
# npm packages, an SBOM and SHA256SUMS. All of them hold the same binary. Builds one release binary; installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/requirements.sh
. scripts/requirements.sh
export PATH=$TOOLS_PATH
# The oldest glibc that the binary runs on: that of Debian 10, Ubuntu 18.10 and RHEL 8, and the oldest that Node.js 18 runs on.
export PGIO_DIST_GLIBC=2.28
export PGIO_DIST=$PWD/target/dist
export PGIO_TARGET=x86_64-unknown-linux-gnu

if [[ $(uname -sm) != 'Linux x86_64' ]]; then
  echo "error: packages are built on Linux on x86-64 only, and this is $(uname -sm)" >&2
  exit 1
fi

PGIO_VERSION=$(cargo metadata --no-deps --format-version 1 --locked | node -p 'JSON.parse(require("fs").readFileSync(0)).packages[0].version')
export PGIO_VERSION
rm -rf "$PGIO_DIST"
mkdir -p "$PGIO_DIST"

scripts/dist/binary.sh
for part in deb rpm tarball npm sbom checksums; do
  echo "== $part"
  "scripts/dist/$part.sh"
done
ls -l "$PGIO_DIST"
