"""From a fit to a ranker: candidates as retrieval produced them, labels from the time after the fit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from recsys.artifacts import replacing
from recsys.config import RankConfig
from recsys.errors import ArtifactError
from recsys.loading import FEATURE_MEANS
from recsys.model.ranker import (
    MIN_USERS,
    Ranker,
    RankingLists,
    Scores,
    fit_ranker,
    joined,
    labelled_lists,
    load_lists,
    neural_scores,
    ranking_figures,
    save_lists,
)
from recsys.model.trees import fit_trees, tree_scores, trees_available, usual_spread
from recsys.newcomers import first_of_each
from recsys.progress import Progress
from recsys.randomness import generator
from recsys.rank_features import FEATURE_GROUPS, RANK_FEATURES
from recsys.rank_graph import mixed_graph, network_graph, trees_graph
from recsys.recommend import Recommender
from recsys.scorer import OnnxScorer
from recsys.types import Floats, Query, Rows

logger = logging.getLogger(__name__)

_CHUNK = 256
_TOLERANCE = 1e-3
_DIFFERENT = 1e-2
_SPREAD_USERS = 500
SHARES = {"neural": 0.0, "mix": 0.5, "trees": 1.0}
"""By `rank.kind`, how much the trees have to say."""
JUDGED_SHARES = (0.0, 0.25, 0.5)
"""Those that `auto` chooses from, the simplest first."""
NEW_ITEM_LISTS = 5
"""Lists of one part of time, at most, in which a new item teaches by having been taken."""
MIN_LISTS = 20
"""Fewer lists with a label than this cannot train a ranker: candidates are then ranked by match score."""
MIN_JUDGED = 50
"""Lists of the older and of the newest part of time, each, that a share of the trees is chosen by."""
UNJUDGED_SHARE = 0.25
"""The share of the trees where lists are too few to choose it."""


class Slice(NamedTuple):
    """Lists to learn from: as of one moment, and what came within some time after it."""

    recommender: Recommender
    """Without a ranker; it knows what came before the moment."""
    queries: Sequence[Query]
    targets: Sequence[Rows]
    """The rows that each query's user took afterwards."""


@dataclass(frozen=True, slots=True)
class Form:
    """A fitted ranker: the network, the trees, or both mixed."""

    score: Scores
    graph: Callable[[], onnx.ModelProto]
    """Makes its ONNX graph: `features` (n, num_features) to `score` (n,)."""


def collect_lists(
    recommender: Recommender, queries: Sequence[Query], targets: Sequence[Rows]
) -> RankingLists:
    """Candidates and labels of each query; `targets[i]` are the rows that query i's user took afterwards."""
    features, labels, novel, items = [], [], [], []
    sizes: list[NDArray[np.int64]] = []
    with Progress(len(queries), "ranker: candidates", "lists") as bar:
        for start in range(0, len(queries), _CHUNK):
            chunk = queries[start : start + _CHUNK]
            ranked = recommender.rank(chunk, [recommender.excluded_rows(query) for query in chunk])
            users, rows = ranked.candidates.users, ranked.candidates.rows
            num_items = len(recommender.vocabulary)
            taken = [wanted + i * num_items for i, wanted in enumerate(targets[start : start + _CHUNK])]
            labels.append(np.isin(rows + users * num_items, np.concatenate(taken)).astype(np.float32))
            novel.append(ranked.features[:, RANK_FEATURES.index("owned")] == 0)
            features.append(ranked.features)
            items.append(rows)
            sizes.append(np.bincount(users, minlength=len(chunk)))
            bar.advance(len(chunk))
    return RankingLists(
        np.concatenate(features),
        np.concatenate(labels),
        np.concatenate(novel),
        np.concatenate([[0], np.cumsum(np.concatenate(sizes))]),
        items=np.concatenate(items),
    )


def joined_lists(slices: Sequence[Slice], users: Set[str]) -> RankingLists:
    """Candidates and labels of the users' queries in every slice, with their owners."""
    numbers = {user: number for number, user in enumerate(sorted(users))}
    found = []
    for number, (recommender, queries, targets) in enumerate(slices, start=1):
        picked = [i for i, query in enumerate(queries) if query.user_id in numbers]
        if not picked:
            continue
        logger.info("ranker: %d lists as of part %d of %d", len(picked), number, len(slices))
        lists = collect_lists(recommender, [queries[i] for i in picked], [targets[i] for i in picked])
        found.append(replace(lists, owners=np.array([numbers[str(queries[i].user_id)] for i in picked])))
    return joined(found)


def temper_hits(lists: RankingLists, seed: int) -> RankingLists:
    """Leave a new item that many took out of most of those lists: it teaches `NEW_ITEM_LISTS` of each part.

    How new items fare is told by how many of them did well, not by how often the luckiest was taken. One hit
    in the weeks that teach would have the ranker believe that the first among the new always is one.
    """
    if lists.items is None:
        return lists
    taken = np.flatnonzero((lists.labels > 0) & (lists.features[:, RANK_FEATURES.index("cold")] > 0))
    taken = generator(seed, "ranker", "hits").permutation(taken)
    of = np.searchsorted(lists.offsets, taken, side="right") - 1
    parts = np.zeros(len(lists), np.int64) if lists.parts is None else lists.parts
    cases = parts[of] * (int(lists.items.max(initial=0)) + 1) + lists.items[taken]
    wanted = np.ones(len(lists.labels), np.bool_)
    wanted[taken[~first_of_each(cases, NEW_ITEM_LISTS)]] = False
    return lists.keep(wanted)


def drawn_users(num_lists: Mapping[str, int], most: int, seed: int) -> set[str]:
    """Everybody, or users drawn at random as long as their lists are at most so many in all."""
    users = sorted(num_lists)
    if sum(num_lists.values()) <= most:
        return set(users)
    order = generator(seed, "ranker", "users").permutation(len(users))
    sizes = np.cumsum([num_lists[users[i]] for i in order])
    return {users[i] for i in order[: np.searchsorted(sizes, most, side="right")]}


def train_ranker(
    slices: Sequence[Slice],
    config: RankConfig,
    seed: int,
    path: Path,
    *,
    left_out: Sequence[str] = (),
    lists_to: Path | None = None,
) -> dict[str, Any]:
    """Fit the ranker and put its ONNX file in place once it agrees with torch.

    Features that are left out are zero in training, and since the graph clips to the range seen there, it
    does not see them in serving either.

    Args:
        slices: What to learn from.
        config: How to train.
        seed: Of draws and weights.
        path: Where the graph goes.
        left_out: Names of `FEATURE_GROUPS` that the ranker shall do without: for ablations.
        lists_to: Where the lists go that `refit_ranker` will want; None: nowhere.

    Returns what the manifest says of it; with too few labelled lists there is no file and the reason.

    Raises:
        ArtifactError: the exported graph ranks differently from the model.
    """
    lists, said = teaching_lists(slices, config, seed)
    if lists is None:
        return {"kept": False, **said}
    hidden = [name for group in left_out for name in FEATURE_GROUPS[group]]
    lists.features[:, [RANK_FEATURES.index(name) for name in hidden]] = 0
    if lists_to is not None:
        save_lists(lists, lists_to)
    made, figures = choose_form(lists, config, seed)
    return {"kept": True, **said, **figures, **_put_in_place(made, lists, path)}


def teaching_lists(
    slices: Sequence[Slice], config: RankConfig, seed: int
) -> tuple[RankingLists | None, dict[str, Any]]:
    """What there is to learn from and what the manifest says of it, or None and why it is too little."""
    asked = Counter(str(query.user_id) for one in slices for query in one.queries)
    users = drawn_users(asked, config.max_lists, seed)
    if len(users) < MIN_USERS:
        return None, {"why": f"{len(users)} users to learn from, {MIN_USERS} needed"}
    lists = joined_lists(slices, users)
    found, per_user = int(lists.labels.sum()), len(lists.labels) / len(lists)
    lists = temper_hits(lists, seed)
    useful = labelled_lists(lists)
    labelled, owners = len(useful), len(np.unique(lists.users[useful]))
    if labelled < MIN_LISTS or owners < MIN_USERS:
        needed = f"{MIN_LISTS} of {MIN_USERS} users needed"
        return None, {"why": f"{labelled} lists of {owners} users hold a label, {needed}"}
    wanted = sum(
        len(rows) for one in slices for query, rows in zip(one.queries, one.targets, strict=True)
        if query.user_id in users
    )  # fmt: skip
    return lists, {
        "slices": len(slices),
        "users": len(users),
        "candidates_per_user": round(per_user, 1),
        "candidate_recall": round(found / max(wanted, 1), 4),
        "hits_left_out": found - int(lists.labels.sum()),
    }


def refit_ranker(
    older: Path, newer: Sequence[Slice], chosen: Mapping[str, Any], config: RankConfig, seed: int, path: Path
) -> dict[str, Any]:
    """Fit the form that was chosen on older lists on them and on newer ones, and put it in place.

    Args:
        older: Where `train_ranker` put its lists.
        newer: What came after them.
        chosen: What `train_ranker` said of the ranker that it kept.
        config: How to train.
        seed: Of draws and weights.
        path: Where the graph goes; what is there stays where newer slices are too small to teach.

    Returns what the manifest says of it: `lists` are those of both, all else is of the newer slices.

    Raises:
        ArtifactError: the exported graph ranks differently from the model.
    """
    found, said = teaching_lists(newer, config, seed)
    if found is None:
        return {"kept": False, **said}
    # Each has numbered its owners for itself, which splits nothing here: everybody is fitted on.
    lists = joined([load_lists(older), found])
    logger.info("ranker: '%s' is fitted on the newest lists too, %d in all", chosen["kind"], len(lists))
    made = fit_form(lists, chosen["trees_share"], chosen["best_epoch"], config, seed)
    return {"kept": True, **said, "lists": len(labelled_lists(lists)), **_put_in_place(made, lists, path)}


def _put_in_place(made: Form, lists: RankingLists, path: Path) -> dict[str, Any]:
    parity = export_ranker(made, lists, path)
    return {FEATURE_MEANS: [float(mean) for mean in lists.features.mean(axis=0)], "parity": parity}


def choose_form(lists: RankingLists, config: RankConfig, seed: int) -> tuple[Form, dict[str, Any]]:
    """The network, the trees or both mixed, in the share that is configured or ranks later lists best.

    Under `auto` models of the older parts of time rank the newest part. Judged on other users of the same
    time, trees look better than they are when time goes on: they learn by heart what sold just then.
    What is chosen is then fitted on everybody.
    """
    useful = labelled_lists(lists)
    verdict: dict[str, Any] = {"why": "rank.kind asks for it"}
    if config.kind != "auto":
        share = SHARES[config.kind]
    elif not trees_available():
        share, verdict = 0.0, {"why": "LightGBM and onnxmltools are not installed"}
    else:
        share, verdict = _judged(lists, useful, config, seed)
    kind = next((name for name, one in SHARES.items() if one == share), "mix")
    logger.info("ranker: '%s', %.2f of it trees, is fitted on %d lists", kind, share, len(useful))
    _, figures = fit_ranker(lists, config, seed)
    made = fit_form(lists, share, figures["best_epoch"], config, seed)
    return made, {"kind": kind, "trees_share": share, **verdict, **figures}


def fit_form(lists: RankingLists, share: float, epochs: int, config: RankConfig, seed: int) -> Form:
    """A form fitted on everybody: the network for so many epochs, and the trees, with their share."""
    useful = labelled_lists(lists)
    network = fit_ranker(lists, config, seed, epochs)[0] if share < 1 else None
    trees = fit_trees(lists, useful, config, seed) if share > 0 else None
    return _form(share, network, trees, lists, useful)


def _judged(lists: RankingLists, useful: Rows, config: RankConfig, seed: int) -> tuple[float, dict[str, Any]]:
    """The share of the trees that ranks the newest part of time best, and what each reached."""
    parts = np.zeros(len(lists), np.int64) if lists.parts is None else lists.parts
    newest = parts[useful] == parts.max()
    old, late = useful[~newest], useful[newest]
    if min(len(old), len(late)) < MIN_JUDGED:
        why = f"{len(old)} older and {len(late)} newer lists, {MIN_JUDGED} of each needed to choose"
        return UNJUDGED_SHARE, {"why": why}
    logger.info("ranker: forms fitted on %d lists are judged on %d newer ones", len(old), len(late))
    rest = lists.take(old)
    everybody = np.arange(len(rest))
    _, figures = fit_ranker(rest, config, seed)
    network, _ = fit_ranker(rest, config, seed, figures["best_epoch"])
    trees = fit_trees(rest, everybody, config, seed)
    reached = {}
    for share in JUDGED_SHARES:
        found = ranking_figures(_form(share, network, trees, rest, everybody).score, lists, late)
        reached[share] = {task: round(figure, 5) for task, figure in found.items()}
    # The first of equal ones: the simplest.
    best = max(JUDGED_SHARES, key=lambda share: sum(reached[share].values()))
    why = (
        f"ranked {len(late)} lists newer than those it was fitted on best: ndcg@10 of all plus of novel items"
    )
    return best, {"why": why, "forms": {str(share): found for share, found in reached.items()}}


def _form(share: float, network: Ranker | None, trees: Any, lists: RankingLists, useful: Rows) -> Form:
    if network is None:
        return Form(tree_scores(trees), lambda: trees_graph(trees))
    if share == 0:
        return Form(neural_scores(network), lambda: network_graph(network))
    parts = (neural_scores(network), tree_scores(trees))
    some = useful[:_SPREAD_USERS]
    spreads = (usual_spread(parts[0], lists, some), usual_spread(parts[1], lists, some))

    def mixed(features: Floats) -> Floats:
        weighed = [
            (1 - share) * parts[0](features) / spreads[0],
            share * parts[1](features) / spreads[1],
        ]
        return np.asarray(weighed[0] + weighed[1], np.float32)

    return Form(mixed, lambda: mixed_graph(network, trees, share, spreads))


def export_ranker(form: Form, lists: RankingLists, path: Path) -> dict[str, float]:
    """Write the ranker's graph, after it has ranked some of the lists exactly as the model does."""
    graph = form.graph()
    with replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        parity = _parity(form.score, OnnxScorer(temporary, threads=1), lists)
        if parity["differ"] > _DIFFERENT or parity["same_top_10"] < 0.99:
            raise ArtifactError(f"{path}: the exported ranker differs from the model ({parity})")
    return parity


def _parity(score: Scores, scorer: OnnxScorer, lists: RankingLists, num_lists: int = 100) -> dict[str, float]:
    """The largest difference, the share of candidates that differ, and of lists with the same first ten.

    A tree may send a value that lies within a rounding of its threshold to the other side: so shares.
    """
    gaps, same = [], []
    for start, end in list(zip(lists.offsets[:-1], lists.offsets[1:], strict=True))[:num_lists]:
        features: Floats = np.ascontiguousarray(lists.features[start:end])
        if not len(features):
            continue
        ours, theirs = score(features), scorer.score(features)
        gaps.append(np.abs(ours - theirs))
        mine, other = (np.argsort(-scores, kind="stable")[:10] for scores in (ours, theirs))
        same.append(np.array_equal(mine, other) or np.allclose(ours[mine], ours[other], atol=1e-5))
    every = np.concatenate(gaps)
    return {
        "max_difference": round(float(every.max()), 8),
        "differ": float((every > _TOLERANCE).mean()),
        "same_top_10": float(np.mean(same)),
    }
