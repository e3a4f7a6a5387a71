"""Latency of a running service: a closed loop of 1, 4 and 8 clients with a bounded number of requests.

    recsys serve --run RUNS/live &
    python benchmarks/serve_latency.py --users RUNS/live/users.parquet --requests 1000
    python benchmarks/serve_latency.py --run RUNS/live --kinds plain explain rules search --service PID

Each client asks for another user as soon as it has its answer, over one kept-alive connection. It takes the
standard library alone, to cost little of the machine that it shares with the service. Several kinds of
requests take turns, request by request, so that what else the machine does falls on each alike; with the
service's process number, its own processor time per request is told too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import threading
import time
from pathlib import Path

KINDS = ("plain", "explain", "rules", "filter", "search", "search_user")
"""`explain`: with explanations; `rules`: diversity and caps; `filter`: a range of prices; `search`: titles of
the catalogue as queries, one letter short; `search_user`: the same for a user."""
RULES = {"diversity": 0.7, "max_per_category": 5, "max_per_brand": 5}

Body = tuple[str, bytes]
"""A path and what is sent to it."""


def ask(host: str, port: int, bodies: list[Body], key: str, taken: list[float], told: list[float]) -> None:
    """Send bodies one after the other; seconds measured here and milliseconds that the service reports."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
    for path, body in bodies:
        started = time.perf_counter()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        content = response.read()
        taken.append(time.perf_counter() - started)
        if response.status != 200:
            raise SystemExit(f"status {response.status}: {content[:200]!r}")
        told.append(json.loads(content)["timings_ms"]["features"])
    connection.close()


def percentiles(taken: list[float]) -> dict[str, float]:
    """Milliseconds at the 50th, 95th and 99th."""
    taken = sorted(taken)
    return {
        f"p{p}_ms": round(1000 * taken[min(len(taken) * p // 100, len(taken) - 1)], 2) for p in (50, 95, 99)
    }


def measure(host: str, port: int, bodies: list[Body], clients: int, key: str) -> dict[str, float]:
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
    told.sort()
    return {
        "clients": clients,
        "requests": len(taken),
        **percentiles(taken),
        "features_p50_ms": told[len(told) // 2],
        "per_second": round(len(taken) / seconds, 1),
    }


def in_turns(
    host: str, port: int, bodies: dict[str, list[Body]], key: str, service: int | None
) -> list[dict[str, float | str]]:
    """One client; a request of each kind after the other."""
    taken: dict[str, list[float]] = {kind: [] for kind in bodies}
    spent = dict.fromkeys(bodies, 0.0)
    for requests in zip(*bodies.values(), strict=True):
        for kind, body in zip(bodies, requests, strict=True):
            before = processor_seconds(service)
            ask(host, port, [body], key, taken[kind], [])
            spent[kind] += processor_seconds(service) - before
    return [
        {
            "kind": kind,
            "requests": len(taken[kind]),
            **percentiles(taken[kind]),
            **({"processor_ms": round(1000 * spent[kind] / len(taken[kind]), 2)} if service else {}),
        }
        for kind in bodies
    ]


def processor_seconds(service: int | None) -> float:
    """User and system time of a process so far, all threads, to the nanosecond where Linux tells it."""
    if service is None:
        return 0.0
    total = 0
    for task in os.listdir(f"/proc/{service}/task"):
        try:
            total += int(Path(f"/proc/{service}/task/{task}/schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that has just ended
            continue
    return total / 1e9


def make_bodies(users: Path | None, count: int, k: int) -> list[Body]:
    """Requests for the users of a file in turn, or for nobody."""
    return [("/v1/recommendations", json.dumps({**who, "k": k}).encode()) for who in askers(users, count)]


def askers(users: Path | None, count: int) -> list[dict[str, object]]:
    """Who asks: the users of a file in turn, or nobody."""
    if users is None:
        return [{}] * count
    import pyarrow.parquet as pq

    ids = pq.read_table(users, columns=["user_id"])["user_id"].slice(0, 100_000).to_pylist()
    step = max(1, len(ids) // count)
    return [{"user_id": ids[i * step % len(ids)]} for i in range(count)]


def bodies_of(kind: str, run: Path, count: int, k: int) -> list[Body]:
    """Requests of one kind, for the run's users and from its titles."""
    import pyarrow.parquet as pq

    who = askers(run / "users.parquet", count)
    if kind.startswith("search"):
        titles = [
            t for t in pq.read_table(run / "items.parquet", columns=["title"])["title"].to_pylist() if t
        ]
        step = max(1, len(titles) // count)
        texts = [titles[i * step % len(titles)] for i in range(count)]
        texts = [text[: len(text) // 2] + text[len(text) // 2 + 1 :] or text for text in texts]
        named = who if kind == "search_user" else [{}] * count
        asked = [{**one, "query": text, "k": k} for one, text in zip(named, texts, strict=True)]
        return [("/v1/search", json.dumps(one).encode()) for one in asked]
    extra: dict[str, object] = {
        "plain": {},
        "explain": {"explain": True},
        "rules": {"rules": RULES},
        "filter": {"rules": {"min_price": 1.0, "max_price": 3.0}},
    }[kind]
    return [("/v1/recommendations", json.dumps({**one, "k": k, **extra}).encode()) for one in who]


def main() -> None:
    """Measure and write one JSON line per number of clients, or per kind of request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--users", type=Path, help="Parquet file with user_id; nobody is named without it")
    parser.add_argument("--requests", type=int, default=1000, help="per number of clients, or per kind")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--key", default="", help="API key, where the service asks for one")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="kinds that take turns; needs --run")
    parser.add_argument("--run", type=Path, help="the run that is served, for its users and titles")
    parser.add_argument("--service", type=int, help="process number of the service")
    arguments = parser.parse_args()
    host, port, key = arguments.host, arguments.port, arguments.key
    if arguments.kinds:
        if arguments.run is None:
            parser.error("--kinds needs --run")
        made = {
            kind: bodies_of(kind, arguments.run, arguments.requests, arguments.k) for kind in arguments.kinds
        }
        for bodies in made.values():
            ask(host, port, bodies[:20], key, [], [])  # warm up
        for line in in_turns(host, port, made, key, arguments.service):
            sys.stdout.write(json.dumps(line) + "\n")
        return
    bodies = make_bodies(arguments.users, arguments.requests, arguments.k)
    ask(host, port, bodies[:50], key, [], [])  # warm up
    for clients in arguments.clients:
        figures = measure(host, port, bodies, clients, key)
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
