"""`recsys augment report`: what an expansion did, as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--from", "folder", type=click.Path(path_type=Path), required=True, help="Folder of an expansion."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="HTML file. [default: report.html in the folder]",
)
@click.option(
    "--samples", type=click.IntRange(0, 200), default=20, show_default=True, help="Rows to show of each kind."
)
def report(folder: Path, out: Path | None, samples: int) -> None:
    """Write one HTML page: counts by op and reason, how the data moved, samples, cost and time."""
    from recsys.augment.report.page import write_report

    path = out or folder / "report.html"
    content = write_report(folder, path, samples=samples)
    for tally in content.tallies:
        refused = tally.tried - tally.accepted
        said = f"{tally.accepted:,} accepted, {refused:,} rejected, {tally.left_alone:,} left alone"
        click.echo(f"{tally.kind}: {said}")
    for warning in content.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"written to {path}")
