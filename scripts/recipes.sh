#!/usr/bin/env bash
# Runs the commands of docs/recipes.md that have a mark, <!-- recipe NAME -->, beside a small cluster, and writes what they print
# into the document: a pgio node and a Node server with clients and some traffic, and a second database as staging.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/programs.sh
. scripts/programs.sh

document=$PWD/docs/recipes.md
work=$logs/work # where the commands run

# Starts the block of a recipe.
recipe() {
  block=$logs/recipe.$1
  : >"$block"
}

# Runs a command line and adds it with its output to the block.
run() {
  printf '$ %s\n' "$1" >>"$block"
  (cd "$work" && bash -c "$1") >>"$block" 2>&1 || true
}

# The same for the exit status.
run_with_status() {
  local status=0
  printf '$ %s\n' "$1" >>"$block"
  (cd "$work" && bash -c "$1") >>"$block" 2>&1 || status=$?
  # shellcheck disable=SC2016
  printf '$ echo $?\n%s\n' "$status" >>"$block"
}

# Waits until a command succeeds.
until_true() {
  local deadline=$((SECONDS + PATIENCE))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { echo "error: not in $PATIENCE s: $*" >&2; exit 1; }
    sleep 0.1
  done
}

# The URL of the second database.
staging_of() {
  sed -E 's#/[^/?]*(\?|$)#/staging\1#' <<<"$1"
}

# The URL of the database with an application_name.
as() {
  local separator='?'
  [[ $DATABASE_URL == *\?* ]] && separator='&'
  echo "$DATABASE_URL${separator}application_name=$1"
}

grep_screen() {
  tmux -L pgio-recipes capture-pane -p | grep -F "$1"
}

client() { # name, URL, room, user
  USER_OF_CLIENT=$4 start "$1" node tests/interop/demo/client.js "$2" "$3"
  wait_for "$1" 'in room'
}

main() {
  cargo build --locked --quiet --features cli --bin pgio
  PATH=$PWD/target/debug:$PATH
  unset DATABASE_URL ${!PG*}
  export TZ=UTC PGIO_CONFIG=$logs/config.toml PGIO_STATE_DIR=$logs/state
  chmod 755 "$logs"
  mkdir "$work"
  : >"$PGIO_CONFIG"

  local ours theirs
  start_servers -n / -n '/org/{id}'
  client c1 "$ours" lobby ana
  client c2 "$theirs" lobby ben
  client c3 "$theirs" staff eva
  client c4 "$theirs" lobby ana
  until_true pgio nodes --min 2 --no-sockets

  recipe silent-room
  run 'pgio doctor -q --room lobbi'
  run 'pgio doctor -q --room lobby'

  start org1 pgio client "$ours" -n /org/1
  start org2 pgio client "$ours" -n /org/2
  wait_for org1 '^connected'
  wait_for org2 '^connected'
  recipe namespaces
  run "pgio namespaces"
  run "pgio rooms -n '/x*'"

  recipe user
  run "pgio sockets | grep -e ^ID -e '\"ana\"'"
  local id
  id=$(pgio sockets -o json | jq -r 'select(.data.user == "ana").id' | head -1)
  run "pgio disconnect --close --expect 1 --socket ${id:0:6} && echo done"

  recipe confirm
  run "pgio emit --room lobby --ack --min-acks 2 --timeout 2s question 'who is there?'"
  run_with_status "pgio emit --room staff --ack --min-acks 2 --timeout 2s question 'who is there?'"

  start traffic bash -c "node tests/interop/demo/traffic.js 100000 | pgio emit --from - --rate 80/s -q"
  sleep 6
  recipe senders
  run "pgio top --once --by sender --interval 5s"
  recipe load
  run "pgio top --once --interval 10s | grep -E '^(events|messages|commits|WAL|queue)'"
  run "pgio doctor | grep -E 'queue|heartbeats'"

  psql -q "$DATABASE_URL" -c 'CREATE DATABASE staging'
  pgio context add staging "$(staging_of "$DATABASE_URL")" -q
  pgio attachments init --context staging -q >/dev/null
  start receiver pgio tail --context staging --count 3
  wait_for receiver 'listening on'
  recipe replay
  run "pgio tail -o json --type broadcast --event 'chat.*' --for 5s >chat.jsonl"
  run "pgio emit --from chat.jsonl --context staging --speed 2 --map-room room1=test"
  printf '$ pgio tail --context staging --count 3\n' >>"$block"
  cat "$logs/receiver" >>"$block"

  recipe deployment
  start old pgio serve --listen 127.0.0.1:0 --database-url "$(as chat-v1)"
  wait_for old '^listening on '
  printf '$ pgio nodes --watch\n' >>"$block"
  tmux -L pgio-recipes new-session -d -x 110 -y 9 "pgio nodes --watch --every 1s 2>$logs/watch"
  start new pgio serve --listen 127.0.0.1:0 --database-url "$(as chat-v2)"
  wait_for new '^listening on '
  until_true pgio nodes --min 4 --no-sockets
  # shellcheck disable=SC2154
  kill "$pid_of_old"
  until_true grep_screen 'gone (closed)'
  tmux -L pgio-recipes capture-pane -p | sed 's/ *$//' | sed '/^$/d' >>"$block"

  recipe probe
  run "pgio probe $ours"
  run_with_status "pgio probe $ours --channel-prefix other --critical 2s"
  run "pgio probe $ours -o prometheus | grep -v '^#'"

  write
}

# Puts the blocks into the document. Fails where a mark has no block, or a block no mark.
write() {
  node -e '
    const { readFileSync, readdirSync, writeFileSync } = require("fs");
    const [directory, document] = process.argv.slice(1);
    const used = new Set();
    const text = readFileSync(document, "utf8").replace(
      /<!-- recipe (\S+) -->\n```console\n[^]*?```\n/g,
      (_, name) => {
        used.add(name);
        const block = readFileSync(`${directory}/recipe.${name}`, "utf8").trimEnd();
        return `<!-- recipe ${name} -->\n\`\`\`console\n${block}\n\`\`\`\n`;
      },
    );
    const unused = readdirSync(directory).filter((name) => name.startsWith("recipe.") && !used.has(name.slice(7)));
    if (unused.length) throw new Error(`no mark in the document: ${unused}`);
    writeFileSync(document, text);
  ' "$logs" "$document"
}

trap 'tmux -L pgio-recipes kill-server 2>/dev/null || true; clean_up' EXIT

main
