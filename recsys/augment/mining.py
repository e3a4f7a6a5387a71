"""Synonyms out of the shop's own corpus: words that stand in each other's place, in text and in behaviour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.augment.example import Item
from recsys.augment.neighbours import adjacency

_MOST_WORDS = 20_000
"""Words that are compared: the commonest."""
_BLOCK = 2048


class Words(NamedTuple):
    """Which items say which words."""

    names: tuple[str, ...]
    says: sparse.csr_array
    """(items, words) of zeros and ones."""
    documents: Sequence[Sequence[str]]
    """The items' words in order."""


def mined_synonyms(
    words: Words,
    neighbours: Mapping[Item, tuple[Item, ...]],
    *,
    min_similarity: float = 0.3,
    min_variant: float = 0.15,
    min_lift: float = 1.5,
    most: int = 3,
) -> dict[str, tuple[str, ...]]:
    """Words used alike, by word, nearest first; symmetric.

    Three kinds of evidence, all needed: the same words stand beside both (cosine of positive PMI over left
    and right neighbours; Bullinaria and Levy, BRM 2007); one text rarely says both; and buyers of items that
    say one buy items that say the other more often than chance. The last parts synonyms from opposites, which
    a text cannot. Without behaviour only spelling variants are kept (colour, color; t-shirt, tshirt).

    Args:
        words: Which items say which words, and in which order.
        neighbours: Correlated items.
        min_similarity: Smallest cosine.
        min_variant: Smallest cosine of two spellings of one word.
        min_lift: Smallest ratio of common neighbours to those that chance would give.
        most: Synonyms per word at most.
    """
    counts = np.asarray(words.says.sum(axis=0)).reshape(-1)
    kept = np.sort(np.argsort(-counts, kind="stable")[:_MOST_WORDS])
    if len(kept) < 2:
        return {}
    names = [words.names[i] for i in kept.tolist()]
    says = words.says[:, kept].tocsc()
    left, right, cosine = _alike(_contexts(words, names), min(min_similarity, min_variant))
    together = np.asarray((says.T @ says).tocsr()[left, right]).reshape(-1)
    by_chance = counts[kept][left] * counts[kept][right] / words.says.shape[0]
    lift = _lift(says, neighbours, left, right)
    found: dict[str, list[tuple[float, str]]] = {}
    for i in np.flatnonzero(together <= np.maximum(by_chance, 1.0)).tolist():
        one, other = names[left[i]], names[right[i]]
        proven = cosine[i] >= min_similarity and lift[i] >= min_lift
        if one.isascii() != other.isascii() or not (proven or _same_spelling(one, other)):
            continue
        found.setdefault(one, []).append((-float(cosine[i]), other))
        found.setdefault(other, []).append((-float(cosine[i]), one))
    nearest = {word: [other for _, other in sorted(others)[:most]] for word, others in found.items()}
    return {  # each must be among the other's nearest: a general word is near to everything
        word: mutual
        for word, others in sorted(nearest.items())
        if (mutual := tuple(other for other in others if word in nearest[other]))
    }


def _contexts(words: Words, names: list[str]) -> sparse.csr_array:
    """(words, contexts): positive PMI of a word with what stands left and right of it, rows of norm 1."""
    row = {name: i for i, name in enumerate(names)}
    column: dict[tuple[str, int], int] = {}
    pairs: Counter[tuple[int, int]] = Counter()
    for document in words.documents:
        for place, word in enumerate(document):
            if (i := row.get(word)) is None:
                continue
            for step in (-2, -1, 1, 2):
                if 0 <= place + step < len(document):
                    key = (document[place + step], -1 if step < 0 else 1)
                    pairs[i, column.setdefault(key, len(column))] += 1
    if not pairs:
        return sparse.csr_array((len(names), 1))
    places = np.array(list(pairs), np.int64)
    values = np.fromiter(pairs.values(), np.float64, len(pairs))
    table = sparse.csr_array((values, places.T), shape=(len(names), len(column))).tocoo()
    rows: NDArray[Any] = np.asarray(table.sum(axis=1)).reshape(-1)
    columns: NDArray[Any] = np.asarray(table.sum(axis=0)).reshape(-1)
    pmi = np.log(table.data * values.sum() / (rows[table.row] * columns[table.col]))
    positive = sparse.csr_array((np.maximum(pmi, 0.0), (table.row, table.col)), shape=table.shape)
    norms = np.sqrt(np.asarray(positive.multiply(positive).sum(axis=1)).reshape(-1))
    return (sparse.diags_array(1.0 / np.maximum(norms, 1e-12)) @ positive).tocsr()


def _alike(contexts: sparse.csr_array, least: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Pairs (left < right) with at least that cosine, and the cosine."""
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    turned = contexts.T.tocsc()
    for start in range(0, contexts.shape[0], _BLOCK):
        block = (contexts[start : start + _BLOCK] @ turned).tocoo()
        good = (block.data >= least) & (block.row + start < block.col)
        parts.append((block.row[good] + start, block.col[good], block.data[good]))
    left, right, cosine = (np.concatenate(column) for column in zip(*parts, strict=True))
    return left, right, cosine


def _lift(
    says: sparse.csc_array,
    neighbours: Mapping[Item, tuple[Item, ...]],
    left: NDArray[Any],
    right: NDArray[Any],
) -> NDArray[Any]:
    """How much more often than chance a neighbour of an item that says one word says the other; 0 unknown."""
    if not neighbours or not len(left):
        return np.zeros(len(left))
    near = adjacency(neighbours, says.shape[0])
    reached = (says.T @ near).tocsr()  # (words, items): how often the word's items lead to an item
    seen = np.asarray((reached @ says).tocsr()[left, right]).reshape(-1)
    out = np.asarray(reached.sum(axis=1)).reshape(-1)[left]
    into = np.asarray(near.sum(axis=0)).reshape(-1) @ says
    lift: NDArray[Any] = seen * near.sum() / np.maximum(out * into[right], 1e-9) * (seen >= 3)
    return lift


def _same_spelling(one: str, other: str) -> bool:
    """Whether two words are one: hyphens, doubled letters, plurals, -our or -or, -re or -er, -ise or -ize."""
    return one.isascii() and len(min(one, other, key=len)) >= 4 and _skeleton(one) == _skeleton(other)


def _skeleton(word: str) -> str:
    word = word.replace("-", "").replace("'", "").replace("our", "or").replace("ise", "ize")
    word = word.removesuffix("s")
    word = word[:-2] + "er" if word.endswith("re") else word
    return "".join(char for i, char in enumerate(word) if i == 0 or char != word[i - 1])
