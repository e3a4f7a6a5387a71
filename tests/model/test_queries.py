"""Teaching queries: misspelled titles find their items, items stay, the gate holds, a kill costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from whole_run import write_tiny_bert

from recsys.augment.noise import mistyped
from recsys.config import Config
from recsys.lexical import LexicalIndex
from recsys.model.encoder import TextEncoder
from recsys.model.whitening import Whitening
from recsys.model.wordings import WORDING_TEMPERATURE
from recsys.queries import QueryResult, teach_queries
from recsys.query_tuning import QueryTuning, titles_read
from recsys.randomness import generator, stream

ITEMS = 60


class Killed(Exception):
    pass


class World:
    """Titles of two made-up words; texts say more than titles; item 0 and 1 bear one title, item 2 none."""

    def __init__(self, folder: Path, config: Config) -> None:
        rng = np.random.default_rng(3)

        def word() -> str:
            return "".join(rng.choice(list("abcdefghijklmnop"), 6))

        self.titles = [f"{word()} {word()}" for _ in range(ITEMS)]
        self.titles[1], self.titles[2] = self.titles[0].upper(), " "
        texts = [f"{title} {word()}" if title.strip() else "" for title in self.titles]
        shape = config.encoder.model_copy(update={"name": str(write_tiny_bert(folder))})
        self.encoder = TextEncoder.load(shape, "cpu", "fp32")
        raw = self.encoder.encode(texts)
        self.whitening = Whitening.fit(raw, 24)
        self.vectors = self.whitening.apply(raw)
        self.lexical = LexicalIndex.build(texts)
        self.wordings = {row: tuple(self._typos(row)) for row in range(ITEMS) if row != 2}

    def _typos(self, row: int) -> list[str]:
        wordings = []
        for number in range(6):
            draws, words = stream(row, "typo", number), self.titles[row].split()
            place = draws.below(len(words))
            words[place] = mistyped(words[place].lower(), draws)
            wordings.append(" ".join(words))
        return wordings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("bert"), Config())


def settings(letters: float = 0.0, **changes: object) -> Config:
    """Short and hard; judged by vectors alone unless letters are to count."""
    some = {"layers": 3, "steps": 120, "max_passes": 100.0, "titles_per_step": 32, "learning_rate": 2e-3}
    config = Config()
    queries = config.queries.model_copy(update={**some, **changes})
    search = config.search.model_copy(update={"letters": letters})
    return config.model_copy(update={"queries": queries, "search": search})


def teach(
    made: World,
    folder: Path,
    config: Config,
    wordings: Mapping[int, tuple[str, ...]] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> QueryResult:
    chosen = made.wordings if wordings is None else wordings
    return teach_queries(
        made.encoder, made.titles, made.vectors, made.whitening, made.lexical, config, folder,
        wordings=chosen, on_step=on_step,
    )  # fmt: skip


def weights(encoder: TextEncoder) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in encoder.model.state_dict().items()}


def test_mistyped_titles_find_their_items_and_items_stay(made: World, tmp_path: Path) -> None:
    before = weights(made.encoder)
    result = teach(made, tmp_path, settings())
    assert weights(made.encoder) == before, "the encoder of the items is as it was"
    report = result.report
    assert report["kept"], report["why"]
    assert report["after"]["typo"] > report["before"]["typo"] + 0.1
    assert report["after"]["title"] >= report["before"]["title"]
    assert len(report["losses"]) == 120
    assert report["losses"][-1] < report["losses"][0]
    assert weights(result.encoder) != before


def test_only_the_top_layers_learn(made: World, tmp_path: Path) -> None:
    moved = teach(made, tmp_path, settings(layers=1, steps=3)).report["weights_moved"]
    assert moved["layer_0"] == moved["layer_1"] == 0
    assert moved["layer_2"] > 0


def test_wordings_of_other_titles_are_refused(made: World, tmp_path: Path) -> None:
    """What can only mislead must lose at the gate, and the encoder stays as it was."""
    rows = sorted(made.wordings)
    others = {row: (made.titles[other],) for row, other in zip(rows, rows[7:] + rows[:7], strict=True)}
    result = teach(made, tmp_path, settings(mix=1.0), others)
    assert not result.report["kept"]
    assert result.encoder is made.encoder
    assert "lose beyond chance" in result.report["why"]


def test_where_letters_decide_nothing_is_gained_and_nothing_kept(made: World, tmp_path: Path) -> None:
    """The gate judges search as it is served, not the part of it that was taught."""
    result = teach(made, tmp_path, settings(letters=1.0))
    assert result.report["before"] == result.report["after"]
    assert not result.report["kept"]
    assert "nothing beyond chance" in result.report["why"]
    assert result.encoder is made.encoder


def test_nothing_to_read_teaches_nothing(made: World, tmp_path: Path) -> None:
    blank = [""] * ITEMS
    nothing = QueryTuning(made.encoder, blank, made.vectors, made.whitening, settings(), tmp_path / "a")
    nothing.run()
    assert nothing.losses == []
    none = teach_queries(
        made.encoder,
        blank,
        made.vectors,
        made.whitening,
        made.lexical,
        settings(),
        tmp_path / "b",
        wordings={},
    )
    assert none.encoder is made.encoder
    assert none.report["why"] == "no item has a title to ask for"
    untold = QueryTuning(
        made.encoder, made.titles, np.zeros_like(made.vectors), made.whitening, settings(), tmp_path / "c"
    )
    untold.run()
    assert untold.losses == [], "no item has a text that could be found"


@pytest.mark.parametrize("step", [1, 5, 7])
def test_killed_at_a_step_it_goes_on_bit_for_bit(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr("recsys.query_tuning.CHECKPOINT_STEPS", 5)

    def kill(done: int) -> None:
        if done == step:
            raise Killed

    config = settings(steps=8)
    whole = teach(made, tmp_path / "whole", config)
    with pytest.raises(Killed):
        teach(made, tmp_path / "killed", config, on_step=kill)
    steps: list[int] = []
    resumed = teach(made, tmp_path / "killed", config, on_step=steps.append)
    assert steps[0] == step // 5 * 5 + 1
    assert resumed.report == whole.report
    again: list[int] = []
    other = {**made.wordings, 5: ("other words",)}
    teach(made, tmp_path / "killed", config, other, on_step=again.append)
    assert again[0] == 1, "of other wordings: begun anew"


def test_each_pass_reads_each_title_once(made: World, tmp_path: Path) -> None:
    tuning = QueryTuning(
        made.encoder, made.titles, made.vectors, made.whitening, settings(titles_per_step=16), tmp_path
    )
    count = ITEMS - 2  # two items bear one title, one bears none
    assert tuning.wordings.num_own == count
    steps = [tuning._chosen(step) for step in range(8)]
    assert all(len(np.unique(chosen)) == 16 for chosen in steps)
    assert set(np.concatenate(steps[:4])) == set(range(count))


def test_of_a_large_catalogue_so_many_titles_are_worded_as_are_read(made: World) -> None:
    rows = titles_read(made.titles, settings())
    assert rows.tolist() == [0, *range(3, ITEMS)]
    few = titles_read(made.titles, settings(steps=2, titles_per_step=8))
    assert len(np.unique(few)) == 16
    assert set(few) <= set(rows)
    assert few.tolist() != rows[:16].tolist(), "drawn, not the first"


@pytest.mark.parametrize("candidates", [10_000, 20])
def test_the_loss_is_that_of_its_definition(made: World, tmp_path: Path, candidates: int) -> None:
    config = settings(candidates=candidates, mix=0.0, titles_per_step=12)
    tuning = QueryTuning(made.encoder, made.titles, made.vectors, made.whitening, config, tmp_path)
    chosen = tuning._chosen(0)
    among = tuning._candidates(chosen, generator(0, "any"))
    targets = np.array([tuning._bearers[place][-1] for place in chosen])
    among = np.union1d(among, targets)
    queries = made.whitening.apply(made.encoder.encode([tuning.wordings.texts[place] for place in chosen]))
    expected = 0.0
    for query, place, target in zip(queries, chosen, targets, strict=True):
        title = tuning.wordings.texts[place].casefold()
        scores = np.exp(made.vectors[among] @ query / WORDING_TEMPERATURE, dtype=np.float64)
        right = [made.titles[row].casefold() == title for row in among]
        expected += -np.log(scores[right].sum() / scores.sum()) + 1 - made.vectors[target] @ query
    found = tuning._loss(torch.from_numpy(queries), chosen, targets, among)
    assert float(found) == pytest.approx(expected, rel=1e-4)
