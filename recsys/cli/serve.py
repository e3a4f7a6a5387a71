"""`recsys serve`: answer recommendation requests over HTTP."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import click

from recsys.errors import ArtifactError, ConfigError, DependencyError


@click.command()
@click.option(
    "--run", required=True, type=click.Path(path_type=Path), help="A run, or RUNS/live to follow promotions."
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 serves other machines, too.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option(
    "--features",
    type=click.Path(path_type=Path),
    help="The feature store's folder; RUNS/features when not given.",
)
def command(run: Path, port: int, host: str, workers: int, features: Path | None) -> None:
    """Answer recommendation requests over HTTP until interrupted.

    Further settings are environment variables that begin with RECSYS_ (see docs/api.md).
    """
    needed = ("fastapi", "prometheus_client", "pydantic_settings", "uvicorn")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise DependencyError(f"serving needs {', '.join(missing)}: pip install 'recsys[serve]'")
    if features is not None and not features.is_dir():
        raise ConfigError(f"--features {features}: there is no such folder")
    # The environment reaches every worker process; arguments would not.
    os.environ["RECSYS_RUN"] = str(run)
    if features is not None:
        os.environ["RECSYS_FEATURES"] = str(features)
    from serving.settings import load_settings

    settings = load_settings()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        # NumPy reads this once, when it is imported: hence no import of it above. Requests run side by side,
        # and matrix products that each take every core cost them 8 ms of CPU instead of 3.
        os.environ.setdefault(name, str(settings.threads))
    from recsys.artifacts import load_manifest, resolve_run

    found = resolve_run(run)
    if load_manifest(found).finished is None:
        raise ArtifactError(f"{found}: not finished, so it cannot be served")
    import uvicorn

    _introduce(found, host, port, needs_key=bool(settings.keys()))
    uvicorn.run(
        "serving.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        access_log=False,
        server_header=False,
    )


def _introduce(run: Path, host: str, port: int, needs_key: bool) -> None:
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared only
    body = json.dumps({"user_id": _some_user(run), "k": 5}, ensure_ascii=False)
    key = ' -H "X-API-Key: $KEY"' if needs_key else ""
    click.echo(
        f"Run {run.name} at {address}; docs at {address}/docs. Ready when {address}/readyz says so. Ask:"
    )
    click.echo(
        f"  curl -s {address}/v1/recommendations{key} -H 'Content-Type: application/json' -d {_quoted(body)}"
    )


def _some_user(run: Path) -> str:
    """A user to ask for, from the run's own copy of the features where it can be read."""
    try:
        import pyarrow.parquet as pq

        batch = next(pq.ParquetFile(run / "users.parquet").iter_batches(1, columns=["user_id"]))
        return str(batch["user_id"][0].as_py())
    except (ImportError, OSError, StopIteration, ValueError, KeyError, IndexError):
        return "u1"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
