"""`recsys evaluate`: score lists against the answer sheet of a split, or a run against what came after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from recsys.artifacts import write_atomically
from recsys.cli.options import task_option, wide_console
from recsys.errors import DependencyError, InputError
from recsys.evaluate.answers import AnswerSheet, Protocol, load_split, read_table
from recsys.evaluate.evaluate import Comparison, Evaluation, Task, as_json, compare
from recsys.evaluate.hindsight import HINDSIGHT, HINDSIGHT_NOTE, hindsight
from recsys.evaluate.measure import Measure, measure_baselines, say_left_out
from recsys.evaluate.segments import ItemFields, standard_segments
from recsys.evaluate.standard import standard_baselines
from recsys.evaluate.tables import OnTerminal, comparison_grid, overview_grids, short_grids
from recsys.evaluate.text_baselines import whiten
from recsys.thin import ATTRIBUTES
from recsys.types import Floats

_LIST_COLUMNS = ("user_id", "item_id", "rank")
_TEXT_COLUMNS = ("title", "brand", "category", "description", "tags")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured beside the system, and where results go."""

    task: Task
    baselines: bool
    vectors: Path | None
    encode: bool
    seed: int
    html: Path | None
    markdown: Path | None
    as_json: bool


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
    "--run",
    "run_path",
    type=click.Path(path_type=Path),
    help="Instead of lists: a run, RUNS or RUNS/live; with --data or --search.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="With --run: data with events newer than the run knows."
)
@click.option(
    "--protocol",
    type=click.Choice(["sheet", "successive"]),
    default="sheet",
    show_default=True,
    help="With --run: one list per user, or one per later moment of a user.",
)
@task_option("all")
@click.option(
    "--baselines/--no-baselines", default=True, show_default=True, help="Show the baselines beside it."
)
@click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    help="Un-tuned text vectors (.npy, a row per item of items.parquet), for the text baselines.",
)
@click.option("--encode", is_flag=True, help="Make these vectors here, with the un-tuned encoder.")
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
@click.option(
    "--queries",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="With --search: items whose titles become queries.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap and of drawn cases.")
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of tables.")
def command(
    folder: Path | None,
    recs: Path | None,
    vs: Path | None,
    run_path: Path | None,
    data: Path | None,
    protocol: Protocol,
    task: Task,
    baselines: bool,
    vectors: Path | None,
    encode: bool,
    html: Path | None,
    markdown_file: Path | None,
    search_wanted: bool,
    queries: int,
    seed: int,
    json_wanted: bool,
) -> None:
    """Score ranked lists, or a run, over the whole catalogue, by segment, with 95% intervals over users.

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
    wanted = Wanted(task, baselines, vectors, encode, seed, html, markdown_file, json_wanted)
    if run_path is not None and data is not None and folder is None and recs is None and vs is None:
        _of_run(run_path, data, protocol, wanted)
    elif folder is not None and recs is not None and run_path is None and data is None:
        if protocol != "sheet":
            raise click.UsageError("lists have one place in time per user: --protocol successive needs --run")
        _of_lists(folder, recs, vs, wanted)
    else:
        raise click.UsageError("give --split with --recs (and --vs), or --run with --data or --search")


def _of_lists(folder: Path, recs: Path, vs: Path | None, wanted: Wanted) -> None:
    sheet, train = load_split(folder)
    fields = _fields(folder)
    table = _table(wanted, len(sheet.items), fields.texts)
    measure = Measure(
        standard_segments(sheet, fields), None if table is None else whiten(table), seed=wanted.seed
    )
    evaluations = [_score(recs, sheet, wanted.task, measure)]
    comparisons: list[Comparison] = []
    notes: list[str] = []
    if vs is not None:
        other = _score(vs, sheet, wanted.task, measure, taken=evaluations[0].name)
        evaluations.append(other)
        comparisons.append(compare(evaluations[0], other, seed=wanted.seed))
    if wanted.baselines:
        chosen = standard_baselines(train, table)
        others = measure_baselines(sheet, train, chosen.baselines, measure, tasks=(wanted.task,))
        evaluations += others[wanted.task]
        evaluations.append(measure(hindsight(sheet, wanted.task), sheet, wanted.task, HINDSIGHT))
        notes = [*say_left_out(chosen.left_out), HINDSIGHT_NOTE]
    _show(wanted, f"Evaluation on {folder.name}", evaluations, comparisons, notes)


def _of_run(run: Path, data: Path, protocol: Protocol, wanted: Wanted) -> None:
    from recsys.backtest import measure_run
    from recsys.data.catalogue import item_texts
    from recsys.data.interactions import load_dataset
    from recsys.fit import Shop
    from recsys.loading import load_run

    loaded = load_run(run)
    config = loaded.config
    config = config.model_copy(update={"run": config.run.model_copy(update={"seed": wanted.seed})})
    shop = Shop(load_dataset(data, config.data), config)
    table = _table(wanted, len(shop.vocabulary), item_texts(shop.dataset.items))
    measured = measure_run(loaded, shop, protocol, wanted.task, table, baselines=wanted.baselines)
    title = f"Run {loaded.run_id} on {data.name}"
    _show(wanted, title, measured.evaluations, measured.comparisons, measured.notes())


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
    known = {name: items[name].tolist() for name in ATTRIBUTES if name in items}
    texts = item_texts(items.assign(**said)) if said else ()
    categories = said["category"].tolist() if "category" in said else ()
    return ItemFields(texts, categories, known)


def _table(wanted: Wanted, num_items: int, texts: Sequence[str]) -> Floats | None:
    """Vectors of the un-tuned encoder, read or made, or None where nobody asked for them."""
    if wanted.vectors is not None:
        return _load_vectors(wanted.vectors, num_items)
    if not wanted.encode:
        return None
    try:
        from recsys.distributed import training_device
        from recsys.model.encoder import TextEncoder
    except ImportError as error:
        raise DependencyError(f"--encode needs the extra 'train' ({error})") from error
    from recsys.config import Config

    config = Config()
    encoder = TextEncoder.load(config.encoder, training_device(config.run.device), config.train.precision)
    return encoder.encode(list(texts), progress="item texts")


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


def _show(
    wanted: Wanted,
    title: str,
    evaluations: list[Evaluation],
    comparisons: list[Comparison],
    notes: list[str],
) -> None:
    if wanted.html is not None or wanted.markdown is not None:
        from recsys.evaluate.report import ReportContent, markdown, write_report  # brings matplotlib

        content = ReportContent(title, evaluations, comparisons, notes=notes)
        if wanted.html is not None:
            write_report(wanted.html, content)
        if wanted.markdown is not None:
            write_atomically(wanted.markdown, markdown(content))
    if wanted.as_json:
        click.echo(json.dumps({**as_json(evaluations, comparisons), "notes": notes}))
        return
    show_results(evaluations, comparisons)
    for note in notes:
        click.echo(note)


def show_results(
    evaluations: list[Evaluation], comparisons: list[Comparison], *, short: bool = False
) -> None:
    """Print the tables of one protocol and task, or what fits on a screen of them."""
    console = wide_console()
    grids = short_grids(evaluations) if short else overview_grids(evaluations)
    if comparisons:
        grids.append(comparison_grid(comparisons, segments=not short))
    for grid in grids:
        console.print(OnTerminal(grid))
