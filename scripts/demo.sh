#!/usr/bin/env bash
# From nothing to an event on the screen: `pgio serve` with a Postgres of its own, a Node server beside it, a client of each
# in room r1, and `pgio emit` reaching both while `pgio tail` watches. Nothing is configured. Exits with 0 only if the event
# arrived; leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/programs.sh
. scripts/programs.sh

main() {
  say "Building pgio: a debug build, as that is faster; the first takes a minute or two"
  cargo build --locked --quiet --features cli --bin pgio
  PATH=$PWD/target/debug:$PATH
  unset DATABASE_URL ${!PG*}
  # The private server keeps its data there; as root it runs as another user, who has to get there, too.
  chmod 755 "$logs"
  export PGIO_STATE_DIR=$logs/state

  step "A Socket.IO server, with a Postgres of its own"
  command_line "pgio serve --listen 127.0.0.1:0 --allow-join '*'"
  start serve pgio serve --listen 127.0.0.1:0 --allow-join '*'
  wait_for serve '^private Postgres: '
  show "$found"
  local database=${found#private Postgres: }
  wait_for serve '^listening on '
  show "$found"
  local ours=${found#listening on } && ours=${ours%%/socket.io*}

  step "A server on Node, with @socket.io/postgres-adapter 0.5.0, in the same cluster"
  DATABASE_URL=$database start server node tests/interop/demo/server.js
  wait_for server '^http://'
  local theirs=$found
  show "$theirs"

  step "A client of each"
  start client1 node tests/interop/demo/client.js "$ours" r1
  start client2 node tests/interop/demo/client.js "$theirs" r1
  wait_for client1 'in room r1'
  show "$found"
  wait_for client2 'in room r1'
  show "$found"

  step "pgio tail prints the messages between the servers"
  command_line "pgio tail"
  start tail pgio tail
  wait_for tail '^listening'

  step "pgio emit sends an event to room r1"
  command_line "pgio emit --room r1 ping '<>'"
  pgio emit --room r1 ping '<>'

  wait_for client1 '^ping "<>"$'
  show "client of pgio  $found"
  wait_for client2 '^ping "<>"$'
  show "client of Node  $found"
  wait_for tail ' ping "<>".* to r1'
  show "tail            $found"
  say ""
  say "One event, one cluster: through Postgres to both servers and their clients."
}

steps=0
step() { printf '\n%s%d  %s%s\n' "$bold" $((++steps)) "$1" "$plain"; }
command_line() { printf '   %s$ %s%s\n' "$dim" "$1" "$plain"; }
show() { printf '   %s\n' "$1"; }
say() { printf '%s\n' "$1"; }

bold='' dim='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

main
