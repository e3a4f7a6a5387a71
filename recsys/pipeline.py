"""Every stage in order, from two files to a promoted run.

    data → features → encode → pretrain → policy → select (towers, fine-tuning) → ranker → new places → online
         → report → served ranker → final → queries → export

`policy` says how the shop is augmented, if at all. `select` is fitted on the oldest events and chooses on the
next; `report` is fitted up to the newest slice and measured on it once; `final` is fitted on everything and
served, with a ranker that has learned from the newest slice too. Started again after a kill, the same command
goes on: each long stage finds its own checkpoint.

Under torchrun every process walks through the same stages. The first does all that is not fitting (data,
features, encoding, ranker, figures, export) while the others wait, and what it made they read from the run.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys.augment.online_side import POLICY
from recsys.augmented import AugmentedRows, augment_rows, store_rows, store_texts
from recsys.config import Config
from recsys.data.contexts_from import contexts_before
from recsys.data.interactions import load_dataset
from recsys.distributed import join_group, limit_threads, training_device
from recsys.export import export_text_encoder, export_towers
from recsys.finetune import finetune_encoder
from recsys.fit import Shop, held_out_queries, load_fit, write_fit
from recsys.lexical import LexicalIndex
from recsys.loading import NEW_PLACES, ONLINE, SERVED_RANKER, augmenter_of
from recsys.measure import Measured, measure_report, write_measured
from recsys.model.encoder import TextEncoder
from recsys.model.fitted import TowersFit
from recsys.model.gate import Judged, judge
from recsys.model.whitening import Whitening
from recsys.new_places import size_new_places
from recsys.online import decide_online, store_online
from recsys.policy_choice import OFF, choose_policy, falls_behind, is_open, require_policies, with_policy
from recsys.prepared import Prepared, encode_texts, load_prepared, prepare_shop
from recsys.rank_features import RANK_FEATURES
from recsys.ranking import refit_ranker, train_ranker
from recsys.ranking_slices import ranking_slices
from recsys.runs import OpenRun, augmentation_share, join_run, open_run
from recsys.train import fit_towers
from recsys.types import Floats
from recsys.words import Words, reader_of_queries, words_of

logger = logging.getLogger(__name__)

FEATURES = "features"
"""Folder of the feature store beside the runs."""
AUGMENTED = "augmented"
"""Folder of a run with the provenance of every augmented row."""
TEXTS = f"{AUGMENTED}/texts.parquet"
"""That of item texts."""
REFIT = "refit"
"""The towers over fine-tuned vectors, to be compared with those of `select`."""
RANKING_LISTS = "ranking_lists.npz"
"""Lists of the validation slice, until the served ranker has learned from them."""
POLICIES = "policies/"
"""The towers of each policy that is tried, to be compared with those without."""


def run_pipeline(
    data: Path, out: Path, config: Config, *, fresh: bool = False
) -> tuple[Path, Measured | None]:
    """Make a run from a dataset and promote it.

    Args:
        data: Folder with `interactions` and `items`.
        out: Folder of runs; the feature store lives in it too.
        config: The effective configuration.
        fresh: Do not go on with an unfinished run of the same configuration and data.

    Returns:
        The run's folder, which `out/live` points to, and what the run measured (None in a process of
        torchrun that only fitted along).

    Raises:
        RecsysError: bad data or configuration, a store or a package missing.
    """
    require_policies(config)
    limit_threads(config.run.threads)
    dataset = load_dataset(data, config.data)
    group = join_group(training_device(config.run.device))
    mine = open_run(out, config, dataset.digests, fresh=fresh) if group.writes else None
    folder = group.text(str(mine.folder) if mine else "")
    run = mine or join_run(Path(folder))
    shop = Shop(dataset, config)
    with run.stage("data") as figures:
        figures.update(
            events=len(dataset.interactions), items=len(dataset.items), report=dataset.report.to_json()
        )
    if run.leads and "features" not in run.manifest.stages:
        prepare_shop(run, shop, out / FEATURES)
    group.wait()
    prepared = load_prepared(run, shop)
    if run.leads:
        encode_texts(run, prepared, config)
    group.wait()
    words = words_of(run, prepared, config)
    asked, config = config, _policy(run, prepared, words, config)
    with run.stage("augment") as figures:
        words = words.varied(prepared, config, run.folder / TEXTS)
        figures.update(texts=words.changed.counts)
    if run.leads:
        store_texts(out / FEATURES, words.changed, run.folder / TEXTS, config)
    words, chosen = _select(run, prepared, words, config)
    _ranker(run, prepared, config)
    _new_places(run, prepared, words.raw, config)
    _online(run, prepared)
    measured = _report(run, prepared, words, chosen, config)
    _refit_ranker(run, prepared, config)
    towers = _final(run, prepared, words, chosen, config)
    files = _export(run, prepared, words, towers, asked) if run.leads else []
    cost = augmentation_share(run.manifest.stages) if run.leads and config.augment.enabled else None
    if cost is not None:
        spent, trained = cost
        logger.info(
            "augmentation took %.1f s of CPU, %.1f %% of the training's", spent, 100 * spent / trained
        )
    if measured is not None:
        write_measured(run.folder, measured, run.manifest, config)
        run.finish(files, measured.to_dict())
    group.wait()
    return run.folder, measured


def _towers(
    run: OpenRun,
    prepared: Prepared,
    words: Words,
    config: Config,
    stage: str,
    cut: int,
    *,
    chosen: TowersFit | None = None,
    epochs: int | None = None,
    on_epoch: Callable[[int, float], bool] | None = None,
) -> tuple[TowersFit, AugmentedRows]:
    """Fit the towers on the contexts before a cut, augmented as configured.

    With `chosen`, for as many epochs and with the lift of those towers, and validation is not looked at;
    without, validation chooses the lift, and the number of epochs where it is not given. `on_epoch`, told
    each epoch's figure, ends it by True.
    """
    shop = prepared.shop
    fit = contexts_before(prepared.contexts, cut, prepared.grain)
    provenance = run.folder / AUGMENTED / f"{stage}_histories.parquet"
    relations = shop.dataset.relations
    with run.part("augment"):
        augmented = augment_rows(fit, shop.vocabulary, cut, config, provenance, relations, words.vectors)
    towers = fit_towers(
        augmented.contexts,
        words.vectors,
        shop.item_counts(cut),
        config,
        run.folder / "training" / stage,
        validation=prepared.validation if chosen is None else None,
        epochs=max(chosen.epochs, 1) if chosen else epochs,
        lift=chosen.lift if chosen else None,
        fusion=augmented.fusion,
        representation=augmented.representation,
        text_variants=words.variants,
        # The same draws as the fit it is compared with.
        stage="select" if stage == REFIT or stage.startswith(POLICIES) else stage,
        on_epoch=on_epoch,
    )
    return towers, augmented


def _policy(run: OpenRun, prepared: Prepared, words: Words, config: Config) -> Config:
    """The configuration with the policy that validation chose, where that is left to the run."""
    if not is_open(config):
        return config
    if "policy" in run.manifest.stages:
        return with_policy(config, run.manifest.stages["policy"]["policy"])
    cut, group = prepared.cut_validation, join_group(training_device(config.run.device))
    names = (OFF, *config.augment.candidates)
    with run.stage("policy") as figures:
        judged: dict[str, Judged] = {}
        curves: dict[str, tuple[float, ...]] = {}
        for number, name in enumerate(names):
            logger.info("policy %d of %d: the towers with '%s'", number + 1, len(names), name)
            tried, stage = with_policy(config, name), f"{POLICIES}{number}"
            varied = words.varied(prepared, tried, run.work / stage / "texts.parquet")
            behind = falls_behind(curves.get(OFF, ()))
            towers, _ = _towers(run, prepared, varied, tried, stage, cut, on_epoch=behind)
            curves[name], judged[name] = towers.validation, judge(towers, prepared.validation, config)
        values = {name: found.values["all"] for name, found in judged.items()}
        choice = choose_policy(values, judged[OFF].owners, config.run.seed)
        number = int(group.first(names.index(choice.policy)))
        figures.update(policy=names[number], why=choice.why, differences=choice.differences)
        figures.update(epochs={name: len(curve) for name, curve in curves.items()})
        logger.info("policy %s: %s", names[number], choice.why)
        if run.leads:
            _keep_fit(run.folder, f"{POLICIES}{number}")
    group.wait()
    return with_policy(config, names[number])


def _keep_fit(folder: Path, stage: str) -> None:
    """Let `select` find the fit of the chosen policy done; the others are removed."""
    training = folder / "training"
    shutil.rmtree(training / "select", ignore_errors=True)
    (training / stage).rename(training / "select")
    shutil.rmtree(training / POLICIES)
    shutil.rmtree(folder / AUGMENTED / POLICIES, ignore_errors=True)


def _select(run: OpenRun, prepared: Prepared, words: Words, config: Config) -> tuple[Words, TowersFit]:
    cut = prepared.cut_validation
    with run.stage("select") as figures:
        towers, augmented = _towers(run, prepared, words, config, "select", cut)
        figures.update(towers.report(), augmented_rows=augmented.counts, augmented_texts=words.changed.counts)
    if config.finetune.enabled:
        with run.stage("finetune") as figures:
            tuned, figures_of_it = _finetune(run, prepared, words, towers, config)
            figures.update(figures_of_it)
            if tuned is not None:
                words, towers = tuned
    if run.leads:
        _write(run.work / "select", prepared.shop, cut, towers)
    return words, towers


def _finetune(
    run: OpenRun, prepared: Prepared, words: Words, towers: TowersFit, config: Config
) -> tuple[tuple[Words, TowersFit] | None, dict[str, Any]]:
    """The fine-tuned text side with its towers, or None where the gate refused it; and what was measured."""
    cut = prepared.cut_validation
    made: list[Words] = []

    def side(encoder: TextEncoder, whitening: Whitening, vectors: Floats) -> Words:
        for words_made in made:  # the variants are encoded once, however often they are asked for
            if words_made.encoder is encoder and words_made.whitening is whitening:
                return words_made
        with run.part("augment"):
            made.append(words.over(encoder, whitening, vectors))
        return made[-1]

    def refit(vectors: Floats, encoder: TextEncoder, whitening: Whitening) -> TowersFit:
        tuned = side(encoder, whitening, vectors)
        epochs = max(towers.epochs, 1)
        return _towers(run, prepared, tuned, config, REFIT, cut, epochs=epochs)[0]

    result = finetune_encoder(
        words.encoder,
        prepared.texts,
        contexts_before(prepared.contexts, cut, prepared.grain),
        towers,
        words.whitening,
        config,
        run.folder / "training" / "finetune",
        validation=prepared.validation,
        wordings=words.changed.wordings,
        refit=refit,
    )
    if not result.kept:
        return None, result.report
    return (side(result.encoder, result.whitening, result.text_vectors), result.towers), result.report


def _write(folder: Path, shop: Shop, cut: int, towers: TowersFit) -> dict[str, Any]:
    figures = export_towers(towers, folder, shop.config)
    return {"user_tower": figures, **write_fit(folder, shop, cut, towers)}


def _ranker(run: OpenRun, prepared: Prepared, config: Config) -> None:
    path = run.folder / "ranker.onnx"
    if not run.leads:
        return
    with run.stage("ranker") as figures:
        if not config.rank.enabled:
            figures.update(kept=False, why="rank.enabled is false")
            return
        start, end = prepared.cut_validation, prepared.cut_report
        slices = ranking_slices(run.work / "select", prepared.shop, config, start, end)
        lists_to = run.work / RANKING_LISTS if config.run.refit else None
        figures.update(train_ranker(slices, config.rank, config.run.seed, path, lists_to=lists_to))


def _refit_ranker(run: OpenRun, prepared: Prepared, config: Config) -> None:
    """The ranker that is served learns from the newest slice too, after that slice has measured the run."""
    if not run.leads or not config.run.refit or not run.manifest.stages["ranker"]["kept"]:
        return
    with run.stage(SERVED_RANKER) as figures:
        start, end = prepared.cut_report, prepared.shop.end
        newer = ranking_slices(run.work / "report", prepared.shop, config, start, end)
        older, chosen = run.work / RANKING_LISTS, run.manifest.stages["ranker"]
        path, seed = run.folder / "ranker.onnx", config.run.seed
        figures.update(refit_ranker(older, newer, chosen, config.rank, seed, path))


def _new_places(run: OpenRun, prepared: Prepared, raw: Floats, config: Config) -> None:
    """Choose on validation how many places are kept for new items."""
    if not run.leads:
        return
    folder, start, end = run.work / "select", prepared.cut_validation, prepared.cut_report
    with run.stage(NEW_PLACES) as figures:
        recommender = load_fit(folder, config, run.folder / "ranker.onnx")
        answers = prepared.shop.answers(start, end)
        queries, targets = held_out_queries(folder, answers, start, end, k=20, exclude_seen=True)
        untuned = Whitening.fit(raw, config.model.dim).apply(raw)
        seed = config.run.seed
        figures.update(size_new_places(recommender, queries, targets, untuned, config.rank, seed))


def _online(run: OpenRun, prepared: Prepared) -> None:
    """Choose on validation whether requests are augmented."""
    if not run.leads:
        return
    start, end = prepared.cut_validation, prepared.cut_report
    with run.stage(ONLINE) as figures:
        fit = contexts_before(prepared.contexts, start, prepared.grain)
        ranker = run.folder / "ranker.onnx"
        figures.update(decide_online(run.work / "select", ranker, prepared.shop, fit, start, end))


def _report(
    run: OpenRun,
    prepared: Prepared,
    words: Words,
    chosen: TowersFit,
    config: Config,
) -> Measured | None:
    cut, folder = prepared.cut_report, run.work / "report"
    with run.stage("report") as figures:
        towers, _ = _towers(run, prepared, words, config, "report", cut, chosen=chosen)
        if not run.leads:
            return None
        _write(folder, prepared.shop, cut, towers)
        store_online(folder, prepared.shop, contexts_before(prepared.contexts, cut, prepared.grain))
        places = run.manifest.stages[NEW_PLACES]["places"]
        recommender = load_fit(folder, config, run.folder / "ranker.onnx", places)
        augmenter = augmenter_of(folder, run.manifest, config, recommender.shelf)
        measured = measure_report(recommender, folder, prepared.shop, cut, words.raw, augmenter)
        figures.update(measured.headline())
    return measured


def _final(run: OpenRun, prepared: Prepared, words: Words, chosen: TowersFit, config: Config) -> TowersFit:
    shop = prepared.shop
    cut = shop.end if config.run.refit else prepared.cut_report
    with run.stage("final") as figures:
        stage = "final" if config.run.refit else "report"
        towers, rows = _towers(run, prepared, words, config, stage, cut, chosen=chosen)
        figures.update(towers.report())
        if run.leads:
            store = run.folder.parent / FEATURES
            provenance = run.folder / AUGMENTED / f"{stage}_histories.parquet"
            figures["stored_rows"] = store_rows(store, rows, shop.vocabulary, provenance, config)
    return towers


def _export(run: OpenRun, prepared: Prepared, words: Words, towers: TowersFit, config: Config) -> list[str]:
    """What is served, into the run; `config` is as it was asked for, before validation chose a policy."""
    shop = prepared.shop
    cut = shop.end if config.run.refit else prepared.cut_report
    lexical, reader = LexicalIndex.build(prepared.texts), words.encoder
    if config.augment.enabled and config.queries.enabled:
        worded = with_policy(config, config.queries.policy)
        reader = reader_of_queries(run, prepared, words, lexical, worded)
    with run.stage("export") as figures:
        figures.update(_write(run.folder, shop, cut, towers))
        store_online(run.folder, shop, contexts_before(prepared.contexts, cut, prepared.grain))
        figures["text_encoder"] = export_text_encoder(
            reader, words.whitening, run.folder, config, sample_texts=prepared.texts
        )
        lexical.write(run.folder)
        figures.update(moment=cut, rank_features=list(RANK_FEATURES))
    return _served_files(run.folder)


def _served_files(folder: Path) -> list[str]:
    wanted = [
        *folder.glob("*.npy"),
        *folder.glob("*.onnx"),
        *folder.glob("*.parquet"),
        *folder.glob("*.faiss"),
    ]
    wanted += [*folder.glob("*.safetensors"), *folder.glob("tokenizer/*"), folder / "config.toml"]
    wanted += folder.glob(POLICY)
    return sorted(str(path.relative_to(folder)) for path in wanted if not path.name.startswith("."))
