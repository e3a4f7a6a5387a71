from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_service import make_release, wait_ready
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.deps import Release
from serving.settings import Settings

Serve = Callable[..., TestClient]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture
def serve(run_folder: Path) -> Iterator[Serve]:
    """A client of a started, ready service over a release; settings by keyword."""
    clients: list[TestClient] = []

    def start(release: Release | None = None, **settings) -> TestClient:
        release = make_release(run_folder) if release is None else release
        app = create_app(Settings(run=run_folder, **settings), load=lambda path, _: release)
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        wait_ready(client)
        release.backend.asked.clear()
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)
