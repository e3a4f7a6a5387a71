"""Progress: a line now and then where there is no terminal, and none where it is to be silent."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from recsys import progress
from recsys.config import RankConfig
from recsys.model.ranker import RankingLists, fit_ranker
from recsys.model.trees import fit_trees
from recsys.progress import Progress, silent


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every step makes a line."""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    caplog.set_level(logging.INFO, "recsys.progress")
    return caplog


def walk(**options: object) -> None:
    with Progress(4, "counting sheep", "sheep", **options) as bar:
        for _ in range(4):
            bar.advance(1)


def test_lines_say_how_far_it_is(said: pytest.LogCaptureFixture) -> None:
    walk()
    assert len(said.messages) == 4
    assert said.messages[1].startswith("counting sheep: 2 of 4 sheep, ")


def test_switched_off_or_silenced_nothing_is_said(said: pytest.LogCaptureFixture) -> None:
    walk(enabled=False)
    with silent():
        walk()
        with silent():
            walk()
        walk()
    assert said.messages == []
    walk()
    assert len(said.messages) == 4, "and afterwards it speaks again"


def test_both_forms_of_the_ranker_say_how_far_they_are(said: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(np.array([1, 0, 0, 0], np.float32), 80)
    lists = RankingLists(
        rng.normal(size=(320, 5)).astype(np.float32), labels, np.ones(320, np.bool_), np.arange(0, 321, 4)
    )
    config = RankConfig(trees=3)
    fit_ranker(lists, config, 0, 2)
    fit_trees(lists, np.arange(80), config, 0)
    assert "ranker: the network learns: 160 of 160 lists" in " ".join(said.messages)
    assert "ranker: trees are grown: 3 of 3 trees" in " ".join(said.messages)
