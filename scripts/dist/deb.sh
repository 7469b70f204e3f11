#!/usr/bin/env bash
# The Debian package, from [package.metadata.deb] in Cargo.toml.
set -euo pipefail

cargo deb --quiet --locked --no-build --no-strip --target "$PGIO_TARGET" \
  --output "$PGIO_DIST/pgio_${PGIO_VERSION}-1_amd64.deb"
