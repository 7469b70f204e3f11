#!/usr/bin/env bash
# The portable binary: OpenSSL linked statically, and linked by zig against an old glibc. Fails if it needs a newer one.
set -euo pipefail

cargo zigbuild --release --locked --features cli,vendored --bin pgio --target "$PGIO_TARGET.$PGIO_DIST_GLIBC"

binary=target/$PGIO_TARGET/release/pgio
needed=$(scripts/dist/glibc.sh "$binary")
echo "oldest glibc that $binary runs on: $needed"
if [[ $(printf '%s\n' "$needed" "$PGIO_DIST_GLIBC" | sort -V | tail -1) != "$PGIO_DIST_GLIBC" ]]; then
  echo "error: the binary needs glibc $needed, and has to run on $PGIO_DIST_GLIBC" >&2
  exit 1
fi
if objdump -p "$binary" | grep -E 'NEEDED +lib(ssl|crypto)'; then
  echo "error: OpenSSL is not linked statically" >&2
  exit 1
fi
