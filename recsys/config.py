"""Every setting, its default and its bounds, in one closed and frozen tree.

A TOML file states only differences; `--set section.key=value` states one more. An unknown key is an
error, never a silent default. The effective configuration and its hash go into the run's manifest.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, Field, ValidationError, model_validator

from recsys.errors import ConfigError
from recsys.model_settings import FinetuneConfig as FinetuneConfig
from recsys.model_settings import ModelConfig as ModelConfig
from recsys.model_settings import PretrainConfig as PretrainConfig
from recsys.model_settings import QueriesConfig as QueriesConfig
from recsys.model_settings import TrainConfig as TrainConfig
from recsys.report_settings import EvaluateConfig
from recsys.rule_settings import RulesConfig
from recsys.section import Section
from recsys.track_settings import TrackConfig as TrackConfig

PACKAGED_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of model.safetensors in the packaged copy of the default encoder."""


AUTO = "auto"
"""The policy that a run chooses itself."""
WHICH_POLICY = frozenset({"policy", "enabled", "candidates"})
"""Settings of `[augment]` that say which policy is taken, and nothing of how its rows meet the originals."""


class DataConfig(Section):
    """How the two files are read and what counts as a positive."""

    event_weights: dict[str, float] = Field(
        {"purchase": 1.0, "cart": 0.6, "review": 1.0, "share": 0.5, "click": 0.4, "view": 0.2}
    )
    """Weight of a positive event in the training loss and in co-visitation; types not named weigh 1."""
    max_text_chars: int = Field(2000, ge=16)
    """Item text is cut here, after cleaning (the report counts it)."""
    future_tolerance_days: float = Field(1.0, ge=0)
    """Events later than now plus this have a wrong clock: one in a hundred is set aside, more are refused."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What happens to events identical in every column: a replayed log, or two lines of one basket."""


class FeaturesConfig(Section):
    """What the feature store holds of a user."""

    history_length: int = Field(50, ge=1, le=500)
    """How many of the newest positive events the user view keeps as arrays."""
    grain: Literal["auto", "second", "hour", "day"] = "auto"
    """Moments are floored to this. `auto`: the finest at which no user has more than 400 moments."""
    ttl_days: float = Field(3650.0, gt=0)
    """Features older than this are stale: the answer is marked, since the store itself does not check."""


class SplitConfig(Section):
    """Temporal cuts inside the given events: fit < validation < report."""

    validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of events that choose (early stopping, the fine-tuning gate, the ranker's labels)."""
    report: float = Field(0.1, gt=0, lt=0.5)
    """Share of the newest events that are looked at once, for the figures in the report."""


class AugmentConfig(Section):
    """The augmentation stage: the only table in which the arms of a comparison may differ."""

    enabled: bool = True
    """Off is the empty pipeline."""
    policy: str = AUTO
    """A preset, a TOML file of ops, or `auto`: off, or the one of `candidates` that validation chose."""
    candidates: tuple[str, ...] = ("light", "standard", "adversarial")
    """Presets or files that `auto` tries beside off, mild ones first, each for another fit of the towers."""
    fusion: Literal["concatenate", "weight", "mix", "curriculum"] = "mix"
    """How augmented rows meet the originals."""
    max_expansion: float = Field(3.0, ge=0, le=10)
    """Augmented rows per original row, and variants per text, at most."""
    kept_batches: int = Field(3, ge=0, le=1000)
    """Newest batches of a policy's augmented rows that runs leave in the feature store; 0 stores none."""
    answers: str = ""
    """File of what models said to ops that ask one, kept between runs; empty keeps it inside the run."""
    weight: float = Field(0.5, gt=0, le=1)
    """Loss weight of an augmented row under `weight`."""
    mix_probability: float = Field(0.5, ge=0, le=1)
    """Chance, drawn anew each epoch, that a row is replaced by its augmented child under `mix`."""
    text_mix: float = Field(0.1, ge=0, le=1)
    """Chance, drawn anew each step, that an item's text vector is that of an augmented variant."""
    encoder_mix: float = Field(0.2, ge=0, le=1)
    """The same for fine-tuning: chance that the encoder reads an item's text in an augmented variant."""
    clean_tail: float = Field(0.2, ge=0, le=1)
    """Share of the last optimiser steps that see originals only."""


class OnlineConfig(Section):
    """Augmentation of a request: views of a short history, made while the user waits."""

    enabled: Literal["auto", "on", "off"] = "auto"
    """`auto`: on where validation users with short histories got better lists with it, beyond chance."""
    policy: str = "online"
    """A preset's name, or a TOML file of ops; those that need more than a run stores are left out."""
    below: int = Field(5, ge=1, le=100)
    """Users with fewer positive events get views; everybody else is left alone."""
    views: int = Field(4, ge=1, le=32)
    """Views tried per request; one that the ops leave alone counts as the history itself."""
    weight: float = Field(0.5, gt=0, le=1)
    """Share of the user's vector that all views have together."""
    budget_ms: float = Field(5.0, ge=0)
    """Milliseconds for the views of one request; when they are spent, the history is taken as it is."""
    measured_users: int = Field(2000, ge=1)
    """Validation users that `auto` looks at, drawn at random when there are more."""


class EncoderConfig(Section):
    """The text encoder."""

    name: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A BERT-family model by hub name or by path; the default also comes packaged, for use without a hub."""
    max_tokens: int = Field(64, ge=8, le=512)
    """Longer item texts are cut."""
    batch_tokens: int = Field(8192, ge=64)
    """Padded tokens per batch: texts are sorted by length first."""
    pooling: Literal["mean", "cls"] = "mean"
    """How token states become one vector."""


class IndexConfig(Section):
    """The FAISS index."""

    kind: Literal["auto", "flat", "hnsw", "ivf"] = "auto"
    """`auto`: exact up to `exact_limit` items, HNSW up to ten times that, IVF above."""
    exact_limit: int = Field(50_000, ge=1)
    """Largest catalogue searched exactly under `auto`."""
    hnsw_links: int = Field(32, ge=4)
    """M of HNSW."""
    ef_search: int = Field(128, ge=8)
    """Search breadth of HNSW."""
    nprobe: int = Field(32, ge=1)
    """Lists visited by IVF."""
    min_recall: float = Field(0.9, ge=0, le=1)
    """An approximate index under this recall@100 against exact search is refused and the exact one built."""


class RetrieveConfig(Section):
    """Which sources propose candidates, and how many each."""

    two_tower: int = Field(200, ge=0)
    """Nearest items to the user vector."""
    covisitation: int = Field(100, ge=0)
    """Items that went with those of the user, by what users had: once by the newest, once by all they own."""
    following: int = Field(100, ge=0)
    """Items that followed the newest ones of the history, the sooner the more."""
    following_half_life_days: float = Field(30.0, gt=0)
    """Days between two events that halve what one following the other says."""
    ease: int = Field(100, ge=0)
    """Items by EASE, a linear model in closed form: once by the newest, once by all that the user owns."""
    ease_penalty: float = Field(200.0, gt=0)
    """L2 penalty of EASE."""
    ease_max_items: int = Field(12_000, ge=0)
    """Items in EASE at most, the most sold ones: time grows with the cube, memory with the square."""
    ease_neighbours: int = Field(200, ge=1)
    """Weights of EASE kept per item, the largest of either sign; the run says what the cut costs."""
    repeats: int = Field(50, ge=0)
    """The user's own items."""
    trending: int = Field(50, ge=0)
    """Popular items of the last 30 days."""
    category: int = Field(50, ge=0)
    """Popular items of the last 30 days in the categories of the history, where items have categories."""
    fresh: int = Field(30, ge=0)
    """Items nobody has had yet, nearest in text."""


class RankConfig(Section):
    """The ranker over the candidates."""

    enabled: bool = True
    """Off ranks by match score alone."""
    kind: Literal["auto", "neural", "trees", "mix"] = "auto"
    """The ranker's form: a listwise network that starts from the best line, LambdaRank trees (LightGBM), the
    mean of both, or (`auto`) the network with as much of the trees as ranks lists newer than those it was
    fitted on best. All are one ONNX graph in serving."""
    slices: int = Field(3, ge=1, le=6)
    """Parts of the validation slice, and of the newest one for what is served, that teach the ranker, each
    with lists as of its beginning and labels of what users took within it."""
    trees: int = Field(150, ge=1)
    """Trees of the boosted form."""
    leaves: int = Field(15, ge=2)
    """Leaves of each."""
    tree_learning_rate: float = Field(0.06, gt=0)
    """How much of each tree's step is taken."""
    hidden: tuple[int, ...] = (64, 32)
    """Hidden widths of the network."""
    epochs: int = Field(10, ge=1)
    """Passes over the ranking lists at most; as many are made as rank held-out users best, none included."""
    learning_rate: float = Field(2e-3, gt=0)
    """Rate of AdamW."""
    max_lists: int = Field(8000, ge=1)
    """Lists that train the ranker at most, one per user and part, of each of the two; of more, users are
    drawn."""
    new_items: int | None = Field(None, ge=0, le=10)
    """Of the first twenty places, how many hold items that nobody has had, moved up into the second ten where
    ranking brings too few: it buys them their first buyers and costs places 11 to 20 some that sell; the
    first ten stay. None sizes it on validation; 0 is off, and so is a catalogue without new items."""


class SearchConfig(Section):
    """Search by text: `recsys search` and `POST /v1/search`."""

    depth: int = Field(200, ge=10, le=10_000)
    """Candidates from each of the two: nearness of vectors, and letters in common."""
    letters: float = Field(0.7, ge=0, le=1)
    """Share of the letters in the relevance; the rest is the cosine to the item's text."""
    personal: float = Field(0.2, ge=0, le=2)
    """How much relevance the user's own ranking of the candidates may make up for; 0 never reorders."""


class RunConfig(Section):
    """What concerns the whole run."""

    seed: int = Field(0, ge=0)
    """Everything random derives from it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where torch sees it."""
    threads: int | None = Field(None, ge=1)
    """Threads of torch, FAISS and ONNX Runtime; None takes what the machine has."""
    refit: bool = True
    """Fit once more on all events before export, the ranker on the newest slice too; off exports what was
    reported on."""


class Config(Section):
    """The whole tree; each field is one table of the TOML file."""

    data: DataConfig = DataConfig()
    features: FeaturesConfig = FeaturesConfig()
    split: SplitConfig = SplitConfig()
    augment: AugmentConfig = AugmentConfig()
    online: OnlineConfig = OnlineConfig()
    encoder: EncoderConfig = EncoderConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    queries: QueriesConfig = QueriesConfig()
    index: IndexConfig = IndexConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    rank: RankConfig = RankConfig()
    rules: RulesConfig = RulesConfig()
    search: SearchConfig = SearchConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()
    track: TrackConfig = TrackConfig()

    @model_validator(mode="after")
    def _histories_are_kept(self) -> Self:
        """The towers cannot read more events than the features keep."""
        if self.model.history_length > self.features.history_length:
            raise ValueError(
                f"model.history_length ({self.model.history_length}) is over features.history_length "
                f"({self.features.history_length}): the towers would read events that are not kept. Set both."
            )
        return self

    def to_toml(self) -> str:
        """The effective configuration as TOML; settings that are None (decide for me) are left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def digest(self) -> str:
        """SHA-256 of the canonical form: two runs with one digest were asked for the same thing."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: Path | None = None, settings: Sequence[str] = ()) -> Config:
    """Defaults, then the file, then `section.key=value` settings, in that order.

    Raises:
        ConfigError: the file is not TOML, a key is unknown, or a value is out of its bounds.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for setting in settings:
        _apply_setting(tree, setting)
    return validate_config(tree, source=str(path) if path else "--set")


def validate_config(tree: Mapping[str, Any], source: str) -> Config:
    """A `Config` from plain values, with errors that name the setting."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{source}: there is no setting '{name}'. {_known(first['loc'])}") from error
        if not name:  # what no single setting can be blamed for
            raise ConfigError(f"{source}: {first['ctx']['error']}") from error
        raise ConfigError(f"{source}: {name}: {first['msg']} (got {first['input']!r})") from error


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with other values of some settings, by dotted name.

    Raises:
        ConfigError: a value is out of its bounds.
    """
    if not settings:
        return config
    tree = config.model_dump(mode="json")
    for name, value in settings.items():
        section, _, key = name.partition(".")
        tree[section][key] = value
    return validate_config(tree, source=", ".join(f"{name}={value}" for name, value in settings.items()))


def _apply_setting(tree: dict[str, Any], setting: str) -> None:
    name, separator, text = setting.partition("=")
    parts = name.strip().split(".")
    if not separator or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {setting}: expected section.key=value")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # an unquoted word is a string: --set run.device=cpu
    for part in parts[:-1]:
        branch = tree.setdefault(part, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"--set {setting}: '{part}' is not a table")
        tree = branch
    tree[parts[-1]] = value


def _known(location: tuple[int | str, ...]) -> str:
    model: type[BaseModel] = Config
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        model = annotation
    return "Known here: " + ", ".join(sorted(model.model_fields))
