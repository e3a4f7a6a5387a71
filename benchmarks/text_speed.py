"""Text ops with constraints and provenance beside nlpaug and EDA; presets' branches; the meaning gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from rounds import Line, References, Report, compared, timed

from recsys.augment.columns.texts import Originals
from recsys.augment.columns.texts_grow import grow_texts
from recsys.augment.constraints import EDGES, Protection
from recsys.augment.example import TextExample
from recsys.augment.expand import expand_texts
from recsys.augment.fields import item_fields
from recsys.augment.gates.gate import Evidence
from recsys.augment.gates.text import Meaning
from recsys.augment.grow import grow
from recsys.augment.policy import Policy, load_policy, policy_from_plain
from recsys.augment.provenance import provenance_table
from recsys.augment.tokens import language_of
from recsys.config import EncoderConfig

RATE = 0.125
"""Share of the words that ops of a rate edit, on average; the references are told the same."""
NLPAUG_BAR, EDA_BAR, GATE_BAR = 8.0, 4.0, 1.0
_SHARE = {"rate_range": [0.05, 0.2]}
_PAIRS: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("word_swap", {"count_range": [1, 2]}, "nlpaug RandomWordAug(swap)", "EDA random_swap"),
    ("word_dropout", _SHARE, "nlpaug RandomWordAug(delete)", "EDA random_deletion"),
    ("typo", {}, "nlpaug RandomCharAug(swap)", ""),
    ("keyboard_noise", {}, "nlpaug KeyboardAug", ""),
    ("synonym", _SHARE, "nlpaug ReservedAug", "EDA synonym_replacement"),
    ("word_insertion", {"count_range": [1, 2]}, "", "EDA random_insertion"),
)
"""Op, its settings, nlpaug's augmenter of the same kind, EDA's operation of the same kind."""


@dataclass(frozen=True)
class Catalogue:
    """The English item texts that both sides edit."""

    items: pd.DataFrame
    texts: list[str]
    fields: list[dict[str, str]]
    groups: list[list[str]]
    """Pairs of the catalogue's commonest words, for the synonym ops of both sides; they need no sense."""
    protection: Protection
    """Built once, as the references' augmenters are."""
    synonyms: dict[str, tuple[str, ...]]


def catalogue_of(items: pd.DataFrame, texts: Sequence[str], most: int) -> Catalogue:
    """Up to `most` English texts of six words and more, spread over the catalogue."""
    usable = [i for i, text in enumerate(texts) if len(text.split()) >= 6 and language_of(text) == "en"]
    rows = usable[:: max(1, len(usable) // most)][:most]
    chosen = items.iloc[rows].reset_index(drop=True)
    said = [texts[i] for i in rows]
    counts = Counter(word.strip(EDGES).lower() for text in said for word in text.split())
    common = [
        word for word, _ in counts.most_common(900) if word.isascii() and word.isalpha() and len(word) > 2
    ]
    pairs = [list(pair) for pair in zip(common[::2], common[1::2], strict=False)]
    fields, groups = item_fields(chosen), pairs[:300]
    protection = Protection((), (values.get("brand", "") for values in fields))
    synonyms = {one: (other,) for pair in groups for one, other in (pair, pair[::-1])}
    return Catalogue(chosen, said, fields, groups, protection, synonyms)


def job_of(catalogue: Catalogue) -> dict[str, Any]:
    """What `references.py` is told."""
    return {"texts": catalogue.texts, "rate": RATE, "groups": catalogue.groups}


def _variants(catalogue: Catalogue, policy: Policy) -> float:
    """Cut, protect, edit, accept, and note the provenance: the number of variants."""
    ids = [f"item:{i}" for i in range(len(catalogue.texts))]
    rows = Originals(ids, catalogue.texts, catalogue.fields, catalogue.protection, catalogue.synonyms)
    policy_id = policy.policy_id
    grown = grow_texts(rows, policy.text, 1, "text", policy_id)
    table = provenance_table(
        kind="text", row_ids=grown.row_ids, parent_ids=grown.parent_ids, policy_id=policy_id,
        plans=grown.plans, seed=1, scores={"modification": grown.modification}, created=0,
        chains=grown.chains,
    )  # fmt: skip
    return float(len(table))


def _policy(ops: list[dict[str, Any]], copies: int = 1) -> Policy:
    return policy_from_plain({"name": "bench", "text": {"copies": copies, "ops": ops}})


def measure_ops(catalogue: Catalogue, references: References | None, report: Report, repeats: int) -> None:
    """Each op alone beside its counterparts, then all of EDA's four beside EDA."""
    known = references.names if references else []
    for name, settings, nlpaug, eda in _PAIRS:
        extra = {"groups": catalogue.groups} if name == "synonym" else {}
        policy, four = (_policy([{"op": name, **settings, **extra}], copies) for copies in (1, 4))
        ours = timed(lambda policy=policy: _variants(catalogue, policy))
        if not references or not {nlpaug, eda} & set(known):
            report.lines.append(compared(Line("text op", name, "variants", 0.0), ours, None, repeats))
            continue
        for reference, bar in ((nlpaug, NLPAUG_BAR), (eda, None)):
            if reference in known:
                line = Line("text op", name, "variants", 0.0, reference, bar=bar)
                report.lines.append(compared(line, ours, references.side(reference), repeats))
        if nlpaug in known:
            again = timed(lambda policy=four: _variants(catalogue, policy))
            line = Line("text op", f"{name}, four copies", "variants", 0.0, nlpaug)
            report.lines.append(compared(line, again, references.side(nlpaug), repeats))
    four = eda_policy(catalogue)
    ours = timed(lambda: _variants(catalogue, four))
    what = "synonym, insertion, swap, dropout in turn; 4 copies"
    for reference, bar in (("EDA", EDA_BAR), ("EDA with a dictionary", None)):
        line = Line("text ops", what, "variants", 0.0, reference, bar=bar)
        if references and reference in known:
            report.lines.append(compared(line, ours, references.side(reference), repeats))
    if not references:
        report.lines.append(compared(Line("text ops", what, "variants", 0.0), ours, None, repeats))


def eda_policy(catalogue: Catalogue) -> Policy:
    """EDA's four operations, each as likely, four copies per text, at a strength of a tenth of the words."""
    edits = max(1, round(0.1 * sum(len(text.split()) for text in catalogue.texts) / len(catalogue.texts)))
    tenth, count = {"rate_range": [0.1, 0.1]}, {"count_range": [edits, edits]}
    ops = [
        {"op": "synonym", "groups": catalogue.groups, **tenth},
        {"op": "word_insertion", **count},
        {"op": "word_swap", **count},
        {"op": "word_dropout", **tenth},
    ]
    return _policy([{"op": "one_of", "ops": ops}], copies=4)


def measure_branches(
    catalogue: Catalogue, references: References | None, report: Report, repeats: int
) -> None:
    """The text branches of two presets, gates included, from items to provenance: texts per second."""
    for preset in ("light", "standard"):
        policy = load_policy(preset)

        def work(policy: Policy = policy) -> float:
            expand_texts(catalogue.items, catalogue.texts, policy, 1, created=0)
            return float(len(catalogue.texts))

        line = Line("text branch", f"{preset}, with its gates", "texts", 0.0)
        name = "nlpaug Sometimes(delete, swap)"
        theirs = references.tried(name) if references and name in references.names else None
        if theirs is not None:
            line = replace(line, reference=name, bar=None)
        report.lines.append(compared(line, timed(work), theirs, repeats))


def measure_gate(catalogue: Catalogue, report: Report, repeats: int, most: int = 60) -> None:
    """The meaning gate over variants beside the encoder alone over the same texts, each encoded once."""
    import torch

    from recsys.errors import DependencyError
    from recsys.model.encoder import TextEncoder

    torch.set_num_threads(1)
    try:
        encoder = TextEncoder.load(EncoderConfig())
    except DependencyError as error:
        report.skipped["meaning gate"] = str(error)
        return
    policy = _policy([{"op": "word_dropout", "rate_range": [0.05, 0.2]}], copies=3)
    protection = Protection()
    examples = [
        protection.prepare(TextExample(f"item:{i}", text)) for i, text in enumerate(catalogue.texts[:most])
    ]
    grown = grow(examples, policy.text, 1, "text", policy.policy_id)
    texts = sorted({row.text for row in (*grown.originals, *grown.children)})

    def encode(said: Sequence[str]) -> Any:
        vectors = encoder.encode(said)
        return vectors / (((vectors**2).sum(1, keepdims=True) ** 0.5) + 1e-9)

    asked: list[int] = []

    def counted(said: Sequence[str]) -> Any:
        asked.append(len(said))
        return encode(said)

    def gate() -> float:
        asked.clear()
        Meaning().judge(grown.originals, grown.children, Evidence(encode=counted))
        if sum(asked) != len(texts):
            raise SystemExit(f"bench: the gate had {sum(asked)} texts encoded, {len(texts)} are distinct")
        return float(len(texts))

    def alone() -> float:
        encode(texts)
        return float(len(texts))

    line = Line("gate", "meaning, each text encoded once", "texts", 0.0, "TextEncoder alone", bar=GATE_BAR)
    line.note = "within 5 % counts as even"
    compared(line, timed(gate), timed(alone), repeats)
    line.tolerance = 0.05
    report.lines.append(line)
