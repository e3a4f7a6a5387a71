"""Runs a script alone or as two processes, and reads what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def result_of(folder: Path, script: str, launcher: tuple[str, ...] = ()) -> np.lib.npyio.NpzFile:
    """`folder/result.npz`, which the script writes; it may name `{tests}` and `{folder}`."""
    folder.mkdir()
    path = folder / "script.py"
    path.write_text(
        script.replace("{tests}", repr(str(Path(__file__).parent))).replace("{folder}", repr(str(folder)))
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "result.npz")
