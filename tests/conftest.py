"""What tests of several rooms need."""

import contextlib
import subprocess
import sys

import pytest

_HOLD = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def held_by_another():
    """A context in which another process has the lock of a folder."""

    @contextlib.contextmanager
    def held(folder):
        command = [sys.executable, "-c", _HOLD, str(folder / ".lock")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            holder.stdout.readline()
            yield
            holder.kill()

    return held
