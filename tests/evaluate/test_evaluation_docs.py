from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.cli.evaluate import command
from recsys.evaluate import metrics, segments
from recsys.evaluate.baselines import Fusion, Popular, standard_baselines
from recsys.evaluate.bootstrap import REPLICATES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_every_metric_has_its_formula() -> None:
    for name in (*metrics.ACCURACY, *metrics.CATALOGUE):
        assert f"| `{name}@k` |" in PAGE, name
    assert "5, 10, 20 and 50" in PAGE
    assert metrics.DEFAULT_KS == (5, 10, 20, 50)


def test_no_metric_is_promised_that_is_not_measured() -> None:
    promised = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `") and "@k`" in line}
    assert promised == {f"{name}@k" for name in (*metrics.ACCURACY, *metrics.CATALOGUE)}


def test_every_segment_is_named() -> None:
    made = segments.history_segments(np.array([0])) + segments.coldness_segments(np.array([0]))
    for part in made:
        assert f"`{part.dimension}`" in PAGE
        assert f"`{part.label}`" in PAGE, part.label


def test_every_baseline_and_option_is_described() -> None:
    vectors = np.eye(4, dtype=np.float32)
    for baseline in (*standard_baselines(4, vectors), Fusion([Popular()])):
        assert f"| `{baseline.name}` |" in PAGE, baseline.name
    for option in command.params:
        if option.name != "seed":
            assert any(name in PAGE for name in (*option.opts, *option.secondary_opts)), option.name
    assert f"{REPLICATES:,} resamples" in PAGE
