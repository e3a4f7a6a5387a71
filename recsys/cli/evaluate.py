"""`recsys evaluate`: score ranked lists against the answer sheet of a split."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from recsys.artifacts import write_atomically
from recsys.errors import InputError
from recsys.evaluate.answers import AnswerSheet, load_split, read_table
from recsys.evaluate.evaluate import Comparison, Evaluation, Task, as_json, compare
from recsys.evaluate.measure import Measure, measure_baselines, say_left_out
from recsys.evaluate.segments import ItemFields, standard_segments
from recsys.evaluate.standard import standard_baselines
from recsys.evaluate.tables import comparison_grid, overview_grids, to_rich
from recsys.evaluate.text_baselines import whiten
from recsys.types import Floats

_LIST_COLUMNS = ("user_id", "item_id", "rank")
_TEXT_COLUMNS = ("title", "brand", "category", "description", "tags")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--split",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder with train/interactions.parquet, train/items.parquet, truth.parquet, users.parquet.",
)
@click.option(
    "--recs",
    type=click.Path(path_type=Path),
    help="Lists to score, Parquet: user_id, item_id, rank (1 is best).",
)
@click.option(
    "--vs", type=click.Path(path_type=Path), help="Other lists: adds the paired difference to them."
)
@click.option(
    "--task",
    type=click.Choice(["all", "novel"]),
    default="all",
    show_default=True,
    help="novel takes out what the user already had.",
)
@click.option(
    "--baselines/--no-baselines", default=True, show_default=True, help="Show the baselines beside it."
)
@click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    help="Un-tuned text vectors (.npy, a row per item of items.parquet), for the text baselines.",
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write a report with plots here.")
@click.option(
    "--markdown", "markdown_file", type=click.Path(path_type=Path), help="Also write the tables here."
)
@click.option(
    "--search",
    "search_wanted",
    is_flag=True,
    help="Measure a run's search instead, on queries made from titles.",
)
@click.option("--run", "run_path", type=click.Path(path_type=Path), help="With --search: the run.")
@click.option(
    "--queries",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="With --search: items whose titles become queries.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of tables.")
def command(
    folder: Path | None,
    recs: Path | None,
    vs: Path | None,
    task: Task,
    baselines: bool,
    vectors: Path | None,
    html: Path | None,
    markdown_file: Path | None,
    search_wanted: bool,
    run_path: Path | None,
    queries: int,
    seed: int,
    json_wanted: bool,
) -> None:
    """Score ranked lists over the whole catalogue, by segment, with 95% intervals over users.

    With --search, score a run's search instead: does it find an item by its title, by half of it, misspelled?
    """
    if search_wanted:
        if run_path is None:
            raise click.UsageError("--search needs --run")
        from recsys.cli.known_item import evaluate_search  # FAISS and ONNX Runtime, where asked for

        evaluate_search(
            run_path, queries, seed, baselines=baselines, json_wanted=json_wanted, markdown_file=markdown_file
        )
        return
    if folder is None or recs is None:
        raise click.UsageError("--split and --recs are needed, or --search with --run")
    sheet, train = load_split(folder)
    table = None if vectors is None else _load_vectors(vectors, len(sheet.items))
    segments = standard_segments(sheet, _fields(folder))
    measure = Measure(segments, None if table is None else whiten(table), seed=seed)
    evaluations = [_score(recs, sheet, task, measure)]
    comparisons: list[Comparison] = []
    notes: list[str] = []
    if vs is not None:
        other = _score(vs, sheet, task, measure, taken=evaluations[0].name)
        evaluations.append(other)
        comparisons.append(compare(evaluations[0], other, seed=seed))
    if baselines:
        chosen = standard_baselines(train, table)
        evaluations += measure_baselines(sheet, train, chosen.baselines, measure, tasks=(task,))[task]
        notes = say_left_out(chosen.left_out)
    if html is not None or markdown_file is not None:
        _write_report(html, markdown_file, f"Evaluation on {folder.name}", evaluations, comparisons, notes)
    if json_wanted:
        click.echo(json.dumps({**as_json(evaluations, comparisons), "notes": notes}))
    else:
        show_results(evaluations, comparisons)
        for note in notes:
            click.echo(note)


def _score(path: Path, sheet: AnswerSheet, task: Task, measure: Measure, taken: str = "") -> Evaluation:
    frame = read_table(path, _LIST_COLUMNS)
    name = path.stem if path.stem != taken else f"{path.stem} (other)"
    try:
        return measure(frame, sheet, task, name)
    except InputError as error:  # the inner room does not know which file this is
        raise InputError(
            error.problem, file=str(path), column=error.column, count=error.count,
            example=error.example, hint=error.hint,
        ) from error  # fmt: skip


def _fields(folder: Path) -> ItemFields:
    """Texts, categories and attributes of the split's catalogue, as far as its columns go."""
    from recsys.data.catalogue import item_texts

    items = read_table(folder / "train" / "items.parquet", ("item_id",))
    items = items[~items["item_id"].astype(str).duplicated()]
    said = {name: items[name].fillna("").astype(str) for name in _TEXT_COLUMNS if name in items}
    attributes: dict[str, list[str]] = {n: said[n].tolist() for n in ("category", "brand") if n in said}
    texts = item_texts(items.assign(**said)) if said else ()
    return ItemFields(texts, attributes.get("category", ()), attributes)


def _load_vectors(path: Path, num_items: int) -> Floats:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"not a readable .npy array ({error})", file=str(path)) from error
    if not isinstance(table, np.ndarray) or table.ndim != 2 or len(table) != num_items:
        shape = getattr(table, "shape", "several arrays")
        raise InputError(
            f"expected one row per item of the catalogue ({num_items:,}), got {shape}", file=str(path)
        )
    return np.asarray(table, np.float32)


def _write_report(
    html: Path | None, markdown_file: Path | None, title: str, evaluations: list[Evaluation],
    comparisons: list[Comparison], notes: list[str],
) -> None:  # fmt: skip
    from recsys.evaluate.report import ReportContent, markdown, write_report  # matplotlib, where asked for

    content = ReportContent(title, evaluations, comparisons, notes=notes)
    if html is not None:
        write_report(html, content)
    if markdown_file is not None:
        write_atomically(markdown_file, markdown(content))


def show_results(evaluations: list[Evaluation], comparisons: list[Comparison]) -> None:
    """Print the tables of one task."""
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to fit into
        console = Console(width=200)
    grids = overview_grids(evaluations)
    if comparisons:
        grids.append(comparison_grid(comparisons))
    for grid in grids:
        console.print(to_rich(grid))
