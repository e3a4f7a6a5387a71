"""`recsys run`: every stage, from two files to a promoted run."""

from __future__ import annotations

from pathlib import Path

import click

from recsys.cli.options import config_options, data_option, out_option
from recsys.config import load_config


@click.command("run")
@data_option()
@out_option("Folder of runs.")
@config_options()
@click.option("--fresh", is_flag=True, help="Begin anew even where an unfinished run could go on.")
def command(data: Path, out: Path, config: Path | None, settings: tuple[str, ...], fresh: bool) -> None:
    """Make a run and promote it: OUT/live points to it afterwards.

    Started again after a kill with the same data and settings, it goes on with the unfinished run.
    """
    effective = load_config(config, settings)
    from recsys.cli.evaluate import show_results
    from recsys.evaluate.evaluate import by_task
    from recsys.pipeline import run_pipeline  # torch takes seconds to import
    from recsys.track import track_run, tracked

    with tracked(effective.track, out, "recsys run", data.resolve().name) as tracker:
        run, measured = run_pipeline(data, out, effective, fresh=fresh)
        if measured is not None:
            track_run(tracker, run)
    if measured is None:
        return
    for kind, ours in by_task(measured.evaluations).items():
        show_results(
            ours, [one for one in measured.comparisons if (one.protocol, one.task) == kind], short=True
        )
    for note in measured.notes():
        click.echo(note)
    click.echo(f"run:    {run}")
    click.echo(f"report: {run / 'report.html'}")
    click.echo(f"next:   recsys recommend --run {out} --users users.parquet --k 20 --out recs.parquet")
    click.echo(f"        recsys serve --run {out / 'live'} --port 8000")
