#!/usr/bin/env bash
# The npm packages, in an empty project: the launcher passes on arguments, status and signals, and says what is missing where
# there is no binary.
set -euo pipefail
. scripts/test-dist/round-trip.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install=(npm install --silent --no-audit --no-fund --no-update-notifier)
main=$(echo "$PGIO_DIST"/pgio-[0-9]*.tgz)
binary=$(echo "$PGIO_DIST"/pgio-linux-x64-*.tgz)

mkdir "$work/project"
cd "$work/project"
npm init --yes >/dev/null
"${install[@]}" "$binary" "$main"
npx pgio --version
cd - >/dev/null
round_trip "$work/project/node_modules/.bin/pgio"
status=0
"$work/project/node_modules/.bin/pgio" emit 2>/dev/null || status=$?
((status == 2)) || { echo "error: usage has status 2, and the launcher said $status" >&2; exit 1; }
# A pipe that is empty at first: if the launcher made it non-blocking, reading would fail.
(sleep 1 && echo '["from-a-pipe"]') | "$work/project/node_modules/.bin/pgio" emit --from -
# Before the background job, which may open the file later than `await` reads it.
: >"$work/tail"
"$work/project/node_modules/.bin/pgio" tail >"$work/tail" 2>&1 &
await '^listening' "$work/tail"
kill -TERM $!
status=0
wait $! || status=$?
# It must not leave the binary running behind it.
if pgrep -f "$work/project/node_modules/@pgio" >/dev/null; then
  echo "error: SIGTERM did not reach the binary" >&2
  exit 1
fi

mkdir "$work/without"
cd "$work/without"
npm init --yes >/dev/null
"${install[@]}" --omit=optional "$main"
status=0
said=$(npx pgio --version 2>&1) || status=$?
if ((status != 1)) || [[ $said != *"@pgio/linux-x64 is not installed"* ]]; then
  echo "error: without its binary the launcher said: $said" >&2
  exit 1
fi
echo "npm: installed, sent and received an event, passed on status and signal"
