"""`recsys doctor`: what is installed, which device will be used, what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import click

from recsys.doctor import Finding, Purpose, as_tree, examine, works
from recsys.settings_page import settings_page

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "missing": ("MISSING", "red")}


@click.command("doctor")
@click.option(
    "--runs",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder of runs to look at.",
)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(get_args(Purpose)),
    default="everything",
    show_default=True,
    help="What this machine must be able to do.",
)
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
@click.option("--settings", is_flag=True, help="Print every setting as a Markdown page instead.")
@click.pass_context
def command(ctx: click.Context, runs: Path, purpose: Purpose, as_json: bool, settings: bool) -> None:
    """Say what is installed, which device will be used, what is missing.

    Ends with 0 when the machine can do what was asked about, and with 1 when something is missing.
    """
    if settings:
        click.echo(settings_page(), nl=False)
        return
    findings = examine(runs, purpose)
    if as_json:
        click.echo(json.dumps(as_tree(findings), indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            _show(finding)
        missing = sum(finding.verdict == "missing" for finding in findings)
        click.echo(f"\n{missing} missing" if missing else f"\nready for {purpose}")
    ctx.exit(0 if works(findings) else 1)


def _show(finding: Finding) -> None:
    mark, colour = _MARKS[finding.verdict]
    click.echo(click.style(f"{mark:8}", fg=colour) + f"{finding.topic:15}{finding.detail}")
    if finding.hint:
        click.echo(f"{'':23}{finding.hint}")
