#!/usr/bin/env bash
# The npm packages: `pgio`, whose launcher finds the binary, and one package with the binary for this platform, which npm
# installs by `os`, `cpu` and `libc`. Name, version and addresses are those of Cargo.toml.
set -euo pipefail

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cargo metadata --no-deps --format-version 1 --locked | node packaging/npm/stage.js "$stage"
install -m 755 "target/$PGIO_TARGET/release/pgio" "$stage/linux-x64/bin/pgio"
for package in linux-x64 pgio; do
  npm pack --silent --pack-destination "$PGIO_DIST" "$stage/$package" >/dev/null
done
