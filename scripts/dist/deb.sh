#!/usr/bin/env bash
# The Debian package, from [package.metadata.deb] in Cargo.toml.
set -euo pipefail

package=$PGIO_DIST/pgio_${PGIO_VERSION}-1_amd64.deb
cargo deb --quiet --locked --no-build --no-strip --target "$PGIO_TARGET" --output "$package"
if [[ $(dpkg-deb --field "$package" Depends) != *"libc6 (>= $PGIO_DIST_GLIBC)"* ]]; then
  echo "error: the package has to depend on libc6 (>= $PGIO_DIST_GLIBC); see depends in Cargo.toml" >&2
  exit 1
fi
