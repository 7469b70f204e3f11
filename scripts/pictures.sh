#!/usr/bin/env bash
# Takes the pictures of the README from a real run: `pgio top` in a terminal and the page of `pgio monitor`, beside a pgio node
# and a Node server with clients and some traffic. Writes them to docs/pictures.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/programs.sh
. scripts/programs.sh

TRAFFIC=75 # seconds of traffic before the pictures
TOOLS=target/tools/pictures
out=$PWD/docs/pictures

main() {
  cargo build --locked --quiet --features cli --bin pgio
  PATH=$PWD/target/debug:$PATH
  unset DATABASE_URL ${!PG*}
  chmod 755 "$logs"
  export PGIO_STATE_DIR=$logs/state
  # Converts the text of a terminal into a page.
  [[ -d $TOOLS/node_modules/ansi-to-html ]] || npm install --silent --prefix "$TOOLS" ansi-to-html@0.7.2

  local ours theirs n
  # shellcheck disable=SC2119
  start_servers
  for n in 1 2 3; do
    start "ours$n" node tests/interop/demo/client.js "$ours" "room$n"
    start "theirs$n" node tests/interop/demo/client.js "$theirs" "room$n"
  done
  wait_for theirs3 'in room'
  start monitor pgio monitor --listen 127.0.0.1:0
  wait_for monitor '^listening on '
  local page=${found#listening on } && page=${page%% *}
  tmux -L pgio-pictures new-session -d -x 110 -y 20 "pgio top 2>$logs/top"
  start traffic bash -c "node tests/interop/demo/traffic.js 100000 | pgio emit --from - --rate 90/s -q"
  sleep "$TRAFFIC"

  mkdir -p "$out"
  tmux -L pgio-pictures capture-pane -e -p >"$logs/top.ansi"
  (cd "$TOOLS" && node -e '
    const Convert = require("ansi-to-html");
    const text = require("fs").readFileSync(process.argv[1], "utf8").trimEnd();
    const convert = new Convert({ fg: "#d3d7de", bg: "#10151d", escapeXML: true });
    console.log(`<!doctype html><meta charset="utf-8"><style>
      body { margin: 0; padding: 12px 16px; background: #10151d; color: #d3d7de }
      pre { margin: 0; font: 15px/19px "DejaVu Sans Mono", monospace }</style><pre>${convert.toHtml(text)}</pre>`);
  ' "$logs/top.ansi") >"$logs/top.html"
  node tests/interop/demo/screenshot.js "file://$logs/top.html" "$out/top.png" dark 1026 404 0
  for theme in light dark; do
    node tests/interop/demo/screenshot.js "$page" "$out/monitor-$theme.png" "$theme" 1280 900 6
  done
  ls -l "$out"
}

trap 'tmux -L pgio-pictures kill-server 2>/dev/null || true; clean_up' EXIT

main
