#!/usr/bin/env bash
# Installs what building and testing pgio needs and this machine lacks: a C compiler, OpenSSL's headers, the programs of
# a Postgres server, PgBouncer, tmux, Node.js 18 or later with npm, psql, psycopg for Python, Chromium, and Prometheus for
# its promtool. Says what it installs; does nothing where all is there.
set -euo pipefail

readonly NODE_NEEDED=18
# What makes a command one of root's, where we are not.
root=()

has() { command -v "$1" >/dev/null; }

has_postgres() {
  local directory
  local -a path
  IFS=: read -ra path <<<"$PATH"
  for directory in "${PGIO_POSTGRES_BIN:-}" "${path[@]}" \
    /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin; do
    [[ -x $directory/initdb && -x $directory/postgres ]] && return
  done
  return 1
}

# Debian keeps it where a user's path does not lead.
has_pgbouncer() { has pgbouncer || [[ -x /usr/sbin/pgbouncer ]]; }

# Its `process.versions.node` starts with the major version.
has_node() { has node && (($(node -p 'parseInt(process.versions.node)') >= NODE_NEEDED)); }

# For Debian's own Python, whatever comes first in a user's path.
has_psycopg() { /usr/bin/python3 -c 'import psycopg' 2>/dev/null; }

# What is missing, a word each.
missing() {
  has cc || echo compiler
  has pkg-config || echo pkg-config
  { has pkg-config && pkg-config --exists openssl; } || echo openssl
  has_postgres || echo postgres
  has_pgbouncer || echo pgbouncer
  has tmux || echo tmux
  has_node || echo node
  has npm || echo npm
  has psql || echo psql
  has_psycopg || echo psycopg
  has chromium || echo chromium
  has promtool || echo promtool
}

# The Debian package for one of those.
package() {
  case $1 in
    compiler) echo gcc libc6-dev ;;
    pkg-config) echo pkg-config ;;
    openssl) echo libssl-dev ;;
    postgres) echo postgresql ;;
    pgbouncer) echo pgbouncer ;;
    tmux) echo tmux ;;
    node) echo nodejs ;;
    npm) echo npm ;;
    psql) echo postgresql-client ;;
    psycopg) echo python3-psycopg ;;
    chromium) echo chromium fonts-dejavu-core ;;
    promtool) echo prometheus ;;
  esac
}

main() {
  local -a needs packages=() words
  local need
  if ! has cargo; then
    echo "error: Rust is not installed here; see https://rustup.rs" >&2
    exit 1
  fi
  mapfile -t needs < <(missing)
  ((${#needs[@]} > 0)) || exit 0
  for need in "${needs[@]}"; do
    read -ra words < <(package "$need")
    packages+=("${words[@]}")
  done

  if ! has apt-get; then
    echo "error: missing here: ${needs[*]} (this script installs them on Debian and Ubuntu only)" >&2
    exit 1
  fi
  if ((EUID != 0)); then
    if ! has sudo; then
      echo "error: missing here: ${needs[*]}; as root run: apt-get install ${packages[*]}" >&2
      exit 1
    fi
    root=(sudo)
  fi

  echo "installing: ${packages[*]}" >&2
  "${root[@]}" apt-get update -qq
  if [[ " ${needs[*]} " == *" postgres "* ]]; then
    keep_postgres_from_starting
  fi
  if [[ " ${needs[*]} " == *" pgbouncer "* ]] && has systemctl; then
    # A test starts one of its own; the package's would start with the machine.
    "${root[@]}" systemctl mask pgbouncer.service 2>/dev/null || true
  fi
  if [[ " ${needs[*]} " == *" promtool "* ]] && has systemctl; then
    # Only its promtool is used.
    "${root[@]}" systemctl mask prometheus.service 2>/dev/null || true
  fi
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null

  mapfile -t needs < <(missing)
  if ((${#needs[@]} > 0)); then
    echo "error: still missing after that: ${needs[*]} (Node.js has to be $NODE_NEEDED or later)" >&2
    exit 1
  fi
}

# The tests start servers of their own. Debian's package would create and start one for the whole machine, unless a
# file says otherwise while it is installed.
keep_postgres_from_starting() {
  local directory=/etc/postgresql-common/createcluster.d
  no_cluster=$directory/pgio-no-main-cluster.conf
  "${root[@]}" mkdir -p "$directory"
  echo 'create_main_cluster = false' | "${root[@]}" tee "$no_cluster" >/dev/null
  trap '"${root[@]}" rm -f "$no_cluster"' EXIT
}

main
