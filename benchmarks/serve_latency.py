"""Latency of a running service: a closed loop of 1, 4 and 8 clients with a bounded number of requests.

    recsys serve --run RUNS/live &
    python benchmarks/serve_latency.py --users RUNS/live/users.parquet --requests 1000

Each client asks for another user as soon as it has its answer, over one kept-alive connection. It takes the
standard library alone, to cost little of the machine that it shares with the service.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
from pathlib import Path


def ask(host: str, port: int, bodies: list[bytes], key: str, taken: list[float], told: list[float]) -> None:
    """Send bodies one after the other; seconds measured here and milliseconds that the service reports."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
    for body in bodies:
        started = time.perf_counter()
        connection.request("POST", "/v1/recommendations", body, headers)
        response = connection.getresponse()
        content = response.read()
        taken.append(time.perf_counter() - started)
        if response.status != 200:
            raise SystemExit(f"status {response.status}: {content[:200]!r}")
        told.append(json.loads(content)["timings_ms"]["features"])
    connection.close()


def measure(host: str, port: int, bodies: list[bytes], clients: int, key: str) -> dict[str, float]:
    """All bodies, spread over the clients."""
    taken: list[float] = []
    told: list[float] = []
    threads = [
        threading.Thread(target=ask, args=(host, port, bodies[i::clients], key, taken, told))
        for i in range(clients)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if len(taken) != len(bodies):
        raise SystemExit("a client failed")
    taken.sort()
    told.sort()
    marks = {
        f"p{p}_ms": round(1000 * taken[min(len(taken) * p // 100, len(taken) - 1)], 2) for p in (50, 95, 99)
    }
    return {
        "clients": clients,
        "requests": len(taken),
        **marks,
        "features_p50_ms": told[len(told) // 2],
        "per_second": round(len(taken) / seconds, 1),
    }


def make_bodies(users: Path | None, count: int, k: int) -> list[bytes]:
    """Requests for the users of a file in turn, or for nobody."""
    if users is None:
        return [json.dumps({"k": k}).encode()] * count
    import pyarrow.parquet as pq

    ids = pq.read_table(users, columns=["user_id"])["user_id"].slice(0, 100_000).to_pylist()
    step = max(1, len(ids) // count)
    return [json.dumps({"user_id": ids[i * step % len(ids)], "k": k}).encode() for i in range(count)]


def main() -> None:
    """Measure and write one JSON line per number of clients."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--users", type=Path, help="Parquet file with user_id; nobody is named without it")
    parser.add_argument("--requests", type=int, default=1000, help="per number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--key", default="", help="API key, where the service asks for one")
    arguments = parser.parse_args()
    bodies = make_bodies(arguments.users, arguments.requests, arguments.k)
    ask(arguments.host, arguments.port, bodies[:50], arguments.key, [], [])  # warm up
    for clients in arguments.clients:
        figures = measure(arguments.host, arguments.port, bodies, clients, arguments.key)
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
