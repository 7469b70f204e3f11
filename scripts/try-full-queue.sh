#!/usr/bin/env bash
# Fills the notification queue of a Postgres server of its own (8 GB of disk, some minutes) behind a session that listens and
# stays in a transaction, and says what `pgio serve`, `pgio emit` and `pgio doctor` make of it, and how long after that
# session's end the server is ready again.
#
# PGIO    the program (default target/debug/pgio)
# PGBIN   where initdb and pg_ctl are (default /usr/lib/postgresql/15/bin)
set -euo pipefail
cd "$(dirname "$0")/.."
pgio=$(realpath "${PGIO:-target/debug/pgio}")
bin=${PGBIN:-/usr/lib/postgresql/15/bin}
directory=$(mktemp -d)
as_owner=()
# Postgres refuses to run as root.
if [[ $(id -u) = 0 ]]; then
	chown postgres "$directory"
	as_owner=(runuser -u postgres --)
fi
port=$((20000 + RANDOM % 10000)) http=$((30000 + RANDOM % 10000))
url=postgres://postgres@127.0.0.1:$port/postgres
"${as_owner[@]}" "$bin/initdb" -D "$directory/data" -A trust -U postgres >/dev/null
"${as_owner[@]}" "$bin/pg_ctl" -D "$directory/data" -w -l "$directory/log" start >/dev/null \
	-o "-p $port -k $directory -c listen_addresses=127.0.0.1 -c fsync=off"
serve=
finish() {
	[[ -z $serve ]] || kill "$serve" 2>/dev/null || true
	"${as_owner[@]}" "$bin/pg_ctl" -D "$directory/data" -m immediate stop >/dev/null || true
	rm -rf "$directory"
}
trap finish EXIT

ready() { curl -s -m 3 -o "$directory/ready" -w '%{http_code}' "http://127.0.0.1:$http/readyz" || true; }
until_ready() { # the status to wait for, seconds
	local end=$((SECONDS + $2))
	while [[ $(ready) != "$1" && $SECONDS -lt $end ]]; do sleep 0.2; done
	echo "/readyz: $(ready) $(head -1 "$directory/ready")"
}
emit() { timeout 60 "$pgio" emit --database-url "$url" hello 1 2>&1 || echo "exit $?"; }

"$pgio" serve --database-url "$url" --listen "127.0.0.1:$http" 2>"$directory/serve.log" >/dev/null &
serve=$!
until_ready 200 30
mkfifo "$directory/stuck"
psql "$url" -q <"$directory/stuck" >/dev/null &
stuck=$!
exec 3>"$directory/stuck"
echo 'LISTEN other; BEGIN; SELECT 1;' >&3

echo 'filling the queue'
fill="SELECT count(pg_notify('filler', i || repeat('x', 7900))) FROM generate_series(1, 20000) i"
while psql "$url" -qAt -c "$fill" >/dev/null 2>"$directory/fill"; do :; done 3>&-
cat "$directory/fill"
until_ready 503 30
emit
"$pgio" doctor --database-url "$url" 2>&1 | grep -A1 queue || true

echo 'the stuck session ends'
exec 3>&-
wait "$stuck" || true
start=$SECONDS
until_ready 200 600
echo "after $((SECONDS - start)) s"
psql "$url" -qAt -c "SELECT 'sessions: ' || count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
emit
grep -c WARN "$directory/serve.log" | sed 's/^/warnings of serve: /'
