#!/usr/bin/env bash
# The software bill of materials, in CycloneDX: the crates that are linked into the binary, and OpenSSL.
set -euo pipefail

cargo cyclonedx --quiet --format json --features cli,vendored --target "$PGIO_TARGET" --override-filename pgio-sbom
mv pgio-sbom.json "$PGIO_DIST/pgio-$PGIO_VERSION.cdx.json"
