#!/usr/bin/env bash
# Makes the virtual environment and installs the project into it, editable, under constraints.txt.
#   infra/setup.sh VENV EXTRAS
# The environment may name the interpreter (PYTHON) and an index that has torch's CPU build (TORCH_INDEX).
set -euo pipefail

venv=$1
extras=$2
index=${TORCH_INDEX:-}

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not there"
        recent "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 | head -n 1); Python 3.11 or newer is needed"
        echo "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11; do
        if recent "$name"; then
            echo "$name"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, and python3 is $(python3 --version 2>&1 | head -n 1 || true)." \
        "Install one and name it: make setup PYTHON=/path/to/python3.12"
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module. On Debian and Ubuntu: apt install python3-venv"
    echo "setup: making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
recent "$venv/bin/python" || fail "$venv is made of $("$venv/bin/python" --version); remove it and run again"

pip=("$venv/bin/python" -m pip install --disable-pip-version-check --quiet --quiet --constraint constraints.txt)
# An editable install from pyproject.toml alone needs pip 21.3; every supported Python ships a newer one.
if [ "$(uname -s)" = Linux ] && [[ ",$extras," == *,cpu,* && ",$extras," == *,train,* ]] && [ -n "$index" ]; then
    # PyPI's Linux wheel of torch brings gigabytes of CUDA along. The CPU build comes from its publisher, torch alone
    # and nothing else from there; where that host is out of reach, whatever pip finds will do.
    echo "setup: torch for the CPU"
    "${pip[@]}" --no-deps --retries 1 --extra-index-url "$index" torch ||
        echo "setup: no CPU build of torch to be had; going on with what pip finds"
fi
echo "setup: installing recsys[$extras] into $venv (some minutes the first time)"
"${pip[@]}" --editable ".[$extras]"
