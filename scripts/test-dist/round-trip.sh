# Sourced by the tests of packages: round_trip COMMAND... starts `COMMAND tail`, sends an event with `COMMAND emit`, and fails
# unless tail prints it.
# shellcheck shell=bash

round_trip() {
  local log tail status=0
  log=$(mktemp)
  "$@" tail >"$log" 2>&1 &
  tail=$!
  await '^listening' "$log" && "$@" emit --room r1 ping '<>' && await ' ping "<>".* to r1' "$log" || status=1
  kill "$tail"
  wait "$tail" || true
  ((status == 0)) || cat "$log" >&2
  rm -f "$log"
  return "$status"
}

await() { # a pattern and the file
  local tenths
  for ((tenths = 0; tenths < 150; tenths++)); do
    ! grep -q -e "$1" "$2" || return 0
    sleep 0.1
  done
  echo "error: $1 did not appear within 15 s" >&2
  return 1
}
