"""What ops, constraints, gates and provenance give for fixed rows stays as it is, to the byte, however fast.

    python tests/augment/test_augment_golden.py > tests/augment/golden.json

writes the digests anew, where an output is meant to change.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from recsys.augment.constraints import Acceptance, Protection
from recsys.augment.example import Event, HistoryExample, TextExample
from recsys.augment.gates.gate import Evidence
from recsys.augment.gates.panel import gate_from_plain, sift
from recsys.augment.grow import Grown, grow
from recsys.augment.op import Op
from recsys.augment.policy import policy_from_plain
from recsys.augment.provenance import plan_json, provenance_table
from recsys.augment.registry import op_from_plain
from recsys.randomness import row_streams, stream

FOLDER = Path(__file__).parent
GOLDEN: dict[str, str] = json.loads((FOLDER / "golden.json").read_text()) if __name__ != "__main__" else {}
SYNONYMS = {"soft": ("gentle", "silky"), "shirt": ("tee",), "nice": ("pretty",), "短袖": ("半袖",)}
NEIGHBOURS = {i: tuple(range(i + 1, i + 9)) for i in range(0, 200, 2)}
EARLIER = {i: ((i + 1, 0.6), (i + 2, 0.2), (i + 7, 0.1)) for i in range(200)}
ENGLISH = """
red blue Nice soft warm cotton shirt plate dinner phone case for with new kids 12 oz 500ml 2 pack not no
without sugar free gluten-free Acme XL size 10.5 M large XR-200 bottle, water. lamp; 24/7 don't café
Soft-touch creamy long lasting wear smooth finish travel portable kitchen garden, summer! (hydrating) "gloss"
NAIL polish remover
"""
CHINESE = """
红色 黑色 纯棉 短袖 上衣 不含 酒精 无糖 饼干 五百 500克 两件 XL码 手机壳 适合 运动 休闲 ， 。 耐克 免洗
营养 夏季 宽松
"""
FIELDS = (
    {"brand": "Acme", "category": "Beauty, Make-up", "tags": "vegan, gift", "price_band": "high",
     "terms": "lipstick, brush, mascara", "nearby_category": "Nails"},
    {"brand": "Soft Line", "category": "Kitchen", "terms": "plates, garden hose"},
    {"brand": "耐克", "category": "服装, 上衣", "price_band": "低价", "terms": "跑鞋, 袜子"},
    {},
)  # fmt: skip
OPS: dict[str, list[dict[str, Any]]] = {
    "attribute_backfill": [{"max_words": 60}, {"max_added": 5, "fields": ("tags", "terms")}],
    "backward_extension": [{}, {"max_length": 40, "taper": (3, 30)}],
    "borrow": [{}, {"max_length": 50, "count_range": (2, 5)}],
    "chinese_noise": [{"count_range": (1, 2)}, {"shapes": False, "p": 0.6}],
    "clause_shuffle": [{}, {"unit": "clause", "keep_first": 0}],
    "counterfactual": [{}, {"rate_range": (0.3, 0.9), "top": 2}],
    "crop": [{}, {"keep_range": (0.3, 0.8), "part": "any", "taper": (10, 40), "p": 0.7}],
    "cross_domain_borrow": [{}],
    "insert": [{}, {"rate_range": (0.2, 0.9), "top": 1}],
    "item_dropout": [{}, {"rate_range": (0.2, 0.9), "keep_newest": 0, "p": 0.5, "taper": (8, 30)}],
    "keyboard_noise": [{}, {"count_range": (1, 4), "slip": 0.6}],
    "mined_synonym": [{}, {"rate_range": (0.2, 0.6)}],
    "reorder": [{"window_seconds": 10**6}, {"rate_range": (0.5, 1.0), "window_seconds": 200}],
    "social_borrow": [{}],
    "sub_history": [{}, {"decay": 1.0, "keep_range": (0.1, 0.9)}],
    "substitute": [{}, {"rate_range": (0.2, 0.9), "top": 2, "keep_newest": 3}],
    "synonym": [
        {"groups": [["soft", "gentle"], ["shirt", "tee", "top"], ["短袖", "半袖"], ["warm", "cosy"]]}
    ],
    "term_expansion": [{"max_words": 60}, {"count_range": (1, 1)}],
    "typo": [{}, {"count_range": (1, 4), "min_letters": 3}],
    "word_dropout": [{}, {"rate_range": (0.2, 0.6), "min_keep": 5}],
    "word_insertion": [{"words": ["pretty", "好看"]}, {"count_range": (2, 5)}],
    "word_swap": [{}, {"count_range": (2, 5), "taper": (5, 30), "p": 0.8}],
    "wordnet_synonym": [{"folder": str(FOLDER / "wordnet")}],
}
"""Settings of every op whose outputs are pinned."""
COMPOSITES = {
    "text": [
        {"op": "attribute_backfill", "p": 0.5},
        {"op": "some_of", "count_range": [1, 2], "ops": [{"op": "word_dropout"}, {"op": "word_swap"}]},
        {"op": "one_of", "p": 0.7, "weights": [1, 3], "ops": [{"op": "typo"}, {"op": "clause_shuffle"}]},
    ],
    "history": [
        {"op": "compose", "p": 0.8, "ops": [{"op": "item_dropout", "p": 0.6}, {"op": "insert"}]},
        {"op": "some_of", "count_range": [0, 2], "ops": [{"op": "substitute"}, {"op": "reorder"}]},
        {"op": "one_of", "ops": [{"op": "crop"}, {"op": "sub_history"}]},
    ],
}
GATES: list[dict[str, Any]] = [
    {"gate": "attributes"}, {"gate": "fluency"}, {"gate": "near_duplicate"}, {"gate": "safety"},
    {"gate": "meaning", "min_cosine": 0.3},
]  # fmt: skip


def below(rng: Random, n: int) -> int:
    """Of all that `Random` does, `random()` alone is the same in every version of Python."""
    return int(rng.random() * n)


def histories() -> list[HistoryExample]:
    rng = Random(11)
    rows = []
    for number, size in enumerate([0, 1, 2, 3, 4, 5, 5, 6, 7, 9, 12, 17, 23, 31, 50, 90] * 6):
        times = sorted(1000 + below(rng, 5000) for _ in range(size))
        lent = tuple(Event(below(rng, 200), i % 3, 900 + 40 * i) for i in range(below(rng, 8)))
        rows.append(
            HistoryExample(
                f"user:u{number}@9000",
                tuple(below(rng, 200) for _ in range(size)),
                tuple(below(rng, 4) for _ in range(size)),
                tuple(times),
                tuple(200 + below(rng, 9) for _ in range(1 + number % 2)) if number % 3 else (50,),
                NEIGHBOURS,
                EARLIER,
                dict.fromkeys(("similar", "friends", "elsewhere"), lent),
            )
        )
    return rows


def texts() -> list[str]:
    rng = Random(12)
    made = []
    for number in range(160):
        said, joiner = (CHINESE, "") if number % 4 == 3 else (ENGLISH, " ")
        pool = said.split()
        words = [pool[below(rng, len(pool))] for _ in range(below(rng, 40))]
        made.append(joiner.join(words) + (". " if number % 5 == 0 else ""))
    return [
        *made,
        "",
        " ",
        "🎁 cute gift 🎀 for girls, with lights",
        "не очень большой красный мяч",
        "12 oz",
        "A" * 900,
    ]


def text_examples(prepare: bool = True) -> list[TextExample]:
    protection = Protection(["dinner plate", "运动休闲"], ["Soft Line", "耐克"])
    rows = [
        TextExample(f"item:i{n}", text, FIELDS[n % 4], synonyms=SYNONYMS) for n, text in enumerate(texts())
    ]
    return [protection.prepare(row) for row in rows] if prepare else rows


def shown(example: Any) -> Any:
    if isinstance(example, HistoryExample):
        return example[:5]
    tokens = example.tokens
    return (example.text, None if tokens is None else (tokens.words, tokens.states.hex(), tokens.language))


def encode(texts: Any) -> Any:
    """Unit vectors that depend on a text's characters alone."""
    counts = np.array([np.bincount(np.frombuffer(t.encode(), np.uint8), minlength=256) for t in texts])
    signs = np.where(np.arange(256 * 32).reshape(256, 32) % 7 < 3, 1.0, -1.0)
    vectors = counts @ signs + 1.0
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def op_lines(settings: dict[str, Any]) -> Iterator[str]:
    op: Op[Any] = op_from_plain(settings)
    rows = histories() if op.kind == "history" else text_examples()
    stream_of = row_streams(5, "golden")
    for example in rows:
        for rng in (stream(1, "golden", example.row_id), stream(2, "golden", example.row_id), None):
            done = op.run(example, rng or stream_of(example.row_id))
            yield "-" if done is None else f"{plan_json(done[1])} {shown(done[0])!r}"


def grown_of(kind: str) -> Grown[Any]:
    policy = policy_from_plain({"name": "golden", kind: {"copies": 3, "ops": COMPOSITES[kind]}})
    branch = getattr(policy, kind)
    return grow(histories() if kind == "history" else text_examples(), branch, 9, kind, policy.policy_id, 2)


def grown_lines(kind: str) -> Iterator[str]:
    grown = grown_of(kind)
    yield repr(sorted(grown.counts.items()))
    for i in range(len(grown.row_ids)):
        yield repr((grown.parents[i], grown.row_ids[i], grown.parent_ids[i], grown.modification[i]))
        yield repr((plan_json(grown.plans[i]), shown(grown.children[i]), shown(grown.originals[i])))
    table = provenance_table(
        kind=kind, row_ids=grown.row_ids, parent_ids=grown.parent_ids, policy_id="golden", plans=grown.plans,
        seed=9, scores={"modification": grown.modification}, created=77,
    )  # fmt: skip
    yield from map(repr, table.drop_columns(["created"]).to_pylist())


def constraint_lines() -> Iterator[str]:
    protection = Protection(["dinner plate", "运动休闲"], ["Soft Line", "耐克"])
    rows = text_examples(prepare=False)
    for example in rows:
        yield repr((protection.spans(example.text, example.fields), shown(protection.prepare(example))))
        yield repr(shown(Protection().prepare(example)))
    strict = Acceptance(min_length=3, max_modification=0.2)
    for left, right in zip(text_examples(), text_examples()[1:] + text_examples()[:1], strict=True):
        yield repr([judge(left, right) for judge in (strict.judge, Acceptance().judge)])
    for kind in ("text", "history"):
        grown = grown_of(kind)
        for left, right in zip(grown.originals, grown.children, strict=True):
            yield repr([judge(left, right) for judge in (strict.judge, Acceptance().judge)])


def gate_lines(settings: dict[str, Any]) -> Iterator[str]:
    grown = grown_of("text")
    rows = text_examples()
    evidence = Evidence(
        Protection(["dinner plate"], ["Acme"]), encode=encode, texts={r.row_id: r.text for r in rows}
    )
    gate = gate_from_plain(settings)
    shifted = [
        TextExample(o.row_id, c.text, o.fields)
        for o, c in zip(grown.originals[1:], grown.children, strict=False)
    ]
    for candidates in (grown.children, [*shifted, grown.children[-1]]):
        verdicts = gate.judge(grown.originals, candidates, evidence)
        yield repr([(round(score, 4), reason) for score, reason in zip(*verdicts, strict=True)])
    sift(grown, [gate], evidence)
    yield repr((sorted(grown.counts.items()), grown.row_ids))


def digest(lines: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


def digests() -> dict[str, str]:
    found = {
        f"op:{name}:{number}": digest(op_lines({"op": name, **settings}))
        for name, variants in OPS.items()
        for number, settings in enumerate(variants)
    }
    found |= {f"grow:{kind}": digest(grown_lines(kind)) for kind in COMPOSITES}
    found |= {f"gate:{plain['gate']}": digest(gate_lines(plain)) for plain in GATES}
    return found | {"constraints": digest(constraint_lines())}


@pytest.mark.parametrize("name", sorted(OPS))
def test_an_op_gives_what_it_gave(name: str) -> None:
    for number, settings in enumerate(OPS[name]):
        lines = list(op_lines({"op": name, **settings}))
        assert sum(line != "-" for line in lines) > 5, "the rows hardly try this op"
        assert digest(iter(lines)) == GOLDEN[f"op:{name}:{number}"]


@pytest.mark.parametrize("kind", sorted(COMPOSITES))
def test_branches_give_what_they_gave(kind: str) -> None:
    assert digest(grown_lines(kind)) == GOLDEN[f"grow:{kind}"]


@pytest.mark.parametrize("plain", GATES, ids=lambda plain: plain["gate"])
def test_gates_judge_as_they_did(plain: dict[str, Any]) -> None:
    assert digest(gate_lines(plain)) == GOLDEN[f"gate:{plain['gate']}"]


def test_constraints_are_what_they_were() -> None:
    assert digest(constraint_lines()) == GOLDEN["constraints"]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests(), indent=1) + "\n")
