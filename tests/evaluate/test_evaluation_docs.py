from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.cli.evaluate import command
from recsys.evaluate import metrics, segments
from recsys.evaluate.answers import AnswerSheet, Histories
from recsys.evaluate.baselines import Fusion, Popular
from recsys.evaluate.bootstrap import REPLICATES
from recsys.evaluate.hindsight import HINDSIGHT
from recsys.evaluate.linear import EASE_ITEMS, Als, Ease
from recsys.evaluate.standard import FUSED, standard_baselines

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_every_metric_has_its_formula() -> None:
    for name in (*metrics.ACCURACY, *metrics.CATALOGUE):
        assert f"| `{name}@k` |" in PAGE, name
    assert "5, 10, 20 and 50" in PAGE
    assert metrics.DEFAULT_KS == (5, 10, 20, 50)


def test_no_metric_is_promised_that_is_not_measured() -> None:
    promised = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `") and "@k`" in line}
    assert promised == {f"{name}@k" for name in (*metrics.ACCURACY, *metrics.CATALOGUE)}


def test_every_segment_is_named(split: tuple[AnswerSheet, Histories]) -> None:
    sheet, _ = split
    fields = segments.ItemFields(["a"] * 60, ["tea"] * 60, {"brand": ["x"] * 40 + [""] * 20})
    made = segments.standard_segments(sheet, fields) + segments.history_segments(np.array([0]))
    for part in made:
        assert f"`{part.dimension}`" in PAGE, part.dimension
        if part.dimension != "category":
            assert f"`{part.label}`" in PAGE, part.label
    assert f"the {segments.MOST_CATEGORIES} " in PAGE
    assert f"`{segments.THE_REST}`" in PAGE


def test_every_baseline_and_option_is_described(split: tuple[AnswerSheet, Histories]) -> None:
    chosen = standard_baselines(split[1], np.eye(60, dtype=np.float32)).baselines
    for baseline in (*chosen, Als(), Ease(), Fusion([Popular()])):
        assert f"| `{baseline.name}` |" in PAGE, baseline.name
    assert f"`{HINDSIGHT}` stands last" in PAGE
    fusion = next(line for line in PAGE.splitlines() if line.startswith("| `fusion` |"))
    assert all(f"`{name}`" in fusion for name in FUSED)
    assert f"{EASE_ITEMS:,} sold items" in PAGE
    for option in command.params:
        if option.name != "seed":
            assert any(name in PAGE for name in (*option.opts, *option.secondary_opts)), option.name
    assert f"{REPLICATES:,} resamples" in PAGE
