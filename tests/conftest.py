"""What tests of several rooms need."""

import contextlib
import subprocess
import sys

import pytest

_HOLD = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print('held', flush=True); time.sleep(60)"
)


def pytest_collection_modifyitems(items):
    """Tests that share what is made once per module go to one worker: on another it would be made again."""
    for item in items:
        if any(found[-1].scope == "module" for found in item._fixtureinfo.name2fixturedefs.values()):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))


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
