#!/usr/bin/env bash
# Installs each package of target/dist in an empty place, and runs the program there against a Postgres of its own: `pgio tail`
# has to print what `pgio emit` sends. Needs root, for chroots. Leaves nothing behind.
#
# PARTS   what to test (default: tarball npm rpm deb)
# SUITES  the Debian releases for the .deb (default: stable)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
# Nothing of the caller's may reach the programs under test.
unset DATABASE_URL "${!PG@}"
export PGIO_DIST=$PWD/target/dist
if ! compgen -G "$PGIO_DIST/*.tar.gz" >/dev/null; then
  echo "error: $PGIO_DIST is empty; make dist fills it" >&2
  exit 1
fi
if ((EUID != 0)); then
  echo "error: a chroot needs root" >&2
  exit 1
fi

work=$(mktemp -d)
chmod 755 "$work"
server=
finish() {
  [[ -z $server ]] || { kill "$server" && wait "$server"; } 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

(cd "$PGIO_DIST" && sha256sum --check --quiet SHA256SUMS)
echo "checksums: right"

# The server of these tests is the packaged program as well.
mkdir "$work/program"
tar -xzf "$PGIO_DIST"/pgio-*.tar.gz --strip-components=1 -C "$work/program"
PGIO_STATE_DIR=$work/state "$work/program/bin/pgio" serve --listen 127.0.0.1:0 >"$work/serve" 2>&1 &
server=$!
for ((tenths = 0; tenths < 300; tenths++)); do
  ! grep -q '^listening on ' "$work/serve" || break
  sleep 0.1
done
DATABASE_URL=$(sed -n 's/^private Postgres: //p' "$work/serve")
if [[ -z $DATABASE_URL ]]; then
  cat "$work/serve" >&2
  exit 1
fi
export DATABASE_URL

for part in ${PARTS:-tarball npm rpm deb}; do
  "scripts/test-dist/$part.sh"
done
