#!/usr/bin/env bash
# The RPM package, from [package.metadata.generate-rpm] in Cargo.toml.
set -euo pipefail

cargo generate-rpm --target "$PGIO_TARGET" --auto-req builtin --output "$PGIO_DIST/pgio-$PGIO_VERSION-1.x86_64.rpm"
