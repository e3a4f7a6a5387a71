"""Which text ops have a column form; a new one joins by a line here."""

from __future__ import annotations

from typing import Any

from recsys.augment.backfill import AttributeBackfill, TermExpansion
from recsys.augment.columns.running import Form
from recsys.augment.columns.texts import TextRows
from recsys.augment.columns.texts_adding import is_thin, lacks_terms
from recsys.augment.columns.texts_drawing import by_columns, one_by_one
from recsys.augment.columns.texts_moving import has_clauses, word_dropout, word_swap
from recsys.augment.columns.texts_noise import keyboard_noise, typo
from recsys.augment.columns.texts_words import swap_synonyms, word_insertion
from recsys.augment.noise import ChineseNoise, KeyboardNoise, Typo
from recsys.augment.op import Op
from recsys.augment.text import ClauseShuffle, WordDropout, WordSwap
from recsys.augment.words import MinedSynonym, Synonym, WordInsertion, WordnetSynonym

FORMS: dict[type[Op[Any]], Form[TextRows]] = {
    AttributeBackfill: one_by_one(is_thin),
    ChineseNoise: one_by_one(),
    ClauseShuffle: one_by_one(has_clauses),
    KeyboardNoise: by_columns(keyboard_noise),
    MinedSynonym: by_columns(swap_synonyms),
    Synonym: by_columns(swap_synonyms),
    TermExpansion: one_by_one(lacks_terms),
    Typo: by_columns(typo),
    WordDropout: by_columns(word_dropout),
    WordInsertion: by_columns(word_insertion),
    WordSwap: by_columns(word_swap),
    WordnetSynonym: by_columns(swap_synonyms),
}
