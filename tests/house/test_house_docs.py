"""What the documentation says is so: commands exist, links resolve, the twins agree, settings are these."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from recsys import cli as seam
from recsys.config import load_config
from recsys.settings_page import settings_page

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def code(page: Path) -> str:
    """What stands in fenced blocks of shell, and in backticks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, flags=re.S)
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", prose)])


def command_lines(page: Path) -> list[str]:
    """Every `recsys ...` in a page's code that names a command, without its comment."""
    lines = [line.partition(" #")[0].strip().rstrip("\\") for line in code(page).splitlines()]
    lines = [re.sub(r"^(\$ )?(\.venv/bin/)?", "", line) for line in lines]
    return [line for line in lines if re.match(r"recsys [a-z]", line)]


def headings(page: Path) -> list[int]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.M)]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    dead = [target for target in targets if not (page.parent / target.partition("#")[0]).exists()]
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_commands_in_the_docs_exist_with_their_options(page: Path) -> None:
    wrong = [
        line for line in command_lines(page) if (problem := problem_with(line)) and print(problem) is None
    ]
    assert wrong == []


def problem_with(line: str) -> str | None:
    """Why a `recsys ...` line would not be understood; its files need not be there."""
    line = re.split(r"\s{2,}", line)[0]  # an aligned comment
    line = re.split(r"\s(?:\||&&|;|>)\s|\s…|\s\.\.\.|\s\[", line)[0]
    try:
        words = shlex.split(line)[1:]
    except ValueError as error:
        return f"{line}: {error}"
    command: click.Command = seam.cli
    context = click.Context(command, info_name="recsys")
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return None if words[0].isupper() or "|" in words[0] else f"{line}: no command {words[0]!r}"
        command, words = found, words[1:]
    known = {name for option in command.params for name in [*option.opts, *option.secondary_opts]}
    known |= {"-h", "--help", "--version", "-v", "--verbose"}
    unknown = [word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1]
    unknown = [word for word in unknown if word not in known and not word.lstrip("-").isdigit()]
    return f"{line}: no option {', '.join(unknown)}" if unknown else None


def test_the_check_of_commands_can_fail() -> None:
    assert problem_with("recsys nonsense") is not None
    assert problem_with("recsys run --data a --nonsense") is not None
    assert problem_with("recsys data sample --size tiny --out a --seed 1") is None


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_settings_in_the_docs_exist(page: Path) -> None:
    for setting in re.findall(r"--set\s+([a-z_]+\.[a-z_.]+=[^\s`]+)", page.read_text(encoding="utf-8")):
        load_config(settings=[setting])


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_make_targets_in_the_docs_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = set(re.findall(r"^make ([a-z]+)", code(page), flags=re.M))
    assert named <= targets


def test_every_command_stands_in_both_readmes() -> None:
    for page in (ENGLISH, CHINESE):
        listed = re.findall(r"^\| `recsys ([a-z]+)` \|", page.read_text(encoding="utf-8"), flags=re.M)
        assert sorted(listed) == sorted(seam.COMMANDS)


def test_the_readmes_are_twins() -> None:
    assert headings(ENGLISH) == headings(CHINESE)
    for pattern in (r"```bash\n.*?```", r"\]\((?!README)[^)\s]+\)", r"^\|", r"^\* "):
        one, other = (
            re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.S | re.M)
            for page in (ENGLISH, CHINESE)
        )
        assert one == other
    assert set(command_lines(ENGLISH)) == set(command_lines(CHINESE))


def test_the_readmes_show_the_same_figures() -> None:
    """Numbers in the tables of results, row by row."""
    one, other = (
        [
            re.findall(r"\d+\.\d+", line)
            for line in page.read_text(encoding="utf-8").splitlines()
            if line[:1] == "|"
        ]
        for page in (ENGLISH, CHINESE)
    )
    assert one == other


def test_the_page_of_settings_is_made_from_the_settings() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_pages_speak_of_the_project_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"/(?:work|root|home|tmp)/\w+", text) == []


def test_make_alone_lists_every_target() -> None:
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == targets
    assert {"help", "setup", "demo", "test", "lint", "bench", "serve", "clean"} <= targets


def test_constraints_pin_what_pyproject_asks_for() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [
        line for name in ("cpu", "train", "serve", "dev") for line in extras[name]
    ]
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not pinned"
        assert requirement.specifier.contains(pinned[name]), f"{name} {pinned[name]} is outside its range"
    assert not [line for line in text.splitlines() if "+" in line and not line.startswith("#")]
