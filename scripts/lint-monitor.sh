#!/usr/bin/env bash
# Validates the ServiceMonitor against the schema of the Prometheus operator. `make lint` runs it where that is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))' <deploy/kubernetes/monitor.yaml |
  node -e '
    const { ServiceMonitor } = require(`${process.argv[1]}/monitoring.coreos.com/v1/ServiceMonitor`);
    new ServiceMonitor(JSON.parse(require("node:fs").readFileSync(0))).validate();
  ' "$PWD/target/tools/npm/node_modules/@kubernetes-models/prometheus-operator"
