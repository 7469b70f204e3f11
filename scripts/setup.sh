#!/usr/bin/env bash
# Installs what tasks need and this machine lacks, and says what it installs. Does nothing where all is there.
#
# scripts/setup.sh test        tasks are build, bench, test, dist, test-dist, check, all
#
# Debian packages are installed for the machine, cargo's subcommands into ~/.cargo/bin, and programs of npm and Python
# packages into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/requirements.sh
. scripts/requirements.sh

# What makes a command one of root's, where we are not.
root=()

main() {
  local missing need origin
  local -a words
  declare -A packages=()
  missing=$(missing_for "$@")
  [[ -n $missing ]] || return 0
  for need in $missing; do
    read -ra words < <(source_of "$need")
    origin=${words[0]}
    packages[$origin]+=" ${words[*]:1}"
  done
  if [[ -n ${packages[rustup]+set} ]]; then
    echo "error: Rust is not installed here; see https://rustup.rs" >&2
    exit 1
  fi
  for origin in apt cargo pip npm; do
    read -ra words <<<"${packages[$origin]:-}"
    ((${#words[@]} == 0)) || "from_$origin" "${words[@]}"
  done

  missing=$(missing_for "$@")
  if [[ -n $missing ]]; then
    echo "error: still missing after that: ${missing//$'\n'/ } (Node.js has to be $NODE_NEEDED or later)" >&2
    exit 1
  fi
}

from_apt() {
  if ! command -v apt-get >/dev/null; then
    echo "error: missing here: $* (this script installs Debian packages on Debian and Ubuntu only)" >&2
    exit 1
  fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "error: missing here; as root run: apt-get install $*" >&2
      exit 1
    fi
    root=(sudo)
  fi
  echo "installing: $*" >&2
  "${root[@]}" apt-get update -qq
  if [[ " $* " == *" postgresql "* ]]; then
    keep_postgres_from_starting
  fi
  # Tests start a PgBouncer of their own, and use only promtool of Prometheus; the packages' would start with the machine.
  local service
  for service in pgbouncer prometheus; do
    if [[ " $* " == *" $service "* ]] && command -v systemctl >/dev/null; then
      "${root[@]}" systemctl mask "$service.service" 2>/dev/null || true
    fi
  done
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
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

from_cargo() {
  echo "installing with cargo: $*" >&2
  cargo install --locked --quiet "$@"
}

from_pip() {
  echo "installing into $TOOLS/python: $*" >&2
  [[ -x $TOOLS/python/bin/pip ]] || python3 -m venv "$TOOLS/python"
  "$TOOLS/python/bin/pip" install --quiet --disable-pip-version-check "$@"
}

from_npm() {
  echo "installing into $TOOLS/npm: $*" >&2
  npm install --prefix "$TOOLS/npm" --no-audit --no-fund --no-update-notifier --loglevel=error "$@"
}

main "$@"
