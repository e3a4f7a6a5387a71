#!/usr/bin/env bash
# Starts the service on a run and measures it:   benchmarks/run.sh RUN PORT
set -euo pipefail
cd "$(dirname "$0")/.."
run=$1
port=$2

[ -e "$run" ] || {
    echo "bench: there is no run at $run; make one with 'make demo', or name one: make bench RUN=runs/shop/live" >&2
    exit 1
}
.venv/bin/recsys serve --run "$run" --port "$port" &
service=$!
trap 'kill "$service" 2>/dev/null; wait "$service" 2>/dev/null || true' EXIT

for _ in $(seq 120); do
    if .venv/bin/python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/readyz')" 2>/dev/null; then
        ready=yes
        break
    fi
    kill -0 "$service" 2>/dev/null || exit 1 # it has said why
    sleep 0.5
done
[ "${ready:-}" = yes ] || {
    echo "bench: the service was not ready after a minute" >&2
    exit 1
}
echo "POST /v1/recommendations, k = 20, feature read included; clients that ask again as soon as they are answered:"
.venv/bin/python benchmarks/serve_latency.py --port "$port" --users "$run/users.parquet"
