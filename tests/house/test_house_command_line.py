"""The seam from errors to exit statuses: 0 done, 1 failure, 2 bad usage or input, one line of complaint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from recsys import cli as seam
from recsys.errors import (
    ArtifactError,
    ConfigError,
    DependencyError,
    InputError,
    LeakageError,
    RecsysError,
)

COMMANDS = sorted(seam.COMMANDS)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """`recsys doctor`, made to raise the one error put into the list."""
    errors: list[BaseException] = []

    @click.command("doctor")
    def command() -> None:
        raise errors[0]

    monkeypatch.setattr("recsys.cli.doctor.command", command)
    return errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("the column is missing", file="items.csv", column="title"), 2),
        (ConfigError("there is no setting 'a.b'"), 2),
        (ArtifactError("not a run"), 1),
        (DependencyError("no store"), 1),
        (LeakageError("the future"), 1),
        (RecsysError("two\nlines\tof it"), 1),
        (click.UsageError("no such option"), 2),
        (click.Abort(), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_every_error_is_one_line_and_its_status(
    failing: list[BaseException], error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(error)
    assert seam.main(["doctor"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.lstrip("\n")  # click ends the line that ^C stands on
    assert line.startswith("recsys: ")
    assert line.count("\n") == 1


def test_a_programmers_error_is_not_dressed_up(failing: list[BaseException]) -> None:
    failing.append(AssertionError("a broken invariant"))
    with pytest.raises(AssertionError, match="a broken invariant"):
        seam.main(["doctor"])


def test_tracebacks_on_request(failing: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    failing.append(ArtifactError("not a run"))
    monkeypatch.setenv("RECSYS_TRACEBACK", "1")
    with pytest.raises(ArtifactError):
        seam.main(["doctor"])


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["doctor", "--nonsense"], ["run"]])
def test_bad_usage_is_two_and_points_to_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert seam.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "--help" in captured.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert seam.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: recsys {name}") or f" {name} " in text.splitlines()[0]
    for sub in subcommands(name):
        assert seam.main([name, sub, "--help"]) == 0


def subcommands(name: str) -> list[str]:
    command = seam.cli.get_command(click.Context(seam.cli), name)
    return sorted(command.commands) if isinstance(command, click.Group) else []


def test_the_list_of_commands_imports_none_of_them() -> None:
    program = (
        "import sys; from recsys.cli import main; status = main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'feast', 'pandas', 'faiss', 'onnxruntime', 'matplotlib'}\n"
        "sys.exit(status or ' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)


def test_waiting_threads_do_not_spin_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    seam.main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    seam.main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_script_and_the_module_are_one_command() -> None:
    for command in (["-m", "recsys"], ["-c", "from recsys.cli import run; run()"]):
        done = subprocess.run(
            [sys.executable, *command, "--version"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert "recsys" in done.stdout


def test_a_reader_that_goes_away_is_no_failure() -> None:
    program = f"{sys.executable} -m recsys doctor --settings | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_input_errors_say_where_how_many_and_an_example() -> None:
    error = InputError(
        "not a time",
        file="a.csv",
        column="timestamp",
        count=1200,
        example="yesterday",
        hint="Use Unix seconds",
    )
    assert str(error) == (
        "a.csv, column 'timestamp': not a time (1,200 rows), for example 'yesterday'. Use Unix seconds"
    )
    assert str(InputError("empty", count=1)) == "empty (1 row)"
    long = InputError("too long", example="x" * 500)
    assert len(str(long)) < 120


def test_the_family_is_one() -> None:
    import recsys.errors as family

    kinds = [kind for kind in vars(family).values() if isinstance(kind, type)]
    assert all(issubclass(kind, RecsysError) for kind in kinds)
    assert {kind.exit_code for kind in kinds} <= {1, 2}


def test_a_data_folder_that_is_not_there_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seam.main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
