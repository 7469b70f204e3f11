#!/usr/bin/env bash
# Draws a run of scripts/demo.sh as an animated SVG, docs/pictures/demo.svg, for the README.
set -euo pipefail
cd "$(dirname "$0")/.."

MOST=200000 # bytes
out=docs/pictures/demo.svg

new=$(mktemp)
trap 'rm -f "$new"' EXIT
node tests/interop/demo/cast.js "make demo" scripts/demo.sh >"$new"
size=$(wc -c <"$new")
if ((size > MOST)); then
  echo "error: $out would have $size bytes, more than $MOST" >&2
  exit 1
fi
mv "$new" "$out"
chmod 644 "$out"
ls -l "$out"
