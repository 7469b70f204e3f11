#!/usr/bin/env bash
# SHA256SUMS of everything in the directory. `sha256sum --check SHA256SUMS` verifies a download.
set -euo pipefail

cd "$PGIO_DIST"
find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS
