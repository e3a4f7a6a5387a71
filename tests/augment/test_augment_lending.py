"""Who lends what to whom, and what came before, on users whose right answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recsys.augment.borrow import Borrow
from recsys.augment.domains import translated
from recsys.augment.example import Event, HistoryExample
from recsys.augment.examples import context_examples
from recsys.augment.expand import expand_contexts
from recsys.augment.lending import UserEvents, earlier_items, history_side
from recsys.augment.policy import load_policy, policy_from_plain
from recsys.contexts import Contexts, Vocabulary
from recsys.errors import LeakageError
from recsys.randomness import stream

VOCABULARY = Vocabulary([f"i{row}" for row in range(40)])


def contexts_of(users: dict[str, list[list[tuple[int, int]]]], role: str = "fit") -> Contexts:
    """Rows per user: [(item, time) …], the last of which is the target at its time."""
    rows = [(user, events) for user, contexts in users.items() for events in contexts]
    lengths = np.array([len(events) - 1 for _, events in rows])
    history = [event for _, events in rows for event in events[:-1]]
    count = len(rows)
    return Contexts(
        user_ids=np.array([user for user, _ in rows]),
        moments=np.array([events[-1][1] for _, events in rows], np.int64),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history_rows=np.array([item for item, _ in history], np.int64),
        history_events=np.ones(len(history), np.int64),
        history_timestamps=np.array([time for _, time in history], np.int64),
        target_offsets=np.arange(count + 1, dtype=np.int64),
        target_rows=np.array([events[-1][0] for _, events in rows], np.int64),
        target_weights=np.ones(count, np.float32),
        weights=np.ones(count, np.float32),
        parents=np.full(count, -1, np.int64),
        role=role,  # type: ignore[arg-type]
    )


ALIKE = contexts_of(
    {
        "ann": [[(1, 10), (2, 20), (9, 100)]],
        "bob": [[(1, 5), (2, 15), (3, 30), (4, 99), (5, 150), (6, 200)]],
        "cid": [[(20, 1), (21, 2), (22, 3)]],
    }
)


def test_alike_users_lend_what_lies_before_the_moment() -> None:
    side = history_side(ALIKE, 40, frozenset({"similar"}))
    ann, _, cid = side.lent(0, 3)
    assert [event.item for event in ann["similar"]] == [4, 3, 2, 1], "bob's, newest first, nothing after 100"
    assert cid["similar"] == ()
    example = next(context_examples(ALIKE, 0, 1, side))
    assert example.lent["similar"] == ann["similar"]


def test_the_rows_own_target_has_no_say_in_who_is_alike() -> None:
    moved = dataclasses.replace(ALIKE, target_rows=np.array([9, 6, 3]))  # cid's target is bob's item
    assert history_side(moved, 40, frozenset({"similar"})).lent(2, 3) == [{"similar": ()}]


def test_friends_fill_even_an_empty_history() -> None:
    contexts = contexts_of({"new": [[(9, 100)]], "pal": [[(3, 30), (4, 40), (5, 120)]]})
    policy = policy_from_plain(
        {"name": "x", "history": {"ops": [{"op": "social_borrow", "count_range": [2, 2]}]}}
    )
    friends = {"new": ["pal", "stranger"]}
    grown = expand_contexts(contexts, VOCABULARY, policy, 0, friends=friends)
    child = grown.contexts.history(2)
    assert child.rows.tolist() == [3, 4]
    assert child.timestamps.tolist() == [30, 40]
    assert grown.contexts.parents.tolist() == [-1, -1, 0]
    assert expand_contexts(contexts, VOCABULARY, policy, 0).counts["accepted"] == 0, "nobody to ask"


def test_what_came_before_is_learned_in_reverse() -> None:
    users = {f"u{n}": [[(1, 10), (2, 20), (3, 30)]] for n in range(20)}
    users["odd"] = [[(7, 10), (2, 20), (8, 30)]]
    earlier = earlier_items(contexts_of(users))
    assert earlier[2] == ((1, pytest.approx(20 / 26)),), "seen once is chance"
    assert earlier[3][0][0] == 2
    assert 1 not in earlier
    short = contexts_of({**users, "short": [[(3, 50), (30, 90)]]})
    policy = policy_from_plain(
        {"name": "x", "history": {"ops": [{"op": "backward_extension", "gap_seconds": 5}]}}
    )
    grown = expand_contexts(short, VOCABULARY, policy, 0)
    child = next(i for i in range(len(short), len(grown.contexts)) if grown.contexts.user_ids[i] == "short")
    assert grown.contexts.history(child).rows.tolist() == [1, 2, 3]
    assert grown.contexts.history(child).timestamps.tolist() == [40, 45, 50]


def test_another_domain_is_translated_by_shared_users() -> None:
    users = {f"u{n}": [[(n % 2, 10), (n % 2, 20)]] for n in range(12)}
    foreign = {f"u{n}": [(f"film{n % 2}", 5)] for n in range(12)}
    foreign["u0"] = [("film0", 5), ("film0", 15), ("unknown", 6)]
    elsewhere = translated(contexts_of(users), foreign)
    assert elsewhere["u0"] == [Event(0, 0, 5), Event(0, 0, 15)]
    assert elsewhere["u1"] == [Event(1, 0, 5)]
    cold = contexts_of({"u1": [[(9, 4)]], "u0": [[(9, 12)]]})
    side = history_side(cold, 40, frozenset({"elsewhere"}), elsewhere=elsewhere)
    assert side.lent(0, 2) == [{"elsewhere": ()}, {"elsewhere": (Event(0, 0, 5),)}], (
        "strictly before the moment"
    )


def test_side_data_comes_from_original_fit_rows_alone() -> None:
    with pytest.raises(LeakageError):
        UserEvents(contexts_of({"a": [[(1, 1), (2, 2)]]}, role="held_out"))
    grown = expand_contexts(ALIKE, VOCABULARY, load_policy("cold-start"), 0)
    assert len(grown.contexts) > len(ALIKE)
    with pytest.raises(LeakageError):
        UserEvents(grown.contexts)


def test_strength_follows_how_little_is_known() -> None:
    rng = np.random.default_rng(0)
    users = {f"s{n}": [[(int(i), t) for t, i in enumerate(rng.permutation(30)[:3])]] for n in range(80)}
    users |= {f"r{n}": [[(int(i), t) for t, i in enumerate(rng.integers(0, 30, 60))]] for n in range(80)}
    for name in ("light", "standard", "strong", "cold-start", "zh"):
        grown = expand_contexts(contexts_of(users), VOCABULARY, load_policy(name), 0, max_expansion=3)
        parents = grown.contexts.user_ids[grown.contexts.parents >= 0]
        assert not any(str(user).startswith("r") for user in parents), f"{name} leaves rich users alone"


def test_a_plan_names_who_lent_each_event() -> None:
    lent = tuple(Event(10 + i, 0, 100 + i, f"lender {i}") for i in range(4))
    example = HistoryExample("user:a@900", (1, 2), (0, 0), (500, 600), (99,), lent={"similar": lent})
    plan = Borrow(count_range=(2, 2)).plan(example, stream(1, "who", "user:a@900"))
    assert plan is not None
    items, _, _, lenders = plan.values
    assert [f"lender {item - 10}" for item in items] == list(lenders)


def by_turns(parts: list[list[Event]]) -> tuple[Event, ...]:
    """One event of each, then the next of each, ten at most."""
    longest = max(map(len, parts), default=0)
    return tuple([part[turn] for turn in range(longest) for part in parts if turn < len(part)][:10])


@pytest.mark.parametrize("seed", range(4))
def test_what_many_rows_borrow_is_what_each_would_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users: dict[str, list[list[tuple[int, int]]]] = {}
    for number in range(60):
        times = np.sort(rng.integers(0, 40, int(rng.integers(1, 16)))).tolist()
        events = [(int(rng.integers(0, 12 + number % 20)), time) for time in times]
        users[f"u{number}"] = [events[: len(events) // 2 + 1], [*events, (int(rng.integers(40)), 41)]]
    contexts = contexts_of(users)
    friends = {
        user: [f"u{int(other)}" for other in rng.integers(0, 70, 25)] for user in users if user != "u3"
    }
    elsewhere = {
        user: [Event(n, 1, int(rng.integers(45)), "x" * (n % 2)) for n in range(15)] for user in friends
    }
    needs = frozenset({"similar", "friends", "elsewhere"})
    side = history_side(contexts, 40, needs, friends=friends, elsewhere=elsewhere)
    known = UserEvents(contexts)
    owned = [{*map(int, items)} for items in known.items()]
    owners = np.bincount([item for items in owned for item in items], minlength=40)
    rare = (owners > 1) & (owners <= 50)
    weights = np.where(rare, np.log2(1.0 + len(owned) / np.maximum(owners, 1)), 0.0)

    def vector(items: set[int]) -> np.ndarray:
        said = np.where(np.isin(np.arange(40), list(items)), weights, 0.0)
        return said / max(float(np.linalg.norm(said)), 1e-12)

    everyone = np.stack([vector(items) for items in owned])
    for row, lent in enumerate(side.lent(0, len(contexts))):
        user, moment = str(contexts.user_ids[row]), int(contexts.moments[row])
        cosines = everyone @ vector({*contexts.history(row).rows.tolist()})
        cosines[known.row_of[user]] = 0.0
        order = np.lexsort((np.arange(len(cosines)), -np.round(cosines, 9)))
        near = [int(other) for other in order[:5] if cosines[other] >= 0.1]
        assert lent["similar"] == by_turns([known.before(other, moment) for other in near])
        told = [known.row_of[friend] for friend in friends.get(user, ()) if friend in known.row_of]
        assert lent["friends"] == by_turns([known.before(other, moment) for other in told])
        foreign = [event for event in elsewhere.get(user, ()) if event.timestamp < moment]
        assert lent["elsewhere"] == tuple(foreign[-10:])
    parts = [*side.lent(0, 7), *side.lent(7, 90), *side.lent(90, len(contexts))]
    assert parts == side.lent(0, len(contexts))
