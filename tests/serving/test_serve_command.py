import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mini_run import write_run

from recsys.artifacts import promote
from recsys.cli import main

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--run", "{tmp}/none"], "neither a run directory"),
        (["--run", "{tmp}", "--port", "0"], "--port"),
        ([], "--run"),
        (["--run", "{run}", "--features", "{tmp}/none"], "no such folder"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, arguments, says):
    run = write_run(tmp_path / "run", int(time.time()))
    status = main(["serve", *(text.format(tmp=tmp_path, run=run) for text in arguments)])
    captured = capsys.readouterr()
    assert status in (1, 2)
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="the command tells users to ask with curl; there is none"
)
def test_serve_answers_and_says_how_to_ask(tmp_path):
    promote(write_run(tmp_path / "run", int(time.time()) - 60))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys", "serve", "--run", str(tmp_path / "live"), "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "RECSYS_FEATURE_SOURCE": "snapshot", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
                    assert response.status == 200
                    break
            except OSError:
                assert time.monotonic() < until
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.1)
        said = process.stdout.readline() + process.stdout.readline()
        assert f"http://127.0.0.1:{port}/docs" in said
        curl = said.splitlines()[1].strip()
        answer = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=20, check=True)
        assert '"fallback":null' in answer.stdout
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, -signal.SIGINT)
        process.stdout.close()


def test_the_command_is_imported_without_numpy():
    """Its threads are pinned through the environment, which NumPy reads when it is imported."""
    code = "import sys, recsys.cli, recsys.cli.serve, serving.settings; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0
