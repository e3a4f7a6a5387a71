"""From a run directory to a `Recommender`: memory-mapped arrays, FAISS and ONNX Runtime, no torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from scipy import sparse

from recsys.artifacts import Manifest, load_array, load_manifest, resolve_run, verify_files, write_array
from recsys.augment.online import NoAugmenter, OnlineAugmenter
from recsys.augment.online_side import POLICY, load_side
from recsys.augment.policy import load_policy
from recsys.config import Config, RetrieveConfig, load_config
from recsys.contexts import Vocabulary
from recsys.errors import ArtifactError, ConfigError
from recsys.index import load_index
from recsys.item_facts import FACTS
from recsys.lexical import LexicalIndex
from recsys.rank_features import RANK_FEATURES
from recsys.recommend import Recommender, Shelf
from recsys.retrieve import (
    NEW_USER_COLUMNS,
    WEIGHED,
    CategorySource,
    FreshSource,
    ItemToItemSource,
    RepeatsSource,
    Source,
    TrendingSource,
    TwoTowerSource,
)
from recsys.scorer import OnnxScorer, OnnxTextEncoder, OnnxUserTower
from recsys.snapshot import SnapshotSource
from recsys.terms import NO_RULES, Rules
from recsys.text_search import TextSearch
from recsys.types import Augmenter, Floats, Index

logger = logging.getLogger(__name__)

ITEMS, FACTS_FILE, USERS = "items.parquet", "item_facts.npy", "users.parquet"
TEXT_ENCODER = "text_encoder.onnx"
DETAILS = ("title", "category", "brand", "price")
WEIGHTS = ("covisitation", "following", "ease")
"""Item-to-item weights of a run: each a setting of `[retrieve]` and three files."""
_PARTS = ("indptr", "indices", "data")
FEATURE_MEANS = "feature_means"
"""In the manifest's stages of rankers: the means over the candidates that each learned from."""
SERVED_RANKER = "served_ranker"
"""The stage of the manifest in which the ranker learns from the newest slice too: `kept`, and why not."""
ONLINE = "online"
"""The stage of the manifest that says whether requests are augmented: `kept`, and why."""

NEW_PLACES = "new_places"
"""The stage of the manifest that says how many places are kept for new items: `places`, and why."""

Switch = Literal["run", "on", "off"]
"""Whether requests are augmented: as the run has decided, or whatever it has decided."""


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run made ready to answer."""

    path: Path
    run_id: str
    config: Config
    recommender: Recommender
    moment: int
    """Unix seconds just after the newest event the run knows: the moment that batch lists are made for."""
    augmenter: Augmenter
    """Makes views of short histories, where the run augments requests; otherwise says why not."""

    index: Index
    """The item vectors' index."""

    def snapshot(self) -> SnapshotSource:
        """The features of every user as the run's data ended."""
        return SnapshotSource(self.path / USERS)

    @property
    def has_text_encoder(self) -> bool:
        """Whether the run can be searched."""
        return (self.path / TEXT_ENCODER).is_file()

    def text_search(self, threads: int | None = None) -> TextSearch:
        """Search over the run's items; loads the text encoder.

        Raises:
            ArtifactError: the run has no text encoder, or one that cannot be read.
        """
        encoder = OnnxTextEncoder(
            self.path / TEXT_ENCODER,
            self.path / "tokenizer" / "tokenizer.json",
            self.config.encoder.max_tokens,
            threads or self.config.run.threads,
        )
        lexical = LexicalIndex.load(self.path, len(self.recommender.vocabulary))
        return TextSearch(self.recommender, self.index, encoder, lexical, self.config.search)


def load_run(
    path: Path,
    threads: int | None = None,
    *,
    verify: bool = False,
    augment: Switch = "run",
    rules: Rules | None = None,
) -> LoadedRun:
    """Load a run, `RUNS/live`, or the live run of `RUNS`.

    Args:
        path: Where it is.
        threads: Threads of FAISS and ONNX Runtime; None takes the run's own setting.
        verify: Check every file against the manifest's digests first.
        augment: Whether requests are augmented; `run` follows what the run has measured.
        rules: For every answer; what they do not say the run's own `[rules]` decide.

    Raises:
        ArtifactError: it is not a finished run, or its parts do not fit each other.
    """
    run = resolve_run(path)
    manifest = load_manifest(run)
    if manifest.finished is None:
        raise ArtifactError(f"{run}: not finished; the same `recsys run` command goes on with it")
    if verify:
        verify_files(run, manifest)
    config = load_config(run / "config.toml")
    threads = threads or config.run.threads
    features = manifest.stages.get("export", {}).get("rank_features")
    if features is not None and tuple(features) != RANK_FEATURES:
        raise ArtifactError(
            f"{run}: its ranker reads other features than this program computes; train a new run"
        )
    shelf = load_shelf(run, config)
    index = load_index(run / "index.faiss", threads)
    tower = OnnxUserTower(
        run / "user_tower.onnx", load_array(run / "history_vectors.npy"), config.model.history_length, threads
    )
    scorer = OnnxScorer(run / "ranker.onnx", threads) if (run / "ranker.onnx").is_file() else None
    sources = build_sources(
        config.retrieve,
        index,
        load_weights(run, config.retrieve),
        shelf,
        load_newcomers(run, config.retrieve),
    )
    rules = (rules or NO_RULES).over(config.rules.to_rules())
    means, length = _feature_means(manifest), config.features.history_length
    places = manifest.stages.get(NEW_PLACES, {}).get("places", 0)
    recommender = Recommender(shelf, tower, index, sources, scorer, length, rules, means, places)
    moment = int(manifest.stages["export"]["moment"])
    augmenter = augmenter_of(run, manifest, config, shelf, augment)
    return LoadedRun(run, manifest.run_id, config, recommender, moment, augmenter, index)


def _feature_means(manifest: Manifest) -> Floats | None:
    """What explanations compare features with; None in a run that does not tell."""
    said = [manifest.stages.get(stage, {}).get(FEATURE_MEANS) for stage in (SERVED_RANKER, "ranker")]
    means = next((one for one in said if one is not None), None)
    fits = means is not None and len(means) == len(RANK_FEATURES)
    return np.asarray(means, np.float32) if fits else None


def load_recommender(path: Path, threads: int | None = None) -> Recommender:
    """The recommender of a run; `load_run` gives the rest as well."""
    return load_run(path, threads).recommender


def augmenter_of(
    run: Path, manifest: Manifest, config: Config, shelf: Shelf, switch: Switch = "run"
) -> Augmenter:
    """What augments the requests to a run, or says why nothing does.

    Raises:
        ArtifactError: the side data does not fit the catalogue.
    """
    said = manifest.stages.get(ONLINE)
    if switch == "off":
        return NoAugmenter("switched_off")
    if switch == "run" and said is not None and not said["kept"]:
        return NoAugmenter("switched_off" if config.online.enabled == "off" else "not_better")
    if said is None or not (run / POLICY).is_file():
        logger.info("%s: requests are not augmented: the run stores nothing to do it with", run.name)
        return NoAugmenter("no_side_data")
    return load_augmenter(run, config, shelf)


def load_augmenter(folder: Path, config: Config, shelf: Shelf) -> Augmenter:
    """The augmenter over a run's or a fit's folder, whatever was measured."""
    try:
        policy = load_policy(folder / POLICY)
    except ConfigError as error:  # a word list that is not on this machine, an op of another version
        logger.warning("requests are not augmented: %s", error)
        return NoAugmenter("no_policy")
    side = load_side(folder, shelf.vocabulary)
    brands = (
        {brand for detail in shelf.details if (brand := detail.get("brand"))} if policy.text.ops.ops else ()
    )
    augmenter = OnlineAugmenter(
        policy, shelf.vocabulary, config.online, config.run.seed, side=side, brands=brands
    )
    for name, why in augmenter.skipped.items():
        logger.warning("%s: requests go without '%s': %s", policy.policy_id, name, why)
    return augmenter


def load_shelf(run: Path, config: Config) -> Shelf:
    """The item side of a run that was made with this configuration.

    Raises:
        ArtifactError: the arrays and the catalogue differ in length.
    """
    table = pq.read_table(run / ITEMS, columns=["item_id", *DETAILS])
    columns = {name: table[name].to_pylist() for name in table.column_names}
    vocabulary = Vocabulary(columns.pop("item_id"))
    details = [_detail(row) for row in zip(*columns.values(), strict=True)]
    facts = load_array(run / FACTS_FILE)
    if facts.dtype != FACTS:
        raise ArtifactError(f"{run / FACTS_FILE}: of another layout; train a new run")
    items, texts = load_array(run / "item_vectors.npy"), load_array(run / "text_vectors.npy")
    shelf = Shelf(vocabulary, items, texts, facts, details, config.model.item_bias)
    sizes = {len(vocabulary), len(facts), len(shelf.item_vectors), len(shelf.text_vectors)}
    if len(sizes) != 1:
        raise ArtifactError(f"{run}: catalogue and arrays differ in length {sorted(sizes)}")
    return shelf


def build_sources(
    config: RetrieveConfig,
    index: Index,
    weights: Mapping[str, sparse.csr_matrix],
    shelf: Shelf,
    newcomers: tuple[Floats, Floats] | None = None,
) -> list[Source]:
    """The sources that are switched on.

    Args:
        config: How many each proposes.
        index: Over the item vectors.
        weights: Item-to-item weights by the names of `WEIGHTS`.
        shelf: The item side.
        newcomers: Weights and prior that order new items; None orders them by text alone.
    """
    sources: list[Source] = []
    recent: Floats = np.asarray(shelf.facts["count_30d"], np.float32)
    categories = np.asarray(shelf.facts["category"])
    if config.two_tower:
        sources.append(TwoTowerSource(index, config.two_tower))
    for name, (kind, _) in WEIGHED.items():
        if kind in weights and (num := getattr(config, kind)):
            sources.append(ItemToItemSource(name, weights[kind], num))
    if config.repeats:
        sources.append(RepeatsSource(config.repeats))
    if config.trending:
        sources.append(TrendingSource(recent, config.trending))
    if config.category and (categories >= 0).any():
        sources.append(CategorySource(recent, categories, config.category))
    if config.fresh and not shelf.facts["count"].all():
        order, prior = newcomers or (np.eye(len(NEW_USER_COLUMNS), dtype=np.float32)[0], shelf.facts["heat"])
        sources.append(FreshSource(shelf.text_vectors, shelf.facts, order, prior, config.fresh))
    return sources


def write_newcomers(run: Path, weights: Floats, prior: Floats) -> None:
    """Persist what orders new items (`newcomers.Newcomers`)."""
    write_array(run / "newcomers_weights.npy", weights)
    write_array(run / "newcomers_prior.npy", prior)


def load_newcomers(run: Path, config: RetrieveConfig) -> tuple[Floats, Floats] | None:
    """What `write_newcomers` wrote; None where new items are no source.

    Raises:
        ArtifactError: they are, and the files are missing.
    """
    if not config.fresh:
        return None
    return load_array(run / "newcomers_weights.npy"), load_array(run / "newcomers_prior.npy")


def write_weights(run: Path, name: str, matrix: sparse.csr_matrix) -> None:
    """Persist item-to-item weights under one of the names of `WEIGHTS`."""
    for part in _PARTS:
        write_array(run / f"{name}_{part}.npy", np.asarray(getattr(matrix, part)))


def load_weights(run: Path, config: RetrieveConfig) -> dict[str, sparse.csr_matrix]:
    """What `write_weights` wrote, memory-mapped, of the kinds that are switched on.

    Raises:
        ArtifactError: a kind is switched on and its files are missing.
    """
    weights = {}
    for name in WEIGHTS:
        if getattr(config, name):
            indptr, indices, data = (load_array(run / f"{name}_{part}.npy") for part in _PARTS)
            size = len(indptr) - 1
            weights[name] = sparse.csr_matrix((data, indices, indptr), (size, size))
    return weights


def _detail(row: Sequence[Any]) -> dict[str, Any]:
    detail = dict(zip(DETAILS, row, strict=True))
    price = detail["price"]
    detail["price"] = None if price is None or price != price else float(price)
    return detail
