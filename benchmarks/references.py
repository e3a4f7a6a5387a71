"""The augmenters of other libraries, run in their own environment and asked over standard input.

    BENCH-VENV/bin/python benchmarks/references.py JOB.json

JOB.json holds `texts`, the number of `edits` per kind, the `groups` of synonyms and `naug`. The first line of
output names the references that can be used and why others cannot. Then each line of input, the name of a
reference, is answered by a line of JSON: CPU seconds, and how many of the texts came back changed.

Two libraries are asked. nlpaug 1.1.11 (Ma, 2019), with as many edits per text as the op that it is compared
with makes. And the EDA of textaugment 3.0 (Sefara), an implementation of Wei and Zou (arXiv:1901.11196): the
four operations in turn, alpha = 0.1. EDA asks WordNet through nltk, as the authors' own script does; its data
are not at hand without a network, so nltk reads a small WordNet, written from the groups of synonyms that the
op has as well. It has one sense per word, where the real one has several, and the cleaning of sentences with
which the authors' script begins is left out: both favour the reference. EDA with a plain dictionary in the
place of WordNet is measured too, for what it is worth: nobody publishes it.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[Sequence[str]], list[str]]
ALPHA = 0.1
"""EDA's share of the words that an operation edits."""


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


def write_wordnet(folder: Path, groups: Sequence[Sequence[str]]) -> None:
    """Groups of words as a WordNet of nouns, in the format of its database files (wndb(5WN))."""
    data, offset_of = "", {}
    for number, group in enumerate(groups):
        words = " ".join(f"{word} 0" for word in group)
        offset_of[number] = len(data)
        data += f"{len(data):08d} 03 n {len(group):02x} {words} 000 | group {number}  \n"
    senses: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        for word in group:
            senses.setdefault(word, []).append(offset_of[number])
    index = "".join(
        f"{word} n {len(at)} 0 {len(at)} 0 {' '.join(f'{offset:08d}' for offset in at)}  \n"
        for word, at in sorted(senses.items())
    )
    names = "".join(f"{number:02d}\tpart{number}\t1\n" for number in range(45))
    files = {"data.noun": data, "index.noun": index, "lexnames": names}
    for part in ("noun", "verb", "adj", "adv"):
        for name in (f"data.{part}", f"index.{part}", f"{part}.exc"):
            (folder / name).write_text(files.get(name, ""), encoding="ascii")
    (folder / "lexnames").write_text(names, encoding="ascii")


def eda_references(job: dict[str, Any]) -> dict[str, Run]:
    """EDA as a whole, and each of its operations alone; once more without WordNet."""
    import nltk
    import textaugment.eda as published
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Groups(WordNetCorpusReader):  # type: ignore[misc]
        """nltk's reader; it is not asked to translate between editions of WordNet."""

        def map_wn(self, version: str = "wordnet") -> None:
            return None

    with tempfile.TemporaryDirectory() as folder:
        write_wordnet(Path(folder), job["groups"])
        nltk.data.path.append(folder)  # nltk reads nothing outside of its own folders
        reader = Groups(folder, None)
        for group in job["groups"]:
            if not all(reader.synsets(word) for word in group):  # reads the synsets; later calls need no file
                raise SystemExit(f"nltk does not find {group} in the WordNet written for it")
    published.wordnet = reader
    others = {word: [w for w in group if w != word] for group in job["groups"] for word in group}

    class Published(published.EDA):  # type: ignore[misc]
        """The published class; only the download in its constructor is left out."""

        def __init__(self) -> None:
            self.stopwords = [
                "a",
                "an",
                "and",
                "by",
                "for",
                "from",
                "in",
                "is",
                "of",
                "on",
                "or",
                "the",
                "to",
            ]

    class Dictionary(Published):
        """The same, asking a dictionary."""

        @staticmethod
        def _get_synonyms(word: str) -> list[str]:
            return list(others.get(word.lower(), ()))

    def edits(text: str) -> int:
        return max(1, int(ALPHA * len(text.split())))

    def operations(eda: Any) -> dict[str, Callable[[str], str]]:
        return {
            "synonym_replacement": lambda text: eda.synonym_replacement(text, edits(text)),
            "random_insertion": lambda text: eda.random_insertion(text, edits(text)),
            "random_swap": lambda text: eda.random_swap(text, edits(text)),
            "random_deletion": lambda text: eda.random_deletion(text, ALPHA),
        }

    def each(one: Callable[[str], str]) -> Run:
        return lambda texts: [one(text) for text in texts]

    def whole(eda: Any) -> Run:
        return lambda texts: [one(text) for text in texts for one in operations(eda).values()]

    found = {f"EDA {name}": each(one) for name, one in operations(Published()).items()}
    return found | {"EDA": whole(Published()), "EDA with a dictionary": whole(Dictionary())}


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
