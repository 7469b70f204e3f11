#!/usr/bin/env bash
# Compares the public API with that of the last tag, and fails where the version in Cargo.toml does not allow a change.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! tag=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); then
  echo "skipped: there is no tag v* yet to compare with"
  exit
fi
cargo semver-checks --baseline-rev "$tag" --only-explicit-features --features adapter,private,server
