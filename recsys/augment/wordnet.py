"""Reading WordNet's own files: synonyms of a word's commonest meaning, without another library.

Princeton's database (`index.noun`, `data.noun` and so on; Miller, CACM 1995), as distributions and NLTK
install it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

_PARTS = ("noun", "adj", "verb", "adv")
"""Parts of speech, in the order in which a product's word is looked for."""
_USUAL = ("/usr/share/wordnet", "/usr/local/WordNet-3.0/dict", "/usr/share/nltk_data/corpora/wordnet")


class WordNet:
    """The installed database; indexes are read once, synsets when asked for.

    Args:
        folder: Holds `index.noun`, `data.noun` and their like.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._indexes = [_index(folder / f"index.{part}") for part in _PARTS]

    @functools.lru_cache(maxsize=50_000)  # noqa: B019 - one instance per folder, kept for the process
    def synonyms(self, word: str) -> tuple[str, ...]:
        """Single words of the first sense of the first part of speech that has the word; without it."""
        for part, index in zip(_PARTS, self._indexes, strict=True):
            if (offset := index.get(word)) is not None:
                members = _synset(self.folder / f"data.{part}", offset)
                return tuple(m for m in members if m.isalpha() and m.lower() != word)
        return ()


@functools.cache
def open_wordnet(folder: str = "") -> WordNet | None:
    """The database in a folder, or where it is usually installed; None where there is none."""
    candidates = [folder] if folder else [os.environ.get("WNSEARCHDIR", ""), *_USUAL]
    candidates += [] if folder else [str(Path.home() / "nltk_data" / "corpora" / "wordnet")]
    for candidate in filter(None, candidates):
        if (Path(candidate) / "index.noun").is_file():
            return WordNet(Path(candidate))
    return None


def _index(path: Path) -> dict[str, int]:
    """Offset of the first sense by lemma; single words only."""
    if not path.is_file():
        return {}
    offsets: dict[str, int] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(" "):
                continue  # the licence
            fields = line.split()
            if "_" not in fields[0]:
                # lemma pos synsets pointers [pointer symbols] senses tagged offset…
                offsets[fields[0]] = int(fields[6 + int(fields[3])])
    return offsets


def _synset(path: Path, offset: int) -> list[str]:
    with path.open("rb") as data:
        data.seek(offset)
        fields = data.readline().decode("utf-8").split()
    # offset file type words(hex) word lex_id word lex_id …; an adjective's position stands in brackets
    return [fields[4 + 2 * i].partition("(")[0] for i in range(int(fields[3], 16))]
