"""The augmenters of other libraries, run in their own environment and asked over standard input.

    BENCH-VENV/bin/python benchmarks/references.py JOB.json

JOB.json holds `texts`, the number of `edits` per kind, the `groups` of synonyms and `naug`. The first line of
output names the references that can be used and why others cannot. Then each line of input, the name of a
reference, is answered by a line of JSON: CPU seconds, and how many of the texts came back changed.

Two libraries are asked. nlpaug 1.1.11 (Ma, 2019), with as many edits per text as the op that it is compared
with makes. And the EDA of textaugment 3.0 (Sefara), an implementation of Wei and Zou (arXiv:1901.11196): the
four operations in turn, alpha = 0.1. WordNet's data are not at hand without a network, so EDA asks the same
groups of synonyms as the op does: faster than looking them up in WordNet. The cleaning of sentences with
which the authors' own script begins is left out. Both favour the reference.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[Sequence[str]], list[str]]


def nlpaug_references(job: dict[str, Any]) -> dict[str, Run]:
    """The augmenters of nlpaug beside the ops that they are compared with."""
    import nlpaug.augmenter.char as nac
    import nlpaug.augmenter.word as naw
    import nlpaug.flow as naf

    one_letter = {"aug_word_min": 1, "aug_word_max": 1, "aug_char_min": 1, "aug_char_max": 1, "min_char": 5}
    share = {"aug_min": 1, "aug_max": None, "aug_p": job["rate"]}
    keys = {"include_special_char": False, "include_numeric": False, "include_upper_case": False}
    delete = naw.RandomWordAug(action="delete", **share)
    augmenters = {
        "nlpaug RandomWordAug(swap)": naw.RandomWordAug(action="swap", aug_min=1, aug_max=2, aug_p=0.1),
        "nlpaug RandomWordAug(delete)": delete,
        "nlpaug RandomCharAug(swap)": nac.RandomCharAug(action="swap", **one_letter),
        "nlpaug KeyboardAug": nac.KeyboardAug(**one_letter, **keys),
        "nlpaug ReservedAug": naw.ReservedAug(job["groups"], case_sensitive=False, **share),
        "nlpaug Sometimes(delete, swap)": naf.Sometimes(
            [delete, naw.RandomWordAug(action="swap", aug_min=1, aug_max=2)], aug_p=0.25
        ),
    }

    def runs(augmenter: Any) -> Run:
        def run(texts: Sequence[str]) -> list[str]:
            return [(augmenter.augment(text) or [text])[0] for text in texts]

        return run

    return {name: runs(augmenter) for name, augmenter in augmenters.items()}


def eda_references(job: dict[str, Any]) -> dict[str, Run]:
    """EDA as a whole, and each of its operations alone."""
    from textaugment import EDA

    others: dict[str, list[str]] = {}
    for group in job["groups"]:
        for word in group:
            others[word] = [other for other in group if other != word]

    class Dictionary(EDA):  # type: ignore[misc]
        """EDA that asks the given groups instead of WordNet, which its constructor would download."""

        def __init__(self) -> None:
            self.stopwords = frozenset(
                ("a", "an", "and", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to")
            )

        @staticmethod
        def _get_synonyms(word: str) -> list[str]:
            found = list(others.get(word.lower(), ()))
            random.shuffle(found)
            return found

    eda, alpha = Dictionary(), 0.1

    def edits(text: str) -> int:
        return max(1, int(alpha * len(text.split())))

    operations: dict[str, Callable[[str], str]] = {
        "EDA synonym_replacement": lambda text: eda.synonym_replacement(text, edits(text)),
        "EDA random_insertion": lambda text: eda.random_insertion(text, edits(text)),
        "EDA random_swap": lambda text: eda.random_swap(text, edits(text)),
        "EDA random_deletion": lambda text: eda.random_deletion(text, alpha),
    }

    def whole(texts: Sequence[str]) -> list[str]:
        return [operation(text) for text in texts for operation in operations.values()]

    def runs(operation: Callable[[str], str]) -> Run:
        return lambda texts: [operation(text) for text in texts]

    return {"EDA (all four in turn)": whole} | {name: runs(one) for name, one in operations.items()}


def main() -> None:
    """Say what there is, then answer a line for a line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    random.seed(1)
    references: dict[str, Run] = {}
    missing: dict[str, str] = {}
    for library, build in (("nlpaug", nlpaug_references), ("EDA", eda_references)):
        try:
            references |= build(job)
        except ImportError as error:
            missing[library] = str(error)
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    answers.write(json.dumps({"names": sorted(references), "missing": missing}) + "\n")
    answers.flush()
    texts = job["texts"]
    for line in sys.stdin:
        run = references[line.strip()]
        started = time.process_time()
        made = run(texts)
        seconds = time.process_time() - started
        times = len(made) // len(texts)
        changed = sum(text != texts[i // times] for i, text in enumerate(made))
        answers.write(json.dumps({"seconds": seconds, "outputs": changed, "tried": len(made)}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
