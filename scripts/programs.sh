# Starts programs in the background, waits for what they print, and ends them with the script. Sourced by demo.sh,
# pictures.sh and recipes.sh.
# shellcheck shell=bash disable=SC2034

PATIENCE=15 # seconds for each step
logs=$(mktemp -d)
pids=()

# Starts a program under a name, with what it prints kept.
start() {
  local name=$1
  shift
  : >"$logs/$name"
  "$@" >>"$logs/$name" 2>&1 &
  pids+=($!)
  eval "pid_of_$name=$!"
}

# Waits until the program of that name has printed a matching line, and puts that into `found`.
wait_for() {
  local name=$1 pattern=$2 pid_variable=pid_of_$1 deadline=$((SECONDS + PATIENCE))
  until found=$(grep -m 1 -e "$pattern" "$logs/$name"); do
    if ! kill -0 "${!pid_variable}" 2>/dev/null; then
      fail "$name ended:"
    elif ((SECONDS >= deadline)); then
      fail "$name did not print $pattern within $PATIENCE s:"
    fi
    sleep 0.05
  done
}

# Starts a pgio node with a private Postgres, and a Node server beside it. Takes more arguments of `pgio serve`. Exports
# DATABASE_URL, and puts the URLs of the two servers into `ours` and `theirs`.
start_servers() {
  start serve pgio serve --listen 127.0.0.1:0 --allow-join '*' "$@"
  wait_for serve '^private Postgres: '
  export DATABASE_URL=${found#private Postgres: }
  wait_for serve '^listening on '
  ours=${found#listening on } && ours=${ours%%/socket.io*}
  start server node tests/interop/demo/server.js
  wait_for server '^http://'
  theirs=$found
}

# Shows what that program has printed.
fail() {
  echo "error: $1" >&2
  sed 's/^/  /' "$logs/$name" >&2
  exit 1
}

# Ends the programs in the reverse order of their start. The private Postgres ends with its owner, and removes its data.
clean_up() {
  local i
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2>/dev/null || continue
    wait "${pids[i]}" 2>/dev/null || true
  done
  rm -rf "$logs"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
