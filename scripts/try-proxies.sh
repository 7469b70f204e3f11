#!/usr/bin/env bash
# Tries the files of docs/proxies: two `pgio serve` nodes on one database behind nginx, HAProxy and Caddy, and many clients
# of each kind. All have to receive each event once, also after one of the nodes has ended; without its sticky line each
# proxy has to fail those that poll. Takes a few minutes.
#
# Not a part of `make test`, because it needs the three proxies: apt-get install nginx haproxy caddy. It listens on free
# ports, writes to a directory of its own, and leaves nothing behind. Needs `make demo` or `make test` to have run once.
set -euo pipefail
cd "$(dirname "$0")/.."

CLIENTS=${CLIENTS:-40} # of each kind
PATIENCE=30            # seconds for each step
work=$(mktemp -d)
declare -A pids=() ports=()

main() {
  local proxy way
  for proxy in nginx haproxy caddy node; do
    command -v "$proxy" >/dev/null || { echo "error: $proxy is not installed here" >&2; exit 1; }
  done
  cargo build --locked --quiet --features cli --bin pgio
  PATH=$PWD/target/debug:$PATH
  unset DATABASE_URL ${!PG*}
  # The private Postgres and nginx's workers run as other users, who have to get there, too.
  chmod 755 "$work"
  export PGIO_STATE_DIR=$work/state

  start_node node1
  start_node node2
  for proxy in nginx haproxy caddy; do
    printf '\n%s\n' "$(version_of "$proxy")"
    start_proxy "$proxy" sticky
    for way in polling upgrade websocket; do
      try "$way"
    done
    lose_a_node
    stop proxy
    start_proxy "$proxy" fickle
    for way in polling upgrade websocket; do
      try_without_stickiness "$way"
    done
    stop proxy
    wait_until_empty
  done
}

# Clients of one kind; each has to receive three events.
try() {
  local way=$1 n
  start clients node tests/interop/proxies/clients.js "http://127.0.0.1:${ports[proxy]}" "$CLIENTS" "$way"
  wait_for clients '^all connected$'
  local spread
  spread="$(connections node1) + $(connections node2)"
  [[ $spread != "0 + "* && $spread != *" + 0" ]] || fail node1 "one of the nodes has all clients: $spread"
  for n in 1 2 3; do
    pgio emit try "$n"
  done
  wait_for clients '^all had 3$'
  stop clients
  grep -q ', 0 with errors$' "$work/clients" || fail clients "some clients had trouble:"
  say "$way" "$CLIENTS clients ($spread) received every event"
}

# The clients of a node that ends go to the other one.
lose_a_node() {
  start clients node tests/interop/proxies/clients.js "http://127.0.0.1:${ports[proxy]}" "$CLIENTS" upgrade
  wait_for clients '^all connected$'
  pgio emit try 1
  wait_for clients '^all had 1$'
  local left
  left=$(connections node2)
  ((left > 0)) || fail node2 "the node that is to end has no clients"
  stop node2
  wait_for clients '^all connected$' 2
  pgio emit try 2
  wait_for clients '^all had 2$'
  stop clients
  start_node node2 "${ports[node2]}"
  say "a node ends" "its $left clients came back through the other one and received the next event"
}

# What happens in five seconds.
try_without_stickiness() {
  local way=$1
  start clients node tests/interop/proxies/clients.js "http://127.0.0.1:${ports[proxy]}" "$CLIENTS" "$way"
  sleep 5
  stop clients
  local outcome
  outcome=$(grep ' with errors$' "$work/clients")
  if [[ $way == websocket ]]; then
    [[ $outcome == "$CLIENTS connected, 0 with errors" ]] || fail clients "websockets need no stickiness, yet:"
  else
    [[ $outcome != *", 0 with errors" ]] || fail clients "without stickiness these were to fail:"
  fi
  say "not sticky, $way" "$outcome$(sed -n '/^  /{s/^ */; /p;q}' "$work/clients")"
}

# pgio serve, on a free port or on that one.
start_node() {
  local name=$1 port=${2:-0}
  start "$name" pgio serve --listen "127.0.0.1:$port" --ping-interval 5s --ping-timeout 5s
  wait_for "$name" '^listening on '
  found=${found#listening on http://127.0.0.1:}
  ports[$name]=${found%%/*}
}

# A proxy with its file of docs/proxies, with other ports, and without the line below "Sticky:" if it is to be fickle.
start_proxy() {
  local proxy=$1 how=$2 file=$work/conf
  ports[proxy]=$(free_port)
  sed -e "s/\b8080\b/${ports[proxy]}/; s/:3001\b/:${ports[node1]}/; s/:3002\b/:${ports[node2]}/" \
    "docs/proxies/$(file_of "$proxy")" >"$file"
  if [[ $how == fickle ]]; then
    # HAProxy's servers have a part of it each.
    sed -i -e '/# Sticky:/{n;d}' -e 's/ cookie node[12]$//' "$file"
  fi
  case $proxy in
    nginx)
      mkdir -p "$work/nginx"
      # Its own places for what it would keep in /var.
      sed -i "s|^http {|&\n access_log off; $(for kind in client_body proxy fastcgi uwsgi scgi; do
        printf '%s_temp_path %s;' "$kind" "$work/nginx/$kind"
      done)|" "$file"
      start proxy nginx -p "$work/nginx" -c "$file" -e stderr -g "daemon off; pid $work/nginx/pid;"
      ;;
    haproxy) start proxy haproxy -db -f "$file" ;;
    caddy)
      sed -i '1i {\nadmin off\n}' "$file"
      start proxy env HOME="$work" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" \
        caddy run --adapter caddyfile --config "$file"
      ;;
  esac
  local deadline=$((SECONDS + PATIENCE))
  local url="http://127.0.0.1:${ports[proxy]}/socket.io/?EIO=4&transport=polling"
  until [[ $(curl -s -o "$work/answer" -w '%{http_code}' "$url") == 200 ]]; do
    ((SECONDS < deadline)) || fail proxy "$proxy passes nothing on:"
    sleep 0.1
  done
}

file_of() {
  case $1 in
    nginx) echo nginx.conf ;;
    haproxy) echo haproxy.cfg ;;
    caddy) echo Caddyfile ;;
  esac
}

version_of() {
  case $1 in
    nginx) nginx -v 2>&1 | sed 's/.*: //' ;;
    haproxy) haproxy -v | sed -n '1s/ [0-9/]* - .*//p' ;;
    caddy) echo "Caddy $(caddy version)" ;;
  esac
}

free_port() {
  node -e 'const s = require("net").createServer();
    s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'
}

# How many clients a node has.
connections() {
  curl -s "http://127.0.0.1:${ports[$1]}/metrics" | awk '/^pgio_connections\{/ { sum += $2 } END { print sum + 0 }'
}

# Sessions that were lost between the nodes go when they miss a ping.
wait_until_empty() {
  local deadline=$((SECONDS + PATIENCE))
  until (($(connections node1) + $(connections node2) == 0)); do
    ((SECONDS < deadline)) || fail node1 "there are clients that nobody knows"
    sleep 0.5
  done
}

# Starts a program under a name, with what it prints kept.
start() {
  local name=$1
  shift
  : >"$work/$name"
  "$@" >>"$work/$name" 2>&1 &
  pids[$name]=$!
}

stop() {
  kill "${pids[$1]}" 2>/dev/null || true
  wait "${pids[$1]}" 2>/dev/null || true
  unset "pids[$1]"
}

# Waits until that program has printed so many matching lines, and puts the last of them into `found`.
wait_for() {
  local name=$1 pattern=$2 times=${3:-1} deadline=$((SECONDS + PATIENCE))
  until found=$(grep -m "$times" -e "$pattern" "$work/$name" | sed -n "${times}p") && [[ $found ]]; do
    kill -0 "${pids[$name]}" 2>/dev/null || fail "$name" "$name ended:"
    if ((SECONDS >= deadline)); then
      stop "$name"
      fail "$name" "$name did not print $pattern within $PATIENCE s:"
    fi
    sleep 0.05
  done
}

fail() {
  echo "error: $2" >&2
  sed 's/^/  /' "$work/$1" | tail -n 20 >&2
  exit 1
}

say() { printf '  %-22s %s\n' "$1" "$2"; }

# The node with the private Postgres goes last.
clean_up() {
  local name
  for name in clients proxy node2 node1; do
    [[ -v pids[$name] ]] && stop "$name"
  done
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

main
