"""What the catalogue and its buyers say: terms and attributes of items bought together, words used alike.

Fitted on training contexts only. Nothing is said of an item without neighbours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from recsys.augment import lexicon
from recsys.augment.backfill import SEPARATOR
from recsys.augment.constraints import EDGES
from recsys.augment.example import NO_NEIGHBOURS, NO_SYNONYMS, Item, TextExample
from recsys.augment.mining import Words, mined_synonyms
from recsys.augment.neighbours import adjacency

_CLOSED = lexicon.COMMON | lexicon.NEGATIONS
_WORD = re.compile(r"[a-z][a-z'-]{2,}|[\u4e00-\u9fff]{2,}")


class TextSide(NamedTuple):
    """What the text ops read besides a row's own attributes."""

    fields: Mapping[int, Mapping[str, str]] = {}
    """`terms`, `nearby_category` and `nearby_brand` by item row; items without neighbours are absent."""
    synonyms: Mapping[str, tuple[str, ...]] = NO_SYNONYMS
    """Words used alike, by word."""


def corpus_words(examples: Iterable[TextExample], min_items: int = 5, max_share: float = 0.1) -> Words:
    """The words that texts may lend one another: editable ones that neither too few nor too many items say.

    Brands, sizes, quantities, colours and negations are protected in each text, so they are never lent.

    Args:
        examples: The catalogue's texts, cut.
        min_items: Items that say a word at least.
        max_share: Share of the items that say it at most.
    """
    one: dict[str, str] = {}  # each word is one object, however many texts say it
    documents = [[one.setdefault(word, word) for word in _content_words(example)] for example in examples]
    counts = Counter(word for words in documents for word in set(words))
    most = max(max_share * len(documents), min_items)
    names = tuple(sorted(word for word, count in counts.items() if min_items <= count <= most))
    column = {word: i for i, word in enumerate(names)}
    rows, columns = [], []
    for row, words in enumerate(documents):
        kept = {column[word] for word in words if word in column}
        rows.extend([row] * len(kept))
        columns.extend(sorted(kept))
    shape = (len(documents), len(names))
    says = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    return Words(names, says, documents)


def behaviour_terms(
    words: Words,
    neighbours: Mapping[Item, tuple[Item, ...]],
    most: int = 6,
    min_pmi: float = 2.0,
    min_support: int = 2,
) -> dict[int, tuple[str, ...]]:
    """For each item the words of items bought with it, strongest first, as in doc2query's expansion.

    A word's PMI is log2 of how much more often the neighbours say it than the catalogue does. (Nogueira et
    al., arXiv:1904.08375, append queries that a model predicts; here behaviour predicts.)

    Args:
        words: Which items say which words.
        neighbours: Correlated items.
        most: Words per item at most.
        min_pmi: Smallest PMI, in bits, exclusive.
        min_support: Neighbours that must say the word: one neighbour's word is chance.
    """
    if not words.names or not neighbours:
        return {}
    near = adjacency(neighbours, words.says.shape[0])
    support = (near @ words.says).tocsr()
    degree = np.asarray(near.sum(axis=1)).reshape(-1)
    share = np.asarray(words.says.sum(axis=0)).reshape(-1) / words.says.shape[0]
    terms: dict[int, tuple[str, ...]] = {}
    for row in np.flatnonzero(degree).tolist():
        span = slice(support.indptr[row], support.indptr[row + 1])
        columns, counts = support.indices[span], support.data[span]
        pmi = np.log2(counts / degree[row] / share[columns])
        good = (pmi > min_pmi) & (counts >= min_support)
        own = set(words.documents[row])
        order = np.lexsort((columns[good], -(counts * pmi)[good]))
        found = [words.names[c] for c in columns[good][order].tolist() if words.names[c] not in own]
        if found:
            terms[row] = tuple(found[:most])
    return terms


def nearby_attributes(
    fields: Sequence[Mapping[str, str]], neighbours: Mapping[Item, tuple[Item, ...]], min_share: float = 0.6
) -> dict[int, dict[str, str]]:
    """Category and brand that most neighbours share, for items that lack their own.

    Args:
        fields: The items' own attributes.
        neighbours: Correlated items.
        min_share: Share of at least three neighbours that must agree.
    """
    found: dict[int, dict[str, str]] = {}
    for item, near in neighbours.items():
        row = int(item)
        for name in ("category", "brand"):
            said = [value for other in near if (value := fields[int(other)].get(name))]
            if fields[row].get(name) or len(said) < 3:
                continue
            value, count = Counter(said).most_common(1)[0]
            if count >= min_share * len(near):
                found.setdefault(row, {})[f"nearby_{name}"] = value
    return found


def text_side(
    examples: Iterable[TextExample],
    needs: frozenset[str],
    neighbours: Mapping[Item, tuple[Item, ...]] = NO_NEIGHBOURS,
) -> TextSide:
    """What the ops of a policy need, and nothing that they do not.

    Args:
        examples: The catalogue's texts, cut, in catalogue order; read once, none of them kept.
        needs: Of the policy: `behaviour` for terms and attributes of neighbours, `synonyms` for mined words.
        neighbours: Correlated items; without any, behaviour says nothing.
    """
    if not ("synonyms" in needs or ("behaviour" in needs and neighbours)):
        return TextSide()
    own: list[Mapping[str, str]] = []
    chinese = bytearray()
    words = corpus_words(_noted(examples, own, chinese))
    if not own:
        return TextSide()
    fields: dict[int, dict[str, str]] = {}
    if "behaviour" in needs and neighbours:
        fields = nearby_attributes(own, neighbours)
        for row, terms in behaviour_terms(words, neighbours).items():
            if alike := [term for term in terms if term.isascii() != bool(chinese[row])]:
                fields.setdefault(row, {})["terms"] = SEPARATOR.join(alike)
    synonyms = mined_synonyms(words, neighbours) if "synonyms" in needs else NO_SYNONYMS
    return TextSide(fields, synonyms)


def _noted(
    examples: Iterable[TextExample], own: list[Mapping[str, str]], chinese: bytearray
) -> Iterator[TextExample]:
    """The same examples, one by one; their category and brand, and whether they are Chinese, are noted."""
    shared: dict[tuple[str, str], Mapping[str, str]] = {}
    for example in examples:
        pair = example.fields.get("category", ""), example.fields.get("brand", "")
        own.append(shared.setdefault(pair, {"category": pair[0], "brand": pair[1]}))
        chinese.append(example.tokens is not None and example.tokens.language == "zh")
        yield example


def _content_words(example: TextExample) -> list[str]:
    tokens = example.tokens
    if tokens is None or tokens.language not in ("en", "zh"):
        return []
    cores = (tokens.words[i].strip(EDGES).lower() for i in tokens.editable)
    return [core for core in cores if core not in _CLOSED and _WORD.fullmatch(core)]
