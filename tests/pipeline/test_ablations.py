"""Ablations come out of the code's own registries, and a leave-out really leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.augment.registry import OPS
from recsys.augment.representation import REPRESENTATION_OPS
from recsys.cli.ablate import CHOICES
from recsys.compare.ablations import (
    DEPTHS,
    ENCODER_SECTIONS,
    QUERY_SECTIONS,
    TOWER_SECTIONS,
    WHAT,
    ablation,
    flipped,
    quotas,
    without_sources,
)
from recsys.config import Config, RankConfig, load_config, with_settings
from recsys.evaluate.contrast import Finding
from recsys.evaluate.paired import pair
from recsys.evaluate.verdicts import Verdict
from recsys.model.ranker import RankingLists
from recsys.placebo import PLACEBOS
from recsys.rank_features import FEATURE_GROUPS, RANK_FEATURES, SOURCES
from recsys.ranking import Slice, train_ranker
from recsys.retrieve import WEIGHED
from recsys.types import Query


def test_every_source_has_one_switch() -> None:
    switches = {name: WEIGHED[name][0] if name in WEIGHED else name for name in SOURCES}
    assert set(switches.values()) == set(quotas())
    arms = without_sources(Config())
    for name in quotas():
        left = with_settings(Config(), arms[f"without {name}"]).retrieve
        assert getattr(left, name) == 0
        assert all(getattr(left, other) for other in quotas() if other != name)


def test_a_source_that_is_off_is_no_ablation() -> None:
    assert "without ease" not in without_sources(load_config(None, ["retrieve.ease=0"]))


def test_every_group_of_features_and_every_feature_once() -> None:
    arms = ablation("features", Config()).contenders[1:]
    hidden = [name for one in arms for group in one.unseen for name in FEATURE_GROUPS[group]]
    assert sorted(hidden) == sorted(RANK_FEATURES)


def test_every_op_that_needs_no_more_stands_alone_against_off() -> None:
    entered = ablation("ops", Config())
    assert entered.reference.name == "off"
    names = {one.name for one in entered.contenders}
    assert names >= {*REPRESENTATION_OPS, "item_dropout", *(f"placebo:{name}" for name in PLACEBOS)}
    assert names <= {"off", *OPS, *REPRESENTATION_OPS, *(f"placebo:{name}" for name in PLACEBOS)}
    identities = [one.identity for one in entered.contenders if not one.is_placebo]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(
    ("sections", "one"),
    [
        (TOWER_SECTIONS, "residual_dropout=0.0"),
        (ENCODER_SECTIONS, "residual_dropout=0.0"),
        (QUERY_SECTIONS, "mix=0.0"),
    ],
)
def test_options_are_flipped_one_at_a_time_and_stay_valid(sections: tuple[str, ...], one: str) -> None:
    config = Config()
    arms = flipped(config, sections)
    assert one in arms
    assert not any(name.startswith(("precision", "batch_size", "max_epochs", "steps")) for name in arms)
    for name, changes in arms.items():
        assert len(changes) == 1, name
        assert with_settings(config, changes) != config
        assert next(iter(changes)).partition(".")[0] in sections
    switches = {
        f"{section}.{name}"
        for section in sections
        for name, value in getattr(config, section)
        if isinstance(value, bool)
    }
    assert switches <= {setting for changes in arms.values() for setting in changes}


def test_options_that_share_a_name_are_shown_with_their_section() -> None:
    towers, encoder = (flipped(Config(), sections) for sections in (TOWER_SECTIONS, ENCODER_SECTIONS))
    assert "negatives=in_batch" in towers
    assert {"finetune.enabled=false", "pretrain.enabled=true", "candidates=all"} <= set(encoder)


def test_sizes_take_the_examples_of_their_fields() -> None:
    arms = flipped(Config(), QUERY_SECTIONS)
    assert {"enabled=false", "mix=0.0", "layers=1", "layers=4", "max_passes=1.0", "candidates=256"} <= set(
        arms
    )


def test_readers_of_queries_word_titles_as_a_run_does_whatever_its_lists_are_trained_on() -> None:
    for settings in ([], ["augment.policy=standard"]):
        arms = {one.arm.policy.name for one in ablation("queries", load_config(None, settings)).contenders}
        assert arms == {Config().queries.policy}


def test_every_ablation_can_be_asked_for() -> None:
    assert (*WHAT, "all") == CHOICES
    assert set(DEPTHS) == set(WHAT)


def test_arms_of_an_ablation_differ_in_one_thing() -> None:
    for what in WHAT:
        first, *others = ablation(what, Config()).contenders
        assert not first.changes
        assert not first.unseen
        if what != "ops":
            assert all(bool(one.changes) != bool(one.unseen) for one in others)
            assert all(one.identity == first.identity for one in others)


class FakeRecommender:
    """Candidates whose label is told by the first feature of `match` and, less well, by `popularity`."""

    def __init__(self, num_users: int) -> None:
        rng = np.random.default_rng(0)
        self.lists = []
        for _ in range(num_users):
            features = rng.normal(size=(20, len(RANK_FEATURES))).astype(np.float32)
            features[:, RANK_FEATURES.index("owned")] = 0
            wanted = int(features[:, RANK_FEATURES.index("match")].argmax())
            self.lists.append((features, wanted))


def test_a_group_that_is_left_out_is_not_seen_in_serving(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from recsys.scorer import OnnxScorer

    fake = FakeRecommender(80)

    def collected(recommender, queries, targets) -> RankingLists:
        features = np.concatenate([one for one, _ in fake.lists])
        labels = np.zeros(len(features), np.float32)
        labels[[20 * i + wanted for i, (_, wanted) in enumerate(fake.lists)]] = 1
        return RankingLists(
            features, labels, np.ones(len(features), bool), np.arange(0, len(features) + 1, 20)
        )

    monkeypatch.setattr("recsys.ranking.collect_lists", collected)
    column = RANK_FEATURES.index("match")
    features = np.random.default_rng(1).normal(size=(50, len(RANK_FEATURES))).astype(np.float32)
    moved = features.copy()
    moved[:, column] += 3
    for left_out, same in (((), False), (("match",), True)):
        path = tmp_path / "ranker.onnx"
        some = [Query(k=1, moment=0, user_id=f"u{i:02}") for i in range(80)]
        slices = [Slice(fake, some, [np.array([0])] * 80)]
        done = train_ranker(slices, RankConfig(epochs=2), 0, path, left_out=left_out)
        assert done["kept"]
        scorer = OnnxScorer(path, threads=1)
        assert np.allclose(scorer.score(features), scorer.score(moved)) == same


def test_many_arms_stand_in_one_table() -> None:
    from recsys.evaluate.compare_report import summary_grid

    values = np.linspace(0.1, 0.5, 30)
    found = pair([values + 0.1], [values], np.arange(30), rounds=50, resamples=20)
    verdict = Verdict("helps", "because", 0.01, 10, 0.1)
    findings = [
        Finding(arm, "default", "whole", "whole", "whole", "ndcg@10", {"ndcg@10": found}, verdict)
        for arm in ("without a", "without b")
    ]
    grid = summary_grid(findings)
    assert [row[0] for row in grid.rows] == ["without a", "without b"]
    assert all(row[1].startswith("+33.3%") and row[1].endswith("helps") for row in grid.rows)


def test_an_option_that_is_off_takes_the_example_of_its_field() -> None:
    arms = flipped(Config(), TOWER_SECTIONS)
    assert arms["hard_negatives=10"] == {"train.hard_negatives": 10}
    for section in (*TOWER_SECTIONS, *ENCODER_SECTIONS):
        table = getattr(Config(), section)
        for name, field in type(table).model_fields.items():
            value = getattr(table, name)
            if type(value) in (int, float) and value == 0:
                assert field.examples, (
                    f"{section}.{name} is off: an example says how an ablation switches it on"
                )
