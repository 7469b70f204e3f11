#!/usr/bin/env bash
# Says what tasks need and this machine lacks, and fails if that is anything. Installs nothing: `make setup` does.
#
# scripts/missing.sh build     tasks are build, bench, test, dist, test-dist, check, all
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/requirements.sh
. scripts/requirements.sh

missing=$(missing_for "$@")
[[ -n $missing ]] || exit 0
echo "error: missing here: ${missing//$'\n'/ }" >&2
if [[ $'\n'$missing$'\n' == *$'\ncargo\n'* ]]; then
  echo "hint: https://rustup.rs installs cargo" >&2
fi
echo "hint: make setup FOR='$*' installs the rest" >&2
exit 1
